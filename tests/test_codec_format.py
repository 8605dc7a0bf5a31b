"""The format itself: a reader written from docs/format.md, the range coder's contract, the past."""

from pathlib import Path

import constriction
import numpy as np
import pytest
import reference_decoder
from sample_networks import lenet_300_100, sequential, sparse_layer, tiny

from sws import codec
from sws.codec import range_coding
from sws.codec.header import DICTIONARY

GOLDEN = Path(__file__).parent / "golden" / "tiny-v1.sws"
CODINGS = ("huffman", "relative", "bitmap")


def assert_reference_agrees(data, network):
    codebooks, tensors, architecture, spec = reference_decoder.decode(data)
    assert len(codebooks) == len(network.codebooks)
    for ours, theirs in zip(network.codebooks, codebooks, strict=True):
        assert ours.tobytes() == theirs.tobytes() and ours.dtype == theirs.dtype
    assert list(tensors) == [t.name for t in network.tensors]
    for tensor in network.quantized:
        entry, indexes = tensors[tensor.name]
        np.testing.assert_array_equal(indexes, tensor.indexes)
        assert (entry["codebook"], entry["scale"]) == (tensor.codebook, tensor.scale)
        assert entry["conv"] == (tensor.kind == "conv")
    for tensor in network.raw:
        entry, values = tensors[tensor.name]
        assert values.dtype == tensor.values.dtype and values.shape == tensor.shape
        assert values.tobytes() == tensor.values.tobytes()
        assert entry["trainable"] == tensor.trainable
    if network.architecture is not None:
        assert architecture == [network.architecture.name, dict(network.architecture.settings)]
        assert tuple(spec[0]) == network.input.shape and tuple(spec[3]) == network.input.classes


@pytest.mark.parametrize("coding", CODINGS)
def test_a_reader_written_from_the_document_agrees(coding):
    network = tiny(seed=3)
    assert_reference_agrees(codec.encode(network, codings=(coding,)), network)


def test_a_reader_written_from_the_document_agrees_on_smooth_layers():
    rng = np.random.default_rng(5)
    layers = [
        ("fc1", "fc", sparse_layer(rng, (60, 144), 0.1, side=12)),
        ("fc2", "fc", sparse_layer(rng, (30, 60), 0.1)),
        ("fc3", "fc", sparse_layer(rng, (3, 600), 0.3)),
    ]
    network = sequential(rng, layers)
    data = codec.encode(network)
    assert "lags" in codec.describe(data).tensors[0].coding
    assert_reference_agrees(data, network)


def test_the_golden_file_decodes_for_ever():
    network = codec.read(GOLDEN)
    assert network == tiny()
    assert_reference_agrees(GOLDEN.read_bytes(), network)


def test_the_encoder_still_writes_the_golden_file():
    """Not promised to readers, but a change of the encoder's choices should not go unnoticed."""
    assert codec.encode(tiny()) == GOLDEN.read_bytes()


def test_the_document_gives_the_dictionary():
    assert reference_decoder.preset_dictionary() == DICTIONARY


@pytest.mark.parametrize("entries", [2, 3, 17, 256, 5000])
def test_tables_are_those_that_we_define(entries):
    """constriction must use our integer weights exactly, or files would depend on its rounding."""
    rng = np.random.default_rng(entries)
    counts = rng.integers(0, 1 << rng.integers(1, 20), entries)
    counts[rng.integers(entries)] += 1
    weights = range_coding.integer_weights(counts)
    assert weights.sum() == 1 << 24 and weights.min() >= 1
    assert list(weights) == reference_decoder.table([int(c) for c in counts])
    rarest = np.argsort(weights)[:50]
    symbols = np.concatenate([rng.choice(entries, 200, p=weights / 2**24), rarest])
    coder = range_coding.Encoder()
    coder.symbols(weights, symbols.astype(np.int32), symbols.size)
    reader = reference_decoder.RangeDecoder(coder.finish())
    assert [reader.symbol(weights.tolist()) for _ in symbols] == list(symbols)


def test_bits_are_coded_under_any_weight():
    rng = np.random.default_rng(0)
    ones = np.concatenate([[1, 2, 2**24 - 1, 2**23], rng.integers(1, 2**24, 2000)])
    bits = rng.random(ones.size) < ones / 2**24
    bits[:3] = [True, False, False]  # the improbable ones
    coder = range_coding.Encoder()
    coder.binary(ones, bits)
    data = coder.finish()
    np.testing.assert_array_equal(range_coding.Decoder(data).binary(ones, None), bits)
    reader = reference_decoder.RangeDecoder(data)
    assert [reader.bit(int(w)) for w in ones] == list(bits)
    assert 8 * len(data) <= sum(coder.spent.values()) + 8


@pytest.mark.parametrize("seed", range(40))
def test_the_short_ending_reads_back(seed):
    """Endings are ours, not the library's: shorter by a few bytes and equally readable."""
    rng = np.random.default_rng(seed)
    weights = range_coding.integer_weights(rng.integers(0, 1000, 7) ** 2 + 1)
    count = int(rng.integers(0, 40))
    symbols = rng.integers(0, 7, count).astype(np.int32)
    if seed % 4 == 0:
        symbols[:] = np.argmax(weights)
    coder = range_coding.Encoder()
    coder.symbols(weights, symbols, count)
    library = constriction.stream.queue.RangeEncoder()
    if count:
        library.encode(symbols, range_coding._model(weights))
    data = coder.finish()
    assert len(data) <= 4 * library.get_compressed().size
    assert not data.endswith(b"\0")
    for extra in (b"", bytes(9)):
        reader = range_coding.Decoder(data + extra)
        np.testing.assert_array_equal(reader.symbols(weights, None, count), symbols)


def test_a_carry_through_many_words_is_resolved():
    """Symbols at the very top of the range keep the coder undecided about words it has passed."""
    weights = np.array([1, (1 << 24) - 2, 1])
    for last in (0, 2):
        symbols = np.array([1] * 5 + [2] * 30 + [last], np.int32)
        coder = range_coding.Encoder()
        coder.symbols(weights, symbols, symbols.size)
        reader = reference_decoder.RangeDecoder(coder.finish())
        assert [reader.symbol(weights.tolist()) for _ in symbols] == list(symbols)


def test_realistic_networks_are_small():
    network = lenet_300_100()
    sizes = {coding: len(codec.encode(network, codings=(coding,))) for coding in CODINGS}
    best = len(codec.encode(network))
    assert best <= min(sizes.values()) < sizes["huffman"]
    assert sizes["bitmap"] < 0.9 * sizes["relative"]
    parts = codec.describe(codec.encode(network)).bytes
    assert parts["header"] <= 60
