"""Settings of a spike-and-slab prior, whose survivors are clustered afterwards."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sws.config.schema import Settings
from sws.config.sections import (
    Clustering,
    Point,
    Positive,
    Precision,
    Retraining,
)


class Slab(Settings):
    """A spike at zero and one broad slab about it."""

    zero_proportion: Annotated[float, Field(gt=0, lt=1)] = 0.999
    deviation: Positive = Field(0.25, description="σ of the slab, and of the spike at the start")
    zero_precision: Precision
    interval: Annotated[int, Field(ge=1)] = 10
    damping: Annotated[float, Field(gt=0, le=1)] = 0.1


class SpikeSlab(Point):
    """One operating point of sparsity without sharing."""

    prior: Slab
    retraining: Retraining
    quantization: Clustering = Clustering()
