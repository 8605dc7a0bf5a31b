"""``config/sensitivity.yaml``: how fast the mixture may follow the weights.

A curve varies one setting of the mixture's update, at a point with changes. Every value of it is a
trial, on each of the seeds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sws.config.schema import Settings
from sws.config.sections import Name

VARIED = {
    "rates": "Adam's rate of all three kinds",
    "means": "Adam's rate of the means",
    "precisions": "Adam's rate of the log-precisions",
    "proportions": "Adam's rate of the mixing logits",
    "damping": "damping of an EM update",
    "interval": "steps between EM updates",
}
"""What a curve may vary, in words."""


class Curve(Settings):
    """One setting of the update, over a range of values."""

    name: Name
    title: Annotated[str, Field(min_length=1)]
    panel: Annotated[str, Field(min_length=1)] = Field(description="of the figure")
    varies: Literal["rates", "means", "precisions", "proportions", "damping", "interval"]
    values: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=2)
    change: dict[str, Any] = Field({}, description="laid over the point")


class Sensitivity(Settings):
    """The study: where it starts, on which seeds, and its curves."""

    pair: Annotated[str, Field(pattern=r"^[a-z0-9-]+_[a-z0-9-]+$")]
    point: Name = "paper"
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((1, 2), min_length=1)
    change: dict[str, Any] = Field({}, description="laid over the point, in every trial")
    curves: tuple[Curve, ...] = Field(min_length=1)


def trial_name(curve: Curve, value: float) -> str:
    """Name of a curve's trial, as in paths.

    Examples
    --------
    >>> curve = Curve(name="free", title="-", panel="-", varies="rates", values=(1e-5, 0.03))
    >>> [trial_name(curve, value) for value in curve.values]
    ['free-1e-05', 'free-3e-02']
    """
    shown = f"{value:.0e}" if value < 1 else f"{value:g}"
    return f"{curve.name}-{shown}"
