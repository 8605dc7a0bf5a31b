"""Networks to code: sparse maps with the structure that training leaves, and small odd ones."""

import numpy as np

from sws.network.quantized import (
    Architecture,
    InputSpec,
    QuantizedNetwork,
    QuantizedTensor,
    RawTensor,
)

DIGITS = tuple("0123456789")


def codebook(entries=9, dtype=np.float16):
    means = np.linspace(-0.8, 0.9, entries - 1)
    return np.concatenate([[0], means]).astype(dtype)


def sparse_layer(rng, shape, density, entries=9, side=None):
    """Indexes with dead rows and columns; with ``side``, inputs are pixels and units are smooth."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    odds = np.exp(rng.normal(0, 1.5, (rows, 1)) + rng.normal(0, 1, (1, columns)))
    unit_lives, input_lives = rng.random((rows, 1)) < 0.7, rng.random((1, columns)) < 0.7
    unit_lives[0] = input_lives[0, 0] = True
    odds *= unit_lives * input_lives
    if side:
        y, x = np.divmod(np.arange(columns), side)
        middle = np.exp(-((y - side / 2) ** 2 + (x - side / 2) ** 2) / (side / 3) ** 2)
        cy, cx = rng.uniform(side / 4, 3 * side / 4, (2, rows, 1))
        odds *= middle * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 9)
    alive = rng.random((rows, columns)) < np.minimum(0.9, odds * density / odds.mean())
    values = 1 + rng.integers(0, entries - 1, (rows, columns))
    return (alive * values).reshape(shape).astype(np.uint8)


def sequential(rng, layers, **more):
    """A network of (name, kind, indexes) layers with float16 biases, 0 where a unit is dead."""
    tensors = []
    for name, kind, indexes in layers:
        bias = rng.normal(0, 0.1, indexes.shape[0]).astype(np.float16)
        bias[~indexes.reshape(indexes.shape[0], -1).any(axis=1)] = 0
        tensors.append(QuantizedTensor(f"{name}.weight", kind, 0, indexes))
        tensors.append(RawTensor(f"{name}.bias", bias))
    return QuantizedNetwork(tuple(tensors), (codebook(),), **more)


def lenet_300_100(seed=0, density=0.03):
    rng = np.random.default_rng(seed)
    layers = [
        ("fc1", "fc", sparse_layer(rng, (300, 784), density, side=28)),
        ("fc2", "fc", sparse_layer(rng, (100, 300), 3 * density)),
        ("fc3", "fc", sparse_layer(rng, (10, 100), 0.4)),
    ]
    spec = InputSpec((1, 28, 28), (0.0,), (1.0,), DIGITS)
    return sequential(
        rng, layers, architecture=Architecture("lenet-300-100", {"classes": 10}), input=spec
    )


def lenet_5_caffe(seed=0, density=0.005):
    rng = np.random.default_rng(seed)
    layers = [
        ("conv1", "conv", sparse_layer(rng, (20, 1, 5, 5), 0.3)),
        ("conv2", "conv", sparse_layer(rng, (50, 20, 5, 5), 0.03)),
        ("fc1", "fc", sparse_layer(rng, (500, 800), density)),
        ("fc2", "fc", sparse_layer(rng, (10, 500), 0.05)),
    ]
    spec = InputSpec((1, 28, 28), (0.0,), (1.0,), DIGITS)
    return sequential(
        rng, layers, architecture=Architecture("lenet-5-caffe", {"classes": 10}), input=spec
    )


def tiny(seed=0):
    """All kinds of tensors in little space: what the golden file holds."""
    rng = np.random.default_rng(seed)
    tensors = (
        QuantizedTensor("conv.weight", "conv", 0, sparse_layer(rng, (6, 2, 3, 3), 0.3)),
        RawTensor("conv.bias", np.array([0, 0.5, -0.25, 0, 1.5, -2], np.float16)),
        RawTensor("bn.running_var", rng.random(6).astype(np.float32), trainable=False),
        RawTensor("bn.num_batches_tracked", np.array(1234567, np.int64), trainable=False),
        QuantizedTensor("fc1.weight", "fc", 1, sparse_layer(rng, (12, 36), 0.3), scale=0.75),
        RawTensor("fc1.bias", (rng.integers(-9, 9, 12) / 8).astype(np.float16)),
        QuantizedTensor("empty.weight", "fc", 1, np.zeros((5, 12), np.uint8)),
        QuantizedTensor("nothing.weight", "fc", 1, np.zeros((0, 7), np.uint8)),
        QuantizedTensor("vector", "fc", 0, sparse_layer(rng, (1, 40), 0.4).reshape(40)),
        QuantizedTensor("fc2.weight", "fc", 2, (sparse_layer(rng, (4, 12), 0.5) > 0).astype("u1")),
        RawTensor("mask", rng.random((3, 5)) < 0.3, trainable=False),
        RawTensor("ints", rng.integers(-(2**31), 2**31, (2, 2), dtype=np.int32)),
        RawTensor("bytes", rng.integers(0, 256, (1, 1, 1, 1, 1, 1, 4), dtype=np.uint8)),
        RawTensor("odd", np.array([np.nan, np.inf, -np.inf, -0.0, 6e-8, 65504], np.float16)),
    )
    codebooks = (codebook(), codebook(9, np.float32), np.array([0, 0.3], np.float16))
    return QuantizedNetwork(
        tensors,
        codebooks,
        Architecture("lenet-5-caffe", {"classes": 4, "wide": True, "names": ["é", None]}),
        InputSpec((2, 5, 5), (0.1, 0.2), (0.25, 1.0), ("a", "b", "c", "ß")),
    )
