"""Coding of one quantised layer: four codings, one function each for writing and reading.

::

  empty     nothing but zeros: nothing is stored
  huffman   Appendix A of the paper: relative indexes in rows, canonical Huffman codes on the skips
            and on the values, row pointers and tables stored (the "huffman" compression rate)
  relative  relative indexes through the whole matrix, range coded under tables that learn
  bitmap    adaptive bitmap (``bitmap.py``), scanned by rows or by columns
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sws.codec.adaptive import AdaptiveTable, block_count
from sws.codec.bitmap import (
    LAG_BOUND,
    MAX_LAGS,
    UPSTREAM_CONTEXTS,
    Scan,
    chunk_edges,
    code_matrix,
    code_scan,
)
from sws.codec.errors import CorruptFileError
from sws.codec.huffman import LENGTH_BITS, BitReader, BitWriter, canonical_codes, code_lengths
from sws.codec.range_coding import Coder, Meter
from sws.codec.relative_index import INDEX_BITS, RelativeIndex, relative_index, to_matrix
from sws.network.quantized import index_dtype

CODINGS = ("empty", "huffman", "relative", "bitmap")
STEP_WORK, ENTRY_WORK = 256, 8  # what a chunk of a bitmap and a relative index cost the reader
LARGE = 1 << 16  # weights, beyond which fewer candidates are metered
SLOW = 1 << 25  # table entries rebuilt, beyond which a bitmap is tried only if nothing else may be
RECURRENCE = 1.25  # recurrences over those expected by chance, from which lags are worth trying


@dataclass(frozen=True)
class Choice:
    """How a layer is coded. ``scan`` is of use to ``relative`` and ``bitmap`` only."""

    coding: str
    scan: Scan = field(default=Scan(False))

    def __str__(self) -> str:
        if self.coding in ("empty", "huffman"):
            return self.coding
        way = "columns" if self.scan.transposed else "rows"
        lags = " ".join(map(str, self.scan.lags))
        return f"{self.coding} by {way}" + (f", lags {lags}" if lags else "")


@dataclass
class LayerModel:
    """What both sides know before they code a layer.

    Attributes
    ----------
    shape : of the layer's matrix: output units, inputs.
    kind : ``fc`` or ``conv``.
    codebook : the layer's codebook.
    feeding : non-zeros of each output unit of the layer before, or None.
    """

    shape: tuple[int, int]
    kind: str
    codebook: np.ndarray
    feeding: np.ndarray | None = None
    dtype: np.dtype = field(init=False)

    def __post_init__(self) -> None:
        self.dtype = index_dtype(self.codebook.size)

    def upstream(self) -> np.ndarray:
        """Context of each input: the bit length of the non-zeros of the unit that feeds it."""
        columns = self.shape[1]
        if self.feeding is None or not self.feeding.size or columns % self.feeding.size:
            return np.zeros(columns, np.int64)
        lengths = np.frexp(self.feeding)[1]
        contexts = np.minimum(lengths, UPSTREAM_CONTEXTS - 1).astype(np.int64)
        return np.repeat(contexts, columns // self.feeding.size)

    def value_table(self, contexts: int) -> AdaptiveTable | None:
        """Tables over the entries 1, 2, …; None if there is but one."""
        entries = self.codebook.size - 1
        return AdaptiveTable(entries, contexts) if entries > 1 else None


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Output units × everything else; a vector is one row."""
    rows = shape[0] if len(shape) > 1 else 1
    return rows, math.prod(shape[len(shape) > 1 :])


def code_layer(
    coder: Coder,
    bits: BitWriter | BitReader,
    model: LayerModel,
    matrix: np.ndarray | None,
    choice: Choice | None,
    charge: Callable[[int], None] = lambda work: None,
) -> tuple[np.ndarray, Choice]:
    """Code one layer's matrix of codebook indexes, and how it is coded.

    Parameters
    ----------
    matrix, choice : what to write and how; ignored when reading.
    charge : told, before the matrix is coded, the effort that this takes beyond its size.
    """
    if 0 in model.shape:
        return np.zeros(model.shape, model.dtype), Choice("empty")
    coding = CODINGS[coder.number(len(CODINGS), choice and CODINGS.index(choice.coding))]
    if coding == "empty":
        return np.zeros(model.shape, model.dtype), Choice(coding)
    if model.codebook.size < 2:
        raise CorruptFileError("a layer has non-zeros, but its codebook has none")
    if coding == "huffman":
        return _code_huffman(coder, bits, model, matrix, charge), Choice(coding)
    with coder.part("tables"):
        scan = code_scan(coder, choice and choice.scan)
    shape = model.shape[::-1] if scan.transposed else model.shape
    given = matrix
    if matrix is not None and scan.transposed:
        given = np.ascontiguousarray(matrix.T)
    code = _code_relative if coding == "relative" else _code_bitmap
    coded = code(coder, model, given, shape, scan, charge)
    return (coded.T if scan.transposed else coded), Choice(coding, scan)


def _code_bitmap(coder, model, matrix, shape, scan, charge):
    """The adaptive bitmap. Charged by calls of the range coder and by tables rebuilt."""
    charge(shape[0] * (STEP_WORK * (len(chunk_edges(shape[1])) - 1) + model.codebook.size))
    upstream = model.upstream()
    if scan.transposed:
        upstream = upstream[:, np.newaxis]
    signs = np.sign(model.codebook).astype(np.int64)
    values = model.value_table(contexts=3)
    return code_matrix(coder, matrix, shape, scan.lags, upstream, values, signs, model.dtype)


