"""Sparsity without sharing: a spike at zero and one broad slab as the prior, then k-means.

The same training as soft weight-sharing, with a mixture of two components that both keep their mean
of 0: it pulls weights to zero and nowhere else. What sharing adds is the difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sws.compression.assignment import assign_map
from sws.compression.clustering import cluster_nonzeros
from sws.compression.process import Compressed, CompressionTask, Process
from sws.config.sections import Precision
from sws.config.soft_weight_sharing import Prior, Proportion
from sws.config.spike_slab import Slab, SpikeSlab
from sws.methods.soft_weight_sharing import SoftWeightSharing
from sws.prior.components import Components, Statistics

HELD = 10.0  # pseudo-count of the slab's width, as a multiple of the number of weights


class SpikeAndSlab(SoftWeightSharing):
    """Retraining under a spike and a slab whose means are 0 and stay so."""

    def initial(self, weights: Sequence[Tensor]) -> Components:
        zero = self.prior.zero_proportion.value
        widths = np.full(2, -2 * np.log(self.prior.deviation))
        return Components(np.zeros(2), widths, np.log([zero, 1 - zero]))

    def follow(self, statistics: Statistics) -> None:
        super().follow(statistics)
        c = self.mixture.components
        self.mixture.components = Components(np.zeros(2), c.log_precisions, c.log_proportions)


def as_prior(slab: Slab) -> Prior:
    """The settings of a mixture of two whose second component keeps its width."""
    return Prior(
        components=2,
        deviation=slab.deviation,
        zero_proportion=Proportion(value=slab.zero_proportion),
        zero_precision=slab.zero_precision,
        precision=Precision(pseudo_count=HELD, deviation=slab.deviation),
        interval=slab.interval,
        damping=slab.damping,
    )


def compress(task: CompressionTask, settings: SpikeSlab) -> Compressed:
    """Retrain under the prior, prune what belongs to the spike, cluster the rest, refine.

    Parameters
    ----------
    task : CompressionTask
        What to compress.
    settings : sws.config.spike_slab.SpikeSlab
        The operating point.
    """
    retraining, quantization = settings.retraining, settings.quantization
    process = Process(task, settings.unit)
    prior = SpikeAndSlab(
        as_prior(settings.prior), retraining, task.images, task.seed,
        process.scales, process.scale_free(),
    )  # fmt: skip
    process.retrain(prior, retraining)
    flat = process.flat_weights()
    flat[assign_map(flat, prior.mixture.components) == 0] = 0.0
    codebook, index = cluster_nonzeros(flat, quantization.clusters)
    return process.finish(
        index, codebook, quantization, trace=prior.trace, seconds={"prior": prior.seconds},
        nonzero_retrained_pct=100 * float(np.mean(flat != 0)),
    )  # fmt: skip
