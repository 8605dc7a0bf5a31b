"""``config/config.yaml``: what to run, and where things lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from sws.config.experiment import Experiment
from sws.config.schema import Settings, read_yaml, validated


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
