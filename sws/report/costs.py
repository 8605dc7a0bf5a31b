"""The table of costs: what each method costs to run, and what its files cost to use.

Training is taken from the runs' ``metrics.json`` and ``history.csv``, inference from the profiles
that :mod:`sws.measure.inference` writes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from sws.report.names import case_title, pair_title
from sws.report.table import Block, Line, Table, number, write_texts
from sws.report.table import Record as Row
from sws.runs.records import Case, ResultsError, Run, profile_path, read_runs
from sws.runs.seeds import over_seeds

TRAINING = (
    *("epochs", "seconds_pretrain", "seconds_retrain", "seconds_quantize", "seconds_search"),
    *("seconds", "prior_pct", "peak_memory_mb", "encode_ms"),
)
INFERENCE = (
    *("bytes_file", "bytes_dense", "bytes_sparse", "bytes_indexes", "decode_ms"),
    *("dense_1_ms", "dense_256_ms", "sparse_1_ms", "sparse_256_ms"),
    *("multiply_adds_dense", "multiply_adds_left"),
)
COLUMNS = ("model", "dataset", "method", "point", "seeds", *TRAINING, *INFERENCE)


def rows(results: Path, cases: Sequence[Case], seeds: Sequence[int]) -> list[Row]:
    """A row for each case that has run; what was not measured is None.

    Raises
    ------
    ResultsError
        If a profile or a history is damaged.
    """
    found = []
    for case in cases:
        runs = read_runs(results, case, seeds)
        if runs:
            row = dict.fromkeys(COLUMNS)
            row |= {"model": case.model, "dataset": case.dataset, "method": case.method}
            row |= {"point": case.point, "seeds": len(runs)}
            found.append(row | training(runs) | inference(results, runs))
    return found


def training(runs: Sequence[Run]) -> Row:
    """Means over the runs of a case. ``seconds`` is all but the pre-training."""
    told = [run.metrics["seconds"] for run in runs]

    def mean(name: str) -> float:
        return over_seeds(seconds.get(name, 0.0) for seconds in told).mean

    prior = (100 * s["prior"] / s["retrain"] for s in told if s.get("prior") and s["retrain"])
    return {
        "epochs": max(_epochs(run) for run in runs),
        "seconds_pretrain": mean("pretrain"),
        "seconds_retrain": mean("retrain"),
        "seconds_quantize": mean("quantize"),
        "seconds_search": mean("search"),
        "seconds": mean("retrain") + mean("quantize") + mean("search"),
        "prior_pct": over_seeds(prior).mean,
        "peak_memory_mb": over_seeds(run.metrics["peak_memory_mb"] for run in runs).mean,
        "encode_ms": 1000 * mean("encode"),
    }


def _epochs(run: Run) -> int:
    """Epochs after the pre-training, of the training that led to the file."""
    path = run.folder / "history.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return sum(1 for _ in csv.DictReader(file))
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot be read ({error}); delete the folder and run it again"
        ) from None


def inference(results: Path, runs: Sequence[Run]) -> Row:
    """Means over the profiles that there are."""
    found = []
    for run in runs:
        path = profile_path(results, run.case, run.seed)
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            size, latency, adds = told["bytes"], told["latency_ms"], told["multiply_adds"]
            measured = {
                **{f"bytes_{k}": size[k] for k in ("file", "dense", "sparse", "indexes")},
                "decode_ms": told["decode_ms"],
                **{f"{k.replace('-', '_')}_ms": v for k, v in latency.items()},
                "multiply_adds_dense": adds["dense"],
                "multiply_adds_left": adds["left"],
            }
            found.append({name: measured[name] for name in INFERENCE})
        except FileNotFoundError:
            continue
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ResultsError(f"{path}: unreadable ({error!r}); delete it and run again") from None
    return {name: over_seeds(one[name] for one in found).mean for name in INFERENCE}


HEADINGS = {
    "epochs": "epochs",
    "seconds": "s to compress",
    "seconds_search": "of it search, s",
    "prior_pct": "prior, % of retraining",
    "peak_memory_mb": "peak, MB",
    "bytes_file": "disk, B",
    "bytes_dense": "dense, B",
    "bytes_sparse": "CSR, B",
    "bytes_indexes": "indexes, B",
    "decode_ms": "decode, ms",
    "dense_1_ms": "dense × 1, ms",
    "sparse_1_ms": "CSR × 1, ms",
    "dense_256_ms": "dense × 256, ms",
    "sparse_256_ms": "CSR × 256, ms",
    "multiply_adds_left": "multiply-adds left",
}


CAPTION = (
    "What each method costs to run, and what its files cost to use. Look at the seconds to "
    "compress, then at whether the sparse form (CSR) takes less memory and time than the dense one."
)
NOTES = (
    "Training: means over seeds. Inference: the files that were measured, as a rule one seed's, on "
    "one thread of a CPU, medians. Dense: decoded to float32; CSR: fully connected layers as "
    "sparse matrices; indexes: a byte or two per weight, looked up in the codebook.",
)


def table(records: Sequence[Row]) -> Table:
    """For people: a block for each pair.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    """
    blocks = []
    for pair in dict.fromkeys((row["model"], row["dataset"]) for row in records):
        here = [row for row in records if (row["model"], row["dataset"]) == pair]
        adds = [row["multiply_adds_dense"] for row in here if row["multiply_adds_dense"]]
        pretraining = over_seeds(row["seconds_pretrain"] for row in here).mean
        said = f"Before: {pretraining:,.0f} s of pre-training, which all methods share"
        said += f"; {adds[0]:,.0f} multiply-adds an image" if adds else ""
        lines = [Line([case_title(_case(row)), *(_cell(row, c) for c in HEADINGS)]) for row in here]
        heads = ["method", *HEADINGS.values()]
        blocks.append(Block(pair_title(pair), heads, lines, remark=f"{said}."))
    return Table("costs", "What compression costs", CAPTION, COLUMNS, records, blocks, NOTES)


def _case(row: Row) -> Case:
    return Case(row["model"], row["dataset"], row["method"], row["point"])


def _cell(row: Row, column: str) -> str:
    whole = column in ("epochs", "multiply_adds_left") or column.startswith("bytes")
    return number(row[column], digits=0 if whole else None)


def build(results: Path, output: Path, cases: Sequence[Case], seeds: Sequence[int]) -> list[Path]:
    """Write ``costs.csv``, ``costs.md`` and ``costs.html``.

    Parameters
    ----------
    results, output : Path
        Folder that holds ``runs/`` and ``profiles/``; folder to write to.
    cases : sequence of Case
        What to tabulate, as far as it has run.
    seeds : sequence of int
        Their seeds.

    Raises
    ------
    ResultsError
        If none of them has run, or a file is damaged.
    """
    records = rows(results, cases, seeds)
    if not records:
        raise ResultsError(f"{results}: no run of these pairs and seeds to take the costs of")
    return write_texts(Path(output), table(records).texts())
