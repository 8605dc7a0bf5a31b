"""log p(w) under a one-dimensional Gaussian mixture, and its gradients, by four estimators.

Everything a training step needs from the prior over I weights is (i) the *score* of every weight,

    s(w) = d log p(w) / dw = Σ_k r_k(w) · λ_k · (μ_k − w),

with responsibilities r_k(w) = π_k N(w | μ_k, 1/λ_k) / p(w), and (ii) four sums over all weights,
from which the gradient of every mixture parameter follows (:class:`Statistics`).

========================  ====================================  =====================
estimator                 what it does                          cost a step
========================  ====================================  =====================
:class:`Exact`            the closed form, in chunks            O(I·J) time, O(I) memory
:class:`Tabulated`        s and r_k on a grid, interpolated     O(I + M·J), M ≈ 10³ nodes
:class:`Subsampled`       K weights a step, scaled by I/K       O(K·J)  (Appendix C)
:class:`SubsampledSums`   s from the grid, sums from K weights  O(I + K·J)
========================  ====================================  =====================

All share one call, ``estimator(components, weights, gradients, factor, statistics)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sws.prior import table
from sws.prior.components import Components, Statistics
from sws.prior.grid import GradedGrid, ResolutionError

CHUNK = 1 << 15


class Estimator(Protocol):
    """One way of computing log p(w) and its gradients."""

    def __call__(
        self,
        components: Components,
        weights: Sequence[Tensor],
        gradients: Sequence[Tensor] | None = None,
        factor: float = 1.0,
        statistics: bool = True,
        scales: Sequence[float] | None = None,
    ) -> Statistics | None:
        """Add ``factor`` · d log p(w/s)/dw to ``gradients`` in place; return the sums if wanted.

        Parameters
        ----------
        components : the mixture, held fixed.
        weights : contiguous tensors of any shape; together the I weights of the network.
        gradients : tensors of the same shapes, or None to leave the scores out.
        statistics : False saves the sums where only the scores are needed.
        scales : s of each tensor, the unit that its weights are measured in; 1 if not given. The
            sums are of w/s. (d log p(w/s)/dw leaves log s out, a constant.)
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the next calls depend on, for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Exact:
    """Closed form, in chunks of 2^15 weights: memory does not grow with I × J."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def __call__(
        self, components, weights, gradients=None, factor=1.0, statistics=True, scales=None
    ):
        sums = None
        for position, (tensor, scale) in enumerate(
            zip(weights, _each(scales, weights), strict=True)
        ):
            flat = tensor.detach().reshape(-1)
            target = None if gradients is None else gradients[position].view(-1)
            for begin in range(0, flat.numel(), CHUNK):
                part = flat[begin : begin + CHUNK] / scale
                score, chunk_sums = _closed_form(components, part, gradients is not None)
                if target is not None:
                    target[begin : begin + CHUNK].add_(score, alpha=factor / scale)
                if statistics:
                    sums = chunk_sums if sums is None else sums + chunk_sums
        return _unpack(sums, len(components)) if statistics else None


class Subsampled:
    """Appendix C: K weights drawn uniformly anew at every call, everything scaled by I/K.

    Drawn with replacement, so each call is an unbiased estimate whatever K is.
    """

    def __init__(self, samples: int, seed: int = 0):
        if samples < 1:
            raise ValueError(f"subsampling needs at least one weight a step, not {samples}")
        self.samples = samples
        self.generator = torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])

    def __call__(
        self, components, weights, gradients=None, factor=1.0, statistics=True, scales=None
    ):
        sizes = [w.numel() for w in weights]
        weight = sum(sizes) / self.samples
        units = _each(scales, weights)
        drawn = torch.randint(sum(sizes), (self.samples,), generator=self.generator)
        sums, offset = None, 0
        for position, (tensor, size) in enumerate(zip(weights, sizes, strict=True)):
            local = drawn[(drawn >= offset) & (drawn < offset + size)] - offset
            local = local.to(tensor.device)
            offset += size
            for begin in range(0, local.numel(), CHUNK):
                index = local[begin : begin + CHUNK]
                part = tensor.detach().reshape(-1)[index] / units[position]
                score, part_sums = _closed_form(components, part, gradients is not None)
                if gradients is not None:
                    alpha = factor * weight / units[position]
                    gradients[position].view(-1).index_add_(0, index, score, alpha=alpha)
                sums = part_sums if sums is None else sums + part_sums
        return _unpack(sums, len(components)).scaled(weight) if statistics else None


class SubsampledSums:
    """Appendix C for the mixture only: sums from K weights, every weight's score from a table.

    What is rare and large in the literal form, the gradient of a weight that was drawn, is what an
    optimiser with a second moment makes little of; sums over all weights have no such trouble.
    """

    def __init__(self, samples: int, seed: int = 0):
        self.sampled = Subsampled(samples, seed)
        self.tabulated = Tabulated()

    def state_dict(self) -> dict[str, Any]:
        return {"sampled": self.sampled.state_dict(), "tabulated": self.tabulated.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampled.load_state_dict(state["sampled"])
        self.tabulated.load_state_dict(state["tabulated"])

    def __call__(
        self, components, weights, gradients=None, factor=1.0, statistics=True, scales=None
    ):
        if gradients is not None:
            self.tabulated(components, weights, gradients, factor, False, scales)
        if not statistics:
            return None
        return self.sampled(components, weights, scales=scales)


class Tabulated:
    """s and r_k on a graded grid: each weight costs one table look-up, whatever J is.

    On every element of the grid the score is a quadratic through three nodes, and the sums use the
    transpose of that interpolation (moments of the weights' position in each element), so both are
    exact for piecewise quadratics. Elements are halved until the error at their quarter points is
    below ``tolerance`` (:mod:`sws.prior.grid`). Weights outside the grid are computed exactly. Where the
    grid cannot resolve the mixture, the call falls back to :class:`Exact`.

    Parameters
    ----------
    tolerance : of r_k, r_k·z_k and r_k·z_k² absolutely (z = (w − μ)/σ), and of s relative to its
        root mean square over the weights seen last.
    """

    def __init__(self, tolerance: float = 2e-5):
        self.tolerance = tolerance
        self.exact = Exact()
        self.fallbacks = 0
        self._grid: GradedGrid | None = None
        self._built_for: Components | None = None
        self._tables_for: Components | None = None
        self._score_scale: float | None = None
        self._scale_then: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The grid's origin: a resumed run must interpolate on the grid it was interrupted on."""
        then = self._built_for
        built = None if then is None else torch.from_numpy(np.stack(_vectors(then)))
        return {"built_for": built, "scales": [self._scale_then, self._score_scale]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._grid = self._built_for = self._tables_for = None
        scale_then, self._score_scale = state["scales"]
        if state["built_for"] is not None:
            self._build(Components(*state["built_for"].numpy().copy()), scale_then)

    def __call__(
        self, components, weights, gradients=None, factor=1.0, statistics=True, scales=None
    ):
        flat = [w.detach().reshape(-1) for w in weights]
        units = _each(scales, weights)
        if not self._prepare(components, flat, units):
            self.fallbacks += 1
            return self.exact(components, weights, gradients, factor, statistics, scales)
        targets = None if gradients is None else [g.view(-1) for g in gradients]
        moments, outside = table.accumulate(self._tables, flat, targets, factor, statistics, units)
        if not statistics:
            return None
        return self._sums(components, moments, outside)

    def _prepare(self, components: Components, flat: list[Tensor], scales: Sequence[float]) -> bool:
        """Bring grid and tables up to date with the components; False if that is impossible."""
        if self._tables_for is components:
            return True
        if self._score_scale is None:
            self._score_scale = self._root_mean_square(components, flat, scales)
        if self._built_for is None or self._drifted(components):
            self._build(components, self._score_scale)
        if self._grid is None:
            return False
        nodes = self._grid.nodes
        self._log_density, self._responsibilities = components.responsibilities(nodes)
        pulls = self._responsibilities @ np.stack(
            [components.precisions * components.means, components.precisions], axis=1
        )
        scores = pulls[:, 0] - pulls[:, 1] * nodes
        self._tables = table.Tables.build(self._grid, scores, components)
        self._tables_for = components
        return True

    def _build(self, components: Components, score_scale: float) -> None:
        """A grid for these components; None, until they drift, if it would be too fine."""
        self._built_for, self._scale_then, self._tables_for = components, score_scale, None
        try:
            self._grid = GradedGrid.resolving(components, self.tolerance, score_scale)
        except ResolutionError:
            self._grid = None

    def _drifted(self, components: Components) -> bool:
        """True once some component moved a tenth of its width (or of a nat) since the grid."""
        then = self._built_for
        if len(components) != len(then) or self._score_scale < 0.5 * self._scale_then:
            return True
        change = max(
            np.abs((components.means - then.means) / then.deviations).max(),
            np.abs(components.log_precisions - then.log_precisions).max(),
            np.abs(components.log_proportions - then.log_proportions).max(),
        )
        return change > 0.1

    def _root_mean_square(
        self, components: Components, flat: list[Tensor], scales: Sequence[float]
    ) -> float:
        """Root mean square of the score over (at most 2^14 of) the weights, evenly spread."""
        total = sum(t.numel() for t in flat)
        stride = max(1, total >> 14)
        sample = np.concatenate(
            [t[::stride].double().cpu().numpy() / s for t, s in zip(flat, scales, strict=True)]
        )
        scores = components.scores(sample)
        finite = scores[np.isfinite(scores)]
        return float(np.sqrt(np.mean(finite**2))) + 1e-12 if finite.size else 1.0

    def _sums(self, components: Components, moments: np.ndarray, outside) -> Statistics:
        load, nodes, means = self._grid.node_loads(moments), self._grid.nodes, components.means
        powers = np.stack([load, load * nodes, load * nodes**2]) @ self._responsibilities
        counts, first, second = powers
        sums = Statistics(
            float(load @ self._log_density),
            counts,
            first - means * counts,
            second - 2 * means * first + means**2 * counts,
        )
        count, squares = moments[:, 0].sum(), self._squared_scores(moments)
        self._score_scale = math.sqrt(squares / max(count, 1.0)) + 1e-12
        if outside is None:
            return sums
        far = _unpack(outside, len(components))
        return Statistics(
            sums.log_likelihood + far.log_likelihood,
            sums.counts + far.counts,
            sums.first_moments + far.first_moments,
            sums.second_moments + far.second_moments,
        )

    def _squared_scores(self, moments: np.ndarray) -> float:
        """Σ s² with one value an element (its midpoint): only sets the scale of a tolerance."""
        midpoint = self._tables.midpoints
        return float(moments[:, 0] @ midpoint**2)


def _closed_form(
    components: Components, weights: Tensor, want_score: bool
) -> tuple[Tensor | None, Tensor]:
    """Scores (n,) and the packed sums (1 + 3J,) in float64 of a flat chunk of weights."""
    like = {"dtype": weights.dtype, "device": weights.device}
    means = torch.as_tensor(components.means, **like)
    # what rounding a mean loses is not small beside a narrow component's width
    lost = torch.as_tensor(components.means - means.double().cpu().numpy(), **like)
    precisions = torch.as_tensor(components.precisions, **like)
    centred = (weights[:, None] - means).sub_(lost)
    scaled = centred * precisions
    joint = torch.as_tensor(components.log_heights, **like) - 0.5 * scaled * centred
    log_density = torch.logsumexp(joint, dim=1)
    responsibilities = torch.exp(joint - log_density[:, None])
    score = -(responsibilities * scaled).sum(dim=1) if want_score else None
    first = responsibilities * centred
    sums = torch.cat(
        [
            log_density.sum(dtype=torch.float64)[None],
            responsibilities.sum(dim=0, dtype=torch.float64),
            first.sum(dim=0, dtype=torch.float64),
            (first * centred).sum(dim=0, dtype=torch.float64),
        ]
    )
    return score, sums


def _each(scales: Sequence[float] | None, weights: Sequence[Tensor]) -> Sequence[float]:
    return [1.0] * len(weights) if scales is None else scales


def _vectors(components: Components) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return components.means, components.log_precisions, components.log_proportions


def _unpack(sums: Tensor | np.ndarray | None, size: int) -> Statistics:
    if sums is None:
        packed = np.zeros(1 + 3 * size)
    else:
        packed = sums.cpu().numpy() if isinstance(sums, Tensor) else sums
    return Statistics(float(packed[0]), *packed[1:].reshape(3, size))
