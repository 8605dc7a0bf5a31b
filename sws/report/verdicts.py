"""When two measurements agree: the one rule by which runs are set beside a reference or a paper.

Two means reproduce each other if they differ by less than Student's t at the chosen confidence
times their combined standard error (Welch), or by less than a floor below which a difference says
nothing. With one seed on one side, the other side's spread stands for both; with one seed on both
there is no spread to measure, and the fallback of :data:`MEASURES` takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from sws.config import methods
from sws.runs import published
from sws.runs.published import Published
from sws.runs.records import Case

PaperVerdict = Literal["no different", "better", "worse", ""]


@dataclass(frozen=True)
class Measure:
    """How differences of one column are judged.

    Attributes
    ----------
    paper : str or None
        Attribute of a published row that it is set beside.
    ratio_classes : tuple of str
        The kinds of published ratio that count as this column does; empty if it is no ratio.
    lower_is_better : bool
        True of errors and bytes, False of ratios.
    floor : float
        Differences up to this much never count; relative if ``relative``.
    fallback : float
        Assumed standard deviation of one seed where none can be measured.
    relative : bool
        Whether floor and fallback are shares of the number that it is set beside.
    """

    paper: str | None
    ratio_classes: tuple[str, ...]
    lower_is_better: bool
    floor: float
    fallback: float
    relative: bool = True


_ERROR = {"ratio_classes": (), "lower_is_better": True, "relative": False}
_RATE = {"lower_is_better": False, "floor": 0.01, "fallback": 0.05}
MEASURES: Mapping[str, Measure] = {
    # Two images of 10,000; one seed of a network near 1-2 % of error spreads by about 0.1 points.
    "error_start_pct": Measure("error_start", floor=0.02, fallback=0.1, **_ERROR),
    "error_end_pct": Measure("error_end", floor=0.02, fallback=0.1, **_ERROR),
    "nonzero_pct": Measure("nonzero_pct", (), True, 0.01, 0.05),
    "cr_nonzero": Measure("ratio", ("COUNT",), **_RATE),
    "cr_han": Measure("ratio", ("BITS",), **_RATE),
    "cr_huffman": Measure("ratio", ("CODED",), **_RATE),
    "cr_file": Measure("ratio", ("FILE",), **_RATE),
    "file_bytes": Measure(None, (), True, 0.01, 0.05),
}
RISE = Measure("delta", floor=0.02, fallback=0.1, **_ERROR)
"""The error after less the error before, which the networks' own starts do not blur."""

COUNTED_ALIKE: Mapping[str, str] = {
    kind: column for column, measure in MEASURES.items() for kind in measure.ratio_classes
}
"""Kind of a published ratio → our column that counts the same things."""


def tolerance(
    a: Sequence[float], b: Sequence[float], measure: Measure, confidence: float = 0.99
) -> float:
    """Largest difference of two means that still counts as the same.

    Welch's t times √(s_a²/n_a + s_b²/n_b); a side of one value borrows the other side's s.

    Parameters
    ----------
    a, b : sequence of float
        A number for each seed; the published side has one.
    measure : Measure
        Its floor, and its fallback where neither side has a spread.
    confidence : float
        Of the two-sided interval, in (0, 1).

    Returns
    -------
    float
        In the unit of the numbers.
    """
    from scipy import stats

    size = abs(fmean(b)) if measure.relative else 1.0
    deviations = [stdev(side) if len(side) > 1 else None for side in (a, b)]
    known = [s for s in deviations if s is not None]
    if known:
        variances = [
            (known[0] if s is None else s) ** 2 / len(side)
            for s, side in zip(deviations, (a, b), strict=True)
        ]
        degrees = sum(
            (v**2 / (len(side) - 1) if len(side) > 1 else 0.0)
            for v, side in zip(variances, (a, b), strict=True)
        )
        total = sum(variances)
        if len(known) == 1 or degrees == 0:
            freedom = max(len(a), len(b)) - 1
        else:
            freedom = total**2 / degrees
        spread = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(total)
    else:
        spread = float(stats.norm.ppf(0.5 + confidence / 2)) * measure.fallback * size * 2**0.5
    return max(spread, measure.floor * size)


def paper_of(literature: Sequence[Published], case: Case) -> Published | None:
    """What the paper reports of a case: of main points, and of methods whose paper has a file."""
    method = methods.spec(case.method)
    if case.point != "main" or not method.sizes:
        return None
    return published.counterpart(literature, case.pair, method.paper)


def paper_value(measure: Measure, paper: Published | None) -> float | None:
    """The paper's number for a column, if it has one that counts the same things."""
    if paper is None or measure.paper is None:
        return None
    if measure.ratio_classes and paper.ratio_class not in measure.ratio_classes:
        return None
    return getattr(paper, measure.paper)


def against_paper(difference: float, allowed: float, measure: Measure) -> PaperVerdict:
    """What a difference (ours − the paper's) beyond or within the tolerance amounts to."""
    if abs(difference) <= allowed * (1 + 1e-9):
        return "no different"
    return "better" if (difference < 0) == measure.lower_is_better else "worse"
