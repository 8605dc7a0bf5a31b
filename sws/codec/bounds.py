"""What a file may ask of its reader: memory and time in proportion to its length, and no more."""

from __future__ import annotations

import math

import numpy as np

from sws.codec.header import Header
from sws.codec.layers import Layout
from sws.network.quantized import index_dtype

FREE_WORK = 1 << 23  # what any file may ask of its reader, in bytes held and comparable effort
WORK_PER_BYTE = 1 << 10
TENSOR_WORK = 1 << 12
ROW_WORK = 16
RAW_VALUE_WORK = 32  # for each byte of a raw value: it is coded bit by bit
NO_CODEBOOK = np.zeros(1)


def allowed_work(file_bytes: int) -> int:
    """What a file of that length may ask for."""
    return FREE_WORK + WORK_PER_BYTE * file_bytes


def least_bytes(work: int) -> int:
    """The length of a file that may ask for that."""
    return max(0, -(-(work - FREE_WORK) // WORK_PER_BYTE))


def local_values(header: Header) -> int:
    """The greatest number of local values of any quantised tensor."""
    tensors = (e for e in header.entries if e.kind != "raw" and e.size)
    return max((Layout.of(e.shape, NO_CODEBOOK).local for e in tensors), default=0)


def static_work(header: Header) -> int:
    """What a reader must hold and do, as far as the header tells (docs/format.md, "Bounds")."""
    work = 0
    for size, dtype in header.codebooks:
        work += TENSOR_WORK + (4 + RAW_VALUE_WORK) * size * dtype.itemsize
    for entry in header.entries:
        size = math.prod(max(1, n) for n in entry.shape)
        work += TENSOR_WORK
        if entry.kind == "raw":
            work += (4 + RAW_VALUE_WORK) * size * np.dtype(entry.dtype).itemsize
            continue
        work += size * index_dtype(header.codebooks[entry.codebook][0]).itemsize
        if entry.size:
            layout = Layout.of(entry.shape, NO_CODEBOOK)
            work += ROW_WORK * layout.rows + 8 * layout.local
    return work
