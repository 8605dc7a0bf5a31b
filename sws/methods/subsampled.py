"""Appendix C, and its repair under Adam: the prior's step on the drawn weights, outside Adam.

Adam divides a gradient by the root of its mean square. A gradient that is there once in I/K steps,
I/K times too large, has a mean square I/K times that of a steady one of the same mean: its steps
come out √(I/K) times too small, whatever τ is. Here Adam sees the data's gradient alone, and the
prior moves the drawn weights by I/K times the step that it would take every time, in Adam's units
of each weight, but never beyond the mean that it pulls towards.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sws.compression.process import Compressed, CompressionTask
from sws.config.soft_weight_sharing import SoftWeightSharing as Settings
from sws.methods import soft_weight_sharing
from sws.methods.soft_weight_sharing import SoftWeightSharing
from sws.network.weights import gradients, memory_order
from sws.prior.estimators import Subsampled

BETA_2 = 0.999  # the framework's default, which fit() keeps


class OutsideAdam(SoftWeightSharing):
    """Retraining under a mixture prior whose gradient does not enter the optimiser."""

    optimizer: torch.optim.Optimizer  # from prepare() on

    def build_estimator(self) -> Subsampled:
        return Subsampled(self.prior.samples, self.seed)

    def prepare(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def after_backward(self) -> None:
        began = self.clock()
        gradients(self.weights)  # of weights out of the loss's reach too, for the optimiser to know
        if self.step % self.prior.interval == 0:
            flat = [memory_order(w, w.detach()) for w in self.weights]
            self.follow(self.estimator(self.mixture.components, flat, scales=self.scales))
        self.step += 1
        self.seconds += self.clock() - began

    @torch.no_grad()
    def after_step(self) -> None:
        began = self.clock()
        rates = {id(p): g["lr"] for g in self.optimizer.param_groups for p in g["params"]}
        drawn = torch.randint(self.count, (self.prior.samples,), generator=self.estimator.generator)
        drawn, offset = drawn.unique(), 0
        for weight, scale in zip(self.weights, self.scales, strict=True):
            index = drawn[(drawn >= offset) & (drawn < offset + weight.numel())] - offset
            offset += weight.numel()
            if not weight.requires_grad:
                continue
            state = self.optimizer.state[weight]
            self._pull(weight, index.to(weight.device), scale, rates[id(weight)], state)
        self.seconds += self.clock() - began
        super().after_step()

    def _pull(self, weight: Tensor, index: Tensor, scale: float, rate: float, state: dict) -> None:
        components = self.mixture.components
        flat = memory_order(weight, weight)
        values = flat[index].double().cpu().numpy() / scale
        scores = components.scores(values)
        towards = components.responsibilities(values)[1] @ components.means - values
        second = memory_order(weight, state["exp_avg_sq"])[index].double().cpu().numpy()
        size = np.sqrt(second / (1 - BETA_2 ** float(state["step"]))) + 1e-8
        factor = self._tau / self.images * self.count / self.prior.samples
        step = rate * factor * np.abs(scores) / scale / size
        # score and way to the mean differ in sign only between two components: wait there
        agreed = np.where(scores * towards > 0, towards, 0.0)
        moved = np.sign(agreed) * np.minimum(step / scale, np.abs(agreed))
        flat.index_add_(0, index, torch.from_numpy(moved * scale).to(flat))


def compress(task: CompressionTask, settings: Settings) -> Compressed:
    """Soft weight-sharing with any estimator, ``subsampled-outside`` among them.

    Parameters
    ----------
    task : CompressionTask
        What to compress.
    settings : sws.config.soft_weight_sharing.SoftWeightSharing
        The operating point.
    """
    outside = settings.prior.estimator == "subsampled-outside"
    return soft_weight_sharing.compress(task, settings, OutsideAdam if outside else None)
