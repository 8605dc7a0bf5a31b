"""Hostile bytes: always CorruptFileError, never a crash, a hang, or a gigabyte.

The checksum stops accidents. Whoever means harm computes it anew, so most of these tests do too.
"""

import io
import os
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_networks import lenet_300_100, tiny

from sws import codec
from sws.codec.header import MAGIC, deflate, varint
from sws.codec.metadata import read_metadata
from sws.network.quantized import InputSpec, QuantizedNetwork, QuantizedTensor, RawTensor

FILES = [codec.encode(tiny())]
MEGABYTES = 1 << 20
HEADS = [b"\x04(2", b"\x46(2\x1c", b"\x0e\x08\x06\x03\x03"]


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


def headed(names, directory, codebooks=b"\x01\x12", body=b""):
    """A file put together by hand; the codebook is of float16 with 9 entries by default."""
    metadata = deflate(b"[" + names + b",null,null]")
    return signed(MAGIC + varint(len(metadata)) + metadata + codebooks + directory + body)


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
@given(
    st.sampled_from([b"\x04(2", b"\x46(2\x1c", b"\x0e\x08\x06\x03\x03"]), st.binary(max_size=400)
)
def test_garbage_for_a_stream(directory, body):
    """A sound header, then anything: matrices, matrices with a lag, kernels."""
    survives(headed(b'["w"]', directory, b"\x01" + varint(2 * 9), body))


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
        (b"[" * 100_000, "nested deeper"),
        (b'[[],["x",{"a":' + b"[" * 14 + b"]" * 14 + b"}],null]", "nested deeper"),
        (b"null", "not an array"),
        (b"[[],null]", "not an array"),
        (b"[[],null,null,{},1]", "not an array"),
        (b"[{},null,null]", "names no tensors"),
        (b"[[1],null,null]", "name is not a text"),
        (b'[["a","a"],null,null]', "repeat"),
        (b'[[],"x",null]', "not a name and settings"),
        (b"[[],[1,{}],null]", "name is not a text"),
        (b'[[],["x",[]],null]', "not a name and settings"),
        (b'[["lenet-300-100",{"name":1}],null,null]', "name is not a text"),
        (b"[[],null,[1,2,3,4]]", "not four arrays"),
        (b"[[],null,[[1],[0],[1]]]", "not four arrays"),
        (b'[[],null,[[1],"0",[1],[]]]', "not four arrays"),
        (b'[[],null,[["a"],[0],[1],[]]]', "cannot be read"),
        (b"[[],null,[[1],[1" + b"0" * 400 + b"],[1],[]]]", "beyond 64 bits"),
        (b"[[],null,[[1],[0],[9223372036854775808],[]]]", "beyond 64 bits"),
        (b"[[],null,[[1],[0],[1e400],[]]]", "not finite"),
        (b"[[],null,[[1],[NaN],[1],[]]]", "not JSON"),
        (b"[[],null,[[1],[0],[1],[2]]]", "class's name is not a text"),
        (b'[[],["x",{"y":' + b"9" * 5000 + b"}],null]", "beyond 64 bits"),
        (b'[[],["x",{"y":1,"y":2}],null]', "two equal keys"),
        (b'[["__metadata__"],null,null]', "__metadata__"),
        (b'[["' + b"n" * 256 + b'"],null,null]', "longer than 255"),
        (b'[["\\ud800"],null,null]', "surrogate"),
        (b'[["\xed\xa0\x80"],null,null]', "cannot be read"),
        (b'[["a\\u001b[31m"],null,null]', "control"),
        (b'[["a\\u2028b"],null,null]', "control"),
        (b'[[],null,null,{"a":1}]', "notes are not texts"),
        (b'[[],null,null,{"a":"' + b"x" * 4096 + b'"}]', "more than 4096"),
        (b"\xff\xfe", "cannot be read"),
        (b"[[],null,null]" + b" " * (1 << 20), "too long"),
    ],
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
    with pytest.raises(codec.CorruptFileError, match="of version 3"):
        codec.decode(signed(b"SWS\x03" + bytes(50)))