def _code_relative(coder, model, matrix, shape, scan, charge):
    """The matrix as one long row, entries counted first; skips and values under learning tables."""
    width = INDEX_BITS["conv"]
    index = None if matrix is None else relative_index(matrix.reshape(1, -1), width)
    size = _code_count(coder, index and index.values.size, shape[0] * shape[1])
    charge(ENTRY_WORK * size + model.codebook.size * block_count(size))
    context = np.zeros(size, np.int64)
    with coder.part("indexes"):
        skips = AdaptiveTable(1 << width, prior=4).code(
            coder, context, index and index.skips.astype(np.int32)
        )
    table = AdaptiveTable(model.codebook.size)
    with coder.part("values"):
        values = table.code(coder, context, index and index.values.astype(np.int32))
    pointers = np.array([0, size])
    index = RelativeIndex(values.astype(model.dtype), skips.astype(np.int64), pointers, width)
    return to_matrix(index, (1, shape[0] * shape[1])).reshape(shape)


def _code_count(coder: Coder, value: int | None, most: int) -> int:
    """A number of entries, in as many bytes as the greatest possible one takes."""
    count = 0
    with coder.part("tables"):
        for k in reversed(range((most.bit_length() + 7) // 8)):
            digit = coder.number(256, None if value is None else value >> 8 * k & 255)
            count = count << 8 | digit
    if count > most:
        raise CorruptFileError("a layer has more entries than weights")
    return count


def _code_huffman(coder, bits, model, matrix, charge):
    """Tables into the range-coded stream; pointers, skips and values into the Huffman bits."""
    width = INDEX_BITS[model.kind]
    index = None if matrix is None else relative_index(matrix, width)
    size = _code_count(coder, index and index.values.size, model.shape[0] * model.shape[1])
    charge(ENTRY_WORK * size)
    skip_lengths = _code_lengths(coder, index and index.skips, 1 << width)
    value_lengths = _code_lengths(coder, index and index.values, model.codebook.size)
    pointer_bits = size.bit_length()
    coder.spent["indexes"] += pointer_bits * (model.shape[0] + 1)
    if index is not None:
        coder.spent["indexes"] += int(skip_lengths[index.skips].sum())
        coder.spent["values"] += int(value_lengths[index.values].sum())
        if isinstance(bits, BitWriter):
            bits.fields(index.pointers, pointer_bits)
            bits.fields(canonical_codes(skip_lengths)[index.skips], skip_lengths[index.skips])
            bits.fields(canonical_codes(value_lengths)[index.values], value_lengths[index.values])
        return matrix
    pointers = bits.fields(pointer_bits, model.shape[0] + 1)
    skips = bits.huffman(skip_lengths, size)
    values = bits.huffman(value_lengths, size)
    coder.spent["indexes"] += int(skip_lengths[skips].sum())
    coder.spent["values"] += int(value_lengths[values].sum())
    return to_matrix(RelativeIndex(values.astype(model.dtype), skips, pointers, width), model.shape)


def _code_lengths(coder: Coder, symbols: np.ndarray | None, alphabet: int) -> np.ndarray:
    """A Huffman table: the last symbol used, then the code length of each up to it."""
    lengths = np.zeros(alphabet, np.int64)
    if symbols is not None:
        lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
    with coder.part("tables"):
        last = coder.number(alphabet, None if symbols is None else int(np.flatnonzero(lengths)[-1]))
        for symbol in range(last + 1):
            given = None if symbols is None else int(lengths[symbol])
            lengths[symbol] = coder.number(1 << LENGTH_BITS, given)
    return lengths


def choose(model: LayerModel, matrix: np.ndarray, codings: tuple[str, ...]) -> Choice:
    """The cheapest coding of a layer among ``codings``, found by metering each."""
    if not matrix.any():
        return Choice("empty")
    return min(_candidates(model, matrix, codings), key=lambda choice: _cost(model, matrix, choice))


def _cost(model: LayerModel, matrix: np.ndarray, choice: Choice) -> float:
    meter = Meter()
    code_layer(meter, None, model, matrix, choice)
    return meter.bits


def _candidates(
    model: LayerModel, matrix: np.ndarray, codings: tuple[str, ...]
) -> Iterator[Choice]:
    """What is worth metering: in both directions; with lags where non-zeros recur at lags."""
    for coding in codings:
        if coding == "bitmap" != codings[0] and max(matrix.shape) * model.codebook.size > SLOW:
            continue
        if coding == "huffman":
            yield Choice(coding)
            continue
        for transposed in (False, True):
            lags = best_lags(matrix.T if transposed else matrix) if coding == "bitmap" else ()
            counts = {len(lags)} if matrix.size > LARGE else {len(lags), (len(lags) + 1) // 2}
            for count in sorted(counts):
                yield Choice(coding, Scan(transposed, lags[:count]))


def best_lags(matrix: np.ndarray) -> tuple[int, ...]:
    """The lags at which non-zeros of a column recur most, if that is more often than by chance."""
    alive = (matrix != 0).astype(np.float32)
    rows = alive.shape[0]
    by_column = alive.sum(axis=0)
    chance = float(by_column @ by_column) / rows
    recurring = {lag: float(np.vdot(alive[lag:], alive[:-lag])) for lag in _lag_range(rows)}
    lags = sorted(recurring, key=lambda lag: (-recurring[lag], lag))[:MAX_LAGS]
    return tuple(lag for lag in lags if recurring[lag] > RECURRENCE * chance)


def _lag_range(rows: int) -> range:
    return range(1, min(LAG_BOUND, rows - 1) + 1)
