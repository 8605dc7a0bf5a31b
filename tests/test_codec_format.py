"""The format itself: a reader written from docs/format.md, the range coder's contract, the past."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference_decoder
from sample_networks import codebook, lenet_300_100, sequential, sparse_layer, tiny

from sws import codec
from sws.codec import bit_coding, compiled
from sws.codec.coder import Coder, _tables
from sws.codec.header import DICTIONARY
from sws.network.quantized import QuantizedNetwork, QuantizedTensor, RawTensor

GOLDEN = Path(__file__).parent / "golden"


def assert_reference_agrees(data, network):
    codebooks, tensors, architecture, spec, notes = reference_decoder.decode(data)
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
    assert notes == dict(network.notes)
    if network.architecture is not None:
        assert architecture == [network.architecture.name, dict(network.architecture.settings)]
        assert tuple(spec[0]) == network.input.shape and tuple(spec[3]) == network.input.classes


def smooth():
    """Images, kernels of three kinds, more than one row of context."""
    rng = np.random.default_rng(5)
    layers = [
        ("fc1", "fc", sparse_layer(rng, (60, 144), 0.1, side=12)),
        ("fc2", "fc", sparse_layer(rng, (30, 60), 0.1)),
        ("fc3", "fc", sparse_layer(rng, (3, 600), 0.3)),
        ("conv1", "conv", sparse_layer(rng, (6, 3, 5, 5), 0.2)),
        ("conv2", "conv", sparse_layer(rng, (9, 6, 3, 3), 0.3)),
        ("conv3", "conv", sparse_layer(rng, (4, 9, 7), 0.3)),
    ]
    return sequential(rng, layers)


def wide():
    """Large codebooks of one and of both signs, equal entries, scales, all kinds of raw values."""
    rng = np.random.default_rng(6)
    books = (
        codebook(300, np.float32),
        np.array([0, 0.5, 0.5, -0.5, 0, -0.5], np.float16),
        np.abs(codebook(9)),
        0 - np.abs(codebook(6)),
        np.zeros(1, np.float16),
    )
    shapes = ((7, 11), (5, 9), (4, 6, 3), (3, 4, 2, 2), (4, 5))
    tensors = []
    for k, (book, shape) in enumerate(zip(books, shapes, strict=True)):
        alive = rng.random(shape) < 0.4
        indexes = (alive * rng.integers(0, book.size, shape)).astype(np.uint16)
        tensors.append(QuantizedTensor(f"w{k}", "conv" if k > 1 else "fc", k, indexes, -1.5 + k))
        tensors.append(RawTensor(f"b{k}", rng.normal(size=shape[0]).astype(np.float16)))
        tensors.append(RawTensor(f"v{k}", rng.random(shape[0]).astype(np.float32), False))
    tensors.append(RawTensor("same", np.full(50, 2.5, np.float32), False))
    tensors.append(RawTensor("large", np.array([2**63 - 1, -(2**63), -1, 0, 7])))
    tensors.append(RawTensor("ints", rng.integers(-300, 300, (3, 4)).astype(np.int32)))
    return QuantizedNetwork(tuple(tensors), books, notes={"licence": "MIT", "data": "none"})


NETWORKS = {"tiny": tiny, "smooth": smooth, "wide": wide}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_reader_written_from_the_document_agrees(name):
    network = NETWORKS[name]()
    assert_reference_agrees(codec.encode(network), network)


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_files_decode_for_ever(name):
    """And the writer still makes them: not promised, but no change should go unnoticed."""
    data = (GOLDEN / f"{name}-v2.sws").read_bytes()
    network = codec.decode(data)
    assert network == NETWORKS[name]()
    assert_reference_agrees(data, network)
    assert codec.encode(network) == data


def test_a_file_of_the_format_before_is_told_so():
    with pytest.raises(codec.CorruptFileError, match="version 1; this program reads version 2"):
        codec.decode(b"SWS\x01" + bytes(50))


def test_the_document_gives_the_dictionary():
    assert reference_decoder.preset_dictionary() == DICTIONARY


def test_tables_are_those_of_the_document():
    t = _tables().tolist()
    for p in [*range(0, 65536, 7), *range(3000), *range(62500, 65536)]:
        place = p if p < 2048 else 2048 + (p >> 4) if p < 63488 else 6144 + p - 63488
        assert t[bit_coding.STRETCH + place] - 4096 == reference_decoder.stretch(p)
    for x in range(-4095, 4096):
        assert t[bit_coding.SQUASH + 4095 + x] == reference_decoder.squash(x)


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_a_carry_through_many_bytes_is_resolved(fill):
    """Improbable bits at the top of the interval keep the coder undecided about what it wrote."""
    s = np.zeros(bit_coding.STATE, np.int64).tolist()
    s[bit_coding.RANGE] = 1 << 48
    data = [0] * 4000
    s[bit_coding.END] = len(data)
    rng = np.random.default_rng(fill)
    sent = []
    for k in range(3000):
        ones = int(rng.choice([1, 2, 30000, 65534, 65535]))
        bit = int(k % 50 == 49) if fill else int(rng.random() < ones / 65536)
        sent.append((ones, bit))
        bit_coding.code_bit(s, data, ones, bit)
        if s[bit_coding.AT] > 3900:
            break
    coder = Coder()
    coder._s[:], coder._data = s, np.array(data, np.uint8)
    reader = reference_decoder.RangeDecoder(coder.finish())
    assert [reader.bit(ones) for ones, _ in sent] == [bit for _, bit in sent]


def test_realistic_networks_are_small():
    parts = codec.describe(codec.encode(lenet_300_100())).bytes
    assert parts["header"] <= 60
    assert parts["indexes"] + parts["values"] < 4500


def isolated(tmp_path, *, home=True):
    """A copy of the package without anything compiled, and the environment that finds it."""
    copy = tmp_path / "copy"
    shutil.copytree(
        Path(codec.__file__).parents[1], copy / "sws", ignore=shutil.ignore_patterns("__pycache__")
    )
    caches = tmp_path / "cache"
    if home:
        caches.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(copy), "XDG_CACHE_HOME": str(caches)}
    return copy, environment


SCRIPT = """
import sys; sys.path.insert(0, {tests!r})
from sample_networks import tiny
from sws import codec
from sws.codec.compiled import kernels
data = codec.encode(tiny())
assert codec.decode(data) == tiny()
print(kernels().kind, len(data), "numba" in sys.modules, "torch" in sys.modules)
"""


def start(environment, **more):
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-P", "-c", script]  # not the package of the working directory
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **more)


def test_two_processes_may_start_on_one_empty_cache_and_a_third_need_not_compile(tmp_path):
    copy, environment = isolated(tmp_path)
    both = [start(environment), start(environment)]
    size = len(codec.encode(tiny()))
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    # the slower one may find what the faster one has compiled by then
    assert f"machine code {size} True False\n" in said
    assert set(said) <= {f"machine code {size} {numba} False\n" for numba in (True, False)}
    assert len(list((copy / "sws" / "codec" / "__pycache__").glob("*.o"))) == 1
    assert start(environment).communicate()[0] == f"machine code {size} False False\n"


def test_a_cache_that_cannot_be_read_or_written_costs_time_only(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "_folders", lambda: [tmp_path / "file" / "x", tmp_path / "none"])
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "none").mkdir()
    compiled._keep("a.o", b"code")
    assert compiled._cached("a.o") == b"code"
    (tmp_path / "none" / "a.o").write_bytes(b"cut")
    assert compiled._cached("a.o") is None
    monkeypatch.setattr(compiled, "_folders", lambda: [tmp_path / "file"])
    compiled._keep("a.o", b"code")
    assert compiled._cached("a.o") is None


def test_machine_code_of_another_processor_or_version_has_another_name():
    names = {compiled._fingerprint("znver1", "+avx"), compiled._fingerprint("znver4", "+avx")}
    names.add(compiled._fingerprint("znver4", "+avx2"))
    assert len(names) == 3
    assert compiled._fingerprint("znver1", "+avx") in names


def test_a_small_file_is_read_without_numba_and_torch(tmp_path):
    compiled.kernels()  # compiled by now
    environment = {**os.environ}
    said = start(environment).communicate()[0].split()
    assert said[-2:] == ["False", "False"]
