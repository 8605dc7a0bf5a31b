"""Means over seeds: the one place where runs that differ in nothing but the seed become one row."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev
from typing import NamedTuple


class OverSeeds(NamedTuple):
    """Some numbers of one kind, a seed each.

    Attributes
    ----------
    mean : float or None
        None if there is no number.
    sd : float or None
        Sample standard deviation (ddof = 1); None of fewer than two numbers.
    n : int
        How many numbers there are.
    """

    mean: float | None
    sd: float | None
    n: int


def over_seeds(values: Iterable[float | None]) -> OverSeeds:
    """Mean, deviation and count of the numbers that are there.

    Parameters
    ----------
    values : iterable of float or None
        A number for each seed; None from a seed that did not measure it.

    Returns
    -------
    OverSeeds

    Examples
    --------
    >>> over_seeds([1.0, 3.0, None])
    OverSeeds(mean=2.0, sd=1.4142135623730951, n=2)
    >>> over_seeds([5])
    OverSeeds(mean=5.0, sd=None, n=1)
    """
    found = [float(value) for value in values if value is not None]
    return OverSeeds(
        mean=fmean(found) if found else None,
        sd=stdev(found) if len(found) > 1 else None,
        n=len(found),
    )


def missing_seeds(wanted: Iterable[int], present: Iterable[int]) -> list[int]:
    """The seeds that were asked for and have not run, in the order in which they were asked for."""
    there = set(present)
    return [seed for seed in wanted if seed not in there]
