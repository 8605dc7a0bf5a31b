"""Which parameters of a module get compressed, and how to walk over their values."""

from __future__ import annotations

from torch import Tensor, nn


def compressible(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that get compressed, by name: every parameter with two to four dimensions.

    Biases and the vectors of normalisation layers are left out.
    """
    return {n: p for n, p in model.named_parameters() if 2 <= p.ndim <= 4}


def memory_order(like: Tensor, values: Tensor) -> Tensor:
    """Values as a flat view in the memory order of ``like``, which may be channels-last.

    Both must have the same shape and strides, so that writing to the view writes to the values.
    """
    if like.is_contiguous():
        return values.view(-1)
    return values.permute(0, 2, 3, 1).view(-1)
