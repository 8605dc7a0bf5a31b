"""Range coding with integer tables: three coders behind one interface.

Every coding in this package is *one* function that serves writing and reading alike. It asks a
coder to code symbols under an integer table and gets the symbols back: :class:`Encoder` writes
those it is given, :class:`Decoder` ignores what it is given and reads them, :class:`Meter` writes
nothing. All three charge the exact cost in bits, −log2(weight / 2^24), to the current part, so a
coding is chosen by metering it and a file is described by reading it.

Tables are ours: positive integer weights that sum to 2^24, of which the cumulative sums are the
boundaries of the range coder's subintervals (docs/format.md, "Range coder"). constriction takes
floating-point tables: x_0 … x_{n−1} become boundaries ⌊(2^24 − n)·(x_0 + … + x_{i−1})/Σx⌋ + i.
With x_i = weight_i − 1 the fraction is exactly 1 and every sum an integer that float32 holds
exactly, so that these boundaries are the cumulative weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import constriction
import numpy as np

from sws.codec.errors import CorruptFileError

PRECISION = 24
TOTAL = 1 << PRECISION
WORD_BYTES = 4

_Categorical = constriction.stream.model.Categorical
_FAMILY = _Categorical(perfect=False)


class Coder:
    """What encoder, decoder and meter share: the interface and the bill.

    Attributes
    ----------
    spent : bits charged to each part, by name.
    """

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._part = "header"

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Charge everything coded inside the block to ``name``."""
        outer, self._part = self._part, name
        try:
            yield
        finally:
            self._part = outer

    @property
    def bits(self) -> float:
        """Bits charged so far, over all parts."""
        return sum(self.spent.values())

    def symbols(self, weights: np.ndarray, symbols: np.ndarray | None, count: int) -> np.ndarray:
        """Code ``count`` symbols under one table.

        Parameters
        ----------
        weights : positive integers that sum to 2^24, one per symbol; at least two.
        symbols : int32, what to write; ignored when reading.
        count : how many.

        Returns
        -------
        int32 array (count,): the symbols written or read.
        """
        if count == 0:
            return np.zeros(0, np.int32)
        coded = self._symbols(weights, symbols, count)
        used = np.bincount(coded, minlength=weights.size)
        self.spent[self._part] += float(used @ (PRECISION - np.log2(weights)))
        return coded

    def binary(self, ones: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        """Code one bit under each of several tables.

        Parameters
        ----------
        ones : (n,) integers from 1 to 2^24 − 1, the weight of a 1; that of a 0 is the rest.
        bits : (n,) what to write; ignored when reading.

        Returns
        -------
        bool array (n,): the bits written or read.
        """
        if ones.size == 0:
            return np.zeros(0, bool)
        coded = self._binary(ones, bits)
        used = np.where(coded, ones, TOTAL - ones)
        self.spent[self._part] += float((PRECISION - np.log2(used)).sum())
        return coded

    def number(self, bound: int, value: int | None) -> int:
        """Code one integer of 0 … bound − 1, all equally likely (1 ≤ bound ≤ 2^16)."""
        if bound == 1:
            return 0
        given = None if value is None else np.array([value], np.int32)
        return int(self.symbols(uniform_weights(bound), given, 1)[0])

    def _symbols(self, weights: np.ndarray, symbols: np.ndarray | None, count: int) -> np.ndarray:
        raise NotImplementedError

    def _binary(self, ones: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        raise NotImplementedError


class Meter(Coder):
    """Charges for symbols without writing them."""

    def _symbols(self, weights, symbols, count):
        return symbols

    def _binary(self, ones, bits):
        return bits.astype(bool)


class Encoder(Coder):
    """Writes symbols into a stream of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._coder = constriction.stream.queue.RangeEncoder()

    def _symbols(self, weights, symbols, count):
        symbols = np.ascontiguousarray(symbols, np.int32)
        self._coder.encode(symbols, _model(weights))
        return symbols

    def _binary(self, ones, bits):
        self._coder.encode(bits.astype(np.int32), _FAMILY, _pairs(ones))
        return bits.astype(bool)

    def finish(self) -> bytes:
        """The shortest byte string that reads as the symbols written.

        A reader continues the stream with zero bytes, so any multiple of a high power of 256
        inside the coder's last interval will do; the library's own ending is up to 7 bytes longer.
        """
        words, (low, span) = self._coder.pos()
        size = WORD_BYTES * (words + 2)
        sealed = self._coder.get_compressed().astype(">u4").tobytes().ljust(size, b"\0")
        point = int.from_bytes(sealed, "big")
        start = point - ((point - low) & (2**64 - 1))
        spare = 0
        while spare < size and _round_up(start, 8 * (spare + 1)) < start + span:
            spare += 1
        ending = _round_up(start, 8 * spare) >> 8 * spare
        return ending.to_bytes(size - spare, "big")


class Decoder(Coder):
    """Reads symbols from the bytes of :meth:`Encoder.finish`."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        padded = data + bytes(-len(data) % WORD_BYTES)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def _symbols(self, weights, symbols, count):
        return self._read(_model(weights), count)

    def _binary(self, ones, bits):
        return self._read(_FAMILY, _pairs(ones)).astype(bool)

    def _read(self, model: _Categorical, count_or_tables: int | np.ndarray) -> np.ndarray:
        try:
            return self._coder.decode(model, count_or_tables)
        except AssertionError as error:
            raise CorruptFileError("the range-coded stream is invalid") from error


def integer_weights(counts: np.ndarray) -> np.ndarray:
    """Scale non-negative counts to a table: w_i = 1 + ⌊c_i·(2^24 − n) / Σc⌋, the rest to the
    first of the largest.

    Parameters
    ----------
    counts : (n,) int64, not all zero, n·max < 2^39 so that nothing overflows.
    """
    counts = np.asarray(counts, np.int64)
    weights = 1 + counts * (TOTAL - counts.size) // counts.sum()
    weights[np.argmax(counts)] += TOTAL - weights.sum()
    return weights


def uniform_weights(bound: int) -> np.ndarray:
    """The table of ``bound`` equally likely symbols."""
    return integer_weights(np.ones(bound, np.int64))


def _model(weights: np.ndarray) -> _Categorical:
    return _Categorical((weights - 1).astype(np.float32), perfect=False)


def _pairs(ones: np.ndarray) -> np.ndarray:
    """Tables (2^24 − w, w) as constriction takes them."""
    return np.stack([TOTAL - ones - 1, ones - 1], axis=1).astype(np.float32)


def _round_up(value: int, bits: int) -> int:
    return -(-value >> bits) << bits
