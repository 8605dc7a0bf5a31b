"""Time to write and to read compressed networks.

    pytest benchmarks/bench_codec.py --benchmark-enable

Both LeNets at the densities that they are compressed to, and one of VGG-16's size.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from sample_networks import codebook, lenet_5_caffe, lenet_300_100, sparse_layer

from sws import codec
from sws.network.quantized import QuantizedNetwork, QuantizedTensor, RawTensor


def vgg_16():
    """15 million weights, 2 % of them not zero, in thirteen convolutions and two linear layers."""
    rng = np.random.default_rng(0)
    widths = [64, 64, 128, 128, 256, 256, 256] + [512] * 6
    tensors = []
    for k, (inputs, outputs) in enumerate(zip([3, *widths], widths, strict=False)):
        indexes = sparse_layer(rng, (outputs, inputs, 3, 3), 0.02)
        tensors.append(QuantizedTensor(f"conv{k}.weight", "conv", 0, indexes))
        for name in ("weight", "bias", "running_mean", "running_var"):
            values = rng.normal(size=outputs).astype(np.float16)
            tensors.append(RawTensor(f"bn{k}.{name}", values, not name.startswith("running")))
    for k, outputs in enumerate((512, 10)):
        indexes = sparse_layer(rng, (outputs, 512), 0.02)
        tensors.append(QuantizedTensor(f"fc{k}.weight", "fc", 0, indexes))
        tensors.append(RawTensor(f"fc{k}.bias", rng.normal(size=outputs).astype(np.float16)))
    return QuantizedNetwork(tuple(tensors), (codebook(),))


NETWORKS = {"lenet-300-100": lenet_300_100, "lenet-5-caffe": lenet_5_caffe, "vgg-16": vgg_16}


@pytest.fixture(params=NETWORKS, scope="module")
def network(request):
    return NETWORKS[request.param]()


def test_encode(benchmark, network):
    rounds = 1 if network.weights > 1_000_000 else 5
    data = benchmark.pedantic(codec.encode, (network,), rounds=rounds)
    benchmark.extra_info["bytes"] = len(data)


def test_decode(benchmark, network):
    rounds = 1 if network.weights > 1_000_000 else 5
    assert benchmark.pedantic(codec.decode, (codec.encode(network),), rounds=rounds) == network
