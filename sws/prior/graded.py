"""log p(w) from a grid that is kept while the mixture moves little, as in the published runs.

Why there are two tables: :class:`sws.prior.estimators.Tabulated` resolves any mixture, makes its
mesh in about a millisecond, and would do alone. This one fails for narrow mixtures and takes ten
times as long to make its grid. But the published files were made with it and are compared byte by
byte, and what is rounded otherwise changes them. With the next reference run this module,
:mod:`sws.prior.grid` and :mod:`sws.prior.table` can go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sws.prior import table
from sws.prior.components import Components, Statistics
from sws.prior.estimators import Tabulated, in_units, unpack
from sws.prior.grid import GradedGrid, ResolutionError


class Graded:
    """s and r_k on a graded grid that is kept until the mixture has moved away from it.

    Quadratics on elements that are halved until the error at their quarter points is below
    ``tolerance`` (:mod:`sws.prior.grid`). Weights outside the grid are computed exactly. From the
    first mixture on that the grid cannot resolve, :class:`Tabulated` takes over for good: another
    grid would be tried in vain at every drift.

    Parameters
    ----------
    tolerance : of r_k, r_k·z_k and r_k·z_k² absolutely (z = (w − μ)/σ), and of s relative to its
        root mean square over the weights seen last.
    """

    def __init__(self, tolerance: float = 2e-5):
        self.tolerance = tolerance
        self.tabulated = Tabulated()
        self.gave_up = False
        self._seen = self._exact = 0
        self._grid: GradedGrid | None = None
        self._built_for: Components | None = None
        self._tables_for: Components | None = None
        self._score_scale: float | None = None
        self._scale_then: float | None = None

    @property
    def exact_pct(self) -> float:
        mesh = self.tabulated
        return 100 * (self._exact + mesh.exact) / max(self._seen + mesh.seen, 1)

    def state_dict(self) -> dict[str, Any]:
        """The grid's origin: a resumed run must interpolate on the grid it was interrupted on."""
        then = self._built_for
        built = None if then is None else torch.from_numpy(np.stack(_vectors(then)))
        return {
            "built_for": built,
            "scales": [self._scale_then, self._score_scale],
            "gave_up": self.gave_up,
            "counts": [self._seen, self._exact],
            "tabulated": self.tabulated.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._grid = self._built_for = self._tables_for = None
        self.gave_up = state["gave_up"]
        self._seen, self._exact = state["counts"]
        self.tabulated.load_state_dict(state["tabulated"])
        scale_then, self._score_scale = state["scales"]
        if state["built_for"] is not None and not self.gave_up:
            self._build(Components(*state["built_for"].numpy().copy()), scale_then)

    def __call__(
        self, components, weights, gradients=None, factor=1.0, statistics=True, scales=None
    ):
        flat = [w.detach().reshape(-1) for w in weights]
        units = in_units(scales, weights)
        if self.gave_up or not self._prepare(components, flat, units):
            return self.tabulated(components, weights, gradients, factor, statistics, scales)
        targets = None if gradients is None else [g.view(-1) for g in gradients]
        moments, outside = table.accumulate(self._tables, flat, targets, factor, statistics, units)
        self._seen += sum(w.numel() for w in flat)
        if outside is not None and np.isfinite(outside).all():
            # responsibilities of a weight sum to 1
            self._exact += round(outside[1 : 1 + len(components)].sum())
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
        if self.gave_up:
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
        """A grid for these components, unless it would be too fine."""
        self._built_for, self._scale_then, self._tables_for = components, score_scale, None
        try:
            self._grid = GradedGrid.resolving(components, self.tolerance, score_scale)
        except ResolutionError:
            self._grid, self.gave_up = None, True

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
        far = unpack(outside, len(components))
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


def _vectors(components: Components) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return components.means, components.log_precisions, components.log_proportions
