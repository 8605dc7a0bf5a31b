"""The hot kernel: one pass that reads each weight once and adds its score to the gradient.

Two implementations of one function, :func:`accumulate`: compiled loops for tensors on the CPU
(numba; a single pass, vectorised table look-ups) and plain PyTorch operations for everything else
(a GPU, an unusual dtype, a machine without numba).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sws.prior.compiled import numba
from sws.prior.grid import GradedGrid

LEVEL_BITS = np.int32(4)  # a Python int would make the kernel compute in 64 bits
LEVEL_MASK = np.int32(15)

PARALLEL_FROM = 1 << 20  # weights; below that, starting threads costs more than it saves


@dataclass(frozen=True, eq=False)
class Tables:
    """What the kernel reads: the grid, the score's coefficients and the components themselves.

    Attributes
    ----------
    places : (C,) int32, of each cell: position of its first element · 2^4 + its level ℓ. One
        number, because fetching from a table is what a weight's look-up takes its time for.
    coefficients : (3, E) float32, the score on each element.
    """

    lower: float
    width: float
    places: np.ndarray
    coefficients: np.ndarray
    means: np.ndarray
    precisions: np.ndarray
    constants: np.ndarray
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def build(cls, grid: GradedGrid, scores: np.ndarray, components) -> Tables:
        return cls(
            grid.lower,
            grid.width,
            (grid.starts << LEVEL_BITS | np.log2(grid.counts).astype(int)).astype(np.int32),
            np.ascontiguousarray(grid.coefficients(scores), dtype=np.float32),
            components.means,
            components.precisions,
            components.log_heights,
        )

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Places (int64) and coefficients on a device, copied there once."""
        if device not in self._copies:
            places = torch.as_tensor(self.places, device=device, dtype=torch.int64)
            self._copies[device] = places, torch.as_tensor(self.coefficients, device=device)
        return self._copies[device]

    @property
    def elements(self) -> int:
        return self.coefficients.shape[1]

    @property
    def midpoints(self) -> np.ndarray:
        """(E,) the score in the middle of each element."""
        a, b, c = self.coefficients.astype(np.float64)
        return a + 0.5 * b + 0.25 * c


