"""``config/experiments/<model>_<dataset>.yaml``: how a pair is trained and compressed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model, model_validator

from sws.config.ladder import Ladder, rungs
from sws.config.methods import METHODS, OURS, MethodSpec
from sws.config.schema import ConfigurationError, Settings, read_yaml, validated
from sws.config.sections import Name, Point, Pretraining
from sws.config.soft_weight_sharing import SoftWeightSharing

START = "main"
"""The start that all methods share."""


class _Experiment(Settings):
    """One pair of network and data set: the sections that do not depend on the method."""

    model: Name
    dataset: Name
    pretraining: Pretraining
    starts: dict[Name, Pretraining] = Field(
        {}, description="further networks to begin with, by name; a point says start: <name>"
    )
    as_written: dict[Name, SoftWeightSharing] = Field(
        {},
        alias="as-written",
        description="points of soft weight-sharing beside those of the table: what the paper and "
        "its tutorial describe",
    )
    ladder: Ladder | None = Field(
        None, description="points of soft weight-sharing between two others, a change at a time"
    )
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

    @model_validator(mode="after")
    def _names_are_known(self) -> _Experiment:
        if START in self.starts:
            raise ValueError(
                f"starts: {START} is the network of 'pretraining'; choose another name"
            )
        twice = set(self.as_written) & set(self.methods[OURS])
        if twice:
            raise ValueError(f"as-written: {min(twice)} is a point of {OURS} already")
        declared = [*self.as_written.items()]
        declared += [pair for points in self.methods.values() for pair in points.items()]
        known = (START, *self.starts)
        for name, point in declared:
            if point.start not in known:
                raise ValueError(
                    f"{name}: there is no start {point.start!r}; choose one of {', '.join(known)}"
                )
        _ = self.ladder_points  # says what is wrong with its steps
        return self

    @cached_property
    def ladder_points(self) -> dict[str, SoftWeightSharing]:
        """Points that the ladder declares; empty without one."""
        if self.ladder is None:
            return {}
        known = self.methods[OURS] | self.as_written
        ends = []
        for name in (self.ladder.base, self.ladder.top):
            if name not in known:
                raise ValueError(f"ladder: there is no point {name!r}")
            ends.append(known[name])
        return rungs(self.ladder, *ends)

    def every_point(self, method: str) -> dict[str, Point]:
        """Points of a method by name: of the table, as written, of the ladder."""
        own = self.methods[method]
        return own | self.as_written | self.ladder_points if method == OURS else own

    def start(self, name: str) -> Pretraining:
        """How a start is trained.

        Raises
        ------
        ConfigurationError
            If the experiment has no such start; the message lists those it has.
        """
        if name == START:
            return self.pretraining
        if name not in self.starts:
            raise ConfigurationError(
                f"{self.pair}: there is no start {name!r}; "
                f"choose one of {', '.join((START, *self.starts))}"
            )
        return self.starts[name]

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
        points = self.every_point(method)
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
