"""Lengths of Huffman codes, for the accounting of the paper's compression rates."""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np

LENGTH_BITS = 5  # a table stores one code length, 0 … 31, per symbol
MAX_LENGTH = (1 << LENGTH_BITS) - 1


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Lengths of an optimal prefix code.

    Parameters
    ----------
    counts : (n,) how often each symbol occurs.

    Returns
    -------
    (n,) int64: 0 for symbols that do not occur; 1 for one that occurs alone. Ties are broken by
    the order in which nodes were made. Should a code be longer than 31 bits, counts are halved
    (rounding up) until none is.
    """
    counts = np.asarray(counts, np.int64)
    lengths = _lengths(counts)
    while lengths.size and lengths.max() > MAX_LENGTH:
        counts = (counts + 1) >> 1
        lengths = _lengths(counts)
    return lengths


def _lengths(counts: np.ndarray) -> np.ndarray:
    lengths = np.zeros(counts.size, np.int64)
    used = np.flatnonzero(counts)
    if used.size == 1:
        lengths[used] = 1
        return lengths
    order = count()
    heap = [(int(counts[s]), next(order), [s]) for s in used]
    heapq.heapify(heap)
    while len(heap) > 1:
        (n, _, left), (m, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        symbols = left + right
        lengths[symbols] += 1
        heapq.heappush(heap, (n + m, next(order), symbols))
    return lengths
