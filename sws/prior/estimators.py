"""log p(w) under a one-dimensional Gaussian mixture, and its gradients, by four estimators.

Everything a training step needs from the prior over I weights is (i) the *score* of every weight,

    s(w) = d log p(w) / dw = Σ_k r_k(w) · λ_k · (μ_k − w),

with responsibilities r_k(w) = π_k N(w | μ_k, 1/λ_k) / p(w), and (ii) four sums over all weights,
from which the gradient of every mixture parameter follows (:class:`Statistics`).

========================  ====================================  =====================
estimator                 what it does                          cost a step
========================  ====================================  =====================
:class:`Exact`            the closed form, in chunks            O(I·J) time, O(I) memory
:class:`Tabulated`        s and r_k on a mesh, interpolated     O(I + M·J), M ≈ 10³ nodes
:class:`Subsampled`       K weights a step, scaled by I/K       O(K·J)  (Appendix C)
:class:`SubsampledSums`   s from a table, sums from K weights   O(I + K·J)
========================  ====================================  =====================

All share one call, ``estimator(components, weights, gradients, factor, statistics)``.

:class:`sws.prior.graded.Graded` is an older form of the third.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sws.prior.components import Components, Statistics
from sws.prior.mesh import Mesh, interval
from sws.prior.sweep import sweep

CHUNK = 1 << 15


class Estimator(Protocol):
    """One way of computing log p(w) and its gradients.

    Attributes
    ----------
    exact_pct : of the weights computed so far, how many took the closed form: what a table could
        not do. A measure of cost, for metrics.json.
    """

    exact_pct: float

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

    exact_pct = 100.0

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def __call__(
        self, components, weights, gradients=None, factor=1.0, statistics=True, scales=None
    ):
        sums = None
        for position, (tensor, scale) in enumerate(
            zip(weights, in_units(scales, weights), strict=True)
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
        return unpack(sums, len(components)) if statistics else None


class Subsampled:
    """Appendix C: K weights drawn uniformly anew at every call, everything scaled by I/K.

    Drawn with replacement, so each call is an unbiased estimate whatever K is.
    """

    exact_pct = 100.0

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
        units = in_units(scales, weights)
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
        return unpack(sums, len(components)).scaled(weight) if statistics else None


class SubsampledSums:
    """Appendix C for the mixture only: sums from K weights, every weight's score from a table.

    What is rare and large in the literal form, the gradient of a weight that was drawn, is what an
    optimiser with a second moment makes little of; sums over all weights have no such trouble.

    Parameters
    ----------
    tabulated : what gives the scores.
    """

    def __init__(self, samples: int, seed: int = 0, tabulated: Estimator | None = None):
        self.sampled = Subsampled(samples, seed)
        self.tabulated = Tabulated() if tabulated is None else tabulated

    @property
    def exact_pct(self) -> float:
        return self.tabulated.exact_pct

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
    """s and r_k on a mesh made for these very components: a look-up a weight, whatever J is.

    On every element of the mesh the score is a cubic through four nodes, and the sums use the
    transpose of that interpolation (moments of the weights' position in each element), so both are
    exact for piecewise cubics. What a call does depends on nothing but its arguments.
    """

    def __init__(self):
        self.seen = self.exact = 0
        self._mesh: Mesh | None = None
        self._made_for: tuple[float, float] | None = None

    @property
    def exact_pct(self) -> float:
        return 100 * self.exact / max(self.seen, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "exact": self.exact}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen, self.exact = state["seen"], state["exact"]
        self._mesh = None

    def __call__(
        self, components, weights, gradients=None, factor=1.0, statistics=True, scales=None
    ):
        self.seen += sum(w.numel() for w in weights)
        units = in_units(scales, weights)
        flat = [w.detach().reshape(-1) for w in weights]
        lowest, highest = _range(flat, units)
        if not (_is_finite(components) and lowest <= highest):
            self.exact += sum(w.numel() for w in weights)
            return Exact()(components, weights, gradients, factor, statistics, scales)
        over = interval(components, lowest, highest)
        if self._mesh is None or self._mesh.components is not components or self._made_for != over:
            self._mesh, self._made_for = Mesh.build(components, *over), over
        targets = None if gradients is None else [g.view(-1) for g in gradients]
        sums, exact = sweep(self._mesh, flat, targets, factor, statistics, units)
        self.exact += exact
        return unpack(sums, len(components)) if statistics else None


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


def in_units(scales: Sequence[float] | None, weights: Sequence[Tensor]) -> Sequence[float]:
    return [1.0] * len(weights) if scales is None else scales


def _is_finite(components: Components) -> bool:
    widths = components.precisions
    finite = np.isfinite(components.means).all() and np.isfinite(widths).all()
    return bool(finite and (widths > 0).all() and not np.isnan(components.log_proportions).any())


def _range(flat: Sequence[Tensor], scales: Sequence[float]) -> tuple[float, float]:
    """Least and largest of all finite w/c; (inf, -inf) if there are none."""
    lowest, highest = math.inf, -math.inf
    for values, scale in zip(flat, scales, strict=True):
        if not len(values):
            continue
        low, high = map(float, torch.aminmax(values))
        if not math.isfinite(high - low):
            finite = values[torch.isfinite(values)]
            low, high = map(float, torch.aminmax(finite)) if len(finite) else (math.inf, -math.inf)
        lowest, highest = min(lowest, low / scale), max(highest, high / scale)
    return lowest, highest


def unpack(sums: Tensor | np.ndarray | None, size: int) -> Statistics:
    if sums is None:
        packed = np.zeros(1 + 3 * size)
    else:
        packed = sums.cpu().numpy() if isinstance(sums, Tensor) else sums
    return Statistics(float(packed[0]), *packed[1:].reshape(3, size))
