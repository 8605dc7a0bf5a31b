"""Every definition of "compression rate", from one quantised network.

The paper does not say what its rate counts (Appendix A leaves out biases, row pointers and
tables), so four are always reported together. The first three concern the quantised weights alone,
at 32 bits each when dense; biases are on neither side. ``file`` is about the file on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sws.codec import describe
from sws.codec.huffman import LENGTH_BITS, code_lengths
from sws.codec.layers import matrix_shape
from sws.codec.relative_index import INDEX_BITS, RelativeIndex, relative_index
from sws.network.quantized import QuantizedNetwork, QuantizedTensor

DENSE_BITS = 32


@dataclass(frozen=True)
class CompressionRates:
    """Dense size over compressed size.

    Attributes
    ----------
    nonzero : weights / non-zeros.
    han : Appendix A as the published numbers fit it: relative indexes of 5 (fc) or 8 (conv) bits,
        Huffman codes on the values, padding zeros among them, row pointers, codebooks; no tables.
    huffman : the same with Huffman codes on the indexes as well, and all Huffman tables.
    file : float32 bytes of all trainable parameters / bytes of the file, which holds everything.
    """

    nonzero: float
    han: float
    huffman: float
    file: float


@dataclass(frozen=True)
class CsrBits:
    """Bits of one layer under Appendix A.

    Attributes
    ----------
    fixed_indexes, huffman_indexes : index differences, at fixed width and Huffman coded.
    values : Huffman codes of the codebook indexes, padding included.
    pointers : row pointers, each the smallest p with entries < 2^p.
    tables : code lengths of both Huffman codes.
    """

    fixed_indexes: int
    huffman_indexes: int
    values: int
    pointers: int
    tables: int

    @property
    def han(self) -> int:
        return self.fixed_indexes + self.values + self.pointers

    @property
    def huffman(self) -> int:
        return self.huffman_indexes + self.values + self.pointers + self.tables


def rates(network: QuantizedNetwork, file_bytes: int) -> CompressionRates:
    """The four compression rates (docs/format.md has the file's side of it).

    Parameters
    ----------
    file_bytes : length of the network's ``.sws`` file.

    Returns
    -------
    CompressionRates; a rate without anything in its denominator is infinite, and ``nan`` if there
    is nothing to compress either.
    """
    layers = [csr_bits(network, tensor) for tensor in network.quantized]
    codebooks = sum(8 * codebook.nbytes for codebook in network.codebooks)
    dense = DENSE_BITS * network.weights
    return CompressionRates(
        nonzero=_ratio(network.weights, network.nonzeros),
        han=_ratio(dense, codebooks + sum(layer.han for layer in layers)),
        huffman=_ratio(dense, codebooks + sum(layer.huffman for layer in layers)),
        file=_ratio(dense_bytes(network), file_bytes),
    )


def dense_bytes(network: QuantizedNetwork) -> int:
    """Bytes of all trainable parameters in float32."""
    return network.parameters * DENSE_BITS // 8


def csr_bits(network: QuantizedNetwork, tensor: QuantizedTensor) -> CsrBits:
    """Bits of one layer under Appendix A: rows are output units, a weight is its value."""
    index = _relative_index(network, tensor)
    skips = np.bincount(index.skips, minlength=1)
    values = np.bincount(index.values, minlength=1)
    skip_lengths, value_lengths = code_lengths(skips), code_lengths(values)
    return CsrBits(
        fixed_indexes=index.bits * index.skips.size,
        huffman_indexes=int(skips @ skip_lengths),
        values=int(values @ value_lengths),
        pointers=index.pointer_bits * index.pointers.size,
        tables=_table_bits(skip_lengths, 1 << index.bits)
        + _table_bits(value_lengths, network.codebooks[tensor.codebook].size),
    )


def layer_report(network: QuantizedNetwork, data: bytes) -> list[dict[str, Any]]:
    """The per-layer table: what each tensor is and what it costs in the file.

    Parameters
    ----------
    data : the network's ``.sws`` file.

    Returns
    -------
    One dictionary per tensor: name, kind, shape, weights, nonzeros, nonzero_pct, coding,
    bits_indexes, bits_values, bits_tables, bits_raw, bits (all, rounded), bits_per_nonzero (None
    where nothing is left), and bits_han and bits_huffman, the layer under Appendix A (None for raw
    tensors).
    """
    tensors = {tensor.name: tensor for tensor in network.quantized}
    rows = []
    for report in describe(data).tensors:
        row: dict[str, Any] = {
            "name": report.name,
            "kind": report.kind,
            "shape": report.shape,
            "weights": report.weights,
            "nonzeros": report.nonzeros,
            "nonzero_pct": 100 * _ratio(report.nonzeros, report.weights),
            "coding": report.coding,
        }
        for part in ("indexes", "values", "tables", "raw"):
            row[f"bits_{part}"] = round(report.bits.get(part, 0.0))
        bits = sum(report.bits.values())
        row["bits"] = round(bits)
        row["bits_per_nonzero"] = bits / report.nonzeros if report.nonzeros else None
        csr = csr_bits(network, tensors[report.name]) if report.name in tensors else None
        row["bits_han"] = csr and csr.han
        row["bits_huffman"] = csr and csr.huffman
        rows.append(row)
    return rows


def _relative_index(network: QuantizedNetwork, tensor: QuantizedTensor) -> RelativeIndex:
    zero = network.codebooks[tensor.codebook].astype(np.float32) * np.float32(tensor.scale) == 0
    rows = tensor.indexes.reshape(matrix_shape(tensor.shape))
    return relative_index(np.where(zero[rows], 0, rows), INDEX_BITS[tensor.kind])


def _table_bits(lengths: np.ndarray, alphabet: int) -> int:
    """As the file stores it: the last symbol used, then the code length of each symbol up to it."""
    used = np.flatnonzero(lengths)
    if not used.size:
        return 0
    return (alphabet - 1).bit_length() + LENGTH_BITS * (int(used[-1]) + 1)


def _ratio(dense: float, compressed: float) -> float:
    if compressed:
        return dense / compressed
    return float("inf") if dense else float("nan")
