"""One range-coded stream and the model that it shapes: arrays for the inner loops, and their bill.

A :class:`Coder` writes if it is given no bytes and reads if it is; every method takes what is to be
written (None when reading) and returns what was coded.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from sws.codec import bit_coding as b
from sws.codec.compiled import Kernels, kernels
from sws.codec.errors import CorruptFileError
from sws.codec.layers import Layout

START = 1 << 48  # the coder's first interval
POINT_BYTES = 6
KEPT = 3  # at a new tensor, slots count as if they had seen no more than this
FIRST_WEIGHT = round(0.15 * 65536)
BIT_WORK = 4  # the reader's effort for one bit, of which a file may ask (docs/format.md, "Bounds")
ROOM = 1 << 12
PARTS = ("indexes", "values", "codebook", "raw")
CODEBOOK_ROLE = 4
TOO_MUCH = "declares far more than its bytes can hold"


class Coder:
    """A stream being written or read.

    Parameters
    ----------
    data : what to read; None to write.
    columns : the greatest number of local values (:attr:`Layout.local`) of any tensor.
    work : effort that reading may take, in bits of 4 each; None is without bound.

    Attributes
    ----------
    work : effort of the bits coded so far.
    """

    def __init__(
        self,
        data: bytes | None = None,
        local: int = 0,
        work: int | None = None,
        loops: Kernels | None = None,
    ) -> None:
        self._loops = loops or kernels()
        self._m = np.concatenate([_new_model(), np.zeros(8 + local, np.int64)])
        self._s = np.zeros(b.STATE, np.int64)
        self._s[b.RANGE] = START
        self._s[b.LIMIT] = (1 << 62) if work is None else work // BIT_WORK
        self._reading = data is not None
        self._data = np.frombuffer(data or b"", np.uint8).copy()
        if self._reading:
            self._s[b.READING] = 1
            first = bytes(self._data[:POINT_BYTES]).ljust(POINT_BYTES, b"\0")
            self._s[b.POINT] = int.from_bytes(first, "big")
            self._s[b.AT] = POINT_BYTES
        self._s[b.END] = self._data.size

    @property
    def work(self) -> int:
        return BIT_WORK * int(self._s[b.BITS])

    def spent(self) -> dict[str, float]:
        """Bits charged to each part so far."""
        return {part: float(self._s[b.SPENT + k]) / 65536 for k, part in enumerate(PARTS)}

    def matrix(
        self, layout: Layout, levels: np.ndarray | None, lag: int, upstream: np.ndarray
    ) -> np.ndarray:
        """Code the levels of one quantised tensor.

        Parameters
        ----------
        levels : (size,) uint16, 0 for a zero, then negative entries by magnitude, then the others.
        lag : distance of the column that serves as neighbour, 1 for none.
        upstream : (groups,) bits of the number of non-zeros of the unit that feeds each, at most 7.
        """
        s, m = self._s, self._m
        s[b.ROWS : b.ROWS + 4] = layout.rows, layout.groups, layout.size, layout.width
        s[b.LAG : b.LAG + 3] = lag, layout.negative, layout.positive
        s[b.GROUP_SLOTS : b.GROUP_SLOTS + 6] = layout.places
        slots = m[b.SLOTS : b.RAW_SLOTS]
        slots[:] = slots & ~b.COUNT | np.minimum(slots & b.COUNT, KEPT)
        m[b.LOCAL :] = 0
        start = b.COLUMNS + int(s[b.UPSTREAM])
        m[start : start + layout.groups] = upstream
        if levels is None:
            levels = np.zeros(layout.rows * layout.columns, np.uint16)
        else:
            alive = levels.reshape(layout.rows, layout.groups, layout.size).any(axis=(0, 2))
            start = b.COLUMNS + int(s[b.ALIVE])
            m[start : start + layout.groups] = alive
        guess = 3 * np.count_nonzero(levels) + levels.size // 64 + layout.rows + layout.groups
        self._run(self._loops.code_matrix, guess, levels)
        if s[b.BITS] > s[b.LIMIT]:
            raise CorruptFileError(TOO_MUCH)
        return levels

    def raw(
        self,
        values: np.ndarray | None,
        shape: tuple[int, ...],
        dtype: np.dtype,
        number: int,
        part: str,
        role: int = 0,
        units: np.ndarray | None = None,
    ) -> np.ndarray:
        """Code one raw tensor or codebook.

        Parameters
        ----------
        number : of the type, 0 … 5.
        role : place among the raw tensors after a quantised one, 0 … 3; 4 for codebooks.
        units : (size,) int64, see :func:`sws.codec.raw_coding.code_raw`; None if nothing is known.
        """
        s, size = self._s, math.prod(shape)
        exponent, mantissa = {"float16": (5, 10), "float32": (8, 23)}.get(dtype.name, (0, 0))
        s[b.ROWS], s[b.SIZE], s[b.TYPE], s[b.ROLE] = size, dtype.itemsize, number, role
        s[b.EXPONENT], s[b.MANTISSA], s[b.PART] = exponent, mantissa, PARTS.index(part)
        unsigned = np.dtype(f"u{dtype.itemsize}")
        if values is None:
            patterns = np.zeros(size, np.int64)
        else:
            flat = np.ascontiguousarray(values, dtype).reshape(-1)
            patterns = flat.view(unsigned).astype(np.uint64).view(np.int64)
        if units is None:
            units = np.full(size, 16, np.int64)
        self._run(self._loops.code_raw, 18 * dtype.itemsize * size, patterns, units)
        if s[b.BITS] > s[b.LIMIT]:
            raise CorruptFileError(TOO_MUCH)
        if dtype.name == "bool":
            patterns &= 1
        coded = patterns.view(np.uint64).astype(unsigned).view(dtype)
        return coded.reshape(shape)

    def finish(self) -> bytes:
        """The shortest byte string that reads as what was written.

        A reader continues the stream with zero bytes, so any multiple of a high power of 256
        inside the coder's last interval will do.
        """
        s = self._s
        size = int(s[b.AT]) + POINT_BYTES
        head = int.from_bytes(self._data[: s[b.AT]].tobytes(), "big")
        low = (head << 48) + int(s[b.LOW])
        spare = 0
        while spare < size and _up(low, 8 * spare + 8) < low + int(s[b.RANGE]):
            spare += 1
        ending = (_up(low, 8 * spare) >> 8 * spare).to_bytes(size - spare, "big")
        return ending.rstrip(b"\0")

    def _run(self, loop, room: int, *arrays: np.ndarray) -> None:
        """Run a loop; when writing and the room was too small, once more with twice as much."""
        if self._reading:
            loop(self._s, _tables(), self._m, self._data, *arrays)
            return
        room += ROOM
        while True:
            before = self._s.copy(), self._m.copy(), [array.copy() for array in arrays]
            at = int(self._s[b.AT])
            self._data = np.concatenate([self._data[:at], np.zeros(room, np.uint8)])
            self._s[b.END] = self._data.size
            loop(self._s, _tables(), self._m, self._data, *arrays)
            if self._s[b.AT] <= self._s[b.END]:
                return
            room *= 2
            self._s[:], self._m[:] = before[:2]
            for array, old in zip(arrays, before[2], strict=True):
                array[:] = old


@functools.cache
def _tables() -> np.ndarray:
    """What never changes (docs/format.md, "Tables")."""
    t = np.zeros(b.TABLES, np.uint16)
    chances = np.maximum(np.arange(65536), 1)
    stretched = _log2(chances) - _log2(65536 - chances)
    stretched = np.clip(stretched, -b.BOUND, b.BOUND) + 4096
    t[: b.FINE] = stretched[: b.FINE]
    t[b.STRETCH + b.FINE : b.STRETCH_HIGH] = stretched[::16]
    t[b.STRETCH_HIGH : b.SQUASH] = stretched[-b.FINE :]
    for x in range(b.BOUND + 1):
        odds = (256 + x % 256) << (x // 256)  # 256 · 2^(x/256), piecewise linear
        rare = max(1, 256 * 65536 // (256 + odds))
        t[b.SQUASH + b.BOUND - x] = rare
        t[b.SQUASH + b.BOUND + x] = 65536 - rare
    t[b.RATES : b.TABLES] = 65536 * 5 // (5 * np.arange(1024) + 11)
    return t


@functools.cache
def _new_model() -> np.ndarray:
    """The model before anything is coded."""
    m = np.zeros(b.LOCAL, np.int64)
    shares = np.maximum(np.arange(4096), 0.5) / 4096
    m[b.COSTS : b.COSTS + 4096] = np.round(-65536 * np.log2(shares))  # for the bill, not for bits
    m[b.WEIGHTS : b.SECONDARY] = FIRST_WEIGHT
    for k in range(33):
        at = min(max(256 * k - 4096, -b.BOUND), b.BOUND)
        m[b.SECONDARY + k : b.SLOTS : 64] = int(_tables()[b.SQUASH + b.BOUND + at]) << 8
    m[b.SLOTS :] = 1 << 41  # one half, never seen
    m.flags.writeable = False
    return m


def _log2(counts: np.ndarray) -> np.ndarray:
    """Piecewise linear 256·log2(n): with 2^e ≤ n < 2^(e+1), 256·e + ⌊256·(n − 2^e) / 2^e⌋."""
    exponents = np.frexp(counts.astype(np.float64))[1].astype(np.int64) - 1
    return 256 * exponents + (256 * (counts - (1 << exponents)) >> exponents)


def _up(value: int, bits: int) -> int:
    return -(-value >> bits) << bits
