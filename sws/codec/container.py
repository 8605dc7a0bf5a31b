"""The ``.sws`` file: header, Huffman bits, one range-coded stream, checksum (docs/format.md).

:func:`_code_body` is the whole body, for writing and reading alike: codebooks, then quantised
tensors, then raw tensors, which by then may use what is known of the units they belong to.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from sws.codec.adaptive import block_count
from sws.codec.errors import CorruptFileError
from sws.codec.header import MAGIC, Header, Reader, TensorEntry, read_header, varint
from sws.codec.huffman import BitReader, BitWriter
from sws.codec.layers import (
    CODINGS,
    Choice,
    LayerModel,
    choose,
    code_layer,
    index_dtype,
    matrix_shape,
)
from sws.codec.range_coding import Coder, Decoder, Encoder, Meter
from sws.codec.raw import CODEBOOK, DEAD_UNIT, PLAIN, RawModel, planes
from sws.errors import InputError
from sws.files import write_bytes
from sws.network.quantized import QuantizedNetwork, QuantizedTensor, RawTensor

PARTS = ("indexes", "values", "codebook", "tables", "raw", "header")
CHECKSUM_BYTES = 4
FREE_WORK = 1 << 23  # what any file may ask of its reader, in bytes held and comparable effort
WORK_PER_BYTE = 1 << 10
TENSOR_WORK = 1 << 12
PLANE_WORK = 64  # what a block of a plane of values costs the reader, however short it is


@dataclass(frozen=True)
class TensorReport:
    """What the file holds of one tensor.

    Attributes
    ----------
    kind : ``fc``, ``conv`` or ``raw``.
    weights, nonzeros : numbers of values, and of those that are not 0.
    coding : how it is coded, in words.
    bits : exact cost by part; a fraction, for the stream is shared by all tensors.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    nonzeros: int
    coding: str
    bits: dict[str, float]


@dataclass(frozen=True)
class FileDescription:
    """A file, layer by layer.

    Attributes
    ----------
    network : the decoded network.
    tensors : one report each, in order.
    bytes : by part (indexes, values, codebook, tables, raw, header) and ``file``, their sum.
    """

    network: QuantizedNetwork
    tensors: tuple[TensorReport, ...]
    bytes: dict[str, int]


def encode(network: QuantizedNetwork, codings: Sequence[str] = CODINGS) -> bytes:
    """Compress a network.

    Parameters
    ----------
    network : what to store. Indexes come back in the smallest unsigned type that their codebook
        allows, which equality does not see; everything else comes back as it is.
    codings : which codings a layer may choose among: ``huffman`` (that of the paper),
        ``relative``, ``bitmap``. Layers without non-zeros are always ``empty``.

    Returns
    -------
    The bytes of a ``.sws`` file.

    Raises
    ------
    ValueError
        If a codebook has more than 65,536 entries, the settings of the architecture are not plain
        JSON, or ``codings`` holds an unknown name or none.
    """
    unknown = sorted(set(codings) - set(CODINGS))
    allowed = tuple(c for c in CODINGS if c in codings and c != "empty")
    if unknown or not allowed:
        raise InputError(f"codings are {list(codings)}; choose from {', '.join(CODINGS[1:])}")
    for k, codebook in enumerate(network.codebooks):
        if codebook.size > 1 << 16:
            raise InputError(f"codebook {k} has {codebook.size} entries; at most 65536 fit")
    header = Header.of(network)
    coder, bits = Encoder(), BitWriter()
    work = _Work(header)
    absolute = min((False, True), key=lambda absolute: _raw_cost(header, network, absolute))

    def pick(model: LayerModel, matrix: np.ndarray) -> Choice:
        return choose(model, matrix, allowed)

    _code_body(coder, bits, header, network, work, absolute, pick)
    huffman, body = bits.finish(), coder.finish()
    data = header.write() + varint(len(huffman)) + huffman + body
    data += bytes(max(0, work.file_bytes() - CHECKSUM_BYTES - len(data)))
    return data + zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "little")


def decode(data: bytes) -> QuantizedNetwork:
    """Read the bytes of a ``.sws`` file. Nothing in them is executed.

    Raises
    ------
    CorruptFileError
        If they are no network that :func:`encode` takes. Memory and time stay within a fixed amount
        plus a multiple of the file's length.
    """
    return describe(data).network


