"""Mini-batches of a data set that lies on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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


@dataclass(frozen=True)
class ScaledBatches:
    """Images scaled to the side that an epoch asks for.

    Small images first, full ones at the end: a convolution's cost is that of its positions, and the
    first epochs learn what small images show too (progressive resizing, Howard et al., 2018).

    Parameters
    ----------
    batches : TensorBatches
        Of images (N, C, H, W).
    sides : sequence of (float, int)
        (first epoch, pixels), the epochs ascending from 0.
    """

    batches: TensorBatches
    sides: Sequence[tuple[float, int]]

    def __len__(self) -> int:
        return len(self.batches)

    def __call__(self, epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        side = next(side for first, side in reversed(self.sides) if epoch >= first)
        for x, y in self.batches(epoch):
            yield scaled(x, side), y


def scaled(images: Tensor, side: int) -> Tensor:
    """Scale images, averaging where pixels get fewer.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W).
    side : int
        Pixels in each direction.

    Returns
    -------
    Tensor
        (N, C, side, side); the images themselves if they have that size.
    """
    if images.shape[-2:] == (side, side):
        return images
    small = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)
