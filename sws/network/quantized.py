"""The one type in the middle: a network whose weights are indexes into codebooks.

Every compression method produces a :class:`QuantizedNetwork`; the codec, the accounting and the
evaluation consume one. It knows nothing of how it was made: no mixture, mask, seed or date. NumPy
only, so that reading a compressed file needs no deep-learning framework.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["fc", "conv"]
RAW_DTYPES = ("float16", "float32", "int64", "int32", "uint8", "bool")


def _frozen(array: np.ndarray) -> np.ndarray:
    """Return a contiguous read-only array; copies only if the caller could still write to it."""
    array = np.ascontiguousarray(array) if array.ndim else array.copy()
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def index_dtype(entries: int) -> np.dtype:
    """Smallest unsigned type for indexes into a codebook: the one that decoding gives."""
    return np.dtype(np.uint8 if entries <= 2**8 else np.uint16)


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A weight tensor as indexes into a codebook: w = scale · codebook[indexes].

    Attributes
    ----------
    name : str
        Key in the model's ``state_dict``.
    kind : Kind
        ``fc`` or ``conv``; Appendix A of the paper spends 5 and 8 bits an index on them.
    codebook : int
        Position in :attr:`QuantizedNetwork.codebooks`.
    indexes : np.ndarray
        uint8, uint16 or uint32, in the shape of the tensor (1 to 4 dimensions).
    scale : float
        One factor for the whole tensor (1.0 unless the prior acted on w / scale).
    """

    name: str
    kind: Kind
    codebook: int
    indexes: np.ndarray
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("fc", "conv"):
            raise ValueError(f"{self.name}: kind is {self.kind!r}, not 'fc' or 'conv'")
        if self.indexes.dtype not in (np.uint8, np.uint16, np.uint32):
            raise ValueError(f"{self.name}: indexes are {self.indexes.dtype}, not unsigned")
        if not 1 <= self.indexes.ndim <= 4:
            raise ValueError(f"{self.name}: {self.indexes.ndim} dimensions, not 1 to 4")
        if not np.isfinite(self.scale) or float(np.float32(self.scale)) != self.scale:
            raise ValueError(f"{self.name}: scale {self.scale!r} is not a finite float32")
        object.__setattr__(self, "indexes", _frozen(self.indexes))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.indexes.shape


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor stored as it is: biases, batch-norm parameters, buffers.

    Attributes
    ----------
    trainable : bool
        Counted in the dense size (a running statistic is not, though the file holds it).
    """

    name: str
    values: np.ndarray
    trainable: bool = True

    def __post_init__(self) -> None:
        if self.values.dtype.name not in RAW_DTYPES:
            raise ValueError(f"{self.name}: raw tensors cannot be {self.values.dtype}")
        object.__setattr__(self, "values", _frozen(self.values))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape


@dataclass(frozen=True)
class Architecture:
    """Name in the model registry and the keyword arguments that rebuild the module."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"the architecture's name is {self.name!r}, not a text")


@dataclass(frozen=True)
class InputSpec:
    """What the network expects: shape (C, H, W), x = (pixel / 255 − mean) / std, class names."""

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(type(n) is int and n > 0 for n in self.shape):
            raise ValueError(f"the input's shape is {self.shape}, not made of positive integers")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
                raise ValueError(f"the input's {name} is {numbers}, not made of finite numbers")
        if not all(x > 0 for x in self.std):
            raise ValueError(f"the input's std is {self.std}, not positive")
        if not all(isinstance(name, str) for name in self.classes):
            raise ValueError("class names are not texts")


