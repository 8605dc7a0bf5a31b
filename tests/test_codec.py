"""Round trips: whatever goes into a file comes out of it, bit for bit."""

import os
import stat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sample_networks import codebook, lenet_5_caffe, lenet_300_100, sparse_layer, tiny

from sws import codec
from sws.codec.compiled import interpreted
from sws.codec.huffman import code_lengths
from sws.codec.relative_index import relative_index
from sws.network.quantized import (
    RAW_DTYPES,
    Architecture,
    InputSpec,
    QuantizedNetwork,
    QuantizedTensor,
    RawTensor,
)


def layer(indexes, kind="fc", codebook=0, name="w", **more):
    return QuantizedTensor(name, kind, codebook, np.asarray(indexes), **more)


def assert_round_trip(network):
    data = codec.encode(network)
    description = codec.describe(data)
    assert description.network == network
    assert description.bytes["file"] == len(data)
    assert min(description.bytes.values()) >= 0
    return description


TEXT = st.characters(exclude_categories=["Cs"])
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8)


@st.composite
def networks(draw):
    """Networks of a few tensors: shapes of 1 to 4 dimensions, zeros, ones, all densities."""
    codebooks = []
    for _ in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from([np.float16, np.float32]))
        size = draw(st.sampled_from([1, 2, 3, 5, 17, 257]))
        values = st.floats(-8, 8, width=16)
        rest = draw(arrays.arrays(dtype, size - 1, elements=values))
        codebooks.append(np.concatenate([np.zeros(1, dtype), rest]))
    tensors = []
    for k in range(draw(st.integers(0, 5))):
        name = draw(NAMES) + str(k)
        if draw(st.booleans()):
            shape = draw(arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9))
            which = draw(st.integers(0, len(codebooks) - 1))
            size = codebooks[which].size
            rng = np.random.default_rng(draw(st.integers(0, 99)))
            alive = rng.random(shape) < draw(st.sampled_from([0, 0.02, 0.3, 1]))
            indexes = np.where(alive, rng.integers(min(1, size - 1), size, shape), 0)
            indexes = indexes.astype(draw(st.sampled_from([np.uint16, np.uint32])))
            scale = float(np.float32(draw(st.sampled_from([1, 0.3, -2]))))
            kind = draw(st.sampled_from(["fc", "conv"]))
            tensors.append(layer(indexes, kind, which, name, scale=scale))
        else:
            dtype = draw(st.sampled_from(RAW_DTYPES))
            shape = draw(arrays.array_shapes(min_dims=0, max_dims=7, min_side=0, max_side=3))
            values = draw(arrays.arrays(dtype, shape))
            tensors.append(RawTensor(name, values, draw(st.booleans())))
    spec = draw(
        st.none()
        | st.builds(
            InputSpec,
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.floats(allow_nan=False, allow_infinity=False)),
            st.tuples(st.floats(5e-324, allow_infinity=False)),
            st.lists(NAMES, max_size=3).map(tuple),
        )
    )
    setting = st.none() | st.booleans() | st.integers(-9, 9) | st.text(TEXT) | st.floats(-1, 1)
    model = st.builds(Architecture, NAMES, st.dictionaries(NAMES, setting, max_size=3))
    notes = draw(st.dictionaries(NAMES, st.text(TEXT, max_size=20), max_size=3))
    return QuantizedNetwork(tuple(tensors), tuple(codebooks), draw(st.none() | model), spec, notes)


@settings(max_examples=150, deadline=None)
@given(networks())
def test_any_network_comes_back(network):
    assert_round_trip(network)


@settings(max_examples=12, deadline=None)
@given(networks())
def test_plain_python_writes_and_reads_the_same_bytes(network):
    data = codec.encode(network)
    assert codec.encode(network, loops=interpreted()) == data
    assert codec.decode(data, loops=interpreted()) == network