def test_the_first_bytes_are_looked_at_before_the_rest_is_read(tmp_path):
    """20 GB of zeros are refused at once, and take no memory."""
    path = tmp_path / "zeros.sws"
    with path.open("wb") as file:
        file.truncate(20 * 10**9)
    tracemalloc.start()
    with pytest.raises(codec.CorruptFileError, match=r"zeros.sws: this is no .sws file"):
        codec.read(path)
    assert tracemalloc.get_traced_memory()[1] < MEGABYTES
    tracemalloc.stop()


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises((codec.CorruptFileError, OSError), match="no ordinary file"):
            codec.read(path)
    link = tmp_path / "link"
    codec.write(tiny(), tmp_path / "model.sws")
    link.symlink_to("model.sws")
    assert codec.read(link) == tiny()


def test_open_files_are_written_to_and_read_from():
    buffer = io.BytesIO(b"before")
    buffer.seek(6)
    assert codec.write(tiny(), buffer) == len(codec.encode(tiny()))
    buffer.seek(6)
    assert codec.read(buffer) == tiny()


def test_a_reason_is_short_whatever_it_quotes():
    assert len(str(codec.CorruptFileError("\x1b" * 10**6))) < 2000


@pytest.mark.parametrize("number", [b"\x80\x00", b"\x85\x80\x00"])
def test_a_number_longer_than_it_needs_to_be_is_refused(number):
    metadata = deflate(b"[[],null,null]")
    data = signed(MAGIC + varint(len(metadata)) + metadata + number)
    with pytest.raises(codec.CorruptFileError, match="longer than it needs"):
        codec.decode(data)


def test_a_real_file_with_garbage_for_a_stream():
    data = codec.encode(lenet_300_100())
    rng = np.random.default_rng(0)
    for _ in range(3):
        survives(signed(data[:45] + rng.bytes(len(data) - 49)))


@pytest.mark.parametrize("shape", [(1000, 1000), (1, 60_000), (60_000, 1), (100, 100, 3, 3)])
@pytest.mark.parametrize("fill", [b"\x00", b"\x60", b"\xc1", b"\xff"])
def test_time_is_bounded_for_a_short_file(shape, fill):
    """Millions of weights of 16 bits each would take seconds; the bits decoded are counted."""
    directory = bytes([(len(shape) - 1) << 2]) + b"".join(map(varint, shape))
    data = headed(b'["w"]', directory, b"\x01" + varint(2 * 3000), fill * 50)
    survives(data)  # compiled by now
    start = time.process_time()
    survives(data)
    assert time.process_time() - start < 2.5


def test_raw_tensors_are_charged_for_their_bits():
    raw = (RawTensor("r", np.random.default_rng(0).random(90_000).astype(np.float32)),)
    data = codec.encode(QuantizedNetwork(raw, ()))
    short = signed(data[:2000])
    with pytest.raises(codec.CorruptFileError, match="declares far more"):
        codec.decode(short)


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
    for text, reason in (
        (b'[[],["x",{"a":1e999}],null]', "not finite"),
        (b"[[],null,[[1],[NaN],[1],[]]]", "not JSON"),
        (b"[[],null,[[1],[-1e999],[1],[]]]", "not finite"),
    ):
        with pytest.raises(codec.CorruptFileError, match=reason):
            read_metadata(text)


def test_a_scale_that_makes_weights_infinite_is_refused():
    book = np.array([0, 60000], np.float16)
    tensor = QuantizedTensor("w", "fc", 0, np.ones((2, 2), np.uint8), float(np.float32(3e38)))
    with pytest.raises(ValueError, match="makes weights infinite"):
        QuantizedNetwork((tensor,), (book,))


def test_another_kind_of_file_is_told_apart_from_a_damaged_one():
    with pytest.raises(codec.CorruptFileError, match="no .sws file"):
        codec.decode(b"PK\x03\x04 something else")
