"""Training with masks: what is outside a mask is 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sws.errors import InputError
from sws.network.weights import compressible
from sws.training.loop import FitSettings, Hooks


def layer_of(name: str) -> str:
    """Name of the layer that a weight belongs to: ``fc1.weight`` → ``fc1``."""
    return name.rpartition(".")[0]


def of_layer(name: str, default: float, exceptions: Mapping[str, float]) -> float:
    """A setting of the layer that a weight belongs to.

    Parameters
    ----------
    name : str
        Of the weight.
    default : float
        For layers that are no exception.
    exceptions : mapping of str to float
        By name of the layer.
    """
    return exceptions.get(layer_of(name), default)


def check_layers(model: nn.Module, *named: Mapping[str, float]) -> None:
    """Settings by layer must name layers that there are.

    Parameters
    ----------
    model : nn.Module
        Whose layers.
    *named : mapping of str to float
        Settings by name of the layer.

    Raises
    ------
    InputError
        If one does not.
    """
    known = [layer_of(name) for name in compressible(model)]
    for layer in (key for names in named for key in names):
        if layer not in known:
            raise InputError(f"there is no layer {layer!r}; its layers are {', '.join(known)}")


class MaskedWeights(Hooks):
    """Weights outside their masks are 0 and stay so; subclasses decide when masks shrink.

    Parameters
    ----------
    weight_decay : float
        Decoupled (AdamW), on weights only.

    Attributes
    ----------
    weights : dict of str to nn.Parameter
        By name, what is masked; from :meth:`attach` on.
    masks : dict of str to Tensor
        By name, bool in the shape of the weight.
    """

    def __init__(self, weight_decay: float = 0.0):
        self.weight_decay = weight_decay
        self.step = 0
        self.weights: dict[str, nn.Parameter] = {}
        self.masks: dict[str, Tensor] = {}

    def attach(self, model: nn.Module) -> None:
        self.weights = compressible(model)
        self.masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in self.weights.items()}

    def parameter_groups(self, model: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
        weights, others = super().parameter_groups(model, settings)
        return [weights | {"weight_decay": self.weight_decay}, others]

    def after_backward(self) -> None:
        for name, weight in self.weights.items():
            if weight.grad is not None:  # frozen by the user, or out of the loss's reach
                weight.grad.mul_(self.masks[name])

    def after_step(self) -> None:
        self.step += 1
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Set to 0 what the masks leave out: momentum and decay move weights without gradients."""
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name])

    @property
    def nonzero_pct(self) -> float:
        """Share of the weights inside the masks, in per cent."""
        return inside_pct(self.masks)

    def record(self) -> dict[str, float]:
        return {"nonzero_pct": self.nonzero_pct}

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, mask in state["masks"].items():
            self.masks[name].copy_(mask)
        self.step = state["step"]


def inside_pct(masks: Mapping[str, Tensor]) -> float:
    """Share of all values together that is inside its mask, in per cent."""
    kept = sum(int(mask.sum()) for mask in masks.values())
    return 100 * kept / sum(mask.numel() for mask in masks.values())


def threshold_of(weights: Mapping[str, Tensor], nonzeros: int) -> float:
    """The magnitude that all but the ``nonzeros`` largest of all weights together stay below."""
    magnitudes = torch.cat([w.detach().reshape(-1).abs() for w in weights.values()])
    dropped = magnitudes.numel() - nonzeros
    return float(magnitudes.kthvalue(dropped).values) if dropped > 0 else -1.0
