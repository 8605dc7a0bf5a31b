"""Compression rates against numbers worked out by hand."""

import os

import numpy as np
import pytest

from sws import codec
from sws.codec import rates
from sws.codec.relative_index import relative_index
from sws.network.quantized import QuantizedNetwork, QuantizedTensor, RawTensor

CODEBOOK = np.array([0, 1, 2, 5], np.float16)
EXAMPLE = np.array(  # the worked example of Appendix A, as indexes into 0, 1, 2, 5
    [[0, 0, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0], [2, 3, 0, 0], [0, 0, 0, 1]], np.uint8
)


def network(indexes=EXAMPLE, kind="fc", codebook=CODEBOOK, raw=(), **more):
    layer = QuantizedTensor("w", kind, 0, np.asarray(indexes, np.uint8), **more)
    return QuantizedNetwork((layer, *raw), (codebook,))


def test_worked_example_of_appendix_a():
    index = relative_index(EXAMPLE, bits=5)
    np.testing.assert_array_equal(CODEBOOK[index.values], [1, 2, 2, 5, 1])
    np.testing.assert_array_equal(index.pointers, [0, 1, 2, 2, 4, 5])
    np.testing.assert_array_equal(index.differences, [3, 1, 0, 1, 3])
    assert index.pointer_bits == 3  # the smallest p with 5 < 2^p


def test_padding_of_figure_4():
    row = np.zeros((1, 16), np.uint8)
    row[0, [1, 4, 15]] = [1, 2, 3]  # 3.4, 0.9 and 1.7 in the figure
    index = relative_index(row, bits=3)
    np.testing.assert_array_equal(index.values, [1, 2, 0, 3])
    np.testing.assert_array_equal(index.differences, [1, 3, 8, 3])


def test_bits_of_the_worked_example():
    # A = 1 2 2 5 1: two symbols occur twice and one once, so code lengths 1, 2, 2 and 2+4+2 or
    # 2·2+2·1+1·2: 8 bits. Zeros skipped 3 1 0 0 3: again 2, 2, 1 times, 8 bits.
    bits = rates.csr_bits(network(), network().quantized[0])
    assert bits.fixed_indexes == 5 * 5
    assert bits.values == 8
    assert bits.huffman_indexes == 8
    assert bits.pointers == 6 * 3
    assert bits.tables == (5 + 5 * 4) + (2 + 5 * 4)  # symbols 0…3 of 32 and 0…3 of 4
    found = rates.rates(network(), 100)
    assert found.nonzero == 20 / 5
    assert found.han == pytest.approx(32 * 20 / (25 + 8 + 18 + 4 * 16))
    assert found.huffman == pytest.approx(32 * 20 / (8 + 8 + 18 + 47 + 4 * 16))
    assert found.file == 4 * 20 / 100


def test_padding_is_charged_to_the_values():
    wide = np.zeros((1, 100), np.uint8)
    wide[0, 70] = 1
    bits = rates.csr_bits(network(wide), network(wide).quantized[0])
    assert bits.fixed_indexes == 3 * 5  # two padding zeros, at columns 31 and 63
    assert bits.values == 3  # two symbols, one bit each
    assert rates.csr_bits(network(wide, "conv"), network(wide, "conv").quantized[0]).han == (
        8 + 1 + 2 * 1
    )


def test_convolutions_are_flattened_to_output_units():
    filters = np.zeros((2, 3, 5, 5), np.uint8)
    filters[1, 2, 4, 4] = 3
    bits = rates.csr_bits(network(filters, "conv"), network(filters, "conv").quantized[0])
    assert bits.pointers == 3 * 1
    assert bits.fixed_indexes == 8


def test_nonzero_means_value_not_zero():
    twice_zero = np.array([0, 1, 0, 5], np.float16)
    found = rates.rates(network(codebook=twice_zero), 100)
    assert found.nonzero == 20 / 3
    same = np.where(EXAMPLE == 2, 0, EXAMPLE)
    assert found.han == rates.rates(network(same, codebook=twice_zero), 100).han


def test_an_empty_network_has_no_finite_rate():
    found = rates.rates(network(np.zeros((3, 4))), 100)
    assert found.nonzero == float("inf")
    assert np.isnan(rates.rates(network(np.zeros((0, 4))), 100).nonzero)


def test_file_rate_is_about_the_file_on_disk(tmp_path):
    bias = RawTensor("b", np.arange(5, dtype=np.float16))
    statistic = RawTensor("m", np.arange(5, dtype=np.float32), trainable=False)
    whole = network(raw=(bias, statistic))
    size = codec.write(whole, tmp_path / "model.sws")
    assert size == os.stat(tmp_path / "model.sws").st_size
    assert rates.rates(whole, size).file == 4 * (20 + 5) / os.stat(tmp_path / "model.sws").st_size


def test_bytes_by_part_sum_to_the_file():
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, 4, (50, 40)) * (rng.random((50, 40)) < 0.1)
    bias = RawTensor("b", rng.normal(size=50).astype(np.float16))
    data = codec.encode(network(indexes, raw=(bias,)))
    parts = codec.describe(data).bytes
    assert parts["file"] == len(data) == sum(n for part, n in parts.items() if part != "file")
    assert set(parts) == {"indexes", "values", "codebook", "tables", "raw", "header", "file"}
    assert min(parts.values()) >= 0 and parts["header"] < 60


def test_layer_report():
    bias = RawTensor("b", np.ones(5, np.float16))
    whole = network(raw=(bias,))
    rows = rates.layer_report(whole, codec.encode(whole))
    assert [row["name"] for row in rows] == ["w", "b"]
    assert rows[0]["shape"] == (5, 4) and rows[0]["nonzeros"] == 5
    assert rows[0]["nonzero_pct"] == 25
    assert rows[0]["bits_han"] == 25 + 8 + 18 and rows[1]["bits_han"] is None
    assert rows[0]["bits"] >= rows[0]["bits_indexes"] + rows[0]["bits_values"] > 0


def test_huffman_codes_lie_within_a_bit_of_the_entropy():
    rng = np.random.default_rng(1)
    indexes = rng.integers(1, 4, (300, 400)) * (rng.random((300, 400)) < 0.03)
    whole = network(indexes)
    found = rates.csr_bits(whole, whole.quantized[0])
    index = relative_index(indexes, 5)
    for bits, symbols in (
        (found.huffman_indexes, index.skips),
        (found.values, index.values.astype(np.int64)),
    ):
        counts = np.bincount(symbols)
        shares = counts[counts > 0] / symbols.size
        entropy = -symbols.size * (shares * np.log2(shares)).sum()
        assert entropy <= bits < entropy + symbols.size
