"""What is compared with a reference or a paper, in which unit, and what a difference is called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sws.config import methods
from sws.report.equivalence import Difference, judge
from sws.runs import published
from sws.runs.published import Published
from sws.runs.records import Case

PaperVerdict = Literal["same", "better", "worse", "cannot tell", ""]


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
    relative : bool
        Whether a difference is judged as a share of the number that it is set beside.
    """

    paper: str | None
    ratio_classes: tuple[str, ...]
    lower_is_better: bool
    relative: bool = True


_ERROR = {"ratio_classes": (), "lower_is_better": True, "relative": False}
MEASURES: Mapping[str, Measure] = {
    "error_start_pct": Measure("error_start", **_ERROR),
    "error_end_pct": Measure("error_end", **_ERROR),
    "nonzero_pct": Measure("nonzero_pct", (), True),
    "cr_nonzero": Measure("ratio", ("COUNT",), False),
    "cr_han": Measure("ratio", ("BITS",), False),
    "cr_huffman": Measure("ratio", ("CODED",), False),
    "cr_file": Measure("ratio", ("FILE",), False),
    "file_bytes": Measure(None, (), True),
}
RISE = Measure("delta", **_ERROR)
"""The error after less the error before, which the networks' own starts do not blur."""

COUNTED_ALIKE: Mapping[str, str] = {
    kind: column for column, measure in MEASURES.items() for kind in measure.ratio_classes
}
"""Kind of a published ratio → our column that counts the same things."""


@dataclass(frozen=True)
class Margins:
    """Differences up to this much have no practical meaning.

    Attributes
    ----------
    points : float
        Of an error, in percentage points.
    share : float
        Of a size, a ratio or a share of weights, relative to itself.
    """

    points: float = 0.1
    share: float = 0.05

    def of(self, measure: Measure) -> float:
        """In the unit that differences are taken in: a logarithm's for what is relative."""
        return math.log1p(self.share) if measure.relative else self.points


def scaled(values: Sequence[float], measure: Measure) -> list[float]:
    """Numbers in the unit in which their differences are taken."""
    return [math.log(value) for value in values] if measure.relative else list(values)


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


def against_paper(
    beside: Difference, measure: Measure, margin: float, confidence: float = 0.95
) -> PaperVerdict:
    """What a difference (ours − the paper's) amounts to.

    A published number is one run of unknown spread: it borrows ours.

    Parameters
    ----------
    beside : Difference
        In the unit of :func:`scaled`.
    measure : Measure
        Which direction is better.
    margin : float
        From :meth:`Margins.of`.
    confidence : float
        Of the interval, in (0, 1).
    """
    verdict = judge(beside, margin, confidence)
    if verdict != "different":
        return verdict
    return "better" if (beside.estimate < 0) == measure.lower_is_better else "worse"
