"""From stored images to what a network sees, whole batches at a time, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RandomShift:
    """Shift every image by its own whole number of pixels in each direction, and maybe flip it.

    Parameters
    ----------
    pixels : shifts are uniform in −pixels … pixels; what moves in is 0, black.
    flip : left to right, half of the time.
    """

    pixels: int
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, H, W, C) to images of the same shape; the generator decides everything."""
        count, height, width, _ = images.shape
        offsets = torch.randint(2 * self.pixels + 1, (2, count), generator=generator)
        mirrored = torch.rand(count, generator=generator) < 0.5
        padded = F.pad(images, [0, 0, *[self.pixels] * 4])
        rows = offsets[0][:, None] + torch.arange(height)
        columns = torch.arange(width).expand(count, width)
        if self.flip:
            columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
        columns = offsets[1][:, None] + columns
        image = torch.arange(count, device=images.device)[:, None, None]
        rows, columns = _send(rows, images.device), _send(columns, images.device)
        return padded[image, rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class Preparation:
    """Bytes to normalised numbers, x = (pixel / 255 − mean) / std, by way of random shifts.

    Batches of bytes are a quarter of the memory of the numbers, and shifting bytes moves a quarter
    as much; only what a step needs is ever normalised.

    Parameters
    ----------
    mean, std : of each channel.
    shift : None leaves the images where they are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    shift: RandomShift | None = None

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """uint8 (N, H, W, C) to float32 (N, C, H, W), channels last in memory."""
        if self.shift is not None:
            images = self.shift(images, generator)
        mean, std = (_send(torch.tensor(v), images.device) for v in (self.mean, self.std))
        x = images.float().div_(255).sub_(mean).div_(std)
        return x.permute(0, 3, 1, 2)


def _send(values: Tensor, device: torch.device) -> Tensor:
    """A copy that the host does not wait for, so that it can go on telling a GPU what to do."""
    return values.to(device, non_blocking=True)
