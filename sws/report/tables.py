"""Table 1: every number of the paper's table measured again, beside the published ones.

One list of rows, keyed by (source, model, dataset, method, point), is written three times:
``table1.csv`` for programs (all columns, all published results of the same networks),
``table1.md`` and ``table1.tex`` for people. The per-layer table is in :mod:`sws.report.layer_table`.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from sws.config import methods
from sws.files import write_text
from sws.report import curves, layer_table
from sws.report.names import pair_title
from sws.report.page import pages
from sws.runs import published
from sws.runs.published import RATIO_CLASSES, Published
from sws.runs.records import (
    MAIN,
    RATES,
    Case,
    Pair,
    Points,
    ResultsError,
    Run,
    cases,
    read_runs,
)

KEY = ("source", "model", "dataset", "method", "point")
COLUMNS = (
    *KEY,
    *("status", "seeds"),
    *("error_start_pct", "error_start_sd", "error_end_pct", "error_end_sd", "delta_pct"),
    *("nonzero_pct", "nonzero_sd"),
    *(f"cr_{rate}{suffix}" for rate in RATES for suffix in ("", "_sd")),
    *("file_bytes", "file_bytes_sd"),
    *("paper_error_start", "paper_error_end", "paper_nonzero_pct", "paper_cr"),
    *("ratio_class", "evidence", "seeds_missing"),
)
# column of the table -> (column of its deviation, value of a run)
MEASURES = {
    "error_start_pct": ("error_start_sd", lambda m: m["error_start_pct"]),
    "error_end_pct": ("error_end_sd", lambda m: m["error_end_pct"]),
    "nonzero_pct": ("nonzero_sd", lambda m: m["nonzero_pct"]),
    "cr_nonzero": ("cr_nonzero_sd", lambda m: m["cr"]["nonzero"]),
    "cr_han": ("cr_han_sd", lambda m: m["cr"]["han"]),
    "cr_huffman": ("cr_huffman_sd", lambda m: m["cr"]["huffman"]),
    "cr_file": ("cr_file_sd", lambda m: m["cr"]["file"]),
    "file_bytes": ("file_bytes_sd", lambda m: m["bytes"]["file"]),
}
Row = dict[str, Any]


def build(
    results: Path,
    output: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    points: Points = MAIN,
    missing_data: Collection[Pair] = (),
    published_path: Path | None = None,
    compare: bool = False,
) -> list[Path]:
    """Write table1 and the per-layer table as CSV, Markdown, a page and (table1) LaTeX.

    Parameters
    ----------
    results : folder that holds ``runs/``.
    output : folder to write to, made if missing; files are replaced one by one, by rename.
    pairs : (model, data set), in the order of the table.
    seeds : seeds to expect of every case.
    points : (method, point) to expect of every pair, or of each pair as a mapping.
    missing_data : pairs whose data set is not on this machine; without runs they are ``no data``.
    published_path : the literature, by default ``resources/published.csv``.
    compare : write also what each method reaches at a fixed error and at a fixed rise.

    Returns
    -------
    The files written.

    Raises
    ------
    ResultsError
        If a run is damaged, or there is nothing to put into the table.
    """
    if not pairs or not seeds:
        raise ResultsError(
            "no pairs or no seeds to tabulate; set 'pairs' and 'seeds' in the config"
        )
    literature = published.read(published_path)
    rows = table1(results, pairs, seeds, points, missing_data, literature)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    texts = {
        "table1.csv": to_csv(rows, COLUMNS),
        "table1.md": to_markdown(rows),
        "table1.tex": to_latex(rows),
    }
    main = [case for case in cases(pairs, points) if case.point == "main"]
    layers = layer_table.rows(results, main, seeds, first=compare)
    texts["layers.csv"] = to_csv(layers, layer_table.COLUMNS)
    texts["layers.md"] = layer_table.to_markdown(layers)
    if compare:
        reached = []
        for pair in dict.fromkeys(tuple(pair) for pair in pairs):
            own = [r for c in cases([pair], points) for r in read_runs(results, c, seeds)]
            reached += curves.rows(own, literature) if own else []
        texts["fixed.csv"] = to_csv(reached, curves.COLUMNS)
        texts["fixed.md"] = curves.to_markdown(reached)
    return write_texts(output, texts)


def table1(
    results: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    points: Points = MAIN,
    missing_data: Collection[Pair] = (),
    literature: Sequence[Published] = (),
) -> list[Row]:
    """The rows of table 1: per pair the measured ones, then the literature's."""
    rows: list[Row] = []
    for pair in dict.fromkeys(tuple(pair) for pair in pairs):
        for case in cases([pair], points):
            runs = read_runs(results, case, seeds)
            row = measured_row(case, runs, seeds, no_data=pair in set(missing_data))
            paper = _paper(published.counterpart(literature, pair, methods.spec(case.method).paper))
            if not methods.spec(case.method).sizes:
                rows.append(before_sharing(row, runs) | paper)
                paper = {}
            rows.append(row | paper)
        rows += _published_rows(published.of_pair(literature, pair))
    return rows


