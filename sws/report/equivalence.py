"""Are two measurements the same, are they different, or can so few seeds not tell?

A difference of means has an interval, and there is a margin below which a difference does not
matter in practice. An interval inside the margin says *same*; one outside it, *different*; one that
crosses an end of it says that more seeds are needed. A wide interval is never taken for agreement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

Verdict = Literal["same", "different", "cannot tell"]
HOMOGENEOUS = 0.05
"""Level of the test of equal variances below which they are not pooled."""


@dataclass(frozen=True)
class Spread:
    """Variance of one seed, and what it is worth.

    Attributes
    ----------
    variance : float
        Of a single seed.
    freedom : float
        Degrees of freedom that it was estimated with.
    groups : int
        Cases that it was estimated from.
    """

    variance: float
    freedom: float
    groups: int


@dataclass(frozen=True)
class Difference:
    """A difference of two means.

    Attributes
    ----------
    estimate : float
        The first less the second.
    error : float or None
        Its standard error; None where no spread is known.
    freedom : float or None
        Degrees of freedom of the error.
    """

    estimate: float
    error: float | None = None
    freedom: float | None = None

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Two-sided interval by Student's t; None where no spread is known."""
        if self.error is None or self.freedom is None:
            return None
        from scipy import stats

        half = float(stats.t.ppf(0.5 + confidence / 2, self.freedom)) * self.error
        return self.estimate - half, self.estimate + half


def pooled(groups: Sequence[Sequence[float]]) -> Spread | None:
    """One variance for groups that spread alike; None if they do not, or none has two values.

    The groups must pass the test of Brown and Forsythe (the spread about the median) at
    :data:`HOMOGENEOUS`; where one has only two values, of which both are as far from the median,
    Bartlett's.

    Parameters
    ----------
    groups : sequence of sequence of float
        A number for each seed, case by case.

    Examples
    --------
    >>> pooled([[1.0, 3.0], [5.0, 7.0]])
    Spread(variance=2.0, freedom=2, groups=2)
    """
    spread = [group for group in groups if len(group) > 1]
    if not spread:
        return None
    freedom = sum(len(group) - 1 for group in spread)
    value = sum((len(group) - 1) * variance(group) for group in spread) / freedom
    if len(spread) > 1 and value > 0:
        from scipy import stats

        if min(map(variance, spread)) == 0:
            return None
        pairs = min(map(len, spread)) == 2
        test = stats.bartlett(*spread) if pairs else stats.levene(*spread, center="median")
        if test.pvalue < HOMOGENEOUS:
            return None
    return Spread(value, freedom, len(spread))


def difference(a: Sequence[float], b: Sequence[float], spread: Spread | None = None) -> Difference:
    """Difference of two means with its standard error.

    With a pooled spread, √(s²·(1/n_a + 1/n_b)). Without one, Welch's; a side of one value then
    borrows the other side's deviation.

    Parameters
    ----------
    a, b : sequence of float
        A number for each seed.
    spread : Spread, optional
        From :func:`pooled`.
    """
    estimate = fmean(a) - fmean(b)
    if spread is not None:
        error = math.sqrt(spread.variance * (1 / len(a) + 1 / len(b)))
        return Difference(estimate, error, spread.freedom)
    known = [(variance(side), len(side)) for side in (a, b) if len(side) > 1]
    if not known:
        return Difference(estimate)
    if len(known) == 1:
        value, count = known[0]
        error = math.sqrt(value * (1 / len(a) + 1 / len(b)))
        return Difference(estimate, error, count - 1)
    parts = [value / count for value, count in known]
    total = sum(parts)
    terms = [part**2 / (count - 1) for part, (_, count) in zip(parts, known, strict=True)]
    freedom = total**2 / sum(terms) if total > 0 else sum(count - 1 for _, count in known)
    return Difference(estimate, math.sqrt(total), freedom)


def judge(found: Difference, margin: float, confidence: float, numbers: int = 1) -> Verdict:
    """What a difference amounts to.

    *Same* is said of each number at its confidence. *Different* is said so that the confidence is
    that of all numbers together: among a hundred one would otherwise differ by chance.

    Parameters
    ----------
    found : Difference
        Of the two sides.
    margin : float
        Largest difference without practical meaning, in the unit of the estimate.
    confidence : float
        In (0, 1).
    numbers : int
        How many are judged together.
    """
    wide = found.interval(1 - (1 - confidence) / numbers)
    narrow = found.interval(confidence)
    if wide is None or narrow is None:
        return "cannot tell"
    if wide[0] > margin or wide[1] < -margin:
        return "different"
    return "same" if -margin <= narrow[0] and narrow[1] <= margin else "cannot tell"