def describe(data: bytes) -> FileDescription:
    """Read a ``.sws`` file and account for its bytes, by tensor and by part.

    Raises
    ------
    CorruptFileError
        As :func:`decode`.
    """
    data = bytes(data)
    content = data[:-CHECKSUM_BYTES]
    if data[:3] != MAGIC[:3]:
        raise CorruptFileError("this is no .sws file")
    if zlib.crc32(content) != int.from_bytes(data[-CHECKSUM_BYTES:], "little"):
        raise CorruptFileError("the checksum is wrong: the file is truncated or altered")
    reader = Reader(content)
    header = read_header(reader)
    work = _Work(header, len(data))
    start = reader.at
    huffman = reader.take(reader.varint())
    coder = Decoder(reader.take(len(content) - reader.at))
    network, reports = _code_body(coder, BitReader(huffman), header, None, work, None, None)
    return FileDescription(network, reports, _bytes_by_part(coder.spent, len(data), start))


def write(network: QuantizedNetwork, path: str | os.PathLike) -> int:
    """Write a network to a file, which appears whole or not at all.

    Returns
    -------
    The number of bytes written.
    """
    data = encode(network)
    write_bytes(path, data)
    return len(data)


def read(path: str | os.PathLike) -> QuantizedNetwork:
    """Read a network from a file.

    Raises
    ------
    CorruptFileError
        As :func:`decode`, with the file's name.
    OSError
        If the file cannot be read.
    """
    try:
        return decode(Path(path).read_bytes())
    except CorruptFileError as error:
        raise CorruptFileError(f"{path}: {error}") from None