def measured_row(case: Case, runs: Sequence[Run], seeds: Iterable[int], no_data: bool) -> Row:
    """Means and standard deviations (ddof = 1; none at n = 1) over the runs of a case.

    Ratios are averaged, not recomputed from averaged sizes. ``status`` is ``ok`` as soon as one
    seed has run; ``seeds`` counts them and ``seeds_missing`` names the others.
    """
    row = dict.fromkeys(COLUMNS)
    row |= {"source": "measured", "seeds": len(runs)}
    row |= {"model": case.model, "dataset": case.dataset}
    row |= {"method": case.method, "point": case.point}
    row["status"] = "ok" if runs else "no data" if no_data else "not run"
    done = {run.seed for run in runs}
    row["seeds_missing"] = " ".join(str(seed) for seed in seeds if seed not in done)
    for column, (deviation, value) in MEASURES.items():
        values = [float(value(run.metrics)) for run in runs]
        row[column] = fmean(values) if values else None
        row[deviation] = stdev(values) if len(values) > 1 else None
    if runs:
        row["delta_pct"] = row["error_end_pct"] - row["error_start_pct"]
    return row


def before_sharing(row: Row, runs: Sequence[Run]) -> Row:
    """What a method gives that its paper does not share or code: an error and a sparsity.

    There is no file at that stage, so the row has no size; its ratio counts parameters, as the
    paper's does.
    """
    told = [r.metrics for r in runs if r.metrics.get("nonzero_retrained_pct") is not None]
    found = dict(row) | {"point": f"{row['point']}-before-sharing"}
    sizeless = ("cr_nonzero", "cr_han", "cr_huffman", "cr_file", "file_bytes")
    found |= dict.fromkeys((*sizeless, *(f"{name}_sd" for name in sizeless)))
    values = {
        ("error_end_pct", "error_end_sd"): [float(m["error_retrained_pct"]) for m in told],
        ("nonzero_pct", "nonzero_sd"): [float(m["nonzero_retrained_pct"]) for m in told],
        ("cr_nonzero", "cr_nonzero_sd"): [100 / float(m["nonzero_retrained_pct"]) for m in told],
    }
    for (column, deviation), listed in values.items():
        found[column] = fmean(listed) if listed else None
        found[deviation] = stdev(listed) if len(listed) > 1 else None
    if told:
        found["delta_pct"] = found["error_end_pct"] - found["error_start_pct"]
    return found


def _paper(counterpart: Published | None) -> Row:
    if counterpart is None:
        return {}
    return {
        "paper_error_start": counterpart.error_start,
        "paper_error_end": counterpart.error_end,
        "paper_nonzero_pct": counterpart.nonzero_pct,
        "paper_cr": counterpart.ratio,
        "ratio_class": counterpart.ratio_class,
        "evidence": counterpart.evidence,
    }


def _published_rows(literature: Sequence[Published]) -> list[Row]:
    """Published results as rows: errors in the common columns, the ratio in ``paper_cr`` only.

    A published ratio is not put into a ``cr_`` column: those are defined by one accounting, ours.
    """
    repeated = {p for p, n in Counter(entry.paper for entry in literature).items() if n > 1}
    numbers: Counter[str] = Counter()
    rows = []
    for entry in literature:
        numbers[entry.paper] += 1
        row = dict.fromkeys(COLUMNS) | _paper(entry)
        row |= {"source": "published", "model": entry.model, "dataset": entry.dataset}
        row |= {"method": entry.paper, "status": "ok"}
        row["point"] = str(numbers[entry.paper]) if entry.paper in repeated else ""
        row |= {"error_start_pct": entry.error_start, "error_end_pct": entry.error_end}
        row |= {"delta_pct": entry.delta, "nonzero_pct": entry.nonzero_pct}
        row["label"] = entry.label
        rows.append(row)
    return rows


# ── text ──────────────────────────────────────────────────────────────────────────────────────


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write texts by file name, and a page beside every Markdown file; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_text(folder / name, text) for name, text in pages(texts).items()]


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV text; None is empty, a float has up to ten digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_plain(row.get(column)) for column in columns])
    return text.getvalue()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return format(value, ".10g") if isinstance(value, float) else str(value)


def _digits(value: float) -> int:
    return 2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0


def number(value: float | None, sd: float | None = None, digits: int | None = None) -> str:
    """A mean with its deviation in digits that make sense, or an en dash."""
    if value is None:
        return "–"
    digits = _digits(value) if digits is None else digits
    text = f"{value:,.{digits}f}"
    return text if sd is None else f"{text} ± {sd:,.{digits}f}"


HEADINGS = (
    "method",
    "seeds",
    "error before, %",
    "error after, %",
    "change",
    "non-zero, %",
    "CR non-zero",
    "CR Han",
    "CR Huffman",
    "CR file",
    "file, bytes",
    "published ratio",
)