@pytest.mark.parametrize(
    "indexes",
    [
        np.zeros((0, 5), np.uint8),
        np.zeros((5, 0), np.uint8),
        np.zeros(0, np.uint8),
        np.zeros((7, 9), np.uint8),
        np.ones((7, 9), np.uint8),
        np.full((3, 2, 2, 2), 8, np.uint8),
        np.eye(70, dtype=np.uint8),
        np.eye(1, 1000, 999, dtype=np.uint8),  # a gap beyond any span
        np.eye(1000, 1, -999, dtype=np.uint8),
        np.eye(1, 1, dtype=np.uint8),
        np.arange(9, dtype=np.uint8),
        np.tile(np.eye(20, dtype=np.uint8) * 3, (30, 30)),
    ],
    ids=lambda a: f"{a.shape}-{np.count_nonzero(a)}",
)
def test_extreme_layers(indexes):
    following = layer(np.eye(4, 3 * max(1, len(indexes)), dtype=np.uint8), name="next")
    bias = RawTensor("b", np.arange(len(indexes), dtype=np.float16))
    network = QuantizedNetwork((layer(indexes), bias, following), (codebook(),))
    assert_round_trip(network)


def test_nothing_at_all():
    assert_round_trip(QuantizedNetwork((), ()))


def test_indexes_come_back_in_the_smallest_type():
    for entries, dtype in ((256, np.uint8), (257, np.uint16)):
        network = QuantizedNetwork(
            (layer(np.array([[0, entries - 1]], np.uint32)),), (codebook(entries),)
        )
        back = codec.decode(codec.encode(network))
        assert back == network and back.quantized[0].indexes.dtype == dtype


def test_large_codebooks():
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, 65536, (20, 30), dtype=np.uint16)
    network = QuantizedNetwork((layer(indexes),), (codebook(65536, np.float32),))
    assert_round_trip(network)
    with pytest.raises(ValueError, match="65537 entries; at most 65536"):
        codec.encode(QuantizedNetwork((), (codebook(65537, np.float32),)))


def test_payload_bits_survive():
    bits = np.arange(0, 2**16, 7, dtype=np.uint16)  # every kind of nan among them
    wide = (np.arange(0, 2**32, 2**20 + 77, dtype=np.uint64)).astype(np.uint32)
    network = QuantizedNetwork(
        (RawTensor("a", bits.view(np.float16)), RawTensor("b", wide.view(np.float32))), ()
    )
    assert_round_trip(network)


@pytest.mark.parametrize("dtype", RAW_DTYPES)
def test_scalars(dtype):
    assert_round_trip(QuantizedNetwork((RawTensor("x", np.array(1, dtype)),), ()))


def test_networks_of_the_paper():
    for network in (lenet_300_100(), lenet_5_caffe(), tiny()):
        assert_round_trip(network)


def test_encoding_is_deterministic():
    assert codec.encode(lenet_5_caffe(1)) == codec.encode(lenet_5_caffe(1))


def test_rounded_mantissas_and_dead_units_are_cheap():
    rng = np.random.default_rng(0)
    weights = sparse_layer(rng, (500, 300), 0.02)
    weights[250:] = 0
    exact = rng.normal(0, 0.1, 500).astype(np.float16)
    exact[~weights.any(axis=1)] = 0
    alive = np.count_nonzero(exact)

    def bits(bias):
        network = QuantizedNetwork((layer(weights), RawTensor("b", bias)), (codebook(),))
        return assert_round_trip(network).tensors[1].bits["raw"]

    kept, grid = 4, np.float16(2**-7)
    relative = (exact.view(np.uint16) & (0xFFFF << (10 - kept) & 0xFFFF)).view(np.float16)
    absolute = np.round(exact / grid) * grid
    assert bits(exact) < alive * 15 + 8 * 30
    assert bits(relative) < bits(exact) - alive * 6 + 8 * 16
    assert bits(absolute) < bits(exact) - alive * 5 + 8 * 25


def test_a_large_network_without_weights_is_lengthened_until_readers_accept_it():
    network = QuantizedNetwork((layer(np.zeros((3000, 4000), np.uint8)),), (codebook(),))
    data = codec.encode(network)
    assert 2000 < len(data) < 10_000
    assert codec.decode(data) == network


def test_all_values_alike_cost_next_to_nothing():
    network = QuantizedNetwork((RawTensor("v", np.full(5000, 0.1, np.float32), False),), ())
    assert assert_round_trip(network).tensors[0].bits["raw"] < 60


