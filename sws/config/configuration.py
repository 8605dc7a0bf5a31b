"""``config/config.yaml``: what to run, and where things lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from sws.config.experiment import Experiment
from sws.config.schema import Settings, read_yaml, validated
from sws.config.seeds import MAX_SEED

Place = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]
"""A path whose ``~`` is expanded here, once for everybody who asks."""


class Configuration(Settings):
    """``config/config.yaml``: which pairs and seeds to run, and where things lie."""

    pairs: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+_[a-z0-9-]+$")], ...]
    seeds: tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...] = Field((1, 2, 3), min_length=1)
    results: Place = Path("results")
    data_root: Place | None = None
    checkpoint_root: Place | None = None
    nncodec: Place | None = Field(
        None, description="Python of an environment that has nncodec, for the table of coders"
    )

    @field_validator("pairs", "seeds")
    @classmethod
    def _once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("each may come once only")
        return values

    @field_validator("results")
    @classmethod
    def _no_pattern(cls, folder: Path) -> Path:
        if not str(folder).isprintable() or set("{}") & set(str(folder)):
            raise ValueError("choose a folder without braces and line ends in its name")
        return folder


def load_configuration(*paths: Path) -> Configuration:
    """Read ``config.yaml`` and overlays; a later file's keys replace an earlier one's."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged |= read_yaml(path)
    return validate_configuration(merged, paths[-1])


def validate_configuration(values: dict[str, Any], source: Path | str) -> Configuration:
    """Check a configuration that is already read (Snakemake merges its own)."""
    return validated(Configuration, values, source)


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schemas by file name, as ``make schemas`` writes them to ``workflow/schemas``."""
    return {
        "config.schema.json": Configuration.model_json_schema(),
        "experiment.schema.json": Experiment.model_json_schema(),
    }
