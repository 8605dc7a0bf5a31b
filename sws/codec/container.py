"""The ``.sws`` file: header, one range-coded stream, checksum (docs/format.md).

:func:`_code_body` is the whole body, for writing and reading alike: codebooks, then quantised
tensors, then raw tensors, which by then may use what is known of the units they belong to.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sws.codec.bounds import allowed_work, least_bytes, local_values, static_work
from sws.codec.coder import CODEBOOK_ROLE, PARTS, TOO_MUCH, Coder
from sws.codec.compiled import Kernels
from sws.codec.errors import CorruptFileError
from sws.codec.header import MAGIC, Header, Reader, TensorEntry, check_magic, read_header
from sws.codec.layers import Layout, best_lag, matrix_shape, order
from sws.errors import InputError
from sws.network.quantized import (
    RAW_DTYPES,
    QuantizedNetwork,
    QuantizedTensor,
    RawTensor,
    index_dtype,
)

CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class TensorReport:
    """What the file holds of one tensor.

    Attributes
    ----------
    kind : str
        ``fc``, ``conv`` or ``raw``.
    weights, nonzeros : int
        Numbers of values, and of those that are not 0.
    coding : str
        ``kernels``, ``cells`` (with the lag), ``empty`` or ``values``.
    bits : dict of str to float
        Exact cost by part; a fraction, for the stream is shared by all tensors.
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
    network : QuantizedNetwork
        The decoded network.
    tensors : tuple of TensorReport
        One report each, in order.
    bytes : dict of str to int
        By part (indexes, values, codebook, tables, raw, header) and ``file``, their sum. The
        format stores no tables: they are 0.
    """

    network: QuantizedNetwork
    tensors: tuple[TensorReport, ...]
    bytes: dict[str, int]


def encode(network: QuantizedNetwork, *, loops: Kernels | None = None) -> bytes:
    """Compress a network.

    Parameters
    ----------
    network : QuantizedNetwork
        What to store. Indexes come back in the smallest unsigned type that their codebook
        allows, which equality does not see; everything else comes back as it is.
    loops : Kernels, optional
        How the inner loops run; by default as fast as they can.

    Returns
    -------
    bytes
        Those of a ``.sws`` file.

    Raises
    ------
    InputError
        If a codebook has more than 65,536 entries, a name or note is not what a file can hold, or
        the settings of the architecture are not plain JSON.
    """
    for k, codebook in enumerate(network.codebooks):
        if codebook.size > 1 << 16:
            raise InputError(f"codebook {k} has {codebook.size} entries; at most 65536 fit")
    levels, lags = {}, {}
    for tensor in network.quantized:
        codebook = network.codebooks[tensor.codebook]
        place = np.empty(codebook.size, np.uint16)
        place[order(codebook)] = np.arange(codebook.size)
        levels[tensor.name] = place[tensor.indexes.reshape(-1)]
        layout = Layout.of(tensor.shape, codebook)
        lags[tensor.name] = best_lag(layout, levels[tensor.name])
    header = Header.of(network, lags)
    coder = Coder(local=local_values(header), loops=loops)
    _code_body(coder, header, network, levels)
    data = header.write() + coder.finish()
    work = static_work(header) + coder.work
    data += bytes(max(0, least_bytes(work) - CHECKSUM_BYTES - len(data)))
    return data + zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "little")


def decode(data: bytes, *, loops: Kernels | None = None) -> QuantizedNetwork:
    """Read the bytes of a ``.sws`` file. Nothing in them is executed.

    Raises
    ------
    CorruptFileError
        If they are no network that :func:`encode` takes. Memory and time stay within a fixed amount
        plus a multiple of the file's length.
    """
    return describe(data, loops=loops).network


def describe(data: bytes, *, loops: Kernels | None = None) -> FileDescription:
    """Read a ``.sws`` file and account for its bytes, by tensor and by part.

    Raises
    ------
    CorruptFileError
        As :func:`decode`.
    """
    data = bytes(data)
    check_magic(data[: len(MAGIC)])
    content = data[:-CHECKSUM_BYTES]
    if zlib.crc32(content) != int.from_bytes(data[-CHECKSUM_BYTES:], "little"):
        raise CorruptFileError("the checksum is wrong: the file is truncated or altered")
    reader = Reader(content)
    header = read_header(reader)
    allowed = allowed_work(len(data)) - static_work(header)
    if allowed < 0:
        raise CorruptFileError(TOO_MUCH)
    start = reader.at
    stream = reader.take(len(content) - start)
    coder = Coder(stream, local_values(header), allowed, loops)
    network, reports = _code_body(coder, header, None, {})
    return FileDescription(network, reports, _bytes_by_part(coder.spent(), len(data), start))


def _code_body(
    coder: Coder, header: Header, network: QuantizedNetwork | None, levels: dict[str, np.ndarray]
) -> tuple[QuantizedNetwork, tuple[TensorReport, ...]]:
    """Code codebooks and tensors; with ``network`` None, read them."""
    codebooks = _code_codebooks(coder, header, network and network.codebooks)
    given = {} if network is None else {t.name: t for t in network.tensors}
    tensors: dict[str, QuantizedTensor | RawTensor] = {}
    reports: dict[str, TensorReport] = {}
    feeding = None
    for entry in (e for e in header.entries if e.kind != "raw"):
        before = coder.spent()
        indexes = _code_quantized(
            coder, entry, codebooks[entry.codebook], levels.get(entry.name), feeding
        )
        nonzeros = int(np.count_nonzero((codebooks[entry.codebook] != 0)[indexes]))
        feeding = np.count_nonzero(indexes.reshape(matrix_shape(entry.shape)), axis=1)
        tensors[entry.name] = QuantizedTensor(
            entry.name, entry.kind, entry.codebook, indexes, entry.scale
        )
        coding = "kernels" if math.prod(entry.shape[2:]) > 1 else f"cells, lag {entry.lag}"
        coding = coding if nonzeros else "empty"
        reports[entry.name] = _report(entry, nonzeros, coding, before, coder)
    for entry, role, units in _raw_contexts(header, tensors):
        before = coder.spent()
        values = given[entry.name].values if given else None
        dtype = np.dtype(entry.dtype)
        number = RAW_DTYPES.index(dtype.name)
        values = coder.raw(values, entry.shape, dtype, number, "raw", role, units)
        tensors[entry.name] = RawTensor(entry.name, values, entry.trainable)
        nonzeros = int(np.count_nonzero(values))
        reports[entry.name] = _report(entry, nonzeros, "values", before, coder)
    names = [entry.name for entry in header.entries]
    try:
        network = QuantizedNetwork(
            tuple(tensors[name] for name in names),
            codebooks,
            header.architecture,
            header.input,
            header.notes,
        )
    except ValueError as error:
        raise CorruptFileError(str(error)) from None
    return network, tuple(reports[name] for name in names)


def _code_codebooks(
    coder: Coder, header: Header, given: tuple[np.ndarray, ...] | None
) -> tuple[np.ndarray, ...]:
    """Code all codebooks; entry 0 is 0 and not stored."""
    codebooks = []
    for k, (size, dtype) in enumerate(header.codebooks):
        codebook = np.zeros(size, dtype)
        rest = None if given is None else given[k][1:]
        number = RAW_DTYPES.index(dtype.name)
        codebook[1:] = coder.raw(rest, (size - 1,), dtype, number, "codebook", CODEBOOK_ROLE)
        if not np.isfinite(codebook).all():
            raise CorruptFileError(f"codebook {k} is not finite")
        codebooks.append(codebook)
    return tuple(codebooks)


def _code_quantized(
    coder: Coder,
    entry: TensorEntry,
    codebook: np.ndarray,
    levels: np.ndarray | None,
    feeding: np.ndarray | None,
) -> np.ndarray:
    """Code one quantised tensor's indexes.

    Parameters
    ----------
    levels : what to write; None when reading.
    feeding : non-zeros of each row of the quantised tensor before.
    """
    dtype = index_dtype(codebook.size)
    if not entry.size:
        return np.zeros(entry.shape, dtype)
    layout = Layout.of(entry.shape, codebook)
    upstream = np.zeros(layout.groups, np.int64)
    if feeding is not None and feeding.size and layout.groups % feeding.size == 0:
        bits = np.minimum(np.frexp(feeding)[1], 7)
        upstream = np.repeat(bits, layout.groups // feeding.size)
    coded = coder.matrix(layout, levels, entry.lag, upstream)
    if codebook.size < 2 and coded.any():
        raise CorruptFileError("a layer has non-zeros, but its codebook has none")
    return order(codebook).astype(dtype)[coded].reshape(entry.shape)


def _raw_contexts(
    header: Header, tensors: dict[str, QuantizedTensor]
) -> Iterator[tuple[TensorEntry, int, np.ndarray | None]]:
    """Each raw tensor with its role and what is known of the units that its values belong to.

    A vector as long as the quantised tensor before it has rows belongs to these rows. A unit is
    dead if its row has no non-zero, or if the quantised tensor after has no non-zero in the columns
    that the unit feeds: a unit's columns stand side by side.
    """
    units, role = None, 0
    quantized = [e.name for e in header.entries if e.kind != "raw"]
    following = dict(pairwise(quantized))
    for entry in header.entries:
        if entry.kind == "raw":
            known = units is not None and entry.shape == units.shape
            yield entry, min(role, 3), units if known else None
            role += 1
            continue
        role = 0
        rows = _matrix(tensors[entry.name])
        units = np.minimum(np.frexp(np.count_nonzero(rows, axis=1))[1], 15).astype(np.int64)
        after = following.get(entry.name)
        if after is None or not len(rows):
            continue
        columns = _matrix(tensors[after])
        if columns.shape[1] % len(rows) == 0:
            feeds = columns.any(axis=0).reshape(len(rows), columns.shape[1] // len(rows))
            units[~feeds.any(axis=1)] = 0


def _matrix(tensor: QuantizedTensor) -> np.ndarray:
    return tensor.indexes.reshape(matrix_shape(tensor.shape))


def _report(
    entry: TensorEntry, nonzeros: int, coding: str, before: dict[str, float], coder: Coder
) -> TensorReport:
    bits = {part: spent - before[part] for part, spent in coder.spent().items()}
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
    parts = {part: int(share * spent[part] / 8 + 0.5) for part in PARTS}
    while sum(parts.values()) > file_bytes:
        parts[max(parts, key=lambda part: parts[part])] -= 1
    parts = {p: parts.get(p, 0) for p in ("indexes", "values", "codebook", "tables", "raw")}
    parts["header"] = file_bytes - sum(parts.values())
    return {**parts, "file": file_bytes}
