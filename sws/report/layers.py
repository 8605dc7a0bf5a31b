"""The per-layer table: what each layer of each compressed file costs, part by part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sws import codec
from sws.codec import rates
from sws.report.names import case_title, pair_title
from sws.report.table import Block, Line, Table, number
from sws.report.table import Record as Row
from sws.runs.records import Case, ResultsError, Run, read_runs
from sws.runs.seeds import over_seeds

PARTS = ("indexes", "values", "codebook", "tables", "raw", "header")
"""Parts of a file, as in the ``bytes`` of metrics.json."""
OF_FILE = "(file)"
"""Name of the row for codebooks, header and checksum, which are shared by all tensors."""
COLUMNS = (
    *("model", "dataset", "method", "point", "seed"),
    *("layer", "kind", "shape", "weights", "nonzeros", "nonzero_pct", "coding"),
    *(f"bits_{part}" for part in PARTS),
    *("bits", "bits_per_nonzero", "bits_han", "bits_huffman"),
)


def rows(
    results: Path, cases: Iterable[Case], seeds: Sequence[int], first: bool = False
) -> list[Row]:
    """A row for each layer of each finished run, read from its ``model.sws``.

    Parameters
    ----------
    first : only of the first of the seeds that has run.

    Raises
    ------
    ResultsError
        If a file of a finished run is missing or damaged.
    """
    last = 1 if first else None
    return [
        row
        for case in cases
        for run in read_runs(results, case, seeds)[:last]
        for row in run_rows(run)
    ]


def run_rows(run: Run) -> list[Row]:
    """The tensors of one run's file, and a last row for what belongs to no tensor.

    The rows' ``bits`` add up to those of the file.
    """
    path = run.folder / "model.sws"
    try:
        data = path.read_bytes()
        described = codec.describe(data)
    except (OSError, codec.CorruptFileError) as error:
        raise ResultsError(
            f"{path}: cannot be read ({error}); delete the folder and run it again"
        ) from None
    case = run.case
    named = dict.fromkeys(COLUMNS)
    named |= {"model": case.model, "dataset": case.dataset, "method": case.method}
    named |= {"point": case.point, "seed": run.seed}
    found = []
    for entry in rates.layer_report(described.network, data):
        row = named | {name: value for name, value in entry.items() if name in named}
        row |= {"layer": entry["name"], "shape": "×".join(map(str, entry["shape"]))}
        told = sum(row[f"bits_{part}"] or 0 for part in PARTS)
        found.append(row | {"bits_codebook": 0, "bits_header": row["bits"] - told})
    rest = 8 * len(data) - sum(row["bits"] for row in found)
    codebook = 8 * described.bytes["codebook"]
    of_file = {"layer": OF_FILE, "bits_codebook": codebook, "bits_header": rest - codebook}
    return [*found, named | {f"bits_{part}": 0 for part in PARTS} | of_file | {"bits": rest}]


HEADINGS = ("layer", "shape", "weights", "non-zero, %", "bits", "share, %", "bits per non-zero")
WORDS = frozenset({"shape", "coding"})
CAPTION = (
    "Where the bits of each compressed file go, layer by layer, in means over the seeds named. "
    "Look at the share of the whole, then at bits per non-zero: how well a layer is coded. The "
    "last row of a block is what belongs to no layer: codebooks, header, checksum."
)


def table(records: Sequence[Row]) -> Table:
    """The table of records: a block for each case, parts that are never used left out.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    """
    by_case: dict[Case, list[Row]] = {}
    for row in records:
        case = Case(row["model"], row["dataset"], row["method"], row["point"])
        by_case.setdefault(case, []).append(row)
    blocks = [_block(case, here) for case, here in by_case.items()]
    notes = () if blocks else ("No finished run.",)
    return Table("layers", "Layers", CAPTION, COLUMNS, records, blocks, notes)


def _block(case: Case, rows: Sequence[Row]) -> Block:
    parts = [part for part in PARTS if any(row[f"bits_{part}"] for row in rows)]
    total = sum(row["bits"] for row in rows)
    lines = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        same = [row for row in rows if row["layer"] == layer]
        codings = list(dict.fromkeys(row["coding"] for row in same if row["coding"]))
        cells = [layer, same[0]["shape"] or "", _mean(same, "weights", 0)]
        share = 100 * sum(r["bits"] for r in same) / total if total else None
        cells += [_mean(same, "nonzero_pct", 2), _mean(same, "bits", 0), number(share, None, 1)]
        cells.append(_mean(same, "bits_per_nonzero", 2))
        cells += [_mean(same, f"bits_{part}", 0) for part in parts]
        cells.append("; ".join(codings))
        lines.append(Line(cells))
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))
    return Block(
        title=f"{pair_title(case.pair)}: {case_title(case)}",
        headings=[*HEADINGS, *parts, "coding"],
        lines=lines,
        text=WORDS,
        remark=f"Seeds: {seeds}.",
    )


def _mean(rows: Sequence[Row], column: str, digits: int) -> str:
    return number(over_seeds(row[column] for row in rows).mean, None, digits)
