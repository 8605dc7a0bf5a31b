"""A mixture that is fitted to the pre-trained weights, which stay as they are.

What soft weight-sharing would be without training under its prior: the same mixture, by maximum
likelihood (EM), then the same quantisation and the same file.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from sws.compression.assignment import quantize
from sws.compression.process import Compressed, Process, flat_weights
from sws.compression.trace import Trace
from sws.config.post_hoc_mixture import PostHocMixture
from sws.prior.components import initial_components
from sws.prior.estimators import Tabulated
from sws.prior.hyper_priors import BetaPrior
from sws.prior.mixture import Mixture
from sws.training.loop import Batches


def fit_mixture(weights: list[nn.Parameter], settings: PostHocMixture) -> Mixture:
    """Maximum likelihood by EM; the zero component keeps its mean, and nothing else is fixed."""
    components = initial_components(
        [w.detach() for w in weights], settings.components, 0.5, settings.deviation
    )
    mixture = Mixture(components, zero_proportion=BetaPrior(1.0, 1.0))
    estimator = Tabulated()
    values = [w.detach().contiguous() for w in weights]
    for _ in range(settings.iterations):
        mixture.maximize(estimator(mixture.components, values))
    return mixture


def compress(
    model: nn.Module, batches: Batches, images: int, settings: PostHocMixture, **surroundings: Any
) -> Compressed:
    """Fit, quantise. The model is changed in place.

    Parameters
    ----------
    batches, images, surroundings : as in :func:`sws.methods.soft_weight_sharing.compress`.
    """
    process = Process(model, batches, unit=settings.unit, **surroundings)
    weights = process.weights()
    trace = Trace(list(weights.values()))
    mixture = fit_mixture(list(weights.values()), settings)
    trace.record(0, mixture.components, list(weights.values()))
    process.report("retrained")
    codebook, index = quantize(flat_weights(weights), mixture.components, settings.quantization)
    network, before, indexes = process.finish(index, codebook, settings.quantization)
    arrays = trace.tensors(before, indexes, network.codebooks[0])
    return process.compressed(network, arrays)
