"""Deep compression (Han, Mao & Dally 2016; pruning as in Han, Pool, Tran & Dally 2015).

Prune and retrain, repeatedly; k-means in each layer, started evenly over its range; train the
centroids, each by the sum of its weights' gradients. Relative indexes and Huffman codes are the
codec's and the accounting's part. docs/baselines.md lists what the papers leave open.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sws.compression.clustering import cluster_nonzeros
from sws.compression.masking import MaskedWeights, check_layers, of_layer
from sws.compression.process import Compressed, Process
from sws.compression.sharing import SharedWeights
from sws.compression.trace import Trace
from sws.config.deep_compression import DeepCompression, IterativePruning, TrainedCentroids
from sws.network.weights import compressible
from sws.training.loop import Batches, FitSettings


class LayerwisePruning(MaskedWeights):
    """Drop what is below quality · standard deviation of its layer, then go on training.

    The standard deviations are those of the trained dense layers. The quality parameter rises
    evenly to its final value over the rounds, which are spread evenly over the first ``until`` of
    the epochs; the first round comes before the first epoch. What training has moved below the
    threshold in force is cut before every epoch.
    """

    def __init__(self, settings: IterativePruning):
        super().__init__(settings.weight_decay)
        self.settings = settings

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


def compress(
    model: nn.Module, batches: Batches, images: int, settings: DeepCompression, **surroundings: Any
) -> Compressed:
    """Prune, share and train the shared values. The model is changed in place.

    Parameters
    ----------
    batches, images, surroundings : as in :func:`sws.methods.soft_weight_sharing.compress`.
    """
    retraining, quantization = settings.retraining, settings.quantization
    process = Process(model, batches, **surroundings)
    trace = Trace.of_start(compressible(model).values())
    pruning = LayerwisePruning(retraining)
    process.retrain(pruning, retraining)
    indexes, codebook = cluster_layers(compressible(model), quantization)
    before = process.assign(indexes, codebook)
    trace.record(retraining.epochs, None, before, retraining.epochs)
    sharing = SharedWeights(
        indexes, codebook, 1.0, frozen=True, codebook_rate=quantization.codebook_rate,
    )  # fmt: skip
    fitting = FitSettings(quantization.epochs, quantization.rate, bfloat16=retraining.bfloat16)
    process.train("refine", sharing, fitting)
    indexes, codebook = sharing.indexes(), sharing.codebook.detach().cpu().numpy()
    network = process.build(indexes, codebook, quantization.bias_bits, per_tensor=True)
    arrays = trace.tensors(before, list(indexes.values()), np.concatenate(network.codebooks))
    return process.compressed(network, arrays, nonzero_retrained_pct=pruning.nonzero_pct)


def cluster_layers(
    weights: dict[str, nn.Parameter], settings: TrainedCentroids
) -> tuple[dict[str, Tensor], np.ndarray]:
    """k-means of each layer's non-zeros.

    Returns
    -------
    indexes : by tensor name, into one codebook in which every layer has its own range.
    codebook : 0, then the layers' centroids one after another.
    """
    indexes, entries = {}, [np.zeros(1)]
    for name, weight in weights.items():
        flat = weight.detach().contiguous().reshape(-1).double().cpu().numpy()
        clusters = settings.fc if weight.ndim == 2 else settings.conv
        codebook, index = cluster_nonzeros(flat, clusters)
        offset = sum(map(len, entries)) - 1
        index[index > 0] += offset
        entries.append(codebook[1:])
        indexes[name] = torch.from_numpy(index).view(weight.shape)
    return indexes, np.concatenate(entries)