class _Work:
    """The bill of a file: what its reader must hold and do, limited by the file's length.

    A tensor or codebook costs 2^12; a byte of a quantised tensor's indexes 1, one of a raw tensor
    or a codebook 4, and 64 for each block of each of its planes; and a layer what
    :mod:`sws.codec.layers` charges for its coding. A file of n
    bytes may cost 2^23 + 2^10·n; one that would cost more is lengthened with zero bytes, which
    mean nothing at the end of the stream.
    """

    def __init__(self, header: Header, file_bytes: int | None = None) -> None:
        self._limit = None if file_bytes is None else FREE_WORK + WORK_PER_BYTE * file_bytes
        self._spent = 0
        for size, dtype in header.codebooks:
            self._add_planes(size, dtype)
        for entry in header.entries:
            size = math.prod(max(1, n) for n in entry.shape)
            if entry.kind == "raw":
                self._add_planes(size, entry.dtype)
            else:
                entries, _ = header.codebooks[entry.codebook]
                self.add(TENSOR_WORK + size * index_dtype(entries).itemsize)

    def _add_planes(self, size: int, dtype: np.dtype) -> None:
        self.add(TENSOR_WORK + 4 * size * dtype.itemsize)
        self.add(PLANE_WORK * planes(dtype) * block_count(size))

    def add(self, work: int) -> None:
        """Charge ``work``; raise CorruptFileError if it is more than the file may ask for."""
        self._spent += work
        if self._limit is not None and self._spent > self._limit:
            raise CorruptFileError("declares far more than its bytes can hold")

    def file_bytes(self) -> int:
        """Bytes that a file must have to be allowed this work."""
        return max(0, -(-(self._spent - FREE_WORK) // WORK_PER_BYTE))


def _code_body(
    coder: Coder,
    bits: BitWriter | BitReader,
    header: Header,
    network: QuantizedNetwork | None,
    work: _Work,
    absolute: bool | None,
    pick: Callable[[LayerModel, np.ndarray], Choice] | None,
) -> tuple[QuantizedNetwork, tuple[TensorReport, ...]]:
    """Code codebooks and tensors; with ``network`` None, read them."""
    absolute = bool(coder.number(2, absolute))
    raw_model = RawModel(absolute)
    codebooks = _code_codebooks(coder, raw_model, header, network and network.codebooks)
    given = {} if network is None else {t.name: t for t in network.tensors}
    tensors: dict[str, QuantizedTensor | RawTensor] = {}
    reports: dict[str, TensorReport] = {}
    feeding = None
    for entry in (e for e in header.entries if e.kind != "raw"):
        before = dict(coder.spent)
        shape = matrix_shape(entry.shape)
        codebook = codebooks[entry.codebook]
        model = LayerModel(shape, entry.kind, codebook, feeding)
        matrix = given[entry.name].indexes.reshape(shape).astype(model.dtype) if given else None
        choice = pick(model, matrix) if pick and entry.size else Choice("empty")
        matrix, choice = code_layer(coder, bits, model, matrix, choice if given else None, work.add)
        nonzeros = int(np.count_nonzero((codebook != 0)[matrix]))
        feeding = np.count_nonzero(matrix, axis=1)
        indexes = np.ascontiguousarray(matrix).reshape(entry.shape)
        tensors[entry.name] = QuantizedTensor(
            entry.name, entry.kind, entry.codebook, indexes, entry.scale
        )
        reports[entry.name] = _report(entry, nonzeros, str(choice), before, coder)
    for entry, contexts in _raw_contexts(header, tensors):
        before = dict(coder.spent)
        values = given[entry.name].values if given else None
        with coder.part("raw"):
            values = raw_model.code(coder, values, entry.shape, entry.dtype, contexts)
        tensors[entry.name] = RawTensor(entry.name, values, entry.trainable)
        nonzeros = int(np.count_nonzero(values))
        reports[entry.name] = _report(entry, nonzeros, "planes", before, coder)
    names = [entry.name for entry in header.entries]
    try:
        network = QuantizedNetwork(
            tuple(tensors[name] for name in names), codebooks, header.architecture, header.input
        )
    except ValueError as error:
        raise CorruptFileError(str(error)) from None
    return network, tuple(reports[name] for name in names)


def _code_codebooks(
    coder: Coder, model: RawModel, header: Header, given: tuple[np.ndarray, ...] | None
) -> tuple[np.ndarray, ...]:
    """Code all codebooks; entry 0 is 0 and not stored."""
    codebooks = []
    with coder.part("codebook"):
        for k, (size, dtype) in enumerate(header.codebooks):
            codebook = np.zeros(size, dtype)
            context = np.full(size - 1, CODEBOOK, np.int64)
            rest = None if given is None else given[k][1:]
            codebook[1:] = model.code(coder, rest, (size - 1,), dtype, context)
            if not np.isfinite(codebook).all():
                raise CorruptFileError(f"codebook {k} is not finite")
            codebooks.append(codebook)
    return tuple(codebooks)


def _raw_contexts(header: Header, tensors: dict[str, QuantizedTensor]):
    """Each raw tensor with the context of its values: whether their units are dead.

    A vector as long as the quantised tensor before it has rows belongs to these rows. A unit is
    dead if its row has no non-zero, or if the quantised tensor after has no non-zero in the columns
    that the unit feeds: a unit's columns stand side by side.
    """
    dead = None
    quantized = [e.name for e in header.entries if e.kind != "raw"]
    following = dict(pairwise(quantized))
    for entry in header.entries:
        if entry.kind != "raw":
            rows = _matrix(tensors[entry.name])
            dead = ~rows.any(axis=1)
            after = following.get(entry.name)
            if after is None or not len(rows):
                continue
            columns = _matrix(tensors[after])
            if columns.shape[1] % len(rows) == 0:
                feeds = columns.any(axis=0).reshape(len(rows), columns.shape[1] // len(rows))
                dead |= ~feeds.any(axis=1)
            continue
        contexts = np.full(entry.size, PLAIN, np.int64)
        if dead is not None and entry.shape == dead.shape:
            contexts[dead] = DEAD_UNIT
        yield entry, contexts


def _matrix(tensor: QuantizedTensor) -> np.ndarray:
    return tensor.indexes.reshape(matrix_shape(tensor.shape))


def _raw_cost(header: Header, network: QuantizedNetwork, absolute: bool) -> float:
    meter, model = Meter(), RawModel(absolute)
    _code_codebooks(meter, model, header, network.codebooks)
    tensors = {t.name: t for t in network.tensors}
    for entry, contexts in _raw_contexts(header, tensors):
        model.code(meter, tensors[entry.name].values, entry.shape, entry.dtype, contexts)
    return meter.bits


def _report(
    entry: TensorEntry, nonzeros: int, coding: str, before: dict[str, float], coder: Coder
) -> TensorReport:
    bits = {part: coder.spent[part] - before.get(part, 0.0) for part in PARTS}
    return TensorReport(
        entry.name,
        entry.kind,
        entry.shape,
        entry.size,
        nonzeros,
        coding,
        {part: spent for part, spent in bits.items() if spent},
    )


def _bytes_by_part(spent: dict[str, float], file_bytes: int, start: int) -> dict[str, int]:
    """Whole bytes by part that sum to the file; what is not charged to a part is the header's.

    A stream that ends in zeros may be shorter than what its symbols cost on average; the parts then
    share what there is.
    """
    coded = sum(spent.values()) / 8
    share = min(1.0, (file_bytes - start) / coded) if coded else 1.0
    parts = {part: round(share * spent.get(part, 0.0) / 8) for part in PARTS[:-1]}
    parts["header"] = file_bytes - sum(parts.values())
    return {**parts, "file": file_bytes}
