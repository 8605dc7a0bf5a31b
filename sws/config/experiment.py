"""``config/experiments/<model>_<dataset>.yaml``: how a pair is trained and compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model

from sws.config.methods import METHODS, OURS, MethodSpec
from sws.config.schema import ConfigurationError, Settings, read_yaml, validated
from sws.config.sections import Name, Point, Pretraining


class _Experiment(Settings):
    """One pair of network and data set: the sections that do not depend on the method."""

    model: Name
    dataset: Name
    pretraining: Pretraining
    hold_out: bool = Field(
        False,
        description="train on all but the validation images throughout: one start for trials and "
        "table, where two would take too long",
    )
    allowed_rise_pct: Annotated[float, Field(ge=0, le=100)] = Field(
        0.05, description="points of validation error over the start that tuning allows"
    )

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @property
    def pair(self) -> str:
        return f"{self.model}_{self.dataset}"

    @property
    def methods(self) -> dict[str, dict[str, Point]]:
        """Operating points by method, of the methods that have any, in the order of table 1."""
        found = {method.name: getattr(self, _field(method)) for method in METHODS}
        return {name: points for name, points in found.items() if points}

    def point(self, method: str, point: str) -> Point:
        """Settings of a method at a point.

        Raises
        ------
        ConfigurationError
            If the experiment has no such method or point; the message lists those it has.
        """
        if method not in self.methods:
            raise ConfigurationError(
                f"{self.pair}: unknown method {method!r}; choose one of {', '.join(self.methods)}"
            )
        points = self.methods[method]
        if point not in points:
            raise ConfigurationError(
                f"{self.pair}: {method} has no point {point!r}; its points are {', '.join(points)}"
            )
        return points[point]


def _field(method: MethodSpec) -> str:
    return method.name.replace("-", "_")


def _points(method: MethodSpec) -> tuple[Any, Any]:
    """Type and default of a method's section: its operating points by name."""
    default = ... if method.name == OURS else {}
    text = f"operating points of {method.title} by name; 'main' is that of table 1"
    return dict[Name, method.settings], Field(default, alias=method.name, description=text)


Experiment = create_model(
    "Experiment", __base__=_Experiment, **{_field(method): _points(method) for method in METHODS}
)


def load_experiment(path: Path) -> Experiment:
    """Read and check an experiment file.

    Raises
    ------
    ConfigurationError
        One line for everything that is wrong in it.
    """
    return validated(Experiment, read_yaml(path), path)
