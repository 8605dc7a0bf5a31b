"""A compressed network that trains on: statistics to train with, and zeros that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from sws.api.data import Batches, device_of
from sws.network import batch_norm
from sws.network.to_module import unwrapped
from sws.network.weights import compressible


def unfold(model: nn.Module, loader: Iterable) -> nn.Module:
    """Give the batch normalisations of a loaded network statistics to train with, in place.

    A file keeps y = a·x + b of each channel, loaded as mean 0 and variance 1. That is right in
    evaluation and wrong in a training pass. Outputs in evaluation stay as they are, up to rounding.

    Parameters
    ----------
    model : nn.Module
        The network.
    loader : iterable
        Batches as for :func:`sws.compress`; up to 10,000 examples are used.
    """
    inner = unwrapped(model)
    if any(batch_norm.is_folded(norm) for norm in batch_norm.norms(inner).values()):
        batch_norm.unfold(inner, Batches(inner, loader, device_of(inner))(0))
    return model


class KeptZeros:
    """What :func:`keep_zeros` returns.

    Parameters
    ----------
    handles : list
        Of the hooks on gradients.
    """

    def __init__(self, handles: list):
        self._handles = handles

    def remove(self) -> None:
        """Let the zeros train again."""
        for handle in self._handles:
            handle.remove()


def keep_zeros(model: nn.Module) -> KeptZeros:
    """Keep weights at 0 that are 0 now: their gradients become 0.

    Make the optimiser afterwards: one that has seen other gradients still moves by its momentum.

    Parameters
    ----------
    model : nn.Module
        The network, whose weights (parameters of two dimensions or more) are looked at.

    Returns
    -------
    KeptZeros
        With ``remove()``.
    """

    def masked(mask: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda gradient: torch.where(mask, gradient, 0.0)

    weights = [w for w in compressible(unwrapped(model)).values() if w.requires_grad]
    return KeptZeros([w.register_hook(masked(w.detach() != 0)) for w in weights])
