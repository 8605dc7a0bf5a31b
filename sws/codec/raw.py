"""Lossless coding of raw tensors and codebooks, plane by plane, with tables that learn.

A float is a head (sign and exponent, one symbol) and the bits of its mantissa, each coded by
itself from the most significant one. Mantissas that a quantiser has rounded end in zeros: under a
context that tells them apart, those cost next to nothing. Rounding may have been relative (so many
bits of every mantissa) or absolute (a multiple of some 2^−k), so the context of a bit is either its
place in the mantissa or its absolute weight. Integers are coded byte by byte.
"""

from __future__ import annotations

import math

import numpy as np

from sws.codec.adaptive import AdaptiveBits, AdaptiveTable
from sws.codec.range_coding import Coder

# bits of the mantissa and unsigned type of each floating-point type
FLOATS = {"float16": (10, np.dtype(np.uint16)), "float32": (23, np.dtype(np.uint32))}
SPARSE_PRIOR = 1  # for alphabets of which few symbols will occur
PLAIN, DEAD_UNIT, CODEBOOK = range(3)
CONTEXTS = 3


def planes(dtype: np.dtype) -> int:
    """Passes over the values of a tensor of that type."""
    return 1 + FLOATS[dtype.name][0] if dtype.name in FLOATS else dtype.itemsize


class RawModel:
    """What has been learnt from the raw tensors so far; one per file and purpose.

    Parameters
    ----------
    absolute : context of a mantissa's bit: its weight, 2^(exponent + place), or just its place.
    """

    def __init__(self, absolute: bool) -> None:
        self.absolute = absolute
        self._heads: dict[str, AdaptiveTable] = {}
        self._mantissas: dict[str, AdaptiveBits] = {}
        self._bytes: dict[str, list[AdaptiveTable]] = {}

    def code(
        self,
        coder: Coder,
        values: np.ndarray | None,
        shape: tuple[int, ...],
        dtype: np.dtype,
        contexts: np.ndarray,
    ) -> np.ndarray:
        """Code one tensor.

        Parameters
        ----------
        values : what to write; ignored when reading.
        contexts : 0, 1 or 2 for each value, told apart in the coding of heads: as a rule, as a
            bias of a unit that has no weights (likely 0), as an entry of a codebook.
        """
        size = math.prod(shape)
        given = None if values is None else np.ascontiguousarray(values, dtype).reshape(-1)
        if dtype.name in FLOATS:
            coded = self._floats(coder, dtype, given, contexts)
        else:
            coded = self._integers(coder, dtype, given, size)
        return coded.reshape(shape)

    def _floats(
        self, coder: Coder, dtype: np.dtype, given: np.ndarray | None, contexts: np.ndarray
    ) -> np.ndarray:
        places, unsigned = FLOATS[dtype.name]
        exponents = 8 * unsigned.itemsize - 1 - places
        tiny = (1 << exponents) + places - 1  # the context of zeros and subnormal numbers
        if dtype.name not in self._heads:
            self._heads[dtype.name] = AdaptiveTable(2 << exponents, CONTEXTS, prior=SPARSE_PRIOR)
            self._mantissas[dtype.name] = AdaptiveBits([16] * (tiny + 1), [16] * (tiny + 1))
        word = None if given is None else given.view(unsigned).astype(np.int64)
        heads = (
            self._heads[dtype.name]
            .code(coder, contexts, None if word is None else (word >> places).astype(np.int32))
            .astype(np.int64)
        )
        exponent = heads & ((1 << exponents) - 1)
        base = exponent if self.absolute else np.zeros_like(exponent)
        coded = heads << places
        for place in range(places - 1, -1, -1):
            bit = None if word is None else (word >> place & 1).astype(bool)
            place_contexts = np.where(exponent == 0, tiny, base + place)
            bits = self._mantissas[dtype.name].code(coder, place_contexts, bit)
            coded |= bits.astype(np.int64) << place
        return coded.astype(unsigned).view(dtype)

    def _integers(
        self, coder: Coder, dtype: np.dtype, given: np.ndarray | None, size: int
    ) -> np.ndarray:
        planes = self._bytes.setdefault(
            dtype.name, [AdaptiveTable(256, prior=SPARSE_PRIOR) for _ in range(dtype.itemsize)]
        )
        context = np.zeros(size, np.int64)
        coded = np.empty((size, dtype.itemsize), np.uint8)
        little = dtype.newbyteorder("<")
        if given is not None:
            given = given.astype(little).view(np.uint8).reshape(size, dtype.itemsize)
        for k, plane in enumerate(planes):
            column = None if given is None else given[:, k].astype(np.int32)
            coded[:, k] = plane.code(coder, context, column)
        if dtype.name == "bool":
            coded &= 1
        return coded.reshape(-1).view(little).astype(dtype)