def accumulate(
    tables: Tables,
    weights: list[Tensor],
    gradients: list[Tensor] | None,
    factor: float,
    statistics: bool,
    scales: Sequence[float],
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Add factor · s(w/c)/c to the gradients; collect the moments of the w/c on the grid.

    Parameters
    ----------
    weights, gradients : flat contiguous tensors.
    scales : c of each tensor.

    Returns
    -------
    moments : (E, 4) float64, sums of 1, u, u² (and padding) over the weights in each element.
    outside : (1 + 3J,) exact sums over the weights outside the grid; None if there are none.
    """
    size = 1 + 3 * len(tables.means)
    moments = np.zeros((tables.elements, 4)) if statistics else None
    outside = np.zeros(size)
    portable = []
    for position, tensor in enumerate(weights):
        if numba is None or tensor.device.type != "cpu" or tensor.dtype != torch.float32:
            portable.append(position)
            continue
        target = None if gradients is None else gradients[position]
        scale = scales[position]
        _compiled(tables, tensor, target, factor / scale, scale, moments, outside)
    if portable:
        targets = None if gradients is None else [gradients[p] for p in portable]
        chosen = [weights[p] for p in portable], targets, [scales[p] for p in portable]
        _portable(tables, *chosen, factor, moments, outside)
    return moments, outside if outside.any() else None


def _portable(tables, weights, targets, scales, factor, moments, outside) -> None:
    """The same pass in PyTorch operations, for any device and dtype.

    All tensors are joined into one: a GPU takes as long to be told of an operation on a small
    tensor as to do it on a large one. It is waited for once, to learn what the grid did not cover.
    """
    device = weights[0].device
    places, (a, b, c) = tables.on(device)
    joined = torch.cat([w / s for w, s in zip(weights, scales, strict=True)])
    position = (joined - tables.lower) * (1 / tables.width)
    inside = (position >= 0) & (position < len(places))
    position = torch.where(inside, position, 0)
    cell = position.long()
    place = places[cell]
    fraction = (position - cell) * (1 << (place & LEVEL_MASK))
    within = fraction.long()
    element = (place >> LEVEL_BITS) + within
    u = fraction - within
    far = (~inside).nonzero()[:, 0]
    exact = np.empty(len(far))
    if len(far):
        _exact_outside(joined[far].double().cpu().numpy(), tables, exact, outside)
    if targets is not None:
        scores = (a[element] + u * (b[element] + u * c[element])) * inside
        scores[far] = torch.as_tensor(exact, device=device, dtype=scores.dtype)
        parts = scores.split([t.numel() for t in targets])
        for target, part, scale in zip(targets, parts, scales, strict=True):
            target.add_(part.to(target.dtype), alpha=factor / scale)
    if moments is not None:
        powers = [inside.double(), inside * u.double(), inside * u.double() ** 2]
        binned = [torch.bincount(element, weights=p, minlength=tables.elements) for p in powers]
        moments[:, :3] += torch.stack(binned, dim=1).cpu().numpy()


def _exact_outside(values: np.ndarray, tables: Tables, scores: np.ndarray, sums: np.ndarray):
    centred = values[:, None] - tables.means
    joint = tables.constants - 0.5 * tables.precisions * centred**2
    peak = joint.max(axis=1, keepdims=True)
    ratio = np.exp(joint - peak)
    total = ratio.sum(axis=1, keepdims=True)
    responsibilities = ratio / total
    scores[:] = -(responsibilities * tables.precisions * centred).sum(axis=1)
    moments = [(responsibilities * centred**power).sum(axis=0) for power in range(3)]
    sums += np.concatenate([[(peak + np.log(total)).sum()], *moments])


def _compiled(tables, weights, target, factor, scale, moments, outside) -> None:
    values = weights.numpy()
    # the grid in the weights' own units, so that no weight has to be divided
    lower = np.float32(tables.lower * scale)
    inverse = np.float32(1 / (tables.width * scale))
    where = (lower, inverse, tables.places)
    threads = 1 if values.size < PARALLEL_FROM else torch.get_num_threads()
    threads = min(threads, numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(threads)
    far = 0
    if target is not None:
        gradient = target.numpy()
        far = _add_scores(values, gradient, np.float32(factor), *where, *tables.coefficients)
    if moments is not None:
        edges = np.linspace(0, values.size, threads + 1).astype(np.int64)
        partial = np.zeros((threads, *moments.shape)) if threads > 1 else moments[None]
        far = _add_moments(values, partial, np.stack([edges[:-1], edges[1:]], 1), *where)
        if threads > 1:
            moments += partial.sum(axis=0)
    if far:
        position = (values - lower) * inverse
        index = np.flatnonzero(~((position >= 0) & (position < len(tables.places))))
        scores = np.empty(index.size)
        _exact_outside(values[index].astype(np.float64) / scale, tables, scores, outside)
        if target is not None:
            gradient[index] += np.float32(factor) * scores.astype(np.float32)


if numba is not None:
    # NaN must keep its meaning (it fails the range test), so 'nnan' is not among the flags
    _FLAGS = {"contract", "nsz", "arcp", "reassoc"}

    # prange even on one thread: it tells the compiler that the arrays do not overlap, without which
    # the loop is not vectorised; unsigned positions spare it the test for negative indexes
    @numba.njit(cache=True, parallel=True, fastmath=_FLAGS, nogil=True)
    def _add_scores(w, g, factor, lower, inverse, places, a, b, c):
        outside = 0
        top = np.float32(places.size)
        for i in numba.prange(w.size):
            t = (w[i] - lower) * inverse
            inside = (t >= np.float32(0)) & (t < top)
            t = t if inside else np.float32(0)
            cell = np.int32(t)
            place = places[np.uint32(cell)]
            s = (t - np.float32(cell)) * np.float32(np.int32(1) << (place & LEVEL_MASK))
            within = np.int32(s)
            u = s - np.float32(within)
            e = np.uint32((place >> LEVEL_BITS) + within)
            score = a[e] + u * (b[e] + u * c[e])
            g[i] += factor * (score if inside else np.float32(0))
            outside += 0 if inside else 1
        return outside

    @numba.njit(cache=True, fastmath=_FLAGS, nogil=True)
    def _moments_slice(w, moments, lower, inverse, places):
        outside = 0
        top = np.float32(places.size)
        for i in range(w.size):
            t = (w[i] - lower) * inverse
            if (t >= np.float32(0)) & (t < top):
                cell = np.int32(t)
                place = places[cell]
                s = (t - np.float32(cell)) * np.float32(np.int32(1) << (place & LEVEL_MASK))
                within = np.int32(s)
                u = np.float64(s - np.float32(within))
                e = (place >> LEVEL_BITS) + within
                moments[e, 0] += 1.0
                moments[e, 1] += u
                moments[e, 2] += u * u
            else:
                outside += 1
        return outside

    @numba.njit(cache=True, parallel=True, nogil=True)
    def _add_moments(w, moments, slices, lower, inverse, places):
        outside = np.zeros(len(slices), np.int64)
        for k in numba.prange(len(slices)):
            begin, end = slices[k]
            outside[k] = _moments_slice(w[begin:end], moments[k], lower, inverse, places)
        return outside.sum()
