"""Batch normalisation in compressed networks: what it makes free, and what it leaves to store.

A weight whose output is normalised before anything else uses it is *scale-free*: c·w computes the
same as w. A prior that pulls weights to 0 shrinks such tensors at no loss, so their norm must be
held (:class:`sws.methods.soft_weight_sharing.SoftWeightSharing`). Running statistics describe the
weights they were gathered with, so they are gathered anew once the weights have their final values
(:func:`reestimate`). In evaluation a normalisation is y = a·x + b for each channel, and those two
numbers are all that a file needs of its four (:func:`folded`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sws.network.inputs import count, forward, scores

_Norm = nn.modules.batchnorm._BatchNorm
IMAGES = 10_000  # that statistics are gathered from


@contextlib.contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Training and evaluation modes afterwards as before, each module's own."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def norms(model: nn.Module) -> dict[str, _Norm]:
    """The normalisations that keep running statistics, by name."""
    return {
        n: m for n, m in model.named_modules() if isinstance(m, _Norm) and m.track_running_stats
    }


def _normalises(model: nn.Module) -> bool:
    """Whether anything in it normalises, by name, since there are many implementations."""
    return any("norm" in type(module).__name__.lower() for module in model.modules())


@torch.no_grad()
def scale_free(
    model: nn.Module, names: Iterable[str], inputs: Any, tolerance: float = 0.02
) -> tuple[str, ...]:
    """Names of the weights that may be multiplied by 2 without a change of the outputs.

    Found by trying, in training mode, so that it holds for any way a network is wired. The model is
    as before afterwards.

    Parameters
    ----------
    model : nn.Module
        The network, left as it is.
    names : iterable of str
        Of the parameters to try.
    inputs : Tensor, tuple or mapping
        A few inputs, on the model's device.
    tolerance : float
        Of the outputs' root mean square change, relative to their own.
    """
    if not _normalises(model):
        return ()
    parameters = dict(model.named_parameters())
    buffers = {n: b.clone() for n, b in model.named_buffers()}

    def outputs() -> Tensor:
        torch.manual_seed(0)  # a dropout must not look like an effect of the weight
        found = scores(forward(model, inputs))
        return torch.zeros(1) if found is None else found.float()  # 0/0 is below no tolerance

    with modes_kept(model), torch.random.fork_rng():
        model.train()
        found, before = [], outputs()
        for name in names:
            parameters[name].mul_(2)  # exact in floating point, and so is its inverse
            change = (outputs() - before).square().mean().sqrt() / before.square().mean().sqrt()
            parameters[name].mul_(0.5)
            if change < tolerance:
                found.append(name)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return tuple(found)


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[tuple[Any, Any]], images: int = IMAGES) -> None:
    """Gather running statistics anew: the plain mean over the batches of at least ``images``.

    Does nothing to a network without normalisations.

    Parameters
    ----------
    model : nn.Module
        Whose running statistics are replaced.
    batches : iterable of tuple
        Pairs of inputs and labels, of which only the inputs are used.
    images : int
        How many to use, at least.
    """
    found = norms(model)
    if not found:
        return
    momenta = {n: m.momentum for n, m in found.items()}
    for norm in found.values():
        norm.reset_running_stats()
        norm.momentum = None  # the framework's word for a cumulative mean
    seen = 0
    with modes_kept(model):
        model.train()
        for x, _ in batches:
            forward(model, x)
            seen += count(x)
            if seen >= images:
                break
    for name, norm in found.items():
        norm.momentum = momenta[name]


def is_folded(norm: nn.Module) -> bool:
    """Whether a normalisation came from a file: mean 0, variance 1, and not untouched."""
    plain = bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())
    if not plain or norm.weight is None:
        return False
    return not bool((norm.weight == 1).all() and (norm.bias == 0).all())


@torch.no_grad()
def unfold(model: nn.Module, batches: Iterable[tuple[Any, Any]], images: int = IMAGES) -> None:
    """Give normalisations statistics again; outputs in evaluation stay as they are.

    A file holds y = a·x + b only (:func:`folded`), and training passes, which normalise by the
    batch, would compute something else. With m and v the mean and variance of what reaches a
    normalisation in evaluation: γ = a·(v + ε)^½, β = b + a·m.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    batches : iterable of tuple
        Pairs of inputs and labels, of which only the inputs are used.
    images : int
        How many to use, at least.
    """
    found = {name: n for name, n in norms(model).items() if n.weight is not None}
    sums: dict[str, list[Any]] = {}

    def watch(name: str) -> Any:
        def note(_: nn.Module, received: tuple[Tensor, ...]) -> None:
            x = received[0].detach().double()
            other = [d for d in range(x.ndim) if d != 1]
            moments = [x.numel() // x.shape[1], x.sum(dim=other), x.square().sum(dim=other)]
            so_far = sums.get(name, [0, 0.0, 0.0])
            sums[name] = [a + b for a, b in zip(so_far, moments, strict=True)]

        return note

    handles = [norm.register_forward_pre_hook(watch(name)) for name, norm in found.items()]
    try:
        with modes_kept(model):
            model.eval()
            seen = 0
            for x, _ in batches:
                forward(model, x)
                seen += count(x)
                if seen >= images:
                    break
    finally:
        for handle in handles:
            handle.remove()
    for name, (number, total, squares) in sums.items():
        norm = found[name]
        mean = total / number
        variance = (squares / number - mean.square()).clamp_min(0)
        a = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        b = norm.bias.double() - a * norm.running_mean.double()
        norm.weight.copy_(a * (variance + norm.eps).sqrt())
        norm.bias.copy_(b + a * mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


@torch.no_grad()
def folded(model: nn.Module) -> dict[str, Tensor]:
    """The model's state with every normalisation reduced to y = a·x + b; the model stays.

    With m and v the running mean and variance, a = γ·(v + ε)^−½ and b = β − a·m. In the state, β
    becomes b, γ becomes a·(1 + ε)^½, m becomes 0 and v becomes 1: evaluation divides by (1 + ε)^½
    again, and the last two hold no information. Where a channel's input does not vary, a is 0.
    """
    state = dict(model.state_dict())
    for name, norm in norms(model).items():
        if norm.weight is None:
            continue  # nowhere to put a and b
        variance, mean = norm.running_var, norm.running_mean
        a = norm.weight / (variance + norm.eps).sqrt()
        a = torch.where(variance > 0, a, torch.zeros_like(a))
        prefix = f"{name}." if name else ""
        state[prefix + "weight"] = a * (1 + norm.eps) ** 0.5
        state[prefix + "bias"] = norm.bias - a * mean
        state[prefix + "running_mean"] = torch.zeros_like(mean)
        state[prefix + "running_var"] = torch.ones_like(variance)
    return state