@dataclass(frozen=True, eq=False)
class QuantizedNetwork:
    """An immutable quantised network; equality compares every value.

    Attributes
    ----------
    tensors : tuple of QuantizedTensor or RawTensor
        In ``state_dict`` order.
    codebooks : tuple of np.ndarray
        float16 or float32 vectors; entry 0 is exactly 0.0. Each is that of any number of tensors.
    architecture : Architecture, optional
        None for a model the registry does not know (decoding gives a state dict).
    input : InputSpec, optional
        None if unknown.
    notes : mapping of str to str
        Whatever its maker wants to tell (a licence, a command); nothing reads it.

    Raises
    ------
    ValueError
        If names repeat, an index lies outside its codebook, a codebook does not start at 0.0, or a
        weight would not be finite.
    """

    tensors: tuple[QuantizedTensor | RawTensor, ...]
    codebooks: tuple[np.ndarray, ...]
    architecture: Architecture | None = None
    input: InputSpec | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", tuple(self.tensors))
        object.__setattr__(self, "codebooks", tuple(_frozen(c) for c in self.codebooks))
        names = [t.name for t in self.tensors]
        if len(set(names)) != len(names):
            raise ValueError("tensor names repeat")
        for k, codebook in enumerate(self.codebooks):
            if codebook.dtype not in (np.float16, np.float32) or codebook.ndim != 1:
                raise ValueError(f"codebook {k} is not a float16 or float32 vector")
            if codebook.size == 0 or codebook[0] != 0 or np.signbit(codebook[0]):
                raise ValueError(f"entry 0 of codebook {k} is not 0.0")
            if not np.isfinite(codebook).all():
                raise ValueError(f"codebook {k} is not finite")
        for tensor in self.quantized:
            if not 0 <= tensor.codebook < len(self.codebooks):
                raise ValueError(f"{tensor.name}: there is no codebook {tensor.codebook}")
            size = self.codebooks[tensor.codebook].size
            if tensor.indexes.size and int(tensor.indexes.max()) >= size:
                raise ValueError(f"{tensor.name}: an index lies outside its codebook of {size}")
            largest = float(np.abs(self.codebooks[tensor.codebook]).max())
            if largest * abs(tensor.scale) > float(np.finfo(np.float32).max):
                raise ValueError(f"{tensor.name}: scale {tensor.scale!r} makes weights infinite")

    @property
    def quantized(self) -> tuple[QuantizedTensor, ...]:
        return tuple(t for t in self.tensors if isinstance(t, QuantizedTensor))

    @property
    def raw(self) -> tuple[RawTensor, ...]:
        return tuple(t for t in self.tensors if isinstance(t, RawTensor))

    @property
    def weights(self) -> int:
        """Number of quantised weights."""
        return sum(t.indexes.size for t in self.quantized)

    @property
    def parameters(self) -> int:
        """Number of trainable parameters: quantised weights and trainable raw values."""
        return self.weights + sum(t.values.size for t in self.raw if t.trainable)

    @property
    def nonzeros(self) -> int:
        """Number of weights whose value is not 0."""
        return sum(int(np.count_nonzero(self.values(t))) for t in self.quantized)

    def values(self, tensor: QuantizedTensor) -> np.ndarray:
        """The float32 weights of a quantised tensor, in its shape."""
        codebook = self.codebooks[tensor.codebook].astype(np.float32)
        return (codebook * np.float32(tensor.scale))[tensor.indexes]

    def state_dict(self) -> dict[str, np.ndarray]:
        """Every tensor by name; floating-point tensors as float32."""
        state = {}
        for tensor in self.tensors:
            if isinstance(tensor, QuantizedTensor):
                state[tensor.name] = self.values(tensor)
            elif tensor.values.dtype.kind == "f":
                state[tensor.name] = tensor.values.astype(np.float32)
            else:
                state[tensor.name] = tensor.values.copy()
        return state

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantizedNetwork):
            return NotImplemented
        return (
            self.architecture == other.architecture
            and self.input == other.input
            and dict(self.notes) == dict(other.notes)
            and len(self.tensors) == len(other.tensors)
            and len(self.codebooks) == len(other.codebooks)
            and all(map(_same_array, self.codebooks, other.codebooks))
            and all(map(_same_tensor, self.tensors, other.tensors))
        )

    __hash__ = None  # type: ignore[assignment]


def _same_array(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _same_tensor(a: QuantizedTensor | RawTensor, b: QuantizedTensor | RawTensor) -> bool:
    if type(a) is not type(b) or a.name != b.name:
        return False
    if isinstance(a, QuantizedTensor):
        same = (a.kind, a.codebook, a.scale) == (b.kind, b.codebook, b.scale)
        return same and a.shape == b.shape and bool(np.array_equal(a.indexes, b.indexes))
    return a.trainable == b.trainable and _same_array(a.values, b.values)
