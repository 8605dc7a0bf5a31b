"""Which parameters of a module get compressed, whether they can be, and how to walk over them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sws.errors import InputError


def compressible(model: nn.Module, vectors: bool = False) -> dict[str, nn.Parameter]:
    """The weights that get compressed, by name: every parameter with two to four dimensions.

    Parameters
    ----------
    model : nn.Module
        The network.
    vectors : bool
        Whether biases are among them; they, and the vectors of normalisation layers, are left out
        otherwise.
    """
    return {n: p for n, p in model.named_parameters() if 2 - vectors <= p.ndim <= 4}


def check_compressible(model: nn.Module) -> None:
    """What would fail at the end of a training, or go wrong in silence, is an error at its start.

    Raises
    ------
    InputError
        If there is no weight to compress; a parameter has two names, is not float32, lies on
        another device than the others or in an order that is neither contiguous nor channels-last.
    """
    weights = compressible(model)
    if not weights:
        raise InputError("there is no weight to compress: no parameter has two to four dimensions")
    names = {id(p): n for n, p in model.named_parameters()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if names[id(parameter)] != name:
            raise InputError(
                f"{name} and {names[id(parameter)]} are one parameter, and the file format has no "
                "place for that: untie them"
            )
        if parameter.dtype != torch.float32:
            raise InputError(f"{name} is {parameter.dtype}: train and compress in float32")
        if parameter.device != next(iter(weights.values())).device:
            raise InputError(f"{name} is on {parameter.device}: put the network on one device")
    for name, weight in weights.items():
        channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
        if not (weight.is_contiguous() or channels_last):
            raise InputError(f"{name} is a transposed view: assign its .contiguous() instead")


def memory_order(like: Tensor, values: Tensor) -> Tensor:
    """Values as a flat view in the memory order of ``like``, which may be channels-last.

    Both must have the same shape and strides, so that writing to the view writes to the values.
    """
    if like.is_contiguous():
        return values.view(-1)
    return values.permute(0, 2, 3, 1).view(-1)


def gradients(weights: Iterable[Tensor]) -> list[Tensor]:
    """Gradients to add to: zeros for weights that the loss does not reach, or that are frozen.

    What a weight that trains is given stays with it, for the optimiser to see.
    """
    found = []
    for weight in weights:
        gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        if weight.requires_grad:
            weight.grad = gradient
        found.append(gradient)
    return found
