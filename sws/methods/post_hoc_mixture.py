"""A mixture that is fitted to the pre-trained weights, which stay as they are.

What soft weight-sharing would be without training under its prior: the same mixture, by maximum
likelihood (EM), then the same quantisation and the same file.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sws.compression.assignment import quantize
from sws.compression.process import Compressed, CompressionTask, Process
from sws.compression.trace import TraceRecorder
from sws.config.post_hoc_mixture import PostHocMixture
from sws.prior.components import initial_components
from sws.prior.graded import Graded
from sws.prior.hyper_priors import BetaPrior
from sws.prior.mixture import Mixture


def fit_mixture(weights: Sequence[Tensor], settings: PostHocMixture) -> Mixture:
    """Maximum likelihood by EM; the zero component keeps its mean, and nothing else is fixed."""
    values = [w.detach().contiguous() for w in weights]
    components = initial_components(values, settings.components, 0.5, settings.deviation)
    mixture = Mixture(components, zero_proportion=BetaPrior(1.0, 1.0))
    estimator = Graded()  # as the published runs were made
    for _ in range(settings.iterations):
        mixture.maximize(estimator(mixture.components, values))
    return mixture


def compress(task: CompressionTask, settings: PostHocMixture) -> Compressed:
    """Fit, quantise.

    Parameters
    ----------
    task : CompressionTask
        What to compress.
    settings : sws.config.post_hoc_mixture.PostHocMixture
        The operating point.
    """
    process = Process(task, settings.unit)
    weights = list(process.weights().values())
    trace = TraceRecorder(weights)
    mixture = fit_mixture(weights, settings)
    trace.record(0, mixture.components, weights)
    process.report("retrained")
    codebook, index = quantize(process.flat_weights(), mixture.components, settings.quantization)
    return process.finish(index, codebook, settings.quantization, trace=trace)
