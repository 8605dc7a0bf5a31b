"""What a figure is drawn of: a pair, a finished run of it, its trials, its literature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sws.config import methods
from sws.report.names import pair_title
from sws.runs.published import Published, counterpart
from sws.runs.records import Pair, ResultsError, Run, Trial

SIZES = {"FILE": ("s", "a file"), "CODED": ("D", "a coded stream"), "BITS": ("^", "bits counted")}
"""Classes of published ratios that are sizes: marker, and what it is."""


def size_kb(paper: Published, dense_kb: float) -> float | None:
    """Size that a paper gives, or that its ratio stands for; None if it has neither.

    Parameters
    ----------
    paper : Published
        A result whose ratio is one of sizes.
    dense_kb : float
        Size of the same network in float32, in kB.
    """
    return paper.size_kb or (dense_kb / paper.ratio if paper.ratio else None)


@dataclass(frozen=True)
class Subject:
    """What a figure function may draw.

    Attributes
    ----------
    pair : (model, data set), or None for figures that show no result.
    runs : finished runs of the pair, a seed each; without a pair, one run of every pair.
    trials : tuning trials on the validation split; empty if there were none.
    literature : published results of the pair.
    settings : pair → the settings in use, as plain values, for the hyper-priors' densities and for
        what weights are measured in.
    compared : runs of all methods, points and seeds of the pair.
    """

    results: Path
    pair: Pair | None = None
    method: str = "soft-weight-sharing"
    runs: Sequence[Run] = ()
    trials: Sequence[Trial] = ()
    literature: Sequence[Published] = ()
    settings: Mapping[Pair, Mapping[str, Any]] = field(default_factory=dict)
    compared: Sequence[Run] = ()

    @property
    def a_run(self) -> Run:
        """The run to draw: the first seed that finished."""
        if not self.runs:
            raise ResultsError(f"{self.pair}: no finished run to draw; run the compression first")
        return self.runs[0]

    @property
    def title(self) -> str:
        return pair_title(self.pair) if self.pair else ""

    @property
    def in_units(self) -> str:
        """What to add to an axis of weights: nothing where they are shown as they are."""
        return in_units(self.settings.get(self.pair, {})) if self.pair else ""

    @property
    def paper(self) -> Published | None:
        """The published row that this method re-measures on this pair."""
        return (
            counterpart(self.literature, self.pair, methods.spec(self.method).paper)
            if self.pair
            else None
        )


def in_units(settings: Mapping[str, Any]) -> str:
    """Words for the unit that a point's prior and codebook measure weights in."""
    return " / r.m.s. of its tensor" if settings.get("unit") == "tensor" else ""
