"""Adaptive coding of a layer as a bitmap: which weights are not zero, then which entry each is.

What survives pruning is not spread evenly. Border pixels are never used, hidden units die, and a
unit that looks at a pixel looks at its neighbours. The matrix is coded row by row, each row in a
few chunks; for every cell of a chunk five estimates of P(weight ≠ 0) are mixed:

row       the chunks of this row already coded, and the density of the rows at the lags
column    the non-zeros of the column so far
lags      the cells of this column in earlier rows, at up to four lags chosen per layer
upstream  how many inputs the unit has that feeds this column (or row, when transposed)
layer     everything coded so far

After a row's bitmap come its values, under an adaptive table whose context is the sign of the sum
of the values at the lags. Scanned by columns ("transposed"), a first layer's rows are pixels, and
lags 1 and 28 are a pixel's neighbours: that is where the smoothness of images is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sws.codec.adaptive import STEP, AdaptiveBits, AdaptiveTable
from sws.codec.logistic import BOUND, WEIGHT_BITS, Mixer, evidence, log2_int
from sws.codec.range_coding import Coder

MAX_LAGS = 4
LAG_BOUND = 64
CHUNKS = 4
WIDEST = 256
DENSITY_ROWS = (1, 2, 3, 4)  # whose density a row starts from where there are no lags
UPSTREAM_CONTEXTS = 8
START = tuple(round(w * 2**WEIGHT_BITS) for w in (0.25, 0.4, 0.4, 0.3, -0.3))


@dataclass(frozen=True)
class Scan:
    """How a layer's matrix is read: by rows or by columns, looking back at which rows."""

    transposed: bool
    lags: tuple[int, ...] = ()


def code_scan(coder: Coder, scan: Scan | None) -> Scan:
    """Code the two settings of :class:`Scan`."""
    transposed = coder.number(2, None if scan is None else scan.transposed)
    count = coder.number(MAX_LAGS + 1, None if scan is None else len(scan.lags))
    lags = [
        coder.number(LAG_BOUND, None if scan is None else scan.lags[j] - 1) + 1
        for j in range(count)
    ]
    return Scan(bool(transposed), tuple(lags))


def code_matrix(
    coder: Coder,
    matrix: np.ndarray | None,
    shape: tuple[int, int],
    lags: tuple[int, ...],
    upstream: np.ndarray,
    values: AdaptiveTable | None,
    signs: np.ndarray,
    dtype: np.dtype,
) -> np.ndarray:
    """Code a matrix of codebook indexes.

    Parameters
    ----------
    matrix : what to write, ``shape``; ignored when reading.
    lags : distances of the earlier rows that serve as context.
    upstream : context 0 … 7 of each column, (columns,), or of each row, (rows, 1).
    values : tables over entries 1, 2, …, three contexts; None if there is but one such entry.
    signs : sign (−1, 0, 1) of each codebook entry.

    Returns
    -------
    Matrix of indexes, of type ``dtype``.
    """
    out = np.zeros(shape, dtype)
    model = _Bitmap(shape, lags, upstream)
    for i in range(shape[0]):
        past = {j: out[i - lag] for j, lag in enumerate(lags) if lag <= i}
        with coder.part("indexes"):
            given = None if matrix is None else matrix[i] != 0
            alive = np.flatnonzero(model.code_row(coder, i, past, given))
        if values is None:
            out[i, alive] = 1
        elif alive.size:
            with coder.part("values"):
                sign = sum(
                    (signs[row[alive]] for row in past.values()), np.zeros(alive.size, np.int64)
                )
                given = None if matrix is None else matrix[i, alive].astype(np.int32) - 1
                out[i, alive] = values.code_block(coder, np.sign(sign) + 1, given) + 1
    return out


class _Bitmap:
    """The five estimates and their mixer, for one layer.

    The estimates ``lags``, ``upstream`` and ``layer`` are frequencies of ones under a context of
    each cell: its pattern of lags, its upstream context, and none. They share one table of counts.
    """

    def __init__(self, shape: tuple[int, int], lags: tuple[int, ...], upstream: np.ndarray) -> None:
        self.rows, self.columns = shape
        self.lags = lags
        self.row_counts = [0] * self.rows
        self.column_counts = np.zeros(self.columns, np.int64)
        patterns = 1 << len(lags)
        ones = [1 + 9 * pattern.bit_count() for pattern in range(patterns)]
        zeros = [64 - count for count in ones]
        self.counts = AdaptiveBits(
            zeros=zeros + [30] * UPSTREAM_CONTEXTS + [20 * STEP],
            ones=ones + [2] * UPSTREAM_CONTEXTS + [STEP // 2],
        )
        self.contexts = np.empty((3, self.columns), np.int64)
        self.contexts[2] = self.layer = patterns + UPSTREAM_CONTEXTS
        self.upstream = np.broadcast_to(upstream + patterns, shape)
        self.mixer = Mixer(START)
        self.edges = chunk_edges(self.columns)

    def code_row(
        self, coder: Coder, i: int, past: dict[int, np.ndarray], given: np.ndarray | None
    ) -> np.ndarray:
        """Code row i, a chunk at a time, knowing the rows at its lags; return its bitmap."""
        pattern, self.contexts[1] = self.contexts[0], self.upstream[i]
        pattern[:] = 0
        for j, row in past.items():
            pattern += (row != 0).astype(np.int64) << j
        inputs = self._inputs(i)
        near = [i - lag for lag in self.lags or DENSITY_ROWS if lag <= i]
        size = max(1, len(near)) * self.columns
        prior = max(1000 * sum(self.row_counts[n] for n in near), size)
        alive = np.empty(self.columns, bool)
        found = 0
        for a, b in pairwise(self.edges):
            chunk = inputs[:, a:b]
            chunk[0] = row_evidence(found, a, prior, size)
            ones = self.mixer.mix(chunk)
            alive[a:b] = bits = coder.binary(ones, None if given is None else given[a:b])
            self.mixer.learn(chunk, ones, bits)
            found += int(np.count_nonzero(bits))
        self.counts.update(self.contexts.reshape(-1), np.tile(alive, 3))
        self.row_counts[i] = found
        self.column_counts += alive
        return alive

    def _inputs(self, i: int) -> np.ndarray:
        """Evidence (5, columns) for row i; that of the row itself is filled in later."""
        zeros, ones = self.counts.counts[:, self.layer].tolist()
        base = max(1, STEP * ones // (zeros + ones))  # of 32 and below 32
        inputs = np.empty((5, self.columns), np.int64)
        ones = STEP * self.column_counts + 2 * base
        inputs[1] = evidence(ones, STEP * (i + 2) - ones)
        inputs[2:] = self.counts.evidence()[self.contexts]
        return inputs


def row_evidence(found: int, past: int, prior: int, size: int) -> int:
    """Log-odds from ``found`` non-zeros in the ``past`` cells of a row so far, and three cells'
    worth of the rows near it: ``prior`` thousandths of a non-zero in ``size`` cells."""
    ones = 1000 * size * found + 3 * prior
    zeros = 1000 * size * (past - found) + 3 * (1000 * size - prior)
    return max(-BOUND, min(BOUND, log2_int(ones) - log2_int(max(zeros, 1))))


def chunk_edges(columns: int) -> list[int]:
    """Boundaries of the chunks that a row is coded in: four if they are then at least four wide,
    fewer if not, more if they would be wider than 256."""
    chunks = max(1, min(CHUNKS, columns // CHUNKS), -(-columns // WIDEST))
    return [columns * k // chunks for k in range(chunks + 1)]
