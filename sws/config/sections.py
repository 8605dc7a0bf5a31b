"""Sections of an experiment that methods share: typed settings with ranges.

Declarations only: what is computed from a setting is computed where it is used, so that the code
hash sees it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sws.config.schema import Settings

Name = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Epochs = Annotated[int, Field(ge=0, le=10_000)]
Rate = Annotated[float, Field(gt=0, le=1)]


PerLayer = dict[Annotated[str, Field(pattern=r"^[\w.]+$")], float]
"""A number for each layer, by the layer's name."""


class Augmentation(Settings):
    """Random changes of the training images, drawn anew for every image and epoch."""

    shift: Annotated[int, Field(ge=0, le=16)] = Field(0, description="by up to so many pixels")
    flip: bool = Field(False, description="left to right, half of the time")


SideFrom = tuple[Fraction, Annotated[int, Field(ge=4, le=1024)]]


class Pretraining(Settings):
    """How the network is trained before any compression: a start, which methods share."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1)] = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Rate
    warm_up: Fraction = Field(0.0, description="fraction of the steps over which the rate rises")
    decay: Literal["cosine", "linear"] = Field(
        "cosine", description="how the rate falls after it has risen"
    )
    final_rate: Fraction = Field(
        0.0, description="what is left of the rate after its decay; 1 keeps it constant"
    )
    weight_decay: Annotated[float, Field(ge=0, lt=1000)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="ε: the target is (1 − ε)·one-hot + ε/classes"
    )
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="d: the result is the moving average w̄ ← d·w̄ + (1 − d)·w of all steps"
    )
    image_sides: tuple[SideFrom, ...] = Field(
        (),
        description="[fraction of the epochs, pixels] from which on images are scaled to so many "
        "pixels a side; small ones first save time, for networks that take any size",
    )
    augmentation: Augmentation = Augmentation()
    bfloat16: bool = False

    @model_validator(mode="after")
    def _sides_in_order(self) -> Pretraining:
        places = [at for at, _ in self.image_sides]
        if places and (places[0] != 0 or sorted(set(places)) != places):
            raise ValueError("the fractions of image_sides must ascend from 0")
        return self


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
    final_rate: Fraction = Field(
        0.0, description="what is left of the rate after cosine decay; 1 keeps it constant"
    )
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
    merged_width: Literal["variance", "precision"] = Field(
        "variance",
        description="what is averaged when components merge: σ² (the paper) or 1/σ² (its tutorial)",
    )
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
    """One operating point of a method."""

    unit: Literal["weight", "tensor"] = Field(
        "weight",
        description="what priors and codebooks measure weights in: as they are, or by each "
        "tensor's root mean square at the start",
    )
    start: Name = Field(
        "main", description="the network to begin with: main is 'pretraining', others are 'starts'"
    )

    @property
    def follows(self) -> tuple[str, str] | None:
        """(method, point) whose finished run this one takes a number from."""
        return None
