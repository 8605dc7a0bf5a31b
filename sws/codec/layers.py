"""How the numbers of a tensor are laid out for coding: rows, groups of cells, levels of entries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LONGEST_LAG = 64  # that a writer looks for; a file holds up to 255
LAG_CELLS = 1 << 16  # non-zeros that it looks at
RECURRENCE, LEAST = 1.25, 16  # a lag's recurrences over those by chance, and how many at least


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Output units × everything else; a vector is one row."""
    rows = shape[0] if len(shape) > 1 else 1
    return rows, math.prod(shape[len(shape) > 1 :])


@dataclass(frozen=True)
class Layout:
    """A tensor as rows × groups × cells.

    Attributes
    ----------
    rows : output units; a vector is one row.
    groups : inputs, or the elements of a vector.
    size, width : cells of a group (of a kernel; 1 for matrices) and of a line of it.
    negative, positive : codebook entries below 0, and others but the first.
    """

    rows: int
    groups: int
    size: int
    width: int
    negative: int
    positive: int

    @classmethod
    def of(cls, shape: tuple[int, ...], codebook: np.ndarray) -> Layout:
        rows, columns = matrix_shape(shape)
        size = math.prod(shape[2:])
        negative = int(np.count_nonzero(codebook[1:] < 0))
        positive = codebook.size - 1 - negative
        width = shape[-1] if len(shape) > 2 else 1
        groups = columns // size if size else 0
        return cls(rows, groups, size, width, negative, positive)

    @property
    def columns(self) -> int:
        return self.groups * self.size

    @property
    def places(self) -> tuple[int, ...]:
        """Where the slots of groups and of signs and the pasts begin, after those of columns; then
        what feeds a group, and whether it lives."""
        n, g = self.columns, self.groups
        return n, n + g, n + 2 * g, 2 * n + 2 * g, 2 * n + 3 * g, 2 * n + 4 * g

    @property
    def local(self) -> int:
        """Numbers that coding the tensor keeps, all in all."""
        return 2 * self.columns + 5 * self.groups


def order(codebook: np.ndarray) -> np.ndarray:
    """Entry of each level: 0, the negative ones by magnitude, the others by magnitude; among equal
    ones, by place."""
    values = codebook.astype(np.float64)
    entries = np.arange(1, codebook.size)
    below = entries[values[1:] < 0]
    others = entries[~(values[1:] < 0)]
    below = below[np.argsort(-values[below], kind="stable")]
    others = others[np.argsort(values[others], kind="stable")]
    return np.concatenate([[0], below, others])


def best_lag(layout: Layout, levels: np.ndarray) -> int:
    """The distance at which non-zeros of a row recur most beyond chance, 2 … 64.

    1 if that is no more often than at other distances: units differ in density.
    """
    if layout.size != 1 or layout.groups < 4 or not layout.rows:
        return 1
    alive = levels.reshape(layout.rows, layout.groups) != 0
    rows = max(1, LAG_CELLS * 4 // layout.groups)
    alive = alive[:: -(-layout.rows // rows), : 16 * LAG_CELLS]
    padded = np.zeros((alive.shape[0], alive.shape[1] + LONGEST_LAG), bool)
    padded[:, : alive.shape[1]] = alive
    flat = padded.reshape(-1)
    at = np.flatnonzero(flat)
    share = min(1.0, LAG_CELLS / max(1, at.size))
    at = at[:LAG_CELLS]
    density = np.count_nonzero(padded, axis=0) / alive.shape[0]
    lags = range(2, min(layout.groups, LONGEST_LAG + 1))
    counts = np.array([np.count_nonzero(flat[at + lag]) for lag in lags])
    chance = [alive.shape[0] * share * float(density[:-lag] @ density[lag:]) + 1 for lag in lags]
    recurrence = counts / np.array(chance)
    best = int(np.argmax(np.where(counts > LEAST, recurrence, 0)))
    usual = float(np.median(recurrence))
    return lags[best] if recurrence[best] > RECURRENCE * usual and counts[best] > LEAST else 1
