"""Settings by default, for every method and any network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from torch import nn

from sws.compression.masking import layer_of
from sws.config import methods
from sws.config.deep_compression import DeepCompression, IterativePruning, TrainedCentroids
from sws.config.network_surgery import NetworkSurgery, Surgery
from sws.config.no_prior import GradualPruning, Match, NoPrior
from sws.config.post_hoc_mixture import PostHocMixture
from sws.config.sections import Clustering, Point, Precision, Quantization, Retraining
from sws.config.soft_weight_sharing import Prior, Proportion, SoftWeightSharing
from sws.config.spike_slab import Slab, SpikeSlab
from sws.errors import InputError
from sws.network import batch_norm
from sws.network.weights import compressible

TAU_PER_IMAGE = {"weight": 3.3e-6, "tensor": 4e-7}
"""τ by default, for each training image (docs/decisions/0008-tau-per-image.md), by unit. Our MNIST
rows have 2.4e-6 and 5e-6; the CIFAR-10 rows, measured in units of tensors, 2.7e-7 and 6.7e-7."""

WIDEST_ZERO = 0.03
"""The largest σ of the zero component in :func:`settings`: weights that are smaller than that,
tensor by tensor, would all belong to it."""
NONZEROS = 60
"""Weights that a prior expects not to be 0, at least."""
UPDATES = 200
"""Of the mixture, that a retraining should have at least."""
LARGEST = 1.0
"""Root mean square above which the starting widths are too narrow for a tensor."""

Unit = Literal["weight", "tensor"]


def unit_for(model: nn.Module) -> Unit:
    """``weight`` where the prior's starting widths fit every large tensor, or else ``tensor``.

    Weights before a batch normalisation have no scale of their own, so their unit is the tensor.
    Tensors of less than a hundredth of the weights do not count.

    Parameters
    ----------
    model : nn.Module
        The trained network.
    """
    weights = compressible(model).values()
    few = sum(w.numel() for w in weights) / 100
    sizes = [float(w.detach().double().square().mean().sqrt()) for w in weights if w.numel() >= few]
    fits = all(size == 0 or WIDEST_ZERO <= size <= LARGEST for size in sizes)
    return "weight" if fits and not batch_norm.norms(model) else "tensor"


def layer_sizes(model: nn.Module) -> dict[str, int]:
    """Number of weights by name of the layer."""
    return {layer_of(name): w.numel() for name, w in compressible(model).items()}


def settings(
    method: str = methods.OURS,
    *,
    images: int | None = None,
    tau: float | None = None,
    epochs: int = 40,
    learning_rate: float = 1e-3,
    unit: Unit = "weight",
    strength: float = 1.0,
    target_bytes: int | None = None,
    layers: Mapping[str, int] | None = None,
    batch_size: int = 128,
    bias_bits: int | None = None,
    bfloat16: bool = False,
) -> Point:
    """The settings of our rows, for a budget of epochs.

    Parameters
    ----------
    method : str
        One of :func:`sws.config.methods.names`.
    images : int, optional
        Number of training examples; needed where τ is not given.
    tau : float, optional
        τ, the price of a nat of the prior: larger gives smaller files and larger errors. By default
        in proportion to the examples (:data:`TAU_PER_IMAGE`). Two methods have it.
    epochs : int
        Of everything together; three fifths retrain, the rest trains the shared weights. With fewer
        than 8 the prior's widths do not close, and snapping costs more.
    learning_rate : float
        Adam's at the start of each part, about that of the pre-training.
    unit : {'weight', 'tensor'}
        What weights are measured in: as they are, or by each tensor's root mean square.
    strength : float
        A factor on what makes files smaller: τ itself, or its like in methods without it.
    target_bytes : int, optional
        Size of the file; ``no-prior`` needs it.
    layers : mapping of str to int, optional
        Weights by layer: network surgery and Deep Compression spare small layers, and priors expect
        :data:`NONZEROS` that are not 0.
    batch_size : int
        Of the loader. Where training takes few steps, the mixture follows the weights more often.
    bias_bits : int, optional
        Bits of the mantissa that vectors keep; 5, or 7 in units of tensors.
    bfloat16 : bool
        Train in mixed precision where the machine computes it.

    Raises
    ------
    InputError
        If the method is unknown or lacks what it needs.
    """
    methods.spec(method)
    own_tau = method in (methods.OURS, "soft-weight-sharing-subsampled", "spike-slab")
    if tau is not None and not own_tau:
        raise InputError(f"{method} has no τ: leave tau out, or give target_bytes or target_error")
    if tau is None and own_tau:
        if images is None:
            raise InputError("give images= or tau=: τ is in proportion to the training examples")
        tau = images * TAU_PER_IMAGE[unit]
    tensor = unit == "tensor"
    retraining = max(1, round(0.6 * epochs))
    common = {
        "epochs": retraining, "learning_rate": learning_rate, "batch_size": batch_size,
        "bfloat16": bfloat16, "weight_rate": 20.0 if tensor else 1.0,
    }  # fmt: skip
    sharing = {
        "distortion": 0.15 if tensor else 0.01,
        "sharing_epochs": max(0, epochs - retraining - 1),
        "sharing_rate": learning_rate,
        "refinement_epochs": 1,
        "refinement_rate": learning_rate / 2,
        "bias_bits": bias_bits or (7 if tensor else 5),
    }
    if own_tau:
        common["tau"] = tau if strength == 1 else min(10.0, tau * strength)
        steps = retraining * -(-(images or 60_000) // batch_size)
        zero = _zero_proportion(sum((layers or {}).values()))
        return _under_a_prior(method, unit, common, sharing, steps, zero)
    if method == "post-hoc-mixture":
        kept = {"distortion": (0.15 if tensor else 0.01) * math.sqrt(strength)}
        kept["bias_bits"] = sharing["bias_bits"]
        return PostHocMixture(
            unit=unit,
            deviation=1.0 if tensor else 0.05,
            quantization=Quantization(merge="rate", assignment="rd", **kept),
        )
    if method == "no-prior":
        if target_bytes is None:
            raise InputError("no-prior prunes to a size: give target_bytes")
        return NoPrior(
            unit=unit, match=Match(bytes=target_bytes), retraining=GradualPruning(**common),
            quantization=Clustering(**sharing),
        )  # fmt: skip
    sizes = {layer: size for layer, size in (layers or {}).items() if layer}
    if method == "network-surgery":
        more = 0.5 * math.log2(strength)
        cuts = {layer: 0.6 * (math.log10(n) - 2.3) + more for layer, n in sizes.items()}
        return NetworkSurgery(
            unit=unit,
            retraining=Surgery(**common, c=1.0 + more, c_of=cuts, optimizer="adamw"),
            quantization=Clustering(**sharing),
        )
    factor = strength**0.25
    quality = {n: factor * min(2.0, max(0.5, 0.4 * math.log10(k) - 0.5)) for n, k in sizes.items()}
    return DeepCompression(
        retraining=IterativePruning(**common | {"weight_rate": 1.0}, quality=factor,
                                    quality_of=quality),
        quantization=TrainedCentroids(
            epochs=sharing["sharing_epochs"] + 1, rate=learning_rate,
            bias_bits=sharing["bias_bits"],
        ),
    )  # fmt: skip


def _zero_proportion(weights: int) -> float:
    """π_0: 0.999, or less where that leaves no weight to be anything else."""
    return min(0.999, max(0.5, 1 - NONZEROS / weights)) if weights else 0.999


def _under_a_prior(
    method: str, unit: Unit, common: dict, sharing: dict, steps: int, zero_proportion: float
) -> Point:
    at, zero, others = (0.0, 0.6, 0.8), (0.005, WIDEST_ZERO, 0.003), (0.2, 0.1, 0.02)
    if unit == "tensor":
        zero, others = (0.1, 0.5, 0.05), (3.0, 1.5, 0.3)
    zero_precision = Precision(pseudo_count=10, deviation=tuple(zip(at, zero, strict=True)))
    interval = min(10, max(1, steps // UPDATES))
    pace = {"interval": interval, "damping": min(0.5, max(0.1, 10 * interval / max(1, steps)))}
    if method == "spike-slab":
        return SpikeSlab(
            unit=unit,
            prior=Slab(
                deviation=1.5 if unit == "tensor" else 0.25,
                zero_proportion=zero_proportion,
                zero_precision=zero_precision,
                **pace,
            ),
            retraining=Retraining(**common),
            quantization=Clustering(**sharing),
        )
    prior = Prior(
        deviation=3.0 if unit == "tensor" else 0.25,
        zero_proportion=Proportion(value=zero_proportion),
        zero_precision=zero_precision,
        precision=Precision(pseudo_count=0.0075, deviation=tuple(zip(at, others, strict=True))),
        **pace,
    )
    if method != methods.OURS:
        prior = prior.model_copy(update={"estimator": "subsampled"})
    return SoftWeightSharing(
        unit=unit,
        prior=prior,
        retraining=Retraining(**common),
        quantization=Quantization(merge="rate", assignment="rd", **sharing),
    )
