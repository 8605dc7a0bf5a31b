"""Files of compressed networks."""

from __future__ import annotations

import os
from typing import BinaryIO

from torch import Tensor, nn

from sws import codec
from sws.api.result import CompressionResult
from sws.network.quantized import QuantizedNetwork
from sws.network.to_module import build_module, state_of


def save(network: CompressionResult | QuantizedNetwork, file: str | os.PathLike | BinaryIO) -> int:
    """Write a ``.sws`` file.

    Parameters
    ----------
    network : CompressionResult or QuantizedNetwork
        What :func:`sws.compress` returned, or the network in it.
    file : path or binary file
        A path appears whole or not at all; an open file is written to where it stands.

    Returns
    -------
    int
        Its size in bytes.
    """
    inner = network.network if isinstance(network, CompressionResult) else network
    return codec.write(inner, file)


def load(
    file: str | os.PathLike | BinaryIO, into: nn.Module | None = None
) -> nn.Module | dict[str, Tensor]:
    """Read a ``.sws`` file.

    The statistics of batch normalisation are not in a file; :func:`sws.unfold` brings them back for
    a network that shall train on.

    Parameters
    ----------
    file : path or binary file
        What is read is an open file's rest.
    into : nn.Module, optional
        A module to load the weights into, wrapped by ``torch.compile`` or data parallelism or not,
        on any device, ``meta`` too. Without one, a network of the registry is built, and of any
        other its state dict is returned.

    Raises
    ------
    sws.codec.CorruptFileError
        If the file is damaged.
    ValueError
        If the tensors do not fit the module, which is then as it was.
    """
    network = codec.read(file)
    if into is None and network.architecture is None:
        return state_of(network)
    return build_module(network, into)
