"""What one step of the prior costs, in time, memory and accuracy (Appendix C's question).

A step is the gradient for every weight and the sums for the mixture, after the mixture has moved.
Each measurement needs a process of its own, because it reads the peak of the process's memory.
"""

from __future__ import annotations

import itertools
import json
import math
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sws import environment
from sws.errors import InputError
from sws.files import write_text
from sws.models import registry
from sws.network.weights import compressible
from sws.prior.components import Components, Statistics
from sws.prior.estimators import Estimator, Exact, Subsampled, Tabulated

CHUNK = 1 << 18  # weights of the float64 reference at a time
ROUNDS = 5
SECONDS = 30.0  # no further round begins after so many


@dataclass(frozen=True)
class Workload:
    """How many weights in which tensors, under how many components."""

    shapes: tuple[tuple[int, ...], ...]
    components: int

    @property
    def weights(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)


def _of_model(name: str) -> tuple[tuple[int, ...], ...]:
    with torch.device("meta"):
        model = registry.build(name)
    return tuple(tuple(w.shape) for w in compressible(model).values())


def workload(name: str) -> Workload:
    """One of :data:`WORKLOADS`.

    Raises
    ------
    InputError
        If there is no such workload.
    """
    if name not in WORKLOADS:
        raise InputError(f"there is no workload {name!r}; choose one of {', '.join(WORKLOADS)}")
    return WORKLOADS[name]()


_WIDTHS = (3, 64, 64, 128, 128, *[256] * 3, *[512] * 6)
WORKLOADS: dict[str, Callable[[], Workload]] = {
    "lenet-300-100": lambda: Workload(_of_model("lenet-300-100"), 17),
    "wrn-16-4": lambda: Workload(_of_model("wrn-16-4"), 64),
    "vgg-16": lambda: Workload(_of_model("vgg-16"), 17),
    # Simonyan & Zisserman (2015), configuration D: 138,344,128 weights beside its biases
    "vgg-16-imagenet": lambda: Workload(
        (
            *((outputs, inputs, 3, 3) for inputs, outputs in itertools.pairwise(_WIDTHS)),
            *((4096, 25_088), (4096, 4096), (1000, 4096)),
        ),
        17,
    ),
}


class Gradients:
    """Gradients of the mixture that are known as such, where others have sums to make them of."""

    def __init__(self, found: list[np.ndarray]):
        self.found = found

    def gradients(self, components: Components) -> list[np.ndarray]:
        return self.found


class Broadcast:
    """A matrix of weights × components and the framework's graph over it: what public code does."""

    def __call__(self, components, weights, gradients=None, factor=1.0, statistics=True):
        leaves = [w.detach().requires_grad_() for w in weights]
        means, log_precisions, log_proportions = (
            torch.tensor(v, dtype=torch.float32, requires_grad=True)
            for v in (components.means, components.log_precisions, components.log_proportions)
        )
        flat = torch.cat([w.reshape(-1) for w in leaves])
        constant = log_proportions + 0.5 * (log_precisions - math.log(2 * math.pi))
        joint = constant - 0.5 * log_precisions.exp() * (flat[:, None] - means) ** 2
        total = torch.logsumexp(joint, dim=1).sum()
        total.backward()
        for leaf, gradient in zip(leaves, gradients, strict=True):
            gradient.add_(leaf.grad, alpha=factor)
        return Gradients([p.grad.numpy() for p in (means, log_precisions, log_proportions)])


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "broadcast": Broadcast,
    "exact": Exact,
    "tabulated": Tabulated,
    "subsampled-10000": lambda: Subsampled(10_000),
    "subsampled-100000": lambda: Subsampled(100_000),
    "subsampled-1000000": lambda: Subsampled(1_000_000),
}


def mixture(size: int) -> Components:
    """As half-way through retraining: a narrow zero component among wider ones."""
    means = np.append(0.0, np.linspace(-0.4, 0.5, size - 1))
    deviations = np.append(0.01, np.full(size - 1, 0.8 / size))
    proportions = np.append(0.95, np.full(size - 1, 0.05 / (size - 1)))
    return Components(means, -2 * np.log(deviations), np.log(proportions))


