"""Networks as safetensors: dense for other people's tools, quantised for ours.

A dense file is a plain state dict. A quantised one holds indexes and codebooks as they are in a
:class:`~sws.network.quantized.QuantizedNetwork`, uncompressed, for whoever wants to look at or
change them between ``sws decode --indexes`` and ``sws encode``. Nothing in either can run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sws.errors import MissingFileError, SwsError
from sws.files import write_bytes
from sws.network.quantized import (
    Architecture,
    InputSpec,
    QuantizedNetwork,
    QuantizedTensor,
    RawTensor,
)

FORMAT = "sws-quantized-1"


class ExchangeError(SwsError, ValueError):
    """A safetensors file does not hold what it should; the message says what and names the fix."""


def write_dense(network: QuantizedNetwork, path: Path) -> None:
    """Write the float32 state dict that a network stands for."""
    _write(path, network.state_dict(), {})


def write_quantized(network: QuantizedNetwork, path: Path) -> None:
    """Write indexes, codebooks and raw tensors, from which :func:`read_quantized` rebuilds all."""
    arrays = {f"codebook/{k}": values for k, values in enumerate(network.codebooks)}
    entries: list[dict[str, Any]] = []
    for tensor in network.tensors:
        entry: dict[str, Any] = {"name": tensor.name}
        if isinstance(tensor, QuantizedTensor):
            arrays[f"indexes/{tensor.name}"] = tensor.indexes
            entry |= {"kind": tensor.kind, "codebook": tensor.codebook, "scale": tensor.scale}
        else:
            arrays[f"raw/{tensor.name}"] = tensor.values
            entry |= {"trainable": tensor.trainable}
        entries.append(entry)
    header = {
        "tensors": entries,
        "architecture": network.architecture and _plain(network.architecture),
        "input": network.input and _plain(network.input),
        "notes": dict(network.notes),
    }
    _write(path, arrays, {"format": FORMAT, "network": json.dumps(header)})


def _plain(value: Architecture | InputSpec) -> dict[str, Any]:
    plain = asdict(value)
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in plain.items()}


def read_quantized(path: Path) -> QuantizedNetwork:
    """Read what :func:`write_quantized` wrote.

    Raises
    ------
    ExchangeError
        If the file is damaged, or holds no quantised network.
    OSError
        If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise MissingFileError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ExchangeError(f"{path}: no safetensors file ({error})") from None
    if metadata.get("format") != FORMAT:
        raise ExchangeError(
            f"{path}: holds no quantised network; make one with 'sws decode --indexes' or "
            "sws.network.safetensors.write_quantized"
        )
    try:
        return _rebuilt(json.loads(metadata["network"]), arrays)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ExchangeError(f"{path}: not a whole network ({error}); write it again") from None


def _rebuilt(header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> QuantizedNetwork:
    tensors: list[QuantizedTensor | RawTensor] = []
    for entry in header["tensors"]:
        name = entry["name"]
        if "trainable" in entry:
            tensors.append(RawTensor(name, arrays[f"raw/{name}"], entry["trainable"]))
        else:
            indexes = arrays[f"indexes/{name}"]
            tensors.append(
                QuantizedTensor(name, entry["kind"], entry["codebook"], indexes, entry["scale"])
            )
    codebooks = sum(name.startswith("codebook/") for name in arrays)
    architecture, spec = header["architecture"], header["input"]
    return QuantizedNetwork(
        tuple(tensors),
        tuple(arrays[f"codebook/{k}"] for k in range(codebooks)),
        Architecture(**architecture) if architecture else None,
        InputSpec(**{k: tuple(v) for k, v in spec.items()}) if spec else None,
        header.get("notes", {}),
    )


def _write(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    write_bytes(
        path, save({k: np.asarray(v, order="C") for k, v in arrays.items()}, metadata or None)
    )
