"""A graded one-dimensional grid on which a mixture's score and responsibilities are quadratics.

The range is cut into equal *cells*; each cell holds 2^ℓ equal *elements*, and each element three
nodes (left end, middle, right end). Finding the element of a weight takes two multiplications and
one small table, however uneven the grid is. Where two narrow components meet, responsibility passes
from one to the other within about σ²/d (d their distance), far narrower than σ; that is what the
grading is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CELLS = 256  # at most; the width of a cell is a power of two, so that float32 positions are exact
MAX_LEVEL = 12
MAX_ELEMENTS = 1 << 17
REACH = 8.0  # standard deviations covered on either side of every mean


_TOO_NARROW = "a mixture of {} components is too narrow to tabulate"


class ResolutionError(ValueError):
    """The mixture has structure that :data:`MAX_ELEMENTS` elements cannot resolve."""


@dataclass(frozen=True, eq=False)
class GradedGrid:
    """Cells of equal width, each of 2^ℓ elements of three nodes.

    Attributes
    ----------
    lower : left end of the range covered, a multiple of ``width``.
    width : of a cell, a power of two.
    counts : (C,) elements in each of the C ≤ CELLS cells, powers of two.
    starts : (C,) position of a cell's first element.
    nodes : (2·E + C,) node positions, float64; a cell has 2^(ℓ+1) + 1 of them.
    first_nodes : (E,) position in ``nodes`` of each element's left end.
    """

    lower: float
    width: float
    counts: np.ndarray
    starts: np.ndarray
    nodes: np.ndarray
    first_nodes: np.ndarray

    @classmethod
    def resolving(cls, components, tolerance: float, score_scale: float) -> GradedGrid:
        """The coarsest graded grid on which quadratics reach the tolerance.

        Parameters
        ----------
        components : :class:`sws.prior.estimators.Components`.
        tolerance : of r_k, r_k·z_k and r_k·z_k²; of the score it is tolerance · score_scale.

        Raises
        ------
        ResolutionError
            If more than ``MAX_ELEMENTS`` elements would be needed.
        """
        lower = float((components.means - REACH * components.deviations).min())
        upper = float((components.means + REACH * components.deviations).max())
        width = 2.0 ** math.ceil(math.log2((upper - lower) / (CELLS - 1)))
        lower = width * math.floor(lower / width)
        cells = math.ceil((upper - lower) / width)
        edges = lower + width * np.arange(cells)
        levels = _least_levels(components, edges, width)
        if levels.max() > MAX_LEVEL:
            raise ResolutionError(_TOO_NARROW.format(len(components)))
        rough = np.ones(cells, dtype=bool)
        for level in range(MAX_LEVEL + 1):
            levels[rough & (levels < level)] = level
            active = np.flatnonzero(rough & (levels == level))
            error = _interpolation_error(components, edges[active], width, level, score_scale)
            rough[active] = error > tolerance
            if not rough.any():
                return cls._from_levels(lower, width, levels)
            if np.exp2(levels).sum() + active.size * 2**level > MAX_ELEMENTS:
                break
        raise ResolutionError(
            f"a mixture of {len(components)} components is too narrow to tabulate"
        )

    @classmethod
    def _from_levels(cls, lower: float, width: float, levels: np.ndarray) -> GradedGrid:
        cells = levels.size
        counts = 1 << levels
        starts = np.cumsum(counts) - counts
        cell = np.repeat(np.arange(cells), 2 * counts + 1)
        first = np.cumsum(2 * counts + 1) - (2 * counts + 1)
        within = np.arange(cell.size) - first[cell]
        nodes = lower + width * (cell + within / (2.0 * counts[cell]))
        owner = np.repeat(np.arange(cells), counts)
        first_nodes = first[owner] + 2 * (np.arange(owner.size) - starts[owner])
        return cls(lower, width, counts, starts, nodes, first_nodes)

    @property
    def elements(self) -> int:
        return self.first_nodes.size

    def coefficients(self, values: np.ndarray) -> np.ndarray:
        """(3, E) coefficients a of a_0 + a_1·u + a_2·u² on each element, u ∈ [0, 1)."""
        left, middle, right = (values[self.first_nodes + k] for k in range(3))
        return np.stack([left, 4 * middle - 3 * left - right, 2 * (left + right) - 4 * middle])

    def node_loads(self, moments: np.ndarray) -> np.ndarray:
        """Transpose of the interpolation: (E, ≥3) sums of 1, u, u² per element to node weights.

        Σ_i f(w_i) ≈ node_loads(moments) @ f(nodes), exact for piecewise quadratic f.
        """
        count, first, second = moments[:, 0], moments[:, 1], moments[:, 2]
        loads = np.zeros(self.nodes.size)
        # np.add.at is not needed: within one of these three an element's nodes are its own
        loads[self.first_nodes] += count - 3 * first + 2 * second
        loads[self.first_nodes + 1] += 4 * (first - second)
        loads[self.first_nodes + 2] += 2 * second - first
        return loads


def _least_levels(components, left, width) -> np.ndarray:
    """Level at which the error's sample points cannot miss a component, for each cell.

    Within 4σ of a mean an element is at most 2σ wide, so that a quarter of it is half a σ.
    """
    levels = np.zeros(left.size, dtype=np.int64)
    for mean, deviation in zip(components.means, components.deviations, strict=True):
        near = (left < mean + 4 * deviation) & (left + width > mean - 4 * deviation)
        least = max(0, math.ceil(math.log2(width / (2 * deviation))))
        levels[near] = np.maximum(levels[near], least)
    return levels


def _interpolation_error(components, left, width, level, score_scale) -> np.ndarray:
    """Largest error at the quarter points of the elements of each cell, (cells,)."""
    elements = 2**level
    quarter = width / (4 * elements)
    offsets = np.arange(4 * elements + 1) * quarter
    points = left[:, None] + offsets
    _, responsibilities = components.responsibilities(points)
    scaled = (points[..., None] - components.means) / components.deviations
    score = -(responsibilities * scaled / components.deviations).sum(axis=-1) / score_scale
    worst = _quadratic_error(score[..., None]).max(axis=(1, 2))
    for function in (responsibilities, responsibilities * scaled, responsibilities * scaled**2):
        np.maximum(worst, _quadratic_error(function).max(axis=(1, 2)), out=worst)
    return worst


def _quadratic_error(values: np.ndarray) -> np.ndarray:
    """|f − quadratic through the nodes| at u = 1/4 and 3/4; values (cells, 4·elements + 1, n)."""
    left, first, middle, third, right = (
        values[:, k : values.shape[1] - 4 + k : 4] for k in range(5)
    )
    at_first = 0.375 * left + 0.75 * middle - 0.125 * right
    at_third = -0.125 * left + 0.75 * middle + 0.375 * right
    return np.maximum(np.abs(first - at_first), np.abs(third - at_third))
