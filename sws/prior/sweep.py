"""The hot loop over a :class:`~sws.prior.mesh.Mesh`: each weight is read once.

Two implementations of one function, :func:`sweep`: a compiled loop for tensors on the CPU and plain
PyTorch operations for everything else (a GPU, an unusual dtype, a machine without numba).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sws.prior.compiled import compiled, numba
from sws.prior.mesh import DEPTH, FIRST_BITS, Mesh, vectors

PARALLEL_FROM = 1 << 20  # weights; below that, starting threads costs more than it saves
COMPILED_FOR = (torch.float32, torch.float64)


def sweep(
    mesh: Mesh,
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor] | None,
    factor: float,
    statistics: bool,
    scales: Sequence[float],
) -> tuple[np.ndarray | None, int]:
    """Add factor · s(w/c)/c to the gradients and sum what is asked for over all w/c.

    Parameters
    ----------
    weights, gradients : flat contiguous tensors.
    scales : c of each tensor.

    Returns
    -------
    sums : (1 + 3J,) float64 of log p, r_k, r_k·(w − μ_k), r_k·(w − μ_k)²; None if not asked for.
    exact : how many weights took the closed form, being outside the mesh or where it is too coarse.
    """
    moments = np.zeros((mesh.elements, 4))
    sums = np.zeros(1 + 3 * len(mesh.components))
    exact = 0
    for position, tensor in enumerate(weights):
        on_cpu = tensor.device.type == "cpu" and tensor.dtype in COMPILED_FOR
        one = _compiled if numba is not None and on_cpu else _portable
        target = None if gradients is None else gradients[position]
        exact += one(mesh, tensor, target, factor, scales[position], statistics, moments, sums)
    if not statistics:
        return None, exact
    mesh.add_sums(moments, sums)
    return sums, exact


def _portable(mesh, weights, target, factor, scale, statistics, moments, sums) -> int:
    device = weights.device
    x = weights.double() / scale
    edges = torch.as_tensor(mesh.lower + mesh.unit * mesh.starts, device=device)
    middle, *coefficients = torch.as_tensor(mesh.records.T.copy(), device=device)
    resolved = torch.as_tensor(mesh.resolved, device=device)
    inside = (x >= mesh.lower) & (x < mesh.lower + mesh.unit * 2.0**DEPTH)
    element = torch.searchsorted(edges, x, right=True).sub_(1).clamp_(0, mesh.elements - 1)
    inside &= resolved[element]
    t = torch.where(inside, x - middle[element], 0.0)
    rest = (~inside).nonzero()[:, 0]
    scores = _closed_form(x[rest].cpu().numpy(), *vectors(mesh.components), sums)
    if target is not None:
        a, b, c, d = (values[element] for values in coefficients)
        found = a + t * (b + t * (c + t * d))
        found[rest] = torch.as_tensor(scores, device=device)
        target.add_(found.to(target.dtype), alpha=factor / scale)
    if statistics:
        powers = torch.stack([inside.double(), t, t**2, t**3])
        binned = [torch.bincount(element, p, minlength=mesh.elements) for p in powers]
        moments += torch.stack(binned, dim=1).cpu().numpy()
    return len(rest)


def _compiled(mesh, weights, target, factor, scale, statistics, moments, sums) -> int:
    values = weights.numpy()
    gradient = values if target is None else target.numpy()
    what = (target is not None, factor / scale, 1 / scale, statistics)
    where = (mesh.lower, 1 / mesh.unit, mesh.depth, *mesh.tables, mesh.records)
    rest = np.empty(values.size, np.int64)
    threads = 1 if values.size < PARALLEL_FROM else torch.get_num_threads()
    threads = min(threads, numba.config.NUMBA_NUM_THREADS)
    if threads == 1:
        rest = rest[: _slice(values, gradient, *what, *where, moments, rest)]
    else:
        numba.set_num_threads(threads)
        edges = np.linspace(0, values.size, threads + 1).astype(np.int64)
        partial = np.zeros((threads, *moments.shape))
        counts = _slices(edges, values, gradient, *what, *where, partial, rest)
        moments += partial.sum(axis=0)
        parts = zip(edges[:-1], counts, strict=True)
        rest = np.concatenate([begin + rest[begin : begin + n] for begin, n in parts])
    if len(rest):
        # apart, because within the loop it would cost the registers that a look-up needs
        scores = _closed_form(values[rest] / np.float64(scale), *vectors(mesh.components), sums)
        if target is not None:
            gradient[rest] += (factor / scale * scores).astype(gradient.dtype)
    return len(rest)


@compiled
def _closed_form(values, means, precisions, constants, sums):
    """Scores of float64 weights; what they sum to is added to the sums."""
    size, joint = len(means), np.empty(len(means))
    scores = np.zeros(len(values))
    for i in range(len(values)):
        x, peak, total = values[i], -np.inf, 0.0
        for j in range(size):
            joint[j] = constants[j] - 0.5 * precisions[j] * (x - means[j]) ** 2
            peak = max(peak, joint[j])
        for j in range(size):
            joint[j] = math.exp(joint[j] - peak)
            total += joint[j]
        for j in range(size):
            r, centred = joint[j] / total, x - means[j]
            scores[i] -= r * precisions[j] * centred
            sums[1 + j] += r
            sums[1 + size + j] += r * centred
            sums[1 + 2 * size + j] += r * centred * centred
        sums[0] += peak + math.log(total)
    return scores


if numba is not None:
    _TOP = 2.0**DEPTH

    @numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
    def _slice(
        w, g, scored, factor, per_scale, summed,
        lower, per_unit, depth, first, second, third, records, moments, rest,
    ):  # fmt: skip
        """Returns how many weights it left out: ``rest`` says which."""
        left = 0
        for i in range(w.size):
            x = w[i] * per_scale
            t = (x - lower) * per_unit
            entry = np.int64(-1)
            if (t >= 0.0) & (t < _TOP):  # not so for NaN
                position, shift = np.int64(t), np.int64(DEPTH - FIRST_BITS)
                # unsigned indexes spare the test for negative ones
                entry = np.int64(first[np.uint64(position >> shift)])
                if depth > 1:
                    bits = entry & 15
                    shift -= bits
                    place = (entry >> 4) + ((position >> shift) & ((1 << bits) - 1))
                    entry = np.int64(second[np.uint64(place)])
                if depth > 2:
                    bits = entry & 15
                    shift -= bits
                    place = (entry >> 4) + ((position >> shift) & ((1 << bits) - 1))
                    entry = np.int64(third[np.uint64(place)])
            if entry < 0:
                rest[left] = i
                left += 1
                continue
            e = np.uint64(entry >> 4)
            t = x - records[e, 0]
            if scored:
                a, b, c, d = records[e, 1], records[e, 2], records[e, 3], records[e, 4]
                g[i] += factor * (a + t * (b + t * (c + t * d)))
            if summed:
                square = t * t
                moments[e, 0] += 1.0
                moments[e, 1] += t
                moments[e, 2] += square
                moments[e, 3] += square * t
        return left

    @numba.njit(cache=True, nogil=True, parallel=True)
    def _slices(
        edges, w, g, scored, factor, per_scale, summed,
        lower, per_unit, depth, first, second, third, records, moments, rest,
    ):  # fmt: skip
        left = np.zeros(len(edges) - 1, np.int64)
        for k in numba.prange(len(edges) - 1):
            part = slice(edges[k], edges[k + 1])
            left[k] = _slice(
                w[part], g[part], scored, factor, per_scale, summed,
                lower, per_unit, depth, first, second, third, records, moments[k], rest[part],
            )  # fmt: skip
        return left