def test_an_image_is_found_by_its_lag():
    rng = np.random.default_rng(3)
    network = QuantizedNetwork(
        (layer(sparse_layer(rng, (120, 28 * 28), 0.05, side=28)),), (codebook(),)
    )
    assert assert_round_trip(network).tensors[0].coding in {
        f"cells, lag {lag}" for lag in (27, 28, 29)
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("__metadata__", "__metadata__"),
        ("", "empty"),
        ("a\x1b[31m", "control"),
        ("\ud800", "surrogate|JSON"),
        ("n" * 256, "longer than 255"),
    ],
)
def test_names_that_a_file_does_not_hold(name, reason):
    with pytest.raises(ValueError, match=reason):
        codec.encode(QuantizedNetwork((RawTensor(name, np.zeros(1, np.float16)),), ()))


def test_notes_are_bounded():
    network = QuantizedNetwork((), (), notes={"licence": "MIT", "é": "\n"})
    assert codec.decode(codec.encode(network)).notes == {"licence": "MIT", "é": "\n"}
    with pytest.raises(ValueError, match="more than 4096 bytes"):
        codec.encode(QuantizedNetwork((), (), notes={"a": "x" * 4096}))


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {1, 2}, float("nan"), np.float32(1), b"x"])
def test_settings_must_be_json(value):
    network = QuantizedNetwork((), (), Architecture("lenet-5-caffe", {"x": value}))
    with pytest.raises(ValueError):
        codec.encode(network)


def test_write_and_read(tmp_path):
    path = tmp_path / "model.sws"
    path.write_bytes(b"something older")
    assert codec.write(tiny(), path) == os.stat(path).st_size == len(codec.encode(tiny()))
    assert codec.read(path) == tiny()
    assert os.listdir(tmp_path) == ["model.sws"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666 & ~umask
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(codec.CorruptFileError, match=r"model\.sws: the checksum is wrong"):
        codec.read(path)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "model.sws").mkdir()
    with pytest.raises(OSError):
        codec.write(tiny(), tmp_path / "model.sws")
    assert os.listdir(tmp_path) == ["model.sws"]
    with pytest.raises(OSError):
        codec.write(tiny(), tmp_path / "missing" / "model.sws")


@given(
    arrays.arrays(
        np.uint8,
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
        elements=st.sampled_from([0, 0, 0, 0, 1, 2]),
    ),
    st.integers(1, 8),
)
@settings(deadline=None)
def test_relative_indexes(matrix, bits):
    index = relative_index(matrix, bits)
    assert index.skips.max(initial=0) < 1 << bits
    back = np.zeros_like(matrix)
    for row, (start, end) in enumerate(zip(index.pointers, index.pointers[1:], strict=False)):
        columns = np.cumsum(index.skips[start:end] + 1) - 1
        back[row, columns] = index.values[start:end]
    np.testing.assert_array_equal(back, matrix)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
@settings(deadline=None)
def test_huffman_codes(counts):
    counts = np.array(counts)
    lengths = code_lengths(counts)
    assert ((lengths > 0) == (counts > 0)).all()
    used = lengths[lengths > 0]
    if used.size > 1:
        assert (0.5**used).sum() == 1
        p = counts[counts > 0] / counts.sum()
        entropy = -(p * np.log2(p)).sum()
        assert entropy - 1e-9 <= (p * used).sum() < entropy + 1


def test_huffman_lengths_by_hand():
    # 1 + 1 → 2, 2 + 2 → 4, 4 + 5 → 9: the two rarest get three bits
    np.testing.assert_array_equal(code_lengths(np.array([5, 0, 1, 2, 1])), [1, 0, 3, 2, 3])
    np.testing.assert_array_equal(code_lengths(np.array([0, 7, 0])), [0, 1, 0])


def test_huffman_codes_are_limited_to_31_bits():
    fibonacci = [1, 1]
    while len(fibonacci) < 50:
        fibonacci.append(sum(fibonacci[-2:]))
    lengths = code_lengths(np.array(fibonacci))
    assert lengths.max() <= 31 and (0.5**lengths).sum() == 1
