"""Settings of dynamic network surgery (Guo et al. 2016), with sharing on top."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sws.config.sections import (
    Clustering,
    Fraction,
    PerLayer,
    Point,
    Training,
)


class Surgery(Training):
    """Pruning and splicing of connections (Guo et al. 2016)."""

    c: float = Field(1.0, description="threshold: mean + c · standard deviation of |w|")
    c_of: PerLayer = Field({}, description="the same for a layer of that name")
    gamma: Annotated[float, Field(ge=0)] = Field(1e-4, description="γ of (1 + γ·iter)^−p")
    power: Annotated[float, Field(ge=0)] = Field(1.0, description="p of (1 + γ·iter)^−p")
    until: Fraction = Field(0.7, description="fraction of the steps after which masks stay")
    optimizer: Literal["adamw", "sgd"] = "sgd"
    weight_decay: Annotated[float, Field(ge=0, lt=1000)] = 0.0


class NetworkSurgery(Point):
    """One operating point of dynamic network surgery, with sharing on top."""

    retraining: Surgery
    quantization: Clustering = Clustering()
