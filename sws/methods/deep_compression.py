"""Deep compression (Han, Mao & Dally 2016; pruning as in Han, Pool, Tran & Dally 2015).

Prune and retrain, repeatedly; k-means in each layer, started evenly over its range; train the
centroids, each by the sum of its weights' gradients. Relative indexes and Huffman codes are the
codec's and the accounting's part. docs/baselines.md lists what the papers leave open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from sws.compression.clustering import cluster_nonzeros
from sws.compression.masking import MaskedWeights, check_layers, of_layer
from sws.compression.process import Compressed, CompressionTask, Process, flatten
from sws.config.deep_compression import DeepCompression, IterativePruning, TrainedCentroids
from sws.config.sections import Refinement


class LayerwisePruning(MaskedWeights):
    """Drop what is below quality · standard deviation of its layer, then go on training.

    The standard deviations are those of the trained dense layers. The quality parameter rises
    evenly to its final value over the rounds, which are spread evenly over the first ``until`` of
    the epochs; the first round comes before the first epoch. What training has moved below the
    threshold in force is cut before every epoch.

    Parameters
    ----------
    settings : IterativePruning
        Quality, rounds and weight decay.
    """

    def __init__(self, settings: IterativePruning):
        super().__init__(settings.weight_decay)
        self.settings = settings
        self.thresholds: dict[str, float] = {}  # by name of the weight, at the last round

    def attach(self, model: nn.Module) -> None:
        super().attach(model)
        check_layers(model, self.settings.quality_of)
        self.thresholds = {
            name: of_layer(name, self.settings.quality, self.settings.quality_of)
            * float(weight.detach().std(correction=0))
            for name, weight in self.weights.items()
        }

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        done = sum(self._begins(r, epochs) <= epoch for r in range(self.settings.rounds))
        for name, weight in self.weights.items():
            threshold = self.thresholds[name] * done / self.settings.rounds
            self.masks[name] &= weight.detach().abs() > threshold
        self.apply()

    def _begins(self, number: int, epochs: int) -> int:
        """The epoch before which a round prunes."""
        last = self.settings.until * epochs
        return int(number * last / max(1, self.settings.rounds - 1))

    def state_dict(self) -> dict[str, Any]:
        # the thresholds come from the weights at the start, which a resumed run no longer has
        return super().state_dict() | {"thresholds": self.thresholds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.thresholds = state["thresholds"]


def compress(task: CompressionTask, settings: DeepCompression) -> Compressed:
    """Prune, share and train the shared values.

    Parameters
    ----------
    task : CompressionTask
        What to compress.
    settings : sws.config.deep_compression.DeepCompression
        The operating point.
    """
    retraining, centroids = settings.retraining, settings.quantization
    process = Process(task, settings.unit)
    pruning = LayerwisePruning(retraining)
    process.retrain(pruning, retraining)
    codebook, index = cluster_layers(process.weights(), centroids)
    refinement = Refinement(
        refinement_epochs=centroids.epochs,
        refinement_rate=centroids.rate,
        codebook_rate=centroids.codebook_rate,
        bias_bits=centroids.bias_bits,
    )
    return process.finish(
        index, codebook, refinement, per_tensor=True, nonzero_retrained_pct=pruning.nonzero_pct
    )


def cluster_layers(
    weights: Mapping[str, Tensor], settings: TrainedCentroids
) -> tuple[np.ndarray, np.ndarray]:
    """k-means of each layer's non-zeros.

    Parameters
    ----------
    weights : mapping of str to Tensor
        All weights, by tensor name.
    settings : TrainedCentroids
        How many centroids a layer gets.

    Returns
    -------
    codebook : np.ndarray
        0, then the layers' centroids one after another.
    index : np.ndarray
        (I,) int64 of every weight, tensor after tensor, into that one codebook.
    """
    entries, parts = [np.zeros(1)], []
    for weight in weights.values():
        clusters = settings.fc if weight.ndim == 2 else settings.conv
        codebook, index = cluster_nonzeros(flatten([weight]), clusters)
        offset = sum(map(len, entries)) - 1
        index[index > 0] += offset
        entries.append(codebook[1:])
        parts.append(index)
    return np.concatenate(entries), np.concatenate(parts)
