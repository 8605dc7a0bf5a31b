"""Settings of Deep Compression (Han et al. 2016)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sws.config.schema import Settings
from sws.config.sections import (
    Epochs,
    Fraction,
    PerLayer,
    Point,
    Positive,
    Rate,
    Training,
)


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
