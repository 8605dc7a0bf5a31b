"""Mini-batches of a data set that lies on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorBatches:
    """Mini-batches of tensors that live on the device, in an order that epoch and seed decide.

    Parameters
    ----------
    inputs : (N, …) what the network takes, or what ``transform`` makes that of.
    labels : (N,) int64.
    batch_size : images a step; the last, smaller batch of an epoch is kept.
    transform : applied to each batch with the epoch's generator (augmentation).
    """

    inputs: Tensor
    labels: Tensor
    batch_size: int
    seed: int
    transform: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __call__(self, epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
        for index in order.split(self.batch_size):
            x = self.inputs[index]
            if self.transform is not None:
                x = self.transform(x, generator)
            yield x, self.labels[index]