def draw(shapes: tuple[tuple[int, ...], ...], components: Components, seed: int) -> list[Tensor]:
    """Weights from the mixture, float32."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.tensor(components.means, dtype=torch.float32)
    deviations = torch.tensor(components.deviations, dtype=torch.float32)
    edges = torch.tensor(components.proportions.cumsum()[:-1], dtype=torch.float32)
    drawn = []
    for shape in shapes:
        values = torch.empty(shape)
        for part in values.view(-1).split(CHUNK):
            which = torch.bucketize(torch.rand(part.numel(), generator=generator), edges)
            noise = torch.randn(part.numel(), generator=generator)
            part.copy_(means[which] + deviations[which] * noise)
        drawn.append(values)
    return drawn


def measure(name: str, estimator: str, rounds: int = ROUNDS) -> dict[str, Any]:
    """Time, memory and errors of a step, in this process.

    Returns
    -------
    With ``seconds`` (median of the rounds after the first), ``first_seconds``, ``extra_memory_mb``
    above weights and gradients, ``error_weights`` (‖g − g₆₄‖₂/‖g₆₄‖₂ over all weights) and
    ``error_mixture`` (the largest of the same for means, log-precisions and log-proportions); of
    a step that did not fit into memory, all are None.
    """
    chosen, of = workload(name), ESTIMATORS[estimator]()
    components = mixture(chosen.components)
    weights = draw(chosen.shapes, components, seed=0)
    gradients = [torch.zeros_like(w) for w in weights]
    found: dict[str, Any] = {
        "case": name,
        "estimator": estimator,
        "weights": chosen.weights,
        "components": chosen.components,
        "threads": torch.get_num_threads(),
        "seconds": None,
        "first_seconds": None,
        "extra_memory_mb": None,
        "error_weights": None,
        "error_mixture": None,
        "versions": environment.versions(),
    }
    try:
        found |= _cost(of, components, weights, gradients, rounds)
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        return found
    for gradient in gradients:
        gradient.zero_()
    sums = of(components, weights, gradients)
    return found | _errors(components, weights, gradients, sums)


def _cost(
    estimator: Estimator,
    components: Components,
    weights: list[Tensor],
    gradients: list[Tensor],
    rounds: int,
) -> dict[str, Any]:
    _forget_peak()
    before = _memory_mb("VmRSS")
    times: list[float] = []
    while len(times) <= rounds and sum(times) < SECONDS:
        start = time.perf_counter()
        estimator(_moved(components, len(times)), weights, gradients, -1e-6)
        times.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(times[1:] or times),
        "first_seconds": times[0],
        "extra_memory_mb": round(max(0.0, _memory_mb("VmHWM") - before), 1),
    }


def _moved(components: Components, number: int) -> Components:
    """The mixture as an update leaves it: a thousandth of a width away."""
    means = components.means + 1e-3 * number * components.deviations
    means[0] = 0.0
    return Components(means, components.log_precisions, components.log_proportions)


def _memory_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "utf-8")


def _errors(
    components: Components,
    weights: list[Tensor],
    gradients: list[Tensor],
    sums: Statistics | Gradients,
) -> dict[str, float]:
    """Relative errors against the closed form in float64, a part of the weights at a time."""
    off = norm = 0.0
    totals = np.zeros((3, len(components)))
    for weight, gradient in zip(weights, gradients, strict=True):
        pairs = zip(weight.view(-1).split(CHUNK), gradient.view(-1).split(CHUNK), strict=True)
        for part, found in pairs:
            values = part.double().numpy()
            _, r = components.responsibilities(values)
            centred = values[:, None] - components.means
            first = r * centred
            score = -(first @ components.precisions)
            off += float(np.square(found.double().numpy() - score).sum())
            norm += float(np.square(score).sum())
            totals += [r.sum(0), first.sum(0), (first * centred).sum(0)]
    expected = Statistics(0.0, *totals).gradients(components)
    estimated = sums.gradients(components)
    return {
        "error_weights": math.sqrt(off / norm),
        "error_mixture": max(
            float(np.linalg.norm(e - t) / np.linalg.norm(t))
            for e, t in zip(estimated, expected, strict=True)
        ),
    }


def limit_memory(gigabytes: float) -> None:
    """Let allocations beyond so much fail in this process, before the machine begins to swap."""
    size = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, resource.RLIM_INFINITY))


def build(name: str, estimator: str, output: Path, gigabytes: float | None = None) -> Path:
    """Measure and write one JSON file.

    Parameters
    ----------
    gigabytes : of memory, at most; by default nine tenths of the machine's.
    """
    if gigabytes is None:
        pages = 1024 * int(Path("/proc/meminfo").read_text("utf-8").split()[1])
        gigabytes = 0.9 * pages / 2**30
    limit_memory(gigabytes)
    torch.set_flush_denormal(True)
    found = measure(name, estimator)
    output.parent.mkdir(parents=True, exist_ok=True)
    return write_text(output, json.dumps(found, indent=1) + "\n")
