"""Test error, measured in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from sws.network import InputSpec, QuantizedNetwork


@contextlib.contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Training and evaluation modes afterwards as before, each module's own."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def error_pct(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    batch_size: int = 1000,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Top-1 error in per cent, evaluation mode, float32, whatever the training used.

    Parameters
    ----------
    inputs : what the network takes, on its device; or what ``prepare`` makes that of.
    labels : (N,) int64.
    prepare : applied to each batch, such as :class:`sws.augmentation.Preparation`.
    """
    with modes_kept(model), torch.inference_mode():
        model.eval()
        wrong = sum(
            int((model(x if prepare is None else prepare(x)).argmax(dim=1) != y).sum())
            for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True)
        )
    return 100 * wrong / len(labels)


def build_module(network: QuantizedNetwork, module: nn.Module | None = None) -> nn.Module:
    """The module that a quantised network describes, with its weights.

    Parameters
    ----------
    module : to load the weights into; needed if the network's architecture is not in the registry.

    Raises
    ------
    ValueError
        If there is neither an architecture nor a module, or the tensors do not fit.
    """
    if module is None:
        if network.architecture is None:
            raise ValueError("the file names no architecture: pass the module to load it into")
        from sws import models

        module = models.build(network.architecture.name, **dict(network.architecture.settings))
    state = {k: torch.from_numpy(np.array(v)) for k, v in network.state_dict().items()}
    own = module.state_dict()
    absent = {name for name in own if name.endswith("num_batches_tracked")} - set(state)
    if odd := sorted((set(own) - absent) ^ set(state)):
        raise ValueError(f"the network does not fit the module: {odd[0]!r} is on one side only")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"the network does not fit the module: {name} is {tuple(value.shape)} in the one "
                f"and {tuple(own[name].shape)} in the other"
            )
    module.load_state_dict(state, strict=False)
    return module


def input_spec(dataset) -> InputSpec:
    """What a network trained on a data set expects."""
    return InputSpec(dataset.input_shape, dataset.mean, dataset.std, dataset.classes)
