"""From a quantised network to a module that computes with its weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sws.errors import InputError
from sws.models import registry
from sws.network.quantized import QuantizedNetwork


def build_module(network: QuantizedNetwork, module: nn.Module | None = None) -> nn.Module:
    """The module that a quantised network describes, with its weights.

    Parameters
    ----------
    network : QuantizedNetwork
        What a file held.
    module : nn.Module, optional
        To load the weights into; needed if the network's architecture is not in the registry.

    Raises
    ------
    InputError
        If there is neither an architecture nor a module, or the tensors do not fit.
    """
    if module is None:
        if network.architecture is None:
            raise InputError("the file names no architecture: pass the module to load it into")
        module = registry.build(network.architecture.name, **dict(network.architecture.settings))
    state = {k: torch.from_numpy(np.array(v)) for k, v in network.state_dict().items()}
    own = module.state_dict()
    absent = {name for name in own if name.endswith("num_batches_tracked")} - set(state)
    if odd := sorted((set(own) - absent) ^ set(state)):
        raise InputError(f"the network does not fit the module: {odd[0]!r} is on one side only")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise InputError(
                f"the network does not fit the module: {name} is {tuple(value.shape)} in the one "
                f"and {tuple(own[name].shape)} in the other"
            )
    module.load_state_dict(state, strict=False)
    return module
