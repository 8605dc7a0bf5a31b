"""The table of coders: every coder on the same quantised networks.

The bytes are measured by :mod:`sws.measure.coders`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sws import codec
from sws.measure.coders import CODERS, add_nncodec, weight_bytes
from sws.report.names import case_title, pair_title
from sws.report.table import Block, Line, Table, number, write_texts
from sws.report.table import Record as Row
from sws.runs.records import Case, ResultsError, read_runs
from sws.runs.seeds import over_seeds

COLUMNS = ("model", "dataset", "method", "point", "coder", "seeds", "bytes", "bytes_sd", "ratio")


def rows(
    results: Path, cases: Sequence[Case], seeds: Sequence[int], nncodec: Path | None = None
) -> list[Row]:
    """Every coder on every case that has run: means over the seeds.

    Parameters
    ----------
    results : Path
        Folder that holds ``runs/``.
    cases : sequence of Case
        What to code.
    seeds : sequence of int
        Of them, as far as they have run.
    nncodec : Path, optional
        Python of an environment that has ``nncodec``; without it that coder is left out.

    Raises
    ------
    ResultsError
        If a file of a finished run is missing or damaged.
    sws.measure.nncodec.CoderError
        If that Python cannot run ``nncodec``.
    """
    files = {case: _files(results, case, seeds) for case in cases}
    networks = {name: network for own in files.values() for name, network in own.items()}
    sizes = {name: weight_bytes(described) for name, described in networks.items()}
    if nncodec is not None and networks:
        add_nncodec({name: one.network for name, one in networks.items()}, sizes, nncodec)
    found = []
    for case, own in files.items():
        for coder in sizes[next(iter(own))] if own else ():
            spent = over_seeds(sizes[name][coder] for name in own)
            row = dict.fromkeys(COLUMNS)
            row |= {"model": case.model, "dataset": case.dataset, "method": case.method}
            row |= {"point": case.point, "coder": coder, "seeds": spent.n}
            row |= {"bytes": spent.mean, "bytes_sd": spent.sd}
            row["ratio"] = over_seeds(
                4 * described.network.weights / sizes[name][coder]
                for name, described in own.items()
            ).mean
            found.append(row)
    return found


def _files(results: Path, case: Case, seeds: Sequence[int]) -> dict[str, codec.FileDescription]:
    """Path of a finished run's file → what is in it."""
    found = {}
    for run in read_runs(results, case, seeds):
        path = run.folder / "model.sws"
        try:
            found[str(path)] = codec.describe(path.read_bytes())
        except (OSError, codec.CorruptFileError) as error:
            raise ResultsError(
                f"{path}: cannot be read ({error}); delete the folder and run it again"
            ) from None
    return found


CAPTION = (
    "Bytes of the same quantised weights under several coders: what is due to the coder, not to "
    "the method. Read along a row; the smallest number is the best coder for that network."
)
NOTE = "Weights only: biases are left out on all sides, and headers but for those inside NNC."


def table(records: Sequence[Row]) -> Table:
    """For people: a block for each pair, a column for each coder.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    """
    blocks = []
    for pair in dict.fromkeys((row["model"], row["dataset"]) for row in records):
        here = [row for row in records if (row["model"], row["dataset"]) == pair]
        coders = list(dict.fromkeys(row["coder"] for row in here))
        lines = []
        for key in dict.fromkeys((row["method"], row["point"]) for row in here):
            own = {r["coder"]: r for r in here if (r["method"], r["point"]) == key}
            cells = [number(r["bytes"], r["bytes_sd"], 0) for r in own.values()]
            name = case_title(Case(*pair, *key))
            lines.append(Line([name, str(own["sws"]["seeds"]), *cells]))
        heads = ["method", "seeds", *(f"{coder}, bytes" for coder in coders)]
        blocks.append(Block(pair_title(pair), heads, lines))
    used = {row["coder"] for row in records}
    notes = [f"{coder}: {what}." for coder, what in CODERS.items() if coder in used]
    title = "Coders on the same networks"
    return Table("coders", title, CAPTION, COLUMNS, records, blocks, [*notes, NOTE])


def build(
    results: Path,
    output: Path,
    cases: Sequence[Case],
    seeds: Sequence[int],
    nncodec: Path | None = None,
) -> list[Path]:
    """Write ``coders.csv``, ``coders.md`` and ``coders.html``.

    Parameters
    ----------
    results, output : Path
        Folder that holds ``runs/``; folder to write to.
    cases, seeds, nncodec
        As in :func:`rows`.

    Raises
    ------
    ResultsError
        If none of the cases has run, or a file is damaged.
    """
    records = rows(results, cases, seeds, nncodec)
    if not records:
        raise ResultsError(f"{results}: no run of these pairs and seeds to code")
    return write_texts(Path(output), table(records).texts())
