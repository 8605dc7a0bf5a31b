"""Which parameters of a module get compressed, whether they can be, and how to walk over them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sws.errors import InputError

_left_out: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()


def compressible(model: nn.Module, vectors: bool = False) -> dict[str, nn.Parameter]:
    """The weights that get compressed, by name: every parameter with two dimensions or more.

    What :func:`leaving_out` names is left out. A parameter with several names has the first.

    Parameters
    ----------
    model : nn.Module
        The network.
    vectors : bool
        Whether biases are among them; they, and the vectors of normalisation layers, are left out
        otherwise.
    """
    skipped = _left_out.get(model, frozenset())
    return {
        n: p
        for n, p in model.named_parameters()
        if p.ndim >= 2 - vectors and p.numel() and n not in skipped
    }


@contextmanager
def leaving_out(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Weights that :func:`compressible` leaves out in this block: they train, and stay dense.

    Parameters
    ----------
    model : nn.Module
        Whose weights.
    names : collection of str
        Of parameters.
    """
    before = _left_out.get(model)
    _left_out[model] = frozenset(names)
    try:
        yield
    finally:
        del _left_out[model]
        if before is not None:
            _left_out[model] = before


def check_compressible(model: nn.Module) -> None:
    """What would fail at the end of a training, or go wrong in silence, is an error at its start.

    Raises
    ------
    InputError
        If there is no weight to compress; a parameter is not initialised, not finite, not float32,
        computed from others (a parametrisation), shares memory with another, lies on another device
        than the others or in an order that is neither contiguous nor channels-last.
    """
    _check_plain(model)
    weights = compressible(model)
    if not weights:
        raise InputError("there is no weight to compress: no parameter has two dimensions or more")
    owner: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise InputError(f"{name} is {parameter.dtype}: train and compress in float32")
        if parameter.device != next(iter(weights.values())).device:
            raise InputError(f"{name} is on {parameter.device}: put the network on one device")
        if not torch.isfinite(parameter.detach()).all():
            raise InputError(f"{name} holds NaN or infinity: train the network before")
        if parameter.numel():
            other = owner.setdefault(parameter.data_ptr(), name)
            if other != name:
                raise InputError(
                    f"{name} and {other} are two parameters in the same memory: make them one "
                    "parameter"
                )
    for name, weight in weights.items():
        channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
        if not (weight.is_contiguous() or channels_last):
            raise InputError(f"{name} is a transposed view: assign its .contiguous() instead")


def _check_plain(model: nn.Module) -> None:
    """Every parameter has values, and is what the network computes with."""
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(f"{name} is not initialised: pass a batch through the network before")
        if parameter.is_meta:
            raise InputError(f"{name} is on the meta device and has no values: load them before")
    for name, module in model.named_modules():
        where = name or "the network"
        if hasattr(module, "parametrizations"):
            raise InputError(
                f"{where}: {', '.join(module.parametrizations)} is computed from other parameters; "
                "call torch.nn.utils.parametrize.remove_parametrizations before"
            )
        old = {"weight_g", "weight_v", "weight_orig"} & set(module._parameters)
        if old and "weight" not in module._parameters:
            raise InputError(
                f"{where}: weight is computed from {', '.join(sorted(old))}; call "
                "torch.nn.utils.remove_weight_norm, remove_spectral_norm or prune.remove before"
            )


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
