"""Methods as curves of error against bytes, and what they reach at a fixed error or rise.

A method's operating points, averaged over seeds, are joined in the order of their sizes; between
two of them the error is interpolated linearly in the logarithm of the bytes. Nothing is
extrapolated, and nothing interpolated between variants of a method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sws.config import methods
from sws.report.names import pair_title
from sws.report.table import Block, Line, Table, number
from sws.report.table import Record as Row
from sws.runs import published
from sws.runs.published import Published
from sws.runs.records import Pair, Run
from sws.runs.seeds import over_seeds

LEVELS = ("error_end_pct", "delta_pct")
COLUMNS = (
    *("model", "dataset", "method", "kind", "level", "whose", "status"),
    *("file_bytes", "cr_file", "points", "seeds"),
)
KINDS = {"error_end_pct": "error", "delta_pct": "rise"}


@dataclass(frozen=True)
class OperatingPoint:
    """Means over the seeds of a method at one point, deviations with ddof = 1 (0 at one seed)."""

    method: str
    point: str
    seeds: int
    file_bytes: float
    file_bytes_sd: float
    error_end_pct: float
    error_end_sd: float
    delta_pct: float
    nonzero: float
    cr_file: float
    dense_bytes: float


def operating_points(runs: Sequence[Run]) -> list[OperatingPoint]:
    """Runs of one pair averaged over seeds, in the order in which they come."""
    found = []
    for case in dict.fromkeys(run.case for run in runs):
        metrics = [run.metrics for run in runs if run.case == case]
        sizes = over_seeds(m["bytes"]["file"] for m in metrics)
        errors = over_seeds(m["error_end_pct"] for m in metrics)
        starts = over_seeds(m["error_start_pct"] for m in metrics)
        found.append(
            OperatingPoint(
                method=case.method,
                point=case.point,
                seeds=len(metrics),
                file_bytes=sizes.mean,
                file_bytes_sd=sizes.sd or 0.0,
                error_end_pct=errors.mean,
                error_end_sd=errors.sd or 0.0,
                delta_pct=errors.mean - starts.mean,
                nonzero=over_seeds(m["cr"]["nonzero"] for m in metrics).mean,
                cr_file=over_seeds(m["cr"]["file"] for m in metrics).mean,
                dense_bytes=over_seeds(m["bytes"]["dense"] for m in metrics).mean,
            )
        )
    return found


def pareto(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """Those that no other beats in bytes and error at once, smallest first."""
    frontier: list[OperatingPoint] = []
    for point in sorted(points, key=lambda p: (p.file_bytes, p.error_end_pct)):
        if not frontier or point.error_end_pct < frontier[-1].error_end_pct:
            frontier.append(point)
    return frontier


def smallest_file(
    points: Sequence[OperatingPoint], measure: str, level: float
) -> tuple[
    float | None, float | None, Literal["interpolated", "measured", "at most", "not reached"]
]:
    """The fewest bytes at which a method's curve is at or below a level.

    Returns
    -------
    bytes, ratio : None if no point reaches the level. Both are means over seeds at the points, and
        interpolated alike between them: a mean of ratios is no ratio of means.
    status : ``at most`` where even the smallest file reaches it, so that the curve does not say how
        much smaller one could be; ``measured`` where the points are no curve and this is one.
    """
    ordered = sorted(points, key=lambda p: p.file_bytes)
    values = [getattr(p, measure) for p in ordered]
    for i, (point, value) in enumerate(zip(ordered, values, strict=True)):
        if value > level + 1e-9:
            continue
        if i == 0:
            return point.file_bytes, point.cr_file, "at most"
        if methods.spec(point.method).variant_of:
            return point.file_bytes, point.cr_file, "measured"
        before = ordered[i - 1]
        share = (level - values[i - 1]) / (value - values[i - 1])
        size, ratio = (
            math.exp((1 - share) * math.log(a) + share * math.log(b))
            for a, b in ((before.file_bytes, point.file_bytes), (before.cr_file, point.cr_file))
        )
        return size, ratio, "interpolated"
    return None, None, "not reached"


def rows(runs: Sequence[Run], literature: Sequence[Published]) -> list[Row]:
    """The table of one pair: every method at every level."""
    points = operating_points(runs)
    pair = runs[0].case.pair
    found = []
    for measure, level, whose in _levels(points, literature, pair):
        for method in dict.fromkeys(p.method for p in points):
            own = [p for p in points if p.method == method]
            size, ratio, status = smallest_file(own, measure, level)
            found.append(
                {
                    "model": pair[0],
                    "dataset": pair[1],
                    "method": method,
                    "kind": KINDS[measure],
                    "level": level,
                    "whose": whose,
                    "status": status,
                    "file_bytes": size,
                    "cr_file": ratio,
                    "points": len(own),
                    "seeds": min(p.seeds for p in own),
                }
            )
    return found


def _levels(
    points: Sequence[OperatingPoint], literature: Sequence[Published], pair: Pair
) -> list[tuple[str, float, str]]:
    """(measure, level, whose it is): what the papers reached, what we reached, no rise at all."""
    found: list[tuple[str, float, str]] = []
    papers = [published.counterpart(literature, pair, m.paper) for m in methods.METHODS]
    for paper in papers:
        if paper is not None and paper.error_end is not None:
            found.append(("error_end_pct", paper.error_end, paper.label))
    for point in points:
        if (point.method, point.point) == ("soft-weight-sharing", "main"):
            found.append(("error_end_pct", point.error_end_pct, "ours, main"))
    found.append(("delta_pct", 0.0, "no rise"))
    ours = papers[0]
    if ours is not None and ours.delta is not None:
        found.append(("delta_pct", round(ours.delta, 2), ours.label))
    found.append(("delta_pct", 0.1, "a tenth of a point"))
    return found


CAPTION = (
    "The ratio (CR file, of a file on disk) that each method reaches at an error, and at a rise of "
    "the error over the start, that is the same for all. Compare down a column: the largest number "
    "is the smallest file for the same loss."
)
NOTES = (
    "Errors on the test set, means over seeds. Between the points of a method the error is "
    "interpolated in the logarithm of the bytes, but not between the variants of Appendix C. ≥: "
    "its smallest file reaches the level already. –: none of its files does.",
)


def table(records: Sequence[Row]) -> Table:
    """For people: a block for each pair, a column for each level.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    """
    blocks = []
    for pair in dict.fromkeys((row["model"], row["dataset"]) for row in records):
        here = [row for row in records if (row["model"], row["dataset"]) == pair]
        levels = list(dict.fromkeys((r["kind"], r["level"], r["whose"]) for r in here))
        heads = [f"{kind} ≤ {level:.2f} ({whose})" for kind, level, whose in levels]
        lines = []
        for method in dict.fromkeys(row["method"] for row in here):
            own = [row for row in here if row["method"] == method]
            cells = [methods.spec(method).title, str(own[0]["points"]), str(own[0]["seeds"])]
            lines.append(Line([*cells, *map(_cell, own)], strong=method == methods.OURS))
        blocks.append(Block(pair_title(pair), ["method", "points", "seeds", *heads], lines))
    title = "Ratio at a fixed error, and at a fixed rise over the start"
    return Table("fixed", title, CAPTION, COLUMNS, records, blocks, NOTES)


def _cell(row: Row) -> str:
    ratio = row["cr_file"]
    text = number(ratio, None, None if ratio is None else 1 if ratio < 100 else 0)
    return f"≥ {text}" if row["status"] == "at most" else text
