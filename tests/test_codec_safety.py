"""Hostile bytes: always CorruptFileError, never a crash, a hang, or a gigabyte.

The checksum stops accidents. Whoever means harm computes it anew, so most of these tests do too.
"""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_networks import lenet_300_100, tiny

from sws import codec
from sws.codec.header import MAGIC, _read_metadata, deflate, varint
from sws.network.quantized import InputSpec, QuantizedNetwork, QuantizedTensor, RawTensor

FILES = [codec.encode(tiny(), (coding,)) for coding in ("huffman", "relative", "bitmap")]
MEGABYTES = 1 << 20


def signed(content):
    return content + zlib.crc32(content).to_bytes(4, "little")


def survives(data):
    """Decoding gives a network or CorruptFileError with a reason, and nothing else."""
    try:
        codec.decode(data)
    except codec.CorruptFileError as error:
        assert str(error) and "\n" not in str(error)


def peak_megabytes(data):
    tracemalloc.start()
    try:
        survives(data)
        return tracemalloc.get_traced_memory()[1] / MEGABYTES
    finally:
        tracemalloc.stop()


def headed(names, directory, codebooks=b"\x01\x12", body=b"", huffman=b""):
    """A file put together by hand; the codebook is of float16 with 9 entries by default."""
    metadata = deflate(b"[" + names + b",null,null]")
    return signed(
        MAGIC
        + varint(len(metadata))
        + metadata
        + codebooks
        + directory
        + varint(len(huffman))
        + huffman
        + body
    )


@pytest.mark.parametrize("data", FILES)
def test_every_truncation(data):
    for length in range(len(data)):
        with pytest.raises(codec.CorruptFileError):
            codec.decode(data[:length])


