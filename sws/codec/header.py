"""The plain bytes of a ``.sws`` file: magic, metadata, codebooks' sizes, tensor directory.

Small files are won here as well: names and settings are a JSON text, deflated with a dictionary of
the words that networks' metadata are made of, and shapes are variable-length integers.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sws.codec.errors import CorruptFileError
from sws.codec.layers import matrix_shape
from sws.codec.metadata import TEXT_BOUND, read_metadata, write_metadata
from sws.errors import InputError
from sws.network.quantized import (
    RAW_DTYPES,
    Architecture,
    InputSpec,
    QuantizedNetwork,
    QuantizedTensor,
)

MAGIC = b"SWS\x02"  # the last byte is the version of the format
MAX_ENTRIES = 1 << 16  # of a codebook
MAX_DIMENSIONS = 32
AS_LONG_AS_ROWS = 7  # in place of a raw tensor's number of dimensions
DICTIONARY = (
    b'airplane","automobile","bird","cat","deer","dog","frog","horse","ship","truck"'
    b'"running_mean","num_batches_tracked","shortcut.group1.0.group2.0.group3.1.stages.0.1.'
    b'0.bias","0.bn2.weight","0.bn1.running_var","0.conv2.weight","0.conv1.weight","layer1.'
    b'features.classifier.","vgg-16","wrn-16-4",{"classes":100}],[3,32,32],'
    b'["0","1","2","3","4","5","6","7","8","9"]'
    b'["conv1.weight","conv1.bias","conv2.weight","conv2.bias",'
    b'"fc1.weight","fc1.bias","fc2.weight","fc2.bias","fc3.weight","fc3.bias"],null,null]'
    b',["lenet-300-100",{"classes":10}],["lenet-5-caffe",{"classes":10}],'
    b'[[1,28,28],[0.0],[1.0],["0","1","2","3","4","5","6","7","8","9"]]]'
)


@dataclass(frozen=True)
class TensorEntry:
    """One line of the directory: all of a tensor but its values."""

    name: str
    shape: tuple[int, ...]
    kind: str  # "fc", "conv" or "raw"
    codebook: int = 0
    scale: float = 1.0
    lag: int = 1
    dtype: np.dtype | None = None
    trainable: bool = True

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """Everything that stands in plain bytes.

    Attributes
    ----------
    codebooks : number of entries and type of each.
    metadata : the JSON text that names, architecture, input and notes come from.
    """

    entries: tuple[TensorEntry, ...]
    codebooks: tuple[tuple[int, np.dtype], ...]
    architecture: Architecture | None
    input: InputSpec | None
    notes: Mapping[str, str]
    metadata: bytes

    @classmethod
    def of(cls, network: QuantizedNetwork, lags: Mapping[str, int]) -> Header:
        """The header of a network whose tensors are coded with these lags."""
        entries = []
        for t in network.tensors:
            if isinstance(t, QuantizedTensor):
                entries.append(
                    TensorEntry(t.name, t.shape, t.kind, t.codebook, t.scale, lags[t.name])
                )
            else:
                entries.append(
                    TensorEntry(
                        t.name,
                        t.shape,
                        "raw",
                        dtype=np.dtype(t.values.dtype.name),
                        trainable=t.trainable,
                    )
                )
        codebooks = tuple((c.size, c.dtype) for c in network.codebooks)
        return cls(
            tuple(entries), codebooks, network.architecture, network.input, network.notes,
            write_metadata(network),
        )  # fmt: skip

    def write(self) -> bytes:
        """The bytes of the header."""
        metadata = deflate(self.metadata)
        out = bytearray(MAGIC) + varint(len(metadata)) + metadata + varint(len(self.codebooks))
        for size, dtype in self.codebooks:
            out += varint(2 * size + (dtype == np.float32))
        rows = None
        codebook = 0
        for entry in self.entries:
            if entry.kind == "raw":
                out += _write_raw_entry(entry, rows)
            else:
                out += _write_quantized_entry(entry, codebook)
                rows, codebook = matrix_shape(entry.shape)[0], entry.codebook
        return bytes(out)


def read_header(reader: Reader) -> Header:
    """Parse the header; sizes are checked by the caller, who knows how long the file is."""
    reader.take(len(MAGIC))
    metadata = inflate(reader.take(reader.varint()))
    names, architecture, spec, notes = read_metadata(metadata)
    codebooks = []
    for _ in range(reader.varint()):
        size, wide = divmod(reader.varint(), 2)
        if not 1 <= size <= MAX_ENTRIES:
            raise CorruptFileError(f"a codebook of {size} entries; 1 to {MAX_ENTRIES} are allowed")
        codebooks.append((size, np.dtype(np.float32 if wide else np.float16)))
    entries: list[TensorEntry] = []
    rows = None
    codebook = 0
    for name in names:
        flags = reader.take(1)[0]
        if flags & 1:
            entries.append(_read_raw_entry(reader, name, flags, rows))
            continue
        entry = _read_quantized_entry(reader, name, flags, codebook)
        if entry.codebook >= len(codebooks):
            raise CorruptFileError(f"{name}: there is no codebook {entry.codebook}")
        entries.append(entry)
        rows, codebook = matrix_shape(entry.shape)[0], entry.codebook
    return Header(tuple(entries), tuple(codebooks), architecture, spec, notes, metadata)


def check_magic(start: bytes) -> None:
    """Refuse what does not begin as a file of this version does."""
    if start[:3] != MAGIC[:3]:
        raise CorruptFileError("this is no .sws file")
    if start != MAGIC:
        version = start[3] if len(start) > 3 else "unknown"
        raise CorruptFileError(f"a .sws file of version {version}; this program reads version 2")


class Reader:
    """A cursor over bytes that never reads past their end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self.data) - self.at:
            raise CorruptFileError("the file ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def varint(self) -> int:
        """A number in groups of seven bits, least significant first, the top bit set on all but
        the last (LEB128); at most five bytes."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if shift and not byte:
                    raise CorruptFileError("a number is longer than it needs to be")
                return value
        raise CorruptFileError("a number of more than five bytes")


def varint(value: int) -> bytes:
    """The bytes that :meth:`Reader.varint` reads."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    if len(out) > 5:
        raise InputError("a dimension of 2^35 or more cannot be stored")
    return bytes(out)


def _write_quantized_entry(entry: TensorEntry, codebook: int) -> bytes:
    """Bit 0: 0; 1: convolution; 2–3: dimensions − 1; 4: a scale follows; 5: a codebook's number
    follows (else that of the quantised tensor before); 6: a lag follows."""
    scaled, other, lagged = entry.scale != 1.0, entry.codebook != codebook, entry.lag != 1
    flags = (entry.kind == "conv") << 1 | (len(entry.shape) - 1) << 2
    flags |= scaled << 4 | other << 5 | lagged << 6
    out = bytes([flags]) + b"".join(map(varint, entry.shape))
    if scaled:
        out += struct.pack("<f", entry.scale)
    if other:
        out += varint(entry.codebook)
    return out + (bytes([entry.lag]) if lagged else b"")


def _read_quantized_entry(reader: Reader, name: str, flags: int, codebook: int) -> TensorEntry:
    if flags >> 7:
        raise CorruptFileError(f"{name}: unknown flags")
    shape = tuple(reader.varint() for _ in range((flags >> 2 & 3) + 1))
    scale = struct.unpack("<f", reader.take(4))[0] if flags & 16 else 1.0
    if not math.isfinite(scale):
        raise CorruptFileError(f"{name}: its scale is not finite")
    codebook = reader.varint() if flags & 32 else codebook
    lag = reader.take(1)[0] if flags & 64 else 1
    if lag < 1:
        raise CorruptFileError(f"{name}: its lag is 0")
    return TensorEntry(name, shape, "conv" if flags & 2 else "fc", codebook, scale, lag)


def _write_raw_entry(entry: TensorEntry, rows: int | None) -> bytes:
    """Bit 0: 1; 1–3: type; 4: not trainable; 5–7: dimensions (6: a count follows; 7: one
    dimension, as long as the quantised tensor before has rows)."""
    dimensions = len(entry.shape)
    flags = 1 | RAW_DTYPES.index(entry.dtype.name) << 1 | (not entry.trainable) << 4
    if entry.shape == (rows,):
        return bytes([flags | AS_LONG_AS_ROWS << 5])
    if dimensions > MAX_DIMENSIONS:
        raise InputError(f"{entry.name}: {dimensions} dimensions; at most {MAX_DIMENSIONS} fit")
    out = bytes([flags | min(dimensions, 6) << 5])
    if dimensions >= 6:
        out += varint(dimensions)
    return out + b"".join(map(varint, entry.shape))


def _read_raw_entry(reader: Reader, name: str, flags: int, rows: int | None) -> TensorEntry:
    dimensions = flags >> 5
    if flags >> 1 & 7 >= len(RAW_DTYPES):
        raise CorruptFileError(f"{name}: unknown type")
    if dimensions == AS_LONG_AS_ROWS:
        if rows is None:
            raise CorruptFileError(f"{name}: no quantised tensor comes before")
        shape = (rows,)
    else:
        dimensions = reader.varint() if dimensions == 6 else dimensions
        if dimensions > MAX_DIMENSIONS:
            raise CorruptFileError(f"{name}: {dimensions} dimensions")
        shape = tuple(reader.varint() for _ in range(dimensions))
    dtype = np.dtype(RAW_DTYPES[flags >> 1 & 7])
    return TensorEntry(name, shape, "raw", dtype=dtype, trainable=not flags & 16)


def deflate(text: bytes) -> bytes:
    """Raw deflate (RFC 1951) with the preset dictionary."""
    if len(text) > TEXT_BOUND:
        raise InputError(f"names and settings take {len(text)} bytes; {TEXT_BOUND} fit")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    return packer.compress(text) + packer.flush()


def inflate(data: bytes) -> bytes:
    """Undo :func:`deflate`, to at most 1 MiB."""
    unpacker = zlib.decompressobj(-15, DICTIONARY)
    try:
        text = unpacker.decompress(data, TEXT_BOUND)
    except zlib.error as error:
        raise CorruptFileError(f"the metadata cannot be inflated: {error}") from None
    if not unpacker.eof or unpacker.unused_data:
        raise CorruptFileError("the metadata is cut short, too long, or followed by other bytes")
    return text
