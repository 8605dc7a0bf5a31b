"""What using a compressed network costs: bytes, decoding, latency, multiply-adds.

Two ways of running it are compared: decoded to dense float32, which any framework runs, and with
its fully connected layers as sparse matrices (CSR), which costs an index beside every value.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scipy import sparse
from torch import Tensor, nn

from sws import codec
from sws.errors import InputError
from sws.files import write_text
from sws.network.quantized import QuantizedNetwork, index_dtype
from sws.network.to_module import build_module
from sws.network.weights import compressible

BATCHES = (1, 256)
INDEX_BYTES = 4


class SparseLinear(nn.Module):
    """A fully connected layer whose weights are a CSR matrix in float32."""

    def __init__(self, dense: nn.Linear):
        super().__init__()
        self.matrix = sparse.csr_array(dense.weight.detach().numpy())
        self.bias = dense.bias

    @property
    def bytes(self) -> int:
        """Of values, column indexes and row pointers."""
        return (4 + INDEX_BYTES) * self.matrix.nnz + INDEX_BYTES * (self.matrix.shape[0] + 1)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, in) to outputs (N, out)."""
        y = torch.from_numpy(self.matrix @ x.numpy().T).T
        return y if self.bias is None else y + self.bias


def with_sparse_layers(module: nn.Module) -> nn.Module:
    """Replace every fully connected layer by a sparse one, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, SparseLinear(child))
        else:
            with_sparse_layers(child)
    return module


def multiply_adds(module: nn.Module, example: Tensor) -> tuple[int, int]:
    """Multiply-adds of the weights for one example: dense, and with those by 0 left out.

    Every weight of a convolution acts once at each place of its output.
    """
    places: dict[str, int] = {}
    hooks = []
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear | nn.Conv2d):

            def count(_: nn.Module, __: Any, output: Tensor, name: str = name) -> None:
                places[name] = math.prod(output.shape[2:])

            hooks.append(child.register_forward_hook(count))
    with torch.inference_mode():
        module(example)
    for hook in hooks:
        hook.remove()
    weights = {n.rpartition(".")[0]: w.detach() for n, w in compressible(module).items()}
    dense = sum(w.numel() * places.get(n, 0) for n, w in weights.items())
    left = sum(int(torch.count_nonzero(w)) * places.get(n, 0) for n, w in weights.items())
    return dense, left


def median_ms(call: Callable[[], Any], seconds: float, least: int = 5) -> float:
    """Median wall clock of a call in milliseconds, after a warm-up, over a time and at least so
    many calls."""
    call()
    taken: list[float] = []
    while len(taken) < least or sum(taken) < seconds:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def profile(data: bytes, seconds: float = 1.0) -> dict[str, Any]:
    """Measure one file, on the CPU, with the threads that PyTorch has.

    Parameters
    ----------
    data : a ``.sws`` file of a network of the registry.
    seconds : to spend on each latency.

    Returns
    -------
    bytes : ``file``, ``dense`` (all trainable parameters in float32), ``sparse`` (fully connected
        layers in CSR, the rest dense), ``indexes`` (a byte or two a weight, and the codebooks).
    decode_ms, latency_ms (``dense-1`` and so on: way and batch), multiply_adds (``dense``,
    ``left``), threads, processor count.

    Raises
    ------
    ValueError
        If the file does not say which network and which input it is for.
    """
    network = codec.decode(data)
    if network.architecture is None or network.input is None:
        raise InputError("the file names no network of the registry and its input: nothing to run")
    module = build_module(network).eval()
    example = torch.zeros(1, *network.input.shape)
    dense, left = multiply_adds(module, example)
    latency = {}
    generator = torch.Generator().manual_seed(0)
    inputs = {n: torch.rand(n, *network.input.shape, generator=generator) for n in BATCHES}
    with torch.inference_mode():
        for batch, x in inputs.items():
            latency[f"dense-{batch}"] = median_ms(lambda x=x: module(x), seconds)
        outputs = module(inputs[BATCHES[0]])
        running = with_sparse_layers(module)
        for batch, x in inputs.items():
            latency[f"sparse-{batch}"] = median_ms(lambda x=x: running(x), seconds)
        difference = float((running(inputs[BATCHES[0]]) - outputs).abs().max())
    return {
        "bytes": {"file": len(data), **memory(network, running)},
        "decode_ms": median_ms(lambda: codec.decode(data), seconds / 2, least=3),
        "latency_ms": latency,
        "largest_difference": difference,
        "multiply_adds": {"dense": dense, "left": left},
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
    }


def memory(network: QuantizedNetwork, sparse_module: nn.Module) -> dict[str, int]:
    """Bytes in memory of the trainable parameters, by how they are held."""
    in_csr = [m for m in sparse_module.modules() if isinstance(m, SparseLinear)]
    saved = sum(4 * math.prod(m.matrix.shape) - m.bytes for m in in_csr)
    dense = 4 * network.parameters
    raw = sum(4 * t.values.size for t in network.raw if t.trainable)
    indexes = sum(
        t.indexes.size * index_dtype(network.codebooks[t.codebook].size).itemsize
        for t in network.quantized
    )
    codebooks = sum(4 * codebook.size for codebook in network.codebooks)
    return {"dense": dense, "sparse": dense - saved, "indexes": indexes + codebooks + raw}


def build(model: Path, output: Path, seconds: float = 1.0) -> Path:
    """Measure a file and write what was found as JSON."""
    found = profile(Path(model).read_bytes(), seconds)
    output.parent.mkdir(parents=True, exist_ok=True)
    return write_text(output, json.dumps(found, indent=1) + "\n")
