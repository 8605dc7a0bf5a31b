"""Canonical Huffman codes, known by their code lengths alone, and streams of bits."""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np

from sws.codec.errors import CorruptFileError

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


def canonical_codes(lengths: np.ndarray) -> np.ndarray:
    """The canonical codewords: shorter first, then by symbol, each the previous plus one.

    Raises
    ------
    CorruptFileError
        If no prefix code has these lengths.
    """
    codes = np.zeros(lengths.size, np.int64)
    code = previous = 0
    for symbol in np.lexsort((np.arange(lengths.size), lengths)):
        length = int(lengths[symbol])
        if length == 0:
            continue
        code <<= length - previous
        if code >> length:
            raise CorruptFileError("a Huffman table is over-full")
        codes[symbol] = code
        code, previous = code + 1, length
    return codes


class BitWriter:
    """Collects fields of bits, most significant bit first."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []

    def fields(self, values: np.ndarray, widths: np.ndarray) -> None:
        """Append ``values``, each in its number of bits (0 … 63)."""
        widths = np.broadcast_to(widths, values.shape).astype(np.int64)
        ends = np.repeat(np.cumsum(widths), widths)
        shifts = ends - 1 - np.arange(ends.size)
        self._pieces.append((np.repeat(values, widths) >> shifts & 1).astype(np.uint8))

    def finish(self) -> bytes:
        """The bytes, the last one filled up with zero bits."""
        return np.packbits(np.concatenate([np.zeros(0, np.uint8), *self._pieces])).tobytes()


class BitReader:
    """Reads what :class:`BitWriter` wrote."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8)).tobytes()
        self._at = 0

    def fields(self, width: int, size: int) -> np.ndarray:
        """Read ``size`` numbers of ``width`` bits (0 … 31)."""
        end = self._at + width * size
        if end > len(self._bits):
            raise CorruptFileError("the Huffman stream is too short")
        bits = np.frombuffer(self._bits, np.uint8)[self._at : end].reshape(size, width)
        self._at = end
        return bits.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64)[::-1])

    def huffman(self, lengths: np.ndarray, size: int) -> np.ndarray:
        """Read ``size`` codewords of the canonical code with these lengths."""
        codes = canonical_codes(lengths)
        table = {(int(lengths[s]), int(codes[s])): int(s) for s in np.flatnonzero(lengths)}
        symbols = []
        bits, at = self._bits, self._at
        try:
            for _ in range(size):
                code, length = bits[at], 1
                at += 1
                while (length, code) not in table:
                    if length == MAX_LENGTH:
                        raise CorruptFileError("the Huffman stream holds an unknown codeword")
                    code, length = code << 1 | bits[at], length + 1
                    at += 1
                symbols.append(table[length, code])
        except IndexError:
            raise CorruptFileError("the Huffman stream is too short") from None
        self._at = at
        return np.array(symbols, np.int64)
