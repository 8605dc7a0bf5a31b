"""From a module with shared weights to the network in a file: what is kept, and how exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

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
    """A value is not finite, and no file can hold it."""

    outcome = "diverged: values that are not finite"


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
        (K,) float; kept as float16 where its values fit (:func:`_rounded`), entries that nothing
        uses are dropped.
    scales : mapping of str to float, optional
        By name, factor between a tensor's codebook values and its weights; 1 if not given.
    bias_bits : int
        Bits of the mantissa that vectors, as float16, keep; other parameters that have no indexes
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
        If a value is not finite.

    Notes
    -----
    A parameter with several names is stored once, under the first. A file's weights have at most
    four dimensions; the last ones of a three-dimensional convolution are stored as one.
    """
    groups = [[name] for name in indexes] if per_tensor else [list(indexes)]
    books, place = [], {}
    for number, names in enumerate(groups):
        flat = [indexes[name].reshape(-1).numpy() for name in names]
        values, renumber = _stored_entries(codebook, np.unique(np.concatenate([[0], *flat])))
        books.append(values)
        place |= dict.fromkeys(names, (number, renumber))
    trainable = {n for n, _ in model.named_parameters()}
    again = {n for n, _ in model.named_parameters(remove_duplicate=False)} - trainable
    tensors: list[QuantizedTensor | RawTensor] = []
    for name, value in batch_norm.folded(model).items():
        if name in again:
            continue
        if name in indexes:
            kind = "fc" if value.ndim <= 2 else "conv"
            number, renumber = place[name]
            index = renumber[indexes[name].numpy()].astype(index_dtype(len(books[number])))
            index = index.reshape(stored_shape(index.shape))
            tensors.append(
                QuantizedTensor(name, kind, number, index, (scales or {}).get(name, 1.0))
            )
        elif name in trainable:
            raw = _rounded(value.cpu().numpy(), name, bias_bits if value.ndim <= 1 else 10)
            tensors.append(RawTensor(name, raw, True))
        elif not name.endswith("num_batches_tracked"):
            tensors.append(RawTensor(name, _buffer(value), False))
    return QuantizedNetwork(tuple(tensors), tuple(books), architecture, input_spec)


def stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a file gives a weight: of more than four dimensions, the last become one."""
    return shape if len(shape) <= 4 else (*shape[:3], math.prod(shape[3:]))


def with_exact_vectors(network: QuantizedNetwork, model: nn.Module) -> QuantizedNetwork:
    """The same network with parameters that have no indexes as float32, as the model has them.

    Parameters
    ----------
    network : QuantizedNetwork
        What :func:`build_network` made of the model.
    model : nn.Module
        As it was then.
    """
    state = batch_norm.folded(model)
    tensors = [
        replace(t, values=state[t.name].float().cpu().numpy())
        if isinstance(t, RawTensor) and t.trainable
        else t
        for t in network.tensors
    ]
    return replace(network, tensors=tuple(tensors))


def check_buffers(model: nn.Module) -> None:
    """Buffers must have a type that the file has.

    Raises
    ------
    InputError
        If one does not.
    """
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"{name} is a {type(value).__name__}: a file holds tensors only, so what "
                "get_extra_state returns has no place in it"
            )
        kind = str(value.dtype).removeprefix("torch.")
        if not value.is_floating_point() and kind not in RAW_DTYPES:
            raise InputError(f"{name} is {kind}; a file holds {', '.join(RAW_DTYPES)}")


def _buffer(value: Tensor) -> np.ndarray:
    """As it is, floating point as float32: learning tables of their own in the file, which the
    means of 0 and variances of 1 that folding leaves would otherwise spoil for norms and biases."""
    return (value.float() if value.is_floating_point() else value).cpu().numpy()


def _stored_entries(codebook: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float16 codebook of the entries in use, 0 first, and where each entry went in it."""
    book = _rounded(codebook[used], "codebook", 10)
    # values that float16 cannot tell apart become one entry; 0 keeps the first place
    values, inverse = np.unique(book, return_inverse=True)
    order = np.argsort(values != 0, kind="stable")
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values))
    renumber = np.zeros(len(codebook), dtype=np.int64)
    renumber[used] = place[inverse]
    return values[order] + values.dtype.type(0), renumber  # −0 would not be entry 0's 0.0


def _rounded(values: np.ndarray, name: str, bits: int) -> np.ndarray:
    """Values rounded to float16 with so many bits of the mantissa, ties to even.

    float32 instead, as they are, where float16 would make them infinite, or all of them so small
    that it loses bits (below 2^−14).
    """
    single = np.asarray(values, dtype=np.float32)
    if not np.isfinite(single).all():
        raise RangeError(f"{name} holds values that are not finite: the training diverged")
    with np.errstate(over="ignore"):
        half = single.astype(np.float16)
    largest = np.abs(single).max(initial=0)
    if not np.isfinite(half).all() or 0 < largest < np.finfo(np.float16).smallest_normal:
        return single + np.float32(0)
    drop = 10 - bits
    if drop == 0:
        return half + np.float16(0)
    pattern = half.view(np.uint16).astype(np.uint32)
    pattern += (1 << (drop - 1)) - 1 + ((pattern >> drop) & 1)
    rounded = (pattern >> drop << drop).astype(np.uint16).view(np.float16)
    return np.where(np.isfinite(rounded), rounded, half) + np.float16(0)
