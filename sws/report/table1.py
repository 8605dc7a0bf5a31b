"""Table 1: every number of the paper's table measured again, beside the published ones.

The rows are keyed by (source, model, dataset, method, point). A new column is one entry of
:data:`MEASURED`, and of :data:`SHOWN` if people are to see it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sws.config import methods
from sws.report.equivalence import difference
from sws.report.names import case_title, pair_title
from sws.report.table import Block, Line, Record, Table, number, signed
from sws.report.verdicts import (
    COUNTED_ALIKE,
    MEASURES,
    RISE,
    Margins,
    Measure,
    against_paper,
    paper_of,
    scaled,
)
from sws.runs import published
from sws.runs.published import RATIO_CLASSES, Published
from sws.runs.records import MAIN, Case, Pair, Points, Run, cases, read_endings, read_runs
from sws.runs.seeds import missing_seeds, over_seeds

KEY = ("source", "model", "dataset", "method", "point")
BEFORE_SHARING = "-before-sharing"
"""What the point of a network that is not yet shared or coded ends in."""


@dataclass(frozen=True)
class Measured:
    """A number of every run, averaged over seeds.

    Attributes
    ----------
    name, deviation : str
        Columns of the mean and of the standard deviation.
    heading : str
        For people.
    value : callable
        A run's ``metrics.json`` → the number.
    digits : int or None
        Decimals for people; None as many as the number bears.
    of_file : bool
        Whether it is about a file, which a network before sharing does not have.
    """

    name: str
    deviation: str
    heading: str
    value: Callable[[Mapping[str, Any]], float]
    digits: int | None = None
    of_file: bool = False


MEASURED = (
    Measured(
        "error_start_pct", "error_start_sd", "error before, %", lambda m: m["error_start_pct"], 2
    ),
    Measured("error_end_pct", "error_end_sd", "error after, %", lambda m: m["error_end_pct"], 2),
    Measured("nonzero_pct", "nonzero_sd", "non-zero, %", lambda m: m["nonzero_pct"]),
    Measured("cr_nonzero", "cr_nonzero_sd", "CR non-zero", lambda m: m["cr"]["nonzero"]),
    Measured("cr_han", "cr_han_sd", "CR Han", lambda m: m["cr"]["han"], of_file=True),
    Measured(
        "cr_huffman", "cr_huffman_sd", "CR Huffman", lambda m: m["cr"]["huffman"], of_file=True
    ),
    Measured("cr_file", "cr_file_sd", "CR file", lambda m: m["cr"]["file"], of_file=True),
    Measured(
        "file_bytes", "file_bytes_sd", "file, bytes", lambda m: m["bytes"]["file"], 0, of_file=True
    ),
)
BY_NAME: Mapping[str, Measured] = {measured.name: measured for measured in MEASURED}
DELTA = "delta_pct"
SHOWN = (
    *("error_end_pct", DELTA, "cr_file", "cr_huffman", "cr_han", "cr_nonzero"),
    *("nonzero_pct", "file_bytes", "error_start_pct"),
)
"""Columns that people see, in this order: what it costs and what it gains come first."""


def _columns() -> tuple[str, ...]:
    found = [*KEY, "status", "seeds"]
    for measured in MEASURED:
        found += [measured.name, measured.deviation]
        if measured.name == "error_end_pct":
            found.append(DELTA)
    found += ["paper_error_start", "paper_error_end", "paper_nonzero_pct", "paper_cr"]
    return (*found, "ratio_class", "evidence", "seeds_missing", "endings")


COLUMNS = _columns()


# ── rows ────────────────────────────────────────────────────────────────────────────────────────


def rows(
    results: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    points: Points = MAIN,
    missing_data: Collection[Pair] = (),
    literature: Sequence[Published] = (),
) -> list[Record]:
    """The records of table 1: per pair the measured ones, then the literature's.

    Parameters
    ----------
    results : Path
        Folder that holds ``runs/``.
    pairs : sequence of (model, data set)
        In the order of the table.
    seeds : sequence of int
        Seeds to expect of every case.
    points : sequence of (method, point), or mapping from pair to such
        What to expect of every pair.
    missing_data : collection of (model, data set)
        Pairs whose data set is not on this machine; without runs they are ``no data``.
    literature : sequence of Published
        What others report.
    """
    found: list[Record] = []
    for pair in dict.fromkeys(tuple(pair) for pair in pairs):
        for case in cases([pair], points):
            runs = read_runs(results, case, seeds)
            endings = read_endings(results, case, seeds)
            row = measured_row(case, runs, seeds, pair in set(missing_data), endings)
            method = methods.spec(case.method)
            paper = _paper(published.counterpart(literature, pair, method.paper))
            if not method.sizes:
                found.append(before_sharing(row, runs) | paper)
                paper = {}
            found.append(row | paper)
        found += _published_rows(published.of_pair(literature, pair))
    return found


def measured_row(
    case: Case,
    runs: Sequence[Run],
    seeds: Iterable[int],
    no_data: bool,
    endings: Mapping[int, str] | None = None,
) -> Record:
    """A case as means over its seeds.

    Ratios are averaged, not recomputed from averaged sizes. ``status`` is ``ok`` as soon as one
    seed has run; ``seeds`` counts them and ``seeds_missing`` names the others. Seeds that came to
    no result are in neither: ``endings`` says how they ended, and the status too if all did.

    Parameters
    ----------
    case : Case
        What was run.
    runs : sequence of Run
        Its finished runs.
    seeds : iterable of int
        The seeds that were to run.
    no_data : bool
        Whether it cannot run here for want of data.
    endings : mapping of int to str, optional
        By seed, how runs ended that came to no result.
    """
    endings = endings or {}
    row = dict.fromkeys(COLUMNS)
    row |= {"source": "measured", "seeds": len(runs)}
    row |= {"model": case.model, "dataset": case.dataset}
    row |= {"method": case.method, "point": case.point}
    row["status"] = "ok" if runs else "no data" if no_data else "not run"
    if endings and not runs:
        row["status"] = next(iter(endings.values()))
    row["endings"] = "; ".join(f"seed {seed} {how}" for seed, how in endings.items()) or None
    there = [*(run.seed for run in runs), *endings]
    row["seeds_missing"] = " ".join(map(str, missing_seeds(seeds, there)))
    for measured in MEASURED:
        told = over_seeds(measured.value(run.metrics) for run in runs)
        row[measured.name], row[measured.deviation] = told.mean, told.sd
    if runs:
        row[DELTA] = row["error_end_pct"] - row["error_start_pct"]
    return row


def before_sharing(row: Record, runs: Sequence[Run]) -> Record:
    """What a method gives that its paper does not share or code: an error and a sparsity.

    There is no file at that stage, so the row has no size; its ratio counts parameters, as the
    paper's does.
    """
    told = [r.metrics for r in runs if r.metrics.get("nonzero_retrained_pct") is not None]
    found = dict(row) | {"point": row["point"] + BEFORE_SHARING}
    of_file = [measured for measured in MEASURED if measured.of_file]
    found |= dict.fromkeys(name for m in of_file for name in (m.name, m.deviation))
    values = {
        "error_end_pct": [m["error_retrained_pct"] for m in told],
        "nonzero_pct": [m["nonzero_retrained_pct"] for m in told],
        "cr_nonzero": [100 / float(m["nonzero_retrained_pct"]) for m in told],
    }
    for name, listed in values.items():
        mean = over_seeds(listed)
        found[name], found[BY_NAME[name].deviation] = mean.mean, mean.sd
    if told:
        found[DELTA] = found["error_end_pct"] - found["error_start_pct"]
    return found


def _paper(counterpart: Published | None) -> Record:
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


def _published_rows(literature: Sequence[Published]) -> list[Record]:
    """Published results as records: errors in the common columns, the ratio in ``paper_cr`` only.

    A published ratio is not put into a ``cr_`` column: those are defined by one accounting, ours.
    """
    repeated = {p for p, n in Counter(entry.paper for entry in literature).items() if n > 1}
    numbers: Counter[str] = Counter()
    found = []
    for entry in literature:
        numbers[entry.paper] += 1
        row = dict.fromkeys(COLUMNS) | _paper(entry)
        row |= {"source": "published", "model": entry.model, "dataset": entry.dataset}
        row |= {"method": entry.paper, "status": "ok"}
        row["point"] = str(numbers[entry.paper]) if entry.paper in repeated else ""
        row |= {"error_start_pct": entry.error_start, "error_end_pct": entry.error_end}
        row |= {DELTA: entry.delta, "nonzero_pct": entry.nonzero_pct}
        row["label"] = entry.label
        found.append(row)
    return found


# ── verdicts ────────────────────────────────────────────────────────────────────────────────────


def verdict(runs: Sequence[Run], literature: Sequence[Published]) -> str:
    """One sentence on the main point of a method whose paper gives a ratio; empty if none does.

    Ratios are compared where they count alike, and rises instead of errors: the networks start at
    different errors.

    Parameters
    ----------
    runs : sequence of Run
        A case's finished runs.
    literature : sequence of Published
        What others report.
    """
    paper = paper_of(literature, runs[0].case) if runs else None
    column = COUNTED_ALIKE.get(paper.ratio_class) if paper else None
    if paper is None or paper.ratio is None or paper.delta is None or column is None:
        return ""
    ratios = [float(BY_NAME[column].value(run.metrics)) for run in runs]
    starts = [float(run.metrics["error_start_pct"]) for run in runs]
    ends = [float(run.metrics["error_end_pct"]) for run in runs]
    rises = [end - start for start, end in zip(starts, ends, strict=True)]
    shares = [float(run.metrics["nonzero_pct"]) for run in runs]
    ratio, by_ratio = _judged(ratios, paper.ratio, MEASURES[column])
    _, by_rise = _judged(rises, paper.delta, RISE)
    if "worse" in (by_ratio, by_rise):
        held = "the paper's ratio and rise of the error are not reached"
    elif "cannot tell" in (by_ratio, by_rise):
        held = f"n = {len(runs)} cannot tell whether the paper's ratio and rise are reached"
    else:
        held = "the paper's ratio and rise of the error are reached"
    theirs = paper.label.partition(",")[0]
    said = (
        f"{case_title(runs[0].case)}: {held}. "
        f"{BY_NAME[column].heading} is {ratio}, {number(paper.ratio)} in {theirs} ({by_ratio}); "
        f"the error goes from {over_seeds(starts).mean:.2f} to {over_seeds(ends).mean:.2f} % "
        f"({signed(over_seeds(rises).mean)}), from {paper.error_start:.2f} to "
        f"{paper.error_end:.2f} % there ({signed(paper.delta)}; {by_rise})"
    )
    if paper.nonzero_pct is not None:
        share, by_share = _judged(shares, paper.nonzero_pct, MEASURES["nonzero_pct"])
        said += (
            f"; {share} % of the weights are not zero, {paper.nonzero_pct:.2f} there ({by_share})"
        )
    return f"{said}."


def _judged(own: Sequence[float], theirs: float, measure: Measure) -> tuple[str, str]:
    """Ours as text, and what it amounts to beside a published number."""
    mean, sd, _ = over_seeds(own)
    beside = difference(scaled(own, measure), scaled([theirs], measure))
    return number(mean, sd), against_paper(beside, measure, Margins().of(measure))


# ── for people ──────────────────────────────────────────────────────────────────────────────────

CAPTION = (
    "Networks measured here beside what papers report, on the test set. Look at two columns "
    "together: CR file, the ratio that a file on disk has, and the change of the error that it "
    "costs. A published ratio stands in the column that counts the same things, so that numbers "
    "in one column may be compared; the paper's own row is right below ours."
)
MEASURED_NOTE = (
    "Measured rows: mean ± standard deviation over seeds; the error after is that of the network "
    "decoded from its file. Change is after − before, in percentage points. A verdict is 'worse' "
    "or 'better' where the difference exceeds Student's t at 99 %."
)
RATES_NOTE = (
    "CR file: bytes of all parameters in float32 / bytes of the file on disk. CR Huffman: weights "
    "alone, indexes and values Huffman-coded, all tables counted. CR Han: as the paper's Appendix "
    "A counts, as far as it says: relative indexes of fixed width, values Huffman-coded, tables "
    "not counted. CR non-zero: weights / non-zero weights, no size."
)
_COLUMN_OF = {kind: BY_NAME[column].heading for kind, column in COUNTED_ALIKE.items()}
PUBLISHED_NOTE = "Published ratios, by what was counted: " + "; ".join(
    f"{name}: {meaning} ({'in ' + _COLUMN_OF[name] if name in _COLUMN_OF else 'beside the name'})"
    for name, meaning in RATIO_CLASSES.items()
)
NOTES = (MEASURED_NOTE, RATES_NOTE, f"{PUBLISHED_NOTE}.")


def table(records: Sequence[Record], verdicts: Mapping[Pair, str] | None = None) -> Table:
    """Table 1 of records: a block for each pair, ours and the paper first, the literature last.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    verdicts : mapping, optional
        Pair → what the measured rows amount to beside the paper.
    """
    headings = ["change of error" if name == DELTA else BY_NAME[name].heading for name in SHOWN]
    blocks = []
    for pair in dict.fromkeys((row["model"], row["dataset"]) for row in records):
        here = [row for row in records if (row["model"], row["dataset"]) == pair]
        literature = [row for row in here if row["source"] == "published"]
        shown = [row for row in literature if row["paper_cr"] is not None]
        left_out = len(literature) - len(shown)
        plural = "result" if left_out == 1 else "results"
        blocks.append(
            Block(
                title=pair_title(pair),
                headings=["method", "seeds", *headings],
                lines=list(_lines([row for row in here if row["source"] == "measured"], shown)),
                remark=f"{left_out} published {plural} without a ratio: see table1.csv."
                if left_out
                else "",
                verdict=(verdicts or {}).get(pair, ""),
            )
        )
    return Table("table1", "Table 1", CAPTION, COLUMNS, records, blocks, NOTES)


def _lines(measured: Sequence[Record], literature: Sequence[Record]) -> Iterable[Line]:
    """Our main point, the paper, our other points, rivals, and what else is published."""
    paper = methods.spec(methods.OURS).paper
    ours = [row for row in measured if row["method"] == methods.OURS]
    ours.sort(key=lambda row: row["point"] != "main")
    for row in ours[:1]:
        yield Line(_cells(row), strong=True)
    yield from (Line(_cells(row)) for row in literature if row["method"] == paper)
    yield from (Line(_cells(row)) for row in ours[1:])
    yield from (Line(_cells(row)) for row in measured if row["method"] != methods.OURS)
    others = [row for row in literature if row["method"] != paper]
    if others:
        yield Line(["Published by others"])
        yield from (Line(_cells(row)) for row in others)


def _cells(row: Record) -> list[str]:
    """A record as text: its name, its seeds, and a cell for each of :data:`SHOWN`."""
    if row["source"] == "measured" and row["status"] != "ok":
        return [_name(row), row["status"], *["–"] * len(SHOWN)]
    cells = {m.name: number(row[m.name], row[m.deviation], m.digits) for m in MEASURED} | {
        DELTA: signed(row[DELTA])
    }
    if row["source"] == "published":
        alike = COUNTED_ALIKE.get(row["ratio_class"])
        cells = {name: "" if cell == "–" else cell for name, cell in cells.items()}
        cells |= {alike: _ratio(row)} if alike else {}
        return [_name(row), "", *(cells[name] for name in SHOWN)]
    missing = len(row["seeds_missing"].split())
    seeds = f"{row['seeds']} of {row['seeds'] + missing}" if missing else str(row["seeds"])
    if row["endings"]:
        seeds += f" ({row['endings']})"
    return [_name(row), seeds, *(cells[name] for name in SHOWN)]


def _ratio(row: Record) -> str:
    return number(row["paper_cr"], digits=0 if row["paper_cr"] >= 100 else 1)


def _name(row: Record) -> str:
    if row["source"] == "published":
        name = row["label"]
        if row["evidence"] in ("secondary", "abstract", "figure"):
            name += f" ({row['evidence']})"
        if row["ratio_class"] not in COUNTED_ALIKE:
            name += f" [{_ratio(row)} {row['ratio_class']}]"
        return name
    point = row["point"]
    before = point.endswith(BEFORE_SHARING)
    case = Case(row["model"], row["dataset"], row["method"], point.removesuffix(BEFORE_SHARING))
    return case_title(case) + (", before sharing" if before else "")
