"""What a network takes: one tensor, several, or a mapping of names to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def forward(model: nn.Module, inputs: Any) -> Any:
    """The network's outputs.

    Parameters
    ----------
    model : nn.Module
        The network.
    inputs : Tensor, tuple or mapping
        A tuple holds positional arguments, a mapping those with names.
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in tensors, sequences and mappings of them, depth first."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors(value)
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors(value)


def count(inputs: Any) -> int:
    """Examples in a batch: the length of its first tensor."""
    return len(next(tensors(inputs)))


def first(inputs: Any, examples: int) -> Any:
    """The first examples of a batch; tensors of another length than the batch stay whole."""
    length = count(inputs)

    def cut(values: Any) -> Any:
        if isinstance(values, Tensor):
            return values[:examples] if values.ndim and len(values) == length else values
        if isinstance(values, Mapping):
            return {name: cut(value) for name, value in values.items()}
        if isinstance(values, (tuple, list)):
            return type(values)(cut(value) for value in values)
        return values

    return cut(inputs)


def on_device(values: Any, device: torch.device) -> Any:
    """The same with every tensor on a device; lists stay lists, mappings become dicts."""
    if isinstance(values, Tensor):
        return values.to(device)
    if isinstance(values, Mapping):
        return {name: on_device(value, device) for name, value in values.items()}
    if isinstance(values, (tuple, list)):
        return type(values)(on_device(value, device) for value in values)
    return values


def scores(outputs: Any) -> Tensor | None:
    """The tensor that predictions are read from, or None where outputs have none.

    A tensor itself; ``logits`` of an object or a mapping; the first entry of a tuple.
    """
    if isinstance(outputs, Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else None
    if named is None:
        named = getattr(outputs, "logits", None)
    if named is None and isinstance(outputs, (tuple, list)) and outputs:
        named = outputs[0]
    return named if isinstance(named, Tensor) else None
