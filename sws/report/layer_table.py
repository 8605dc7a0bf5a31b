"""The per-layer table: what each layer of each compressed file costs, part by part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from sws import codec
from sws.codec import rates
from sws.report.names import pair_title
from sws.runs.records import Case, ResultsError, Run, read_runs

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
Row = dict[str, Any]


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


HEADINGS = ("layer", "shape", "weights", "non-zero, %", "coding")


def to_markdown(rows: Sequence[Row]) -> str:
    """The table for people: a block for each case, means over its seeds, parts never used left out.

    The last line of a block is what belongs to no layer: codebooks, header, checksum.
    """
    lines = [
        "# Layers",
        "",
        "Bits in the compressed file by part, means over the seeds that are named.",
        "",
    ]
    blocks: dict[Case, list[Row]] = {}
    for row in rows:
        case = Case(row["model"], row["dataset"], row["method"], row["point"])
        blocks.setdefault(case, []).append(row)
    if not blocks:
        lines += ["No finished run.", ""]
    for case, here in blocks.items():
        name = case.method + ("" if case.point == "main" else f", {case.point}")
        seeds = sorted({row["seed"] for row in here})
        lines += [f"## {pair_title(case.pair)}: {name}", "", f"Seeds: {', '.join(map(str, seeds))}"]
        lines += ["", *_block(here), ""]
    return "\n".join(lines)


def _block(rows: Sequence[Row]) -> list[str]:
    parts = [part for part in PARTS if any(row[f"bits_{part}"] for row in rows)]
    total = sum(row["bits"] for row in rows)
    heads = [*HEADINGS, *parts, "bits", "bits a non-zero", "share, %"]
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|---|---|---:|---:|---|" + "---:|" * (len(parts) + 3))
    for layer in dict.fromkeys(row["layer"] for row in rows):
        same = [row for row in rows if row["layer"] == layer]
        codings = list(dict.fromkeys(row["coding"] for row in same if row["coding"]))
        bits = fmean(row["bits"] for row in same)
        cells = [layer, same[0]["shape"] or "", _mean(same, "weights", ",.0f")]
        cells += [_mean(same, "nonzero_pct", ".2f"), "; ".join(codings)]
        cells += [_mean(same, f"bits_{part}", ",.0f") for part in parts]
        cells += [f"{bits:,.0f}", _mean(same, "bits_per_nonzero", ".2f")]
        cells.append(f"{100 * sum(row['bits'] for row in same) / total:.1f}" if total else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _mean(rows: Sequence[Row], column: str, form: str) -> str:
    values = [row[column] for row in rows if row[column] is not None]
    return format(fmean(values), form) if values else "–"
