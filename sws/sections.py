"""Sections of an experiment that methods share, and those of soft weight-sharing itself.

Typed settings with ranges. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sws.validation import Settings

Name = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Epochs = Annotated[int, Field(ge=0, le=10_000)]
Rate = Annotated[float, Field(gt=0, le=1)]


class Augmentation(Settings):
    """Random changes of the training images, drawn anew for every image and epoch."""

    shift: Annotated[int, Field(ge=0, le=16)] = Field(0, description="by up to so many pixels")
    flip: bool = Field(False, description="left to right, half of the time")


class Pretraining(Settings):
    """How the network is trained before any compression; shared by all methods."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1)] = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Rate
    warm_up: Fraction = Field(0.0, description="fraction of the steps over which the rate rises")
    weight_decay: Annotated[float, Field(ge=0, lt=1000)] = 0.0
    augmentation: Augmentation = Augmentation()
    bfloat16: bool = False


Knot = tuple[Fraction, Positive]


class Precision(Settings):
    """A Gamma hyper-prior on precisions λ = 1/σ²; one of three forms.

    ``alpha`` and ``beta``; or ``mode`` and ``variance``; or ``pseudo_count`` and ``deviation``:
    α − 1 is half the pseudo-count, which is a fraction of the number of weights, and the mode is
    1/deviation². The deviation may be a list of [fraction of the epochs, σ], between which it moves
    geometrically: the mixture is annealed.
    """

    alpha: Positive | None = None
    beta: Positive | None = None
    mode: Positive | None = None
    variance: Positive | None = None
    pseudo_count: Positive | None = None
    deviation: Positive | Annotated[tuple[Knot, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _knots_in_order(self) -> Precision:
        if isinstance(self.deviation, tuple):
            places = [at for at, _ in self.deviation]
            if sorted(set(places)) != places:
                raise ValueError("the fractions of deviation must ascend")
        return self

    @model_validator(mode="after")
    def _one_form(self) -> Precision:
        given = {k for k in type(self).model_fields if getattr(self, k) is not None}
        forms = ({"alpha", "beta"}, {"mode", "variance"}, {"pseudo_count", "deviation"})
        if given not in forms:
            raise ValueError(
                "give alpha and beta, or mode and variance, or pseudo_count and deviation"
            )
        return self


class Proportion(Settings):
    """π_0: fixed, or learned under a Beta hyper-prior of that mode."""

    value: Annotated[float, Field(gt=0, lt=1)] = 0.999
    learned: bool = False
    pseudo_count: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the Beta hyper-prior, as a fraction of the number of weights"
    )


class Prior(Settings):
    """The mixture: its size, its start, its hyper-priors and how log p(w) is computed."""

    components: Annotated[int, Field(ge=2, le=1024)] = 17
    deviation: Positive = Field(0.25, description="σ of every component at the start")
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


class Training(Settings):
    """One phase of training, as far as all methods agree on it."""

    epochs: Epochs
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Rate = 1e-3
    weight_rate: Positive = Field(
        1.0,
        description="the weights' rate as a multiple, in the unit that they are measured in; under "
        "a prior, and at shared values",
    )
    final_rate: Fraction = Field(0.0, description="what is left of the rate after cosine decay")
    augmentation: Augmentation = Augmentation()
    bfloat16: bool = False


class Retraining(Training):
    """Training under a prior."""

    tau: Annotated[float, Field(ge=0, le=10)] = Field(0.005, description="τ of the objective")
    warm_up: Fraction = Field(0.0, description="fraction of the epochs over which τ grows")


class Refinement(Settings):
    """What follows assignment, with one codebook for the network.

    Epochs of 0 leave a step out; all steps see the batches and the augmentation of the retraining.
    """

    distortion: Positive = Field(
        0.01, description="σ at which half a squared deviation is worth a nat, for the rd rule"
    )
    sharing_epochs: Epochs = Field(0, description="straight-through training of shared weights")
    sharing_rate: Rate = 1e-3
    refinement_epochs: Epochs = Field(0, description="training with assignments frozen")
    refinement_rate: Rate = 5e-4
    codebook_rate: Positive = Field(0.1, description="the codebook's rate, as a multiple")
    bias_bits: Annotated[int, Field(ge=1, le=10)] = Field(
        10, description="bits of the mantissa that float16 biases keep"
    )


class Quantization(Refinement):
    """From the mixture to a codebook and indexes, and what follows."""

    merge: Literal["divergence", "rate"] = Field(
        "divergence", description="components by KL divergence (the paper), or entries by bits"
    )
    merge_below: Annotated[float, Field(ge=0)] = Field(1e-10, description="KL threshold, in nats")
    assignment: Literal["map", "nearest", "rd"] = "map"

    @model_validator(mode="after")
    def _responsibilities_for_map(self) -> Quantization:
        if self.merge == "rate" and self.assignment == "map":
            raise ValueError(
                "merge: rate leaves entries and no components, and map needs components; "
                "use assignment rd or nearest, or merge: divergence"
            )
        return self


class Clustering(Refinement):
    """From weights, most of them 0, to a codebook by k-means, and what follows."""

    clusters: Annotated[int, Field(ge=1, le=65_535)] = Field(
        16, description="values that are not 0"
    )


class Point(Settings):
    """One operating point of a method. What is not about compressing is asked of it here."""

    unit: Literal["weight", "tensor"] = Field(
        "weight",
        description="what priors and codebooks measure weights in: as they are, or by each "
        "tensor's root mean square at the start",
    )

    @property
    def batch_size(self) -> int:
        return self.retraining.batch_size

    @property
    def augmentation(self) -> Augmentation:
        return self.retraining.augmentation

    @property
    def follows(self) -> tuple[str, str] | None:
        """(method, point) whose finished run this one takes a number from."""
        return None

    def following(self, metrics: Mapping[str, Any]) -> Point:
        """These settings with the number filled in, of that run's ``metrics.json``."""
        return self


class SoftWeightSharing(Point):
    """One operating point of soft weight-sharing."""

    prior: Prior = Prior()
    retraining: Retraining
    quantization: Quantization = Quantization()

    @model_validator(mode="after")
    def _means_to_spread(self) -> SoftWeightSharing:
        if self.prior.components < 3:
            raise ValueError(
                "prior.components: at least 3, one at zero and two to span the weights"
            )
        return self
