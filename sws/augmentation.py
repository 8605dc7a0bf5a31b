"""Random shifts and flips of whole batches on the device, in a few tensor operations."""

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
    pixels : shifts are uniform in −pixels … pixels; what moves in is ``fill``.
    flip : left to right, half of the time.
    fill : value of the border, that of a black pixel after normalisation.
    """

    pixels: int
    flip: bool = False
    fill: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, C, H, W) to images of the same shape; the generator decides everything."""
        count, _, height, width = images.shape
        offsets = torch.randint(2 * self.pixels + 1, (2, count), generator=generator)
        mirrored = torch.rand(count, generator=generator) < 0.5
        padded = F.pad(images, [self.pixels] * 4, value=self.fill)
        rows = offsets[0][:, None] + torch.arange(height)
        columns = torch.arange(width).expand(count, width)
        if self.flip:
            columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
        columns = offsets[1][:, None] + columns
        device = images.device
        image = torch.arange(count, device=device)[:, None, None]
        rows, columns = rows.to(device)[:, :, None], columns.to(device)[:, None, :]
        # advanced indexes around a slice put (N, H, W) first and the channels last
        return padded[image, :, rows, columns].permute(0, 3, 1, 2)
