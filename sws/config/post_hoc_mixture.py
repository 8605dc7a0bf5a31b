"""Settings of a mixture that is fitted to a network as it is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sws.config.sections import (
    Augmentation,
    Point,
    Positive,
    Quantization,
)


class PostHocMixture(Point):
    """One operating point of a mixture that is fitted to weights as they are."""

    components: Annotated[int, Field(ge=3, le=1024)] = 17
    deviation: Positive = Field(0.05, description="σ of every component at the start")
    iterations: Annotated[int, Field(ge=1)] = Field(200, description="of EM")
    batch_size: Annotated[int, Field(ge=1)] = Field(
        128, description="where statistics are gathered"
    )
    augmentation: Augmentation = Augmentation()
    quantization: Quantization = Quantization(merge="rate", assignment="rd")

    @model_validator(mode="after")
    def _no_training(self) -> PostHocMixture:
        if self.quantization.sharing_epochs or self.quantization.refinement_epochs:
            raise ValueError("there is no training: leave sharing and refinement epochs out")
        return self
