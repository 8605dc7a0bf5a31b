"""Bytes of a network's weights under several coders: what is due to the coder, not to the method.

All are given the weights alone, as codebooks and indexes; biases, which no coder here treats
specially, and headers are left out (but for the headers inside an NNC bitstream). The
general-purpose ones see the indexes as one map of bytes, tensor after tensor, as somebody would who
has never heard of sparsity.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import zstandard

from sws import codec
from sws.codec import rates
from sws.measure import nncodec
from sws.network.quantized import QuantizedNetwork, index_dtype

LEVEL = 22  # zstd's highest
CODERS: Mapping[str, str] = {
    "sws": "this project's file, the weights' share of it",
    "huffman": "Deep Compression's scheme with Huffman codes on the indexes too, tables counted",
    "han": "the same with indexes of fixed width, tables not counted",
    "xz": "xz -9e on the map of indexes, and the codebooks as they are",
    "zstd": f"zstd -{LEVEL} --ultra, likewise",
    "nnc": "ISO/IEC 15938-17 (nncodec) on the indexes, in the order of the values they stand for, "
    "with its own headers; and the codebooks as they are",
}
"""Coder → what it is."""


def index_map(network: QuantizedNetwork) -> bytes:
    """All indexes, dense, tensor after tensor, in the smallest unsigned type of each."""
    return b"".join(
        np.ascontiguousarray(t.indexes, index_dtype(network.codebooks[t.codebook].size)).tobytes()
        for t in network.quantized
    )


def weight_bytes(described: codec.FileDescription) -> dict[str, int]:
    """Bytes of a network's weights under every coder that runs here.

    Parameters
    ----------
    described : sws.codec.FileDescription
        Its ``.sws`` file, as :func:`sws.codec.describe` reads it.

    Returns
    -------
    dict
        Coder → bytes.
    """
    network, parts = described.network, described.bytes
    codebooks = _codebooks(network)
    layers = [rates.csr_bits(network, tensor) for tensor in network.quantized]
    dense = index_map(network)
    packed: dict[str, Callable[[bytes], bytes]] = {
        "xz": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
        "zstd": zstandard.ZstdCompressor(level=LEVEL).compress,
    }
    return {
        "sws": sum(parts[name] for name in ("indexes", "values", "codebook", "tables")),
        "huffman": codebooks + -(-sum(layer.huffman for layer in layers) // 8),
        "han": codebooks + -(-sum(layer.han for layer in layers) // 8),
        **{name: codebooks + len(pack(dense)) for name, pack in packed.items()},
    }


def _codebooks(network: QuantizedNetwork) -> int:
    """Bytes of the codebooks as they are."""
    return sum(codebook.nbytes for codebook in network.codebooks)


def add_nncodec(
    networks: Mapping[str, QuantizedNetwork], sizes: Mapping[str, dict[str, int]], python: Path
) -> None:
    """Add the bytes of the ISO coder, which runs in an environment of its own.

    Parameters
    ----------
    networks : mapping
        Name of a file → the network in it.
    sizes : mapping
        The same names → bytes by coder, to add to.
    python : Path
        Python of an environment that has ``nncodec``.

    Raises
    ------
    sws.measure.nncodec.CoderError
        If that Python cannot run ``nncodec``.
    """
    streams = nncodec.bitstream_bytes(networks, python)  # one call: it starts slowly
    for name, network in networks.items():
        sizes[name]["nnc"] = _codebooks(network) + streams[name]