def _cells(row: Row) -> list[str]:
    """A row as text, one cell for each of HEADINGS."""
    change = "–" if row["delta_pct"] is None else f"{row['delta_pct']:+.2f}".replace("-", "−")
    errors = [
        number(row[f"error_{when}_pct"], row[f"error_{when}_sd"], 2) for when in ("start", "end")
    ]
    nonzero = number(row["nonzero_pct"], row["nonzero_sd"])
    if row["source"] == "published":
        ratio = number(row["paper_cr"], digits=0 if (row["paper_cr"] or 0) >= 100 else 1)
        name = row["label"]
        if row["evidence"] in ("secondary", "abstract", "figure"):
            name += f" ({row['evidence']})"
        mark = "†" if row["ratio_class"] == "COUNT" else ""
        kind = f"{ratio} {row['ratio_class']}{mark}"
        return [name, "", *errors, change, nonzero, *[""] * 5, kind]
    name = row["method"] + ("" if row["point"] == "main" else f", {row['point']}")
    if row["status"] != "ok":
        return [name, row["status"], *["–"] * 9, ""]
    missing = len(row["seeds_missing"].split())
    seeds = f"{row['seeds']} of {row['seeds'] + missing}" if missing else str(row["seeds"])
    rates = [number(row[f"cr_{rate}"], row[f"cr_{rate}_sd"]) for rate in RATES]
    size = number(row["file_bytes"], row["file_bytes_sd"], 0)
    return [name, seeds, *errors, change, nonzero, *rates, size, ""]


def _blocks(rows: Sequence[Row]) -> list[tuple[Pair, list[Row], list[Row], int]]:
    """Per pair: measured rows, published rows with a ratio, number of those without one."""
    blocks = []
    for pair in dict.fromkeys((row["model"], row["dataset"]) for row in rows):
        here = [row for row in rows if (row["model"], row["dataset"]) == pair]
        measured = [row for row in here if row["source"] == "measured"]
        literature = [row for row in here if row["source"] == "published"]
        shown = [row for row in literature if row["paper_cr"] is not None]
        blocks.append((pair, measured, shown, len(literature) - len(shown)))
    return blocks


MEASURED_NOTE = (
    "Measured rows: mean ± standard deviation over seeds, on the test set; the error after is that "
    "of the network decoded from its file. Change is after − before, in percentage points."
)
RATES_NOTE = (
    "CR non-zero: weights / non-zero weights. CR Han: the paper's appendix A, relative indexes of "
    "fixed width, values Huffman-coded. CR Huffman: indexes Huffman-coded too, all tables counted. "
    "CR file: bytes of all parameters in float32 / bytes of the file on disk."
)
PUBLISHED_NOTE = (
    "Published ratios, by what was counted: "
    + "; ".join(f"{name}: {meaning}" for name, meaning in RATIO_CLASSES.items())
    + ". † A COUNT is not a ratio of bytes: set it beside CR non-zero only."
)
NOTES = (MEASURED_NOTE, RATES_NOTE, PUBLISHED_NOTE)


def to_markdown(rows: Sequence[Row]) -> str:
    """Table 1 for people: a block for each pair, the literature beneath the measured rows."""
    lines = ["# Table 1", ""]
    for pair, measured, literature, left_out in _blocks(rows):
        lines += [f"## {pair_title(pair)}", ""]
        lines += ["| " + " | ".join(HEADINGS) + " |"]
        lines += ["|" + "---|" + "---:|" * (len(HEADINGS) - 1)]
        for row in measured:
            cells = _cells(row)
            cells[0] = f"**{cells[0]}**"
            lines.append("| " + " | ".join(cells) + " |")
        for row in literature:
            lines.append("| " + " | ".join(_cells(row)) + " |")
        lines.append("")
        if left_out:
            plural = "result" if left_out == 1 else "results"
            lines += [f"{left_out} published {plural} without a ratio: see table1.csv.", ""]
    lines += [f"{note}\n" for note in NOTES]
    return "\n".join(lines)


_TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%#_{}$"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "±": r"$\pm$",
        "−": r"$-$",
        "–": "--",
        "†": r"$^\dagger$",
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)


def to_latex(rows: Sequence[Row]) -> str:
    """Table 1 for a paper: a table* that needs only the package booktabs."""
    kept = [i for i, heading in enumerate(HEADINGS) if heading not in ("CR non-zero", "CR Han")]
    lines = [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table*}",
        "\\centering\\scriptsize",
        "\\begin{tabular}{l" + "r" * (len(kept) - 1) + "}",
        "\\toprule",
        " & ".join(_tex(HEADINGS[i]) for i in kept) + " \\\\",
    ]
    for pair, measured, literature, _ in _blocks(rows):
        lines += ["\\midrule", f"\\multicolumn{{{len(kept)}}}{{l}}"]
        lines[-1] += f"{{\\textbf{{{_tex(pair_title(pair))}}}}} \\\\"
        for row in (*measured, *literature):
            cells = [_tex(cell) for cell in _cells(row)]
            if row["source"] == "measured":
                cells[0] = f"\\textbf{{{cells[0]}}}"
            lines.append(" & ".join(cells[i] for i in kept) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    notes = " ".join(_tex(note) for note in NOTES)
    lines += [f"\\caption{{{notes}}}", "\\label{tab:sws}", "\\end{table*}"]
    return "\n".join(lines) + "\n"
