"""From a quantised network to a module that computes with its weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sws.errors import InputError
from sws.models import registry
from sws.network.from_module import stored_shape
from sws.network.quantized import QuantizedNetwork

WRAPPERS = ("module", "_orig_mod")


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
        If there is neither an architecture nor a module, or the tensors do not fit; the message
        names all that do not. The module is then as it was.

    Notes
    -----
    The prefixes that wrappers put before names (``module.``, ``_orig_mod.``) do not matter. A
    module on the meta device gets tensors of its own.
    """
    if module is None:
        if network.architecture is None:
            raise InputError("the file names no architecture: pass the module to load it into")
        module = registry.build(network.architecture.name, **dict(network.architecture.settings))
    inner = unwrapped(module)
    state = state_of(network)
    own = inner.state_dict()
    _check_fit(state, own, _stored_once(inner))
    state = {name: value.view(own[name].shape) for name, value in state.items()}
    meta = {name for name, value in own.items() if isinstance(value, Tensor) and value.is_meta}
    if meta:
        counts = {n: torch.zeros_like(own[n], device="cpu") for n in meta - set(state)}
        inner.load_state_dict(state | counts, strict=False, assign=True)
    else:
        inner.load_state_dict(state, strict=False)
    for name, value in (*inner.named_parameters(), *inner.named_buffers()):
        if value.is_meta:
            raise InputError(f"{name} is on the meta device and not in the file: build the module")
    return module


def state_of(network: QuantizedNetwork) -> dict[str, Tensor]:
    """Every tensor by name, without a wrapper's prefixes; floating point as float32."""
    state = {name: torch.from_numpy(np.array(v)) for name, v in network.state_dict().items()}
    for prefix in WRAPPERS:
        if state and all(name.startswith(f"{prefix}.") for name in state):
            state = {name.removeprefix(f"{prefix}."): value for name, value in state.items()}
    return state


def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside of what ``torch.compile`` and data parallelism put around it."""
    compiled = getattr(module, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return unwrapped(compiled)
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(module.module)
    return module


def _stored_once(module: nn.Module) -> set[str]:
    """Names that a file leaves out: counts of batches, and further names of a parameter."""
    once = {name for name, _ in module.named_parameters()}
    every = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    counts = {name for name in module.state_dict() if name.endswith("num_batches_tracked")}
    return counts | (every - once)


def _check_fit(state: dict[str, Tensor], own: dict[str, Tensor], optional: set[str]) -> None:
    faults = [f"{n} is not in the file" for n in own if n not in state and n not in optional]
    faults += [f"{n} is not in the module" for n in state if n not in own]
    faults += [
        f"{n} is {tuple(v.shape)} in the file and {tuple(own[n].shape)} in the module"
        for n, v in state.items()
        if n in own and v.shape not in (own[n].shape, stored_shape(own[n].shape))
    ]
    if faults:
        raise InputError(f"the network does not fit the module: {'; '.join(faults)}")
