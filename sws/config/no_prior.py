"""Settings of the control without a prior: gradual magnitude pruning to a given size."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sws.config.schema import Settings
from sws.config.sections import (
    Clustering,
    Fraction,
    Name,
    Point,
    Training,
)


class GradualPruning(Training):
    """Magnitude pruning by one threshold for the network, of cubically rising sparsity."""

    begin: Fraction = Field(0.0, description="fraction of the steps before the first pruning")
    until: Fraction = Field(0.75, description="fraction of the steps before the last one")
    interval: Annotated[int, Field(ge=1)] = Field(50, description="steps between prunings")
    weight_decay: Annotated[float, Field(ge=0, lt=1000)] = 0.0

    @model_validator(mode="after")
    def _in_order(self) -> GradualPruning:
        if self.begin >= self.until:
            raise ValueError("begin must be smaller than until")
        return self


class Match(Settings):
    """Whose file to be as large as, and how closely."""

    point: Name = Field("main", description="of soft weight-sharing; same pair, same seed")
    bytes: Annotated[int, Field(ge=1)] | None = Field(
        None, description="of the file; taken from that run's metrics.json unless it is given"
    )
    tolerance_pct: Annotated[float, Field(gt=0, le=100)] = 1.0
    tries: Annotated[int, Field(ge=1, le=50)] = Field(10, description="whole trainings, at most")
    nonzero_pct: Annotated[float, Field(gt=0, le=100)] = Field(4.0, description="of the first try")


class NoPrior(Point):
    """One operating point of the control without a prior."""

    match: Match = Match()
    retraining: GradualPruning
    quantization: Clustering = Clustering()

    @property
    def follows(self) -> tuple[str, str] | None:
        return ("soft-weight-sharing", self.match.point) if self.match.bytes is None else None
