"""From a module with shared weights to the network in a file: what is kept, and how exactly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from sws.errors import InputError, SwsError
from sws.network import batch_norm
from sws.network.quantized import (
    RAW_DTYPES,
    Architecture,
    InputSpec,
    QuantizedNetwork,
    QuantizedTensor,
    RawTensor,
    index_dtype,
)


class RangeError(SwsError, OverflowError):
    """A value does not fit into float16."""

    outcome = "diverged: values beyond float16"


def build_network(
    model: nn.Module,
    indexes: Mapping[str, Tensor],
    codebook: np.ndarray,
    *,
    scales: Mapping[str, float] | None = None,
    bias_bits: int = 10,
    per_tensor: bool = False,
    architecture: Architecture | None = None,
    input_spec: InputSpec | None = None,
) -> QuantizedNetwork:
    """The quantised network of a model whose weights are given as indexes.

    Parameters
    ----------
    model : nn.Module
        The trained module.
    indexes : mapping of str to Tensor
        By tensor name, in the shape of the weight.
    codebook : np.ndarray
        (K,) float; kept as float16, entries that nothing uses are dropped.
    scales : mapping of str to float, optional
        By name, factor between a tensor's codebook values and its weights; 1 if not given.
    bias_bits : int
        Bits of the mantissa that vectors, as float16, keep; parameters of more than four dimensions
        keep all ten, buffers are stored as they are (as float32 at most).
    per_tensor : bool
        Give every tensor a codebook of its own, of the entries that it uses.
    architecture : Architecture, optional
        How the registry builds it.
    input_spec : InputSpec, optional
        What it takes.

    Raises
    ------
    RangeError
        If a value does not fit into float16.
    """
    groups = [[name] for name in indexes] if per_tensor else [list(indexes)]
    books, place = [], {}
    for number, names in enumerate(groups):
        flat = [indexes[name].reshape(-1).numpy() for name in names]
        values, renumber = _stored_entries(codebook, np.unique(np.concatenate([[0], *flat])))
        books.append(values)
        place |= dict.fromkeys(names, (number, renumber))
    trainable = {n for n, _ in model.named_parameters()}
    tensors: list[QuantizedTensor | RawTensor] = []
    for name, value in batch_norm.folded(model).items():
        if name in indexes:
            kind = "fc" if value.ndim <= 2 else "conv"
            number, renumber = place[name]
            index = renumber[indexes[name].numpy()].astype(index_dtype(len(books[number])))
            tensors.append(
                QuantizedTensor(name, kind, number, index, (scales or {}).get(name, 1.0))
            )
        elif name in trainable:
            raw = _float16(value.cpu().numpy(), name, bias_bits if value.ndim <= 1 else 10)
            tensors.append(RawTensor(name, raw, True))
        elif not name.endswith("num_batches_tracked"):
            tensors.append(RawTensor(name, _buffer(value), False))
    return QuantizedNetwork(tuple(tensors), tuple(books), architecture, input_spec)


def check_buffers(model: nn.Module) -> None:
    """Buffers must have a type that the file has.

    Raises
    ------
    InputError
        If one does not.
    """
    for name, value in model.state_dict().items():
        kind = str(value.dtype).removeprefix("torch.")
        if not value.is_floating_point() and kind not in RAW_DTYPES:
            raise InputError(f"{name} is {kind}; a file holds {', '.join(RAW_DTYPES)}")


def _buffer(value: Tensor) -> np.ndarray:
    """As it is, floating point as float32: learning tables of their own in the file, which the
    means of 0 and variances of 1 that folding leaves would otherwise spoil for norms and biases."""
    return (value.float() if value.is_floating_point() else value).cpu().numpy()


def _stored_entries(codebook: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float16 codebook of the entries in use, 0 first, and where each entry went in it."""
    book = _float16(codebook[used], "codebook", 10)
    # values that float16 cannot tell apart become one entry; 0 keeps the first place
    values, inverse = np.unique(book, return_inverse=True)
    order = np.argsort(values != 0, kind="stable")
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values))
    renumber = np.zeros(len(codebook), dtype=np.int64)
    renumber[used] = place[inverse]
    return values[order] + np.float16(0), renumber  # −0 would not be entry 0's 0.0


def _float16(values: np.ndarray, name: str, bits: int) -> np.ndarray:
    """Values rounded to float16 with so many bits of the mantissa, ties to even."""
    with np.errstate(over="ignore"):
        half = np.asarray(values, dtype=np.float32).astype(np.float16)
    if not np.isfinite(half).all():
        raise RangeError(f"{name} holds values that float16 cannot: the training diverged")
    drop = 10 - bits
    if drop == 0:
        return half + np.float16(0)
    pattern = half.view(np.uint16).astype(np.uint32)
    pattern += (1 << (drop - 1)) - 1 + ((pattern >> drop) & 1)
    rounded = (pattern >> drop << drop).astype(np.uint16).view(np.float16)
    return np.where(np.isfinite(rounded), rounded, half) + np.float16(0)
