"""Settings of soft weight-sharing (Ullrich et al. 2017), also under Appendix C."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sws.config.schema import Settings
from sws.config.sections import (
    Point,
    Positive,
    Precision,
    Quantization,
    Rate,
    Retraining,
)


class Proportion(Settings):
    """π_0: fixed, or learned under a Beta hyper-prior of that mode."""

    value: Annotated[float, Field(gt=0, lt=1)] = 0.999
    learned: bool = False
    pseudo_count: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the Beta hyper-prior, as a fraction of the number of weights"
    )


Interval = tuple[float, float]


class Prior(Settings):
    """The mixture: its size, its start, its hyper-priors and how log p(w) is computed."""

    components: Annotated[int, Field(ge=2, le=1024)] = 17
    means: Literal["range", "mass"] | Interval = Field(
        "range",
        description="where the means start: evenly over the weights' range or over [low, high], or "
        "at quantiles that part the weights into equal shares (mass)",
    )
    deviation: Positive = Field(0.25, description="σ of every component at the start")
    covers: Literal["weights", "all"] = Field(
        "weights", description="what is under the mixture and quantised: weights, or biases as well"
    )
    zero_proportion: Proportion = Proportion()
    zero_precision: Precision | None = Precision(alpha=5000, beta=2)
    precision: Precision | None = Precision(alpha=250, beta=0.1)
    estimator: Literal[
        "exact", "tabulated", "subsampled", "subsampled-sums", "subsampled-outside"
    ] = "tabulated"
    samples: Annotated[int, Field(ge=1)] = Field(10_000, description="K of Appendix C")
    update: Literal["em", "adam"] = "em"
    interval: Annotated[int, Field(ge=1)] = Field(
        10, description="steps between updates of the mixture (1 for adam, as in the paper)"
    )
    damping: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="of an EM update")
    rates: tuple[Rate, Rate, Rate] = Field(
        (5e-4, 5e-4, 5e-4), description="Adam's for means, log-precisions and mixing logits"
    )


class SoftWeightSharing(Point):
    """One operating point of soft weight-sharing."""

    prior: Prior = Prior()
    retraining: Retraining
    quantization: Quantization = Quantization()

    @model_validator(mode="after")
    def _means_ascend(self) -> SoftWeightSharing:
        means = self.prior.means
        if isinstance(means, tuple) and not means[0] < means[1]:
            raise ValueError("prior.means: give the lower end first")
        return self

    @model_validator(mode="after")
    def _means_to_spread(self) -> SoftWeightSharing:
        if self.prior.components < 3:
            raise ValueError(
                "prior.components: at least 3, one at zero and two to span the weights"
            )
        return self
