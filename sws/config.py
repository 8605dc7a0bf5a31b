"""Typed settings: what the configuration files may say, with ranges; everything else is an error.

Two kinds of file. ``config/config.yaml`` (:class:`Configuration`) says what to run;
``config/experiments/<model>_<dataset>.yaml`` (:class:`Experiment`) says how a pair of network and
data set is trained and compressed, in the sections of :mod:`sws.sections` and
:mod:`sws.baselines`. The JSON schemas in ``workflow/schemas`` are generated from these classes, and
a test keeps both in step. Importing this module does not import torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator

from sws.baselines import DeepCompression, NetworkSurgery, NoPrior, PostHocMixture, SpikeSlab
from sws.sections import (
    Augmentation,
    Name,
    Point,
    Precision,
    Pretraining,
    Prior,
    Proportion,
    Quantization,
    Retraining,
    SoftWeightSharing,
)
from sws.validation import ConfigurationError, Settings, read_yaml, validated

__all__ = [
    "Augmentation",
    "Configuration",
    "ConfigurationError",
    "Experiment",
    "Point",
    "Precision",
    "Pretraining",
    "Prior",
    "Proportion",
    "Quantization",
    "Retraining",
    "Settings",
    "SoftWeightSharing",
    "load_configuration",
    "load_experiment",
    "schemas",
    "validate_configuration",
    "validate_settings",
]


class Experiment(Settings):
    """``config/experiments/<model>_<dataset>.yaml``: one pair of network and data set."""

    model: Name
    dataset: Name
    pretraining: Pretraining
    soft_weight_sharing: dict[Name, SoftWeightSharing] = Field(
        alias="soft-weight-sharing", description="operating points by name; 'main' is the table's"
    )
    soft_weight_sharing_subsampled: dict[Name, SoftWeightSharing] = Field(
        {}, alias="soft-weight-sharing-subsampled", description="the same under Appendix C"
    )
    deep_compression: dict[Name, DeepCompression] = Field({}, alias="deep-compression")
    network_surgery: dict[Name, NetworkSurgery] = Field({}, alias="network-surgery")
    no_prior: dict[Name, NoPrior] = Field({}, alias="no-prior")
    post_hoc_mixture: dict[Name, PostHocMixture] = Field({}, alias="post-hoc-mixture")
    spike_slab: dict[Name, SpikeSlab] = Field({}, alias="spike-slab")
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
        """Operating points by method, of the methods that have any, in the order of the table."""
        fields = {f.alias: getattr(self, name) for name, f in type(self).model_fields.items()}
        return {alias: points for alias, points in fields.items() if alias and points}

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


class Configuration(Settings):
    """``config/config.yaml``: which pairs and seeds to run, and where things lie."""

    pairs: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+_[a-z0-9-]+$")], ...]
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((1, 2, 3), min_length=1)
    results: Path = Path("results")
    data_root: Path | None = None
    checkpoint_root: Path | None = None
    nncodec: Path | None = Field(
        None, description="Python of an environment that has nncodec, for the table of coders"
    )

    @field_validator("pairs", "seeds")
    @classmethod
    def _once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("each may come once only")
        return values


def load_experiment(path: Path) -> Experiment:
    """Read and check an experiment file.

    Raises
    ------
    ConfigurationError
        One line for everything that is wrong in it.
    """
    return validated(Experiment, read_yaml(path), path)


def load_configuration(*paths: Path) -> Configuration:
    """Read ``config.yaml`` and overlays; a later file's keys replace an earlier one's."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged |= read_yaml(path)
    return validate_configuration(merged, paths[-1])


def validate_configuration(values: dict[str, Any], source: Path | str) -> Configuration:
    """Check a configuration that is already read (Snakemake merges its own)."""
    return validated(Configuration, values, source)


def validate_settings(kind: type[Settings], values: dict[str, Any], source: Path | str) -> Any:
    """Check one section that came from elsewhere than a whole file.

    Raises
    ------
    ConfigurationError
        One line for everything that is wrong in it.
    """
    return validated(kind, values, source)


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schemas by file name, as they lie in ``workflow/schemas``."""
    return {
        "config.schema.json": Configuration.model_json_schema(),
        "experiment.schema.json": Experiment.model_json_schema(),
    }
