"""Sections of the methods that soft weight-sharing is compared with.

docs/baselines.md says what each paper leaves open and what was chosen. Importing this module does
not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sws.sections import (
    Augmentation,
    Clustering,
    Epochs,
    Fraction,
    Name,
    Point,
    Positive,
    Precision,
    Quantization,
    Rate,
    Retraining,
    Training,
)
from sws.validation import Settings

PerLayer = dict[Annotated[str, Field(pattern=r"^[\w.]+$")], float]


class IterativePruning(Training):
    """Magnitude pruning by layer, repeated while the network trains (Han et al. 2015)."""

    quality: Positive = Field(1.0, description="threshold, in standard deviations of the layer")
    quality_of: PerLayer = Field({}, description="the same for a layer of that name")
    rounds: Annotated[int, Field(ge=1)] = Field(4, description="steps in which the quality rises")
    until: Fraction = Field(0.5, description="fraction of the epochs that is over by the last one")
    weight_decay: Annotated[float, Field(ge=0, lt=1000)] = 0.0


class TrainedCentroids(Settings):
    """k-means in each layer, and training of what it found (Han et al. 2016)."""

    fc: Annotated[int, Field(ge=1, le=65_535)] = Field(
        32, description="values that are not 0 of a fully connected layer"
    )
    conv: Annotated[int, Field(ge=1, le=65_535)] = Field(256, description="of a convolution")
    epochs: Epochs = 0
    rate: Rate = 1e-3
    codebook_rate: Positive = Field(0.1, description="the centroids' rate, as a multiple")
    bias_bits: Annotated[int, Field(ge=1, le=10)] = 10


class DeepCompression(Point):
    """One operating point of deep compression."""

    retraining: IterativePruning
    quantization: TrainedCentroids = TrainedCentroids()

    @model_validator(mode="after")
    def _as_they_are(self) -> DeepCompression:
        if self.unit != "weight" or self.retraining.weight_rate != 1:
            raise ValueError("it measures weights as they are: leave unit and weight_rate out")
        return self


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

    def following(self, metrics: Mapping[str, Any]) -> NoPrior:
        match = self.match.model_copy(
            update={
                "bytes": int(metrics["bytes"]["file"]),
                "nonzero_pct": float(metrics["nonzero_pct"]),
            }
        )
        return self.model_copy(update={"match": match})


class PostHocMixture(Point):
    """One operating point of a mixture that is fitted to weights as they are."""

    components: Annotated[int, Field(ge=3, le=1024)] = 17
    deviation: Positive = Field(0.05, description="σ of every component at the start")
    iterations: Annotated[int, Field(ge=1)] = Field(200, description="of EM")
    quantization: Quantization = Quantization(merge="rate", assignment="rd")

    @model_validator(mode="after")
    def _no_training(self) -> PostHocMixture:
        if self.quantization.sharing_epochs or self.quantization.refinement_epochs:
            raise ValueError("there is no training: leave sharing and refinement epochs out")
        return self

    @property
    def batch_size(self) -> int:
        return 128

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation()


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
