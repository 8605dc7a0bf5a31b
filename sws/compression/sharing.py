"""Training of networks whose weights already are codebook values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sws.network.weights import gradients, memory_order
from sws.training.loop import FitSettings, Hooks

LARGEST_PRODUCT = 2**28
"""Elements of a membership matrix: a gigabyte of float32."""


class SharedWeights(Hooks):
    """Every weight that is not 0 is a codebook value, in training too.

    Straight-through estimation: a weight has a latent value v; the network runs with c[k(v)], where
    k minimises ½·((v − c_k)/distortion)² − log p_k, and the gradient found there goes to v as it
    is. A codebook entry's gradient is the sum over the weights that hold it. Weights that are 0 at
    the start stay 0; one whose gradient was exactly 0 for a whole epoch becomes 0, unless the
    network's outputs show that it has an effect (a weight that is normalised, or rounded). With
    ``frozen=True`` the assignments are fixed: codebook, biases and norms train.

    Parameters
    ----------
    indexes : mapping of str to Tensor
        By tensor name, int64 in the shape of the weight, into the codebook.
    codebook : np.ndarray
        (K,) start values; entry 0 is 0 and stays so.
    distortion : float
        Standard deviation that sets the exchange rate of squared error and nats; p_k is estimated
        before every epoch.
    frozen : bool
        Whether assignments are fixed.
    codebook_rate : float
        Learning rate of the codebook as a multiple of the weights'.
    scales : mapping of str to float, optional
        By name, what a tensor's weights are measured in: w = scale · c[k]. Latent values, the
        codebook and the distortion are in that unit.
    weight_rate : float
        Learning rate of latent values as a multiple of the schedule's.
    outputs : callable, optional
        The network's outputs for a few inputs, as it is now. Without it, a gradient of 0 is taken
        for no effect.
    """

    def __init__(
        self,
        indexes: Mapping[str, Tensor],
        codebook: np.ndarray,
        distortion: float,
        *,
        frozen: bool = False,
        codebook_rate: float = 0.1,
        scales: Mapping[str, float] | None = None,
        weight_rate: float = 1.0,
        outputs: Callable[[], Tensor | None] | None = None,
    ):
        self.names = list(indexes)
        self._initial = list(indexes.values())
        self.codebook = nn.Parameter(torch.as_tensor(codebook, dtype=torch.float32).clone())
        self.distortion = distortion
        self.frozen = frozen
        self.codebook_rate = codebook_rate
        self.weight_rate = weight_rate
        self.outputs = outputs
        self.scales = [(scales or {}).get(name, 1.0) for name in self.names]
        # of the weights that are not 0, tensor by tensor, from attach() on
        self.weights: list[nn.Parameter] = []
        self.positions: list[Tensor] = []
        self.index: list[Tensor] = []
        self.latent: list[nn.Parameter] = []
        self.use: list[Tensor] = []
        # of the parameters that are not shared
        self.others: dict[str, nn.Parameter] = {}
        self.other_use: dict[str, Tensor] = {}
        self.nats: Tensor  # (K,) price of each entry, from begin_epoch() on

    def attach(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        device = parameters[self.names[0]].device if self.names else self.codebook.device
        self.codebook.data = self.codebook.data.to(device)
        self.weights = [parameters[name] for name in self.names]
        self.others = {n: p for n, p in parameters.items() if n not in self.names}
        self.positions, self.index, self.latent, self.use = [], [], [], []
        for weight, index, scale in zip(self.weights, self._initial, self.scales, strict=True):
            ordered = torch.empty_like(weight.detach(), dtype=torch.int64).copy_(index)
            ordered = memory_order(weight, ordered)
            position = (ordered != 0).nonzero()[:, 0]
            values = memory_order(weight, weight.detach())[position] / scale
            self.positions.append(position)
            self.index.append(ordered[position])
            trains = weight.requires_grad and not self.frozen
            self.latent.append(nn.Parameter(values, requires_grad=trains))
            self.use.append(torch.zeros_like(values))
        self.other_use = {n: torch.zeros_like(p) for n, p in self.others.items()}
        self._show()

    def parameter_groups(self, model: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
        latent = [v for v in self.latent if v.requires_grad and v.numel()]
        rate = self.weight_rate
        groups = [
            {"params": latent, "rate_scale": rate},
            {"params": list(self.others.values())},
            {"params": [self.codebook], "rate_scale": rate * self.codebook_rate},
        ]
        return [g | {"weight_decay": 0.0} for g in groups if g["params"]]

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        counts = self.counts.double() + 0.5
        self.nats = (-torch.log(counts / counts.sum())).float()
        for use in (*self.use, *self.other_use.values()):
            use.zero_()

    def after_backward(self) -> None:
        gradient = torch.zeros_like(self.codebook)
        given = gradients(self.weights)
        for weight, found, position, index, latent, use, scale in zip(
            self.weights, given, self.positions, self.index, self.latent, self.use, self.scales,
            strict=True,
        ):  # fmt: skip
            if not weight.requires_grad:
                use.add_(1)  # what has a use cannot be told without a gradient
                continue
            local = memory_order(weight, found)[position] * scale
            add_by_entry(gradient, index, local)
            use.add_(local.abs())
            if latent.requires_grad:
                latent.grad = local
            weight.grad = None
        gradient[0] = 0.0
        self.codebook.grad = gradient
        for name, parameter in self.others.items():
            if parameter.grad is not None:  # frozen by the user, or out of the loss's reach
                self.other_use[name].add_(parameter.grad.abs())

    def after_step(self) -> None:
        if not self.frozen:
            self.index = [self._assign(v.detach()) for v in self.latent]
        self._show()

    def _assign(self, values: Tensor) -> Tensor:
        scaled = (values[:, None] - self.codebook.detach()) / self.distortion
        return (0.5 * scaled**2 + self.nats).argmin(dim=1)

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Drop what the last epoch showed to have no effect."""
        places = [k for k, use in enumerate(self.use) if bool((use == 0).any())]
        if places and not self._drop_idle(places):
            for place in places:
                self._drop_idle([place])
        self._show()
        self._clear_idle_biases()

    def _drop_idle(self, places: list[int]) -> bool:
        """Set the idle weights of these tensors to 0, unless the outputs show that they matter."""
        before = self.outputs() if self.outputs is not None else None
        kept = [(self.latent[k].detach().clone(), self.index[k].clone()) for k in places]
        for k in places:
            idle = self.use[k] == 0
            self.latent[k].detach()[idle] = 0.0
            self.index[k][idle] = 0
        self._show()
        if before is None or _same(before, self.outputs()):
            return True
        for k, (latent, index) in zip(places, kept, strict=True):
            self.latent[k].detach().copy_(latent)
            self.index[k].copy_(index)
        self._show()
        return False

    def _clear_idle_biases(self) -> None:
        """Set biases to 0 that had no gradient and whose unit has no input left."""
        weights = dict(zip(self.names, self.weights, strict=True))
        for name, bias in self.others.items():
            weight = weights.get(f"{name.removesuffix('bias')}weight")
            if name.endswith("bias") and weight is not None and len(weight) == len(bias):
                unfed = (weight.detach().reshape(len(weight), -1) == 0).all(dim=1)
                if bias.requires_grad:
                    bias.detach()[unfed & (self.other_use[name] == 0)] = 0.0

    @torch.no_grad()
    def _show(self) -> None:
        """Write c[k] into the network's weights."""
        book = self.codebook.detach()
        with any_order():
            for weight, position, index, scale in zip(
                self.weights, self.positions, self.index, self.scales, strict=True
            ):
                flat = memory_order(weight, weight.detach())
                flat.zero_()
                flat[position] = book[index] * scale

    @property
    def counts(self) -> Tensor:
        """(K,) weights with each index."""
        size = len(self.codebook)
        total = sum(torch.bincount(i, minlength=size) for i in self.index)
        total[0] += sum(w.numel() for w in self.weights) - sum(i.numel() for i in self.index)
        return total

    def indexes(self) -> dict[str, Tensor]:
        """By tensor name, int64 in the shape of the weight, contiguous."""
        dense = {}
        for name, weight, position, index in zip(
            self.names, self.weights, self.positions, self.index, strict=True
        ):
            full = torch.zeros_like(weight.detach(), dtype=torch.int64)
            memory_order(weight, full)[position] = index
            dense[name] = full.contiguous().cpu()
        return dense

    def record(self) -> dict[str, float]:
        counts = self.counts
        return {
            "nonzero_pct": 100 * (1 - float(counts[0] / counts.sum())),
            "components": int((counts > 0).sum()),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "codebook": self.codebook.detach(),
            "index": self.index,
            "latent": [v.detach() for v in self.latent],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.codebook.copy_(state["codebook"])
            for latent, saved in zip(self.latent, state["latent"], strict=True):
                latent.copy_(saved)
        self.index = [index.to(self.codebook.device) for index in state["index"]]
        self._show()


def _same(before: Tensor, after: Tensor, tolerance: float = 0.02) -> bool:
    """Whether outputs are finite and, by their root mean square, about what they were."""
    change, size = (after - before).square().mean(), before.square().mean()
    return bool(torch.isfinite(after).all() and change <= tolerance**2 * size)


def add_by_entry(sums: Tensor, index: Tensor, values: Tensor) -> None:
    """Add to each of (K,) sums the values (N,) whose index it is, in place.

    A GPU's deterministic ``index_add_`` sorts, and then adds the values of an entry one after
    another, of which there may be tens of thousands. There, a product with the K × N membership
    matrix takes a fraction of the time, while it fits; it is as deterministic, under the settings
    of :func:`sws.study.stages.set_up`.

    Parameters
    ----------
    sums : Tensor
        (K,), changed in place.
    index : Tensor
        (N,) int64 in 0 … K − 1.
    values : Tensor
        (N,).
    """
    if values.is_cuda and len(sums) * len(values) <= LARGEST_PRODUCT:
        sums += membership(index, len(sums)).to(values.dtype) @ values
    else:
        sums.index_add_(0, index, values)


def membership(index: Tensor, entries: int) -> Tensor:
    """(K, N) bool: whether value n has entry k."""
    return index == torch.arange(entries, device=index.device)[:, None]


@contextmanager
def any_order() -> Iterator[None]:
    """Let writes go in any order, where no two of them meet.

    A GPU's deterministic ``index_put_`` sorts positions, since it cannot know that they differ.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
