"""Relative indexing (Appendix A of the paper; Han et al., 2016): CSR with short index differences.

A row's non-zeros are kept as the differences of their columns, the first one being the column
itself. A field of p bits holds the number of zeros skipped, 0 … 2^p − 1; a longer run of zeros is
broken by *padding*: a zero stored as if it were a non-zero, 2^p columns further on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INDEX_BITS = {"fc": 5, "conv": 8}


@dataclass(frozen=True)
class RelativeIndex:
    """A sparse matrix in compressed rows.

    Attributes
    ----------
    values : A of the paper: the codebook index of each entry, 0 for padding.
    skips : zeros before each entry, since the previous entry of its row: 0 … 2^bits − 1.
    pointers : IR of the paper: where each row starts in ``values``, and the end; rows + 1 numbers.
    bits : p, the width of a field of ``skips``.
    """

    values: np.ndarray
    skips: np.ndarray
    pointers: np.ndarray
    bits: int

    @property
    def differences(self) -> np.ndarray:
        """IC of the paper: first column of each row, then differences of columns."""
        first = np.zeros(self.skips.size, bool)
        starts = self.pointers[:-1]
        first[starts[starts < self.pointers[1:]]] = True
        return self.skips + ~first

    @property
    def pointer_bits(self) -> int:
        """Smallest p with len(values) < 2^p: the width of a row pointer."""
        return self.values.size.bit_length()


def relative_index(matrix: np.ndarray, bits: int) -> RelativeIndex:
    """Take a matrix of codebook indexes (rows, columns) apart; index 0 is a zero weight."""
    rows, columns = np.nonzero(matrix)
    previous = np.empty_like(columns)
    previous[1:] = columns[:-1]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    previous[starts] = -1
    gaps = columns - previous - 1
    padding = gaps >> bits
    entries = np.cumsum(padding + 1) - 1
    size = int(entries[-1]) + 1 if entries.size else 0
    values = np.zeros(size, matrix.dtype)
    values[entries] = matrix[rows, columns]
    skips = np.full(size, (1 << bits) - 1, np.int64)
    skips[entries] = gaps & ((1 << bits) - 1)
    lengths = np.bincount(rows, weights=padding + 1, minlength=matrix.shape[0]).astype(np.int64)
    return RelativeIndex(values, skips, np.concatenate([[0], np.cumsum(lengths)]), bits)