@pytest.mark.parametrize("data", FILES)
def test_every_flipped_bit(data):
    for k in range(8 * len(data)):
        altered = bytearray(data)
        altered[k // 8] ^= 1 << k % 8
        with pytest.raises(codec.CorruptFileError):
            codec.decode(bytes(altered))


@pytest.mark.parametrize("data", FILES)
def test_truncations_with_a_valid_checksum(data):
    for length in range(0, len(data) - 4, 5):
        survives(signed(data[:length]))


@pytest.mark.parametrize("data", FILES)
def test_altered_bytes_with_a_valid_checksum(data):
    rng = np.random.default_rng(0)
    for k in range(0, len(data) - 4, 2):
        altered = bytearray(data[:-4])
        altered[k] = rng.integers(256)
        survives(signed(bytes(altered)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(content):
    with pytest.raises(codec.CorruptFileError):
        codec.decode(content)
    survives(signed(content))
    survives(signed(MAGIC + content))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_spliced_files_with_a_valid_checksum(data, choices):
    content = data[:-4]
    for _ in range(choices.draw(st.integers(1, 3))):
        a = choices.draw(st.integers(0, len(content)))
        b = choices.draw(st.integers(a, min(len(content), a + 20)))
        content = content[:a] + choices.draw(st.binary(max_size=20)) + content[b:]
    survives(signed(content))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([1, 2, 3]), st.binary(max_size=400), st.binary(max_size=100))
def test_garbage_in_every_coding(coding, body, huffman):
    """A sound header; the stream begins as one of this coding would, then anything comes."""
    directory = b"\x04" + varint(40) + varint(50)
    codebooks = b"\x01" + varint(2 * 9)
    survives(headed(b'["w"]', directory, codebooks, bytes([coding << 5]) + body, huffman))
    survives(headed(b'["w"]', directory, codebooks, body, huffman))


@pytest.mark.parametrize(
    "shape",
    [(1 << 30,), (1 << 34, 1 << 34), (0, 1 << 34), (1 << 34, 0), (1 << 20, 1 << 20), (1, 1 << 25)],
)
def test_declared_sizes_are_not_believed(shape):
    quantized = bytes([(len(shape) - 1) << 2]) + b"".join(map(varint, shape))
    raw = bytes([1 | len(shape) << 5]) + b"".join(map(varint, shape))
    for directory in (quantized, raw):
        data = headed(b'["w"]', directory, body=bytes(20))
        with pytest.raises(codec.CorruptFileError, match="declares far more"):
            codec.decode(data)
        assert peak_megabytes(data) < 5


@pytest.mark.parametrize("shape", [(2900, 2800), (30_000, 4), (8_000_000, 1), (1, 8_000_000)])
@pytest.mark.parametrize("fill", [b"\x00", b"\x55", b"\x99", b"\xff"])
def test_memory_is_bounded_for_the_largest_layer_that_a_short_file_may_declare(shape, fill):
    directory = b"\x04" + varint(shape[0]) + varint(shape[1])
    assert peak_megabytes(headed(b'["w"]', directory, body=fill * 60)) < 400


@pytest.mark.parametrize("kind", range(6))
def test_memory_is_bounded_for_raw_tensors(kind):
    bytes_each = (2, 4, 8, 4, 1, 1)[kind]
    directory = bytes([1 | kind << 1 | 1 << 5]) + varint(2_000_000 // bytes_each)
    assert peak_megabytes(headed(b'["w"]', directory, body=b"\x33" * 60)) < 400


def test_codebooks_are_bounded():
    for size in (0, 65537, 1 << 30):
        with pytest.raises(codec.CorruptFileError, match="a codebook of"):
            codec.decode(headed(b"[]", b"", b"\x01" + varint(2 * size)))
    many = headed(b"[]", b"", varint(3000) + varint(2 * 65536) * 3000)
    with pytest.raises(codec.CorruptFileError, match="declares far more"):
        codec.decode(many)
    with pytest.raises(codec.CorruptFileError):
        codec.decode(headed(b"[]", b"", b"\xff\xff\xff\xff\x7f"))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (b"[" * 100_000, "cannot be read"),
        (b"null", "cannot be read"),
        (b"[[],null]", "cannot be read"),
        (b"[{},null,null]", "names no tensors"),
        (b"[[1],null,null]", "names no tensors"),
        (b'[["a","a"],null,null]', "repeat"),
        (b'[[],"x",null]', "cannot be read"),
        (b"[[],[1,{}],null]", "cannot be read"),
        (b'[[],["x",[]],null]', "cannot be read"),
        (b"[[],null,[1,2,3,4]]", "cannot be read"),
        (b'[[],null,[["a"],[0],[1],[]]]', "cannot be read"),
        (b"[[],null,[[1],[0],[1],[2]]]", "cannot be read"),
        (b'[[],["x",{"y":' + b"9" * 5000 + b"}],null]", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[[],null,null]" + b" " * (1 << 20), "too long"),
    ],
    ids=range(15),
)
def test_hostile_metadata(metadata, reason):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(metadata) + packer.flush()
    data = signed(MAGIC + varint(len(packed)) + packed + b"\0\0")
    with pytest.raises(codec.CorruptFileError, match=reason):
        codec.decode(data)
    assert peak_megabytes(data) < 60


def test_other_files_are_refused():
    for content in (b"", b"SWS", b"PK\x03\x04" + bytes(50), b"SWS\x02" + bytes(50)):
        with pytest.raises(codec.CorruptFileError):
            codec.decode(content)
    with pytest.raises(codec.CorruptFileError, match="not an sws file of version 1"):
        codec.decode(signed(b"SWS\x02" + bytes(50)))


def test_a_real_file_with_garbage_for_a_stream():
    data = codec.encode(lenet_300_100())
    rng = np.random.default_rng(0)
    for _ in range(3):
        survives(signed(data[:45] + rng.bytes(len(data) - 49)))


def test_the_work_bound_counts_bitmap_rows():
    """65,536 table entries rebuilt for each of many rows would take an hour."""
    directory = b"\x04" + varint(4000) + varint(16)
    codebooks = b"\x01" + varint(2 * 65536)
    for fill in (b"\x60", b"\xc1", b"\xff"):
        survives(headed(b'["w"]', directory, codebooks, fill * 50))


def test_many_small_raw_tensors_are_charged_for_their_planes():
    """Each is tens of rounds of work for a handful of bytes."""
    raw = tuple(RawTensor(str(k), np.zeros(300, np.float32)) for k in range(150))
    data = codec.encode(QuantizedNetwork(raw, ()))
    assert len(data) > 1_500  # zero bytes at its end pay for the work
    assert codec.decode(data).raw[0].values.size == 300
    short = data[: len(data) // 2].rstrip(b"\0")
    with pytest.raises(codec.CorruptFileError, match="declares far more"):
        codec.decode(signed(short))


@pytest.mark.parametrize(
    "values",
    [
        {"shape": (0, 3)},
        {"shape": (True, 3)},
        {"mean": (float("nan"),)},
        {"std": (0.0,)},
        {"std": (float("inf"),)},
        {"classes": (0, 1)},
    ],
)
def test_an_input_that_means_nothing_is_refused(values):
    with pytest.raises(ValueError, match=r"input's|class names"):
        InputSpec(**{"shape": (1, 3), "mean": (0.0,), "std": (1.0,)} | values)


def test_infinite_numbers_in_the_metadata_are_refused():
    for text in (
        b'[[],["x",{"a":1e999}],null]',
        b"[[],null,[[1],[NaN],[1],[]]]",
        b"[[],[1,{}],null]",
    ):
        with pytest.raises(codec.CorruptFileError, match="metadata cannot be read"):
            _read_metadata(text)


def test_a_scale_that_makes_weights_infinite_is_refused():
    book = np.array([0, 60000], np.float16)
    tensor = QuantizedTensor("w", "fc", 0, np.ones((2, 2), np.uint8), float(np.float32(3e38)))
    with pytest.raises(ValueError, match="makes weights infinite"):
        QuantizedNetwork((tensor,), (book,))


def test_another_kind_of_file_is_told_apart_from_a_damaged_one():
    with pytest.raises(codec.CorruptFileError, match="no .sws file"):
        codec.decode(b"PK\x03\x04 something else")
