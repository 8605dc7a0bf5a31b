"""Every layout that raw images come in, damaged ones too, and the cache of decoded images."""

import dataclasses
import gzip
import os
import pickle
import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sws.data import catalogue, datasets, readers


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SWS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("SWS_DATA_ROOT", raising=False)


def alter(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def python2_pickle(images, labels, key=b"labels"):
    """A batch spelled as Python 2 wrote CIFAR's: byte strings, ``numpy.core``, protocol 2."""

    def text(value):
        return b"T" + struct.pack("<I", len(value)) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    planes = images.transpose(0, 3, 1, 2).tobytes()
    shape = number(len(images)) + number(len(planes) // len(images)) + b"\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85"
    array += text(b"b") + b"\x87R(" + number(1) + shape
    array += b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R("
    array += number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array += b"\x89" + text(planes) + b"tb"
    numbers = b"](" + b"".join(number(int(label)) for label in labels) + b"e"
    items = text(b"batch_label") + text(b"batch 1 of 1") + text(key) + numbers
    return b"\x80\x02}(" + items + text(b"data") + array + b"u."


@pytest.fixture
def small():
    """A data set of 60 + 30 images with the shape, the classes and the files of CIFAR-10."""
    rng = np.random.default_rng(5)
    whole = catalogue.spec("cifar-10")
    counts = {"train": 60, "test": 30}
    content = {}
    for split, count in counts.items():
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        content[split] = images, rng.permutation(np.arange(count) % 10)
    hashes = {s: datasets.content_hash(*datasets.canonical(*content[s])) for s in counts}
    raw = dataclasses.replace(whole.raw, counts=counts)
    return dataclasses.replace(whole, raw=raw, sha256=hashes), content


def write_pickles(root, content):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images, labels = content["train"]
    for k in range(5):
        part = slice(12 * k, 12 * k + 12)
        (folder / f"data_batch_{k + 1}").write_bytes(python2_pickle(images[part], labels[part]))
    (folder / "test_batch").write_bytes(python2_pickle(*content["test"]))
    return folder


def write_binary(root, content):
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    records = {}
    for split, (images, labels) in content.items():
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        records[split] = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
    for k in range(5):
        (folder / f"data_batch_{k + 1}.bin").write_bytes(
            records["train"][12 * k : 12 * k + 12].tobytes()
        )
    (folder / "test_batch.bin").write_bytes(records["test"].tobytes())
    return folder


def write_pngs(root, content, name="cifar-10"):
    classes = catalogue.spec(name).classes
    for split, (images, labels) in content.items():
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / name / split / classes[label] / f"{k:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.squeeze()).save(path)
    return root / name


def write_archive(write, name):
    """The files of a layout in the archive that CIFAR-10 comes in."""

    def pack(root, content):
        folder = write(root / "unpacked", content)
        with tarfile.open(root / name, "w:gz") as archive:
            archive.add(folder, folder.name)
        return root / name

    return pack


WRITERS = {
    "pickle": write_pickles,
    "binary": write_binary,
    "png": write_pngs,
    "pickle archive": write_archive(write_pickles, "cifar-10-python.tar.gz"),
    "binary archive": write_archive(write_binary, "cifar-10-binary.tar.gz"),
}


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_gives_the_same_hash(small, tmp_path, layout):
    entry, content = small
    folder = WRITERS[layout](tmp_path, content)
    source = datasets.find(entry.raw, tmp_path)
    assert (source.layout, source.folder) == (layout.removesuffix(" archive"), folder)
    for split in datasets.SPLITS:
        images, labels = datasets.read(entry, source, split)
        expected = datasets.canonical(*content[split])
        assert np.array_equal(images, expected[0]) and np.array_equal(labels, expected[1])


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_is_checked(small, tmp_path, layout):
    entry, content = small
    content["test"][0][7, 3, 3, 1] ^= 1
    WRITERS[layout](tmp_path, content)
    source = datasets.find(entry.raw, tmp_path)
    datasets.read(entry, source, "train")
    with pytest.raises(datasets.DataError, match="cifar-10/test has SHA-256 .* 30 images"):
        datasets.read(entry, source, "test")


def test_mnist_layouts_give_the_same_hash(tmp_path):
    mnist = datasets.load("mnist", download=False)
    content, hashes = {}, {}
    whole = catalogue.spec("mnist")
    for split, name in (("train", "train"), ("test", "t10k")):
        chosen = np.random.default_rng(1).permutation(len(getattr(mnist, split)))[:100]
        images, labels = getattr(mnist, split).images[chosen], getattr(mnist, split).labels[chosen]
        content[split] = images, labels
        hashes[split] = datasets.content_hash(*datasets.canonical(images, labels))
        raw = tmp_path / "idx" / "MNIST" / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        header = struct.pack(">4I", 2051, 100, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        with gzip.open(raw / f"{name}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">2I", 2049, 100) + bytes(labels.tolist()))
    write_pngs(tmp_path / "png", content, "mnist")
    raw = dataclasses.replace(whole.raw, counts={"train": 100, "test": 100})
    entry = dataclasses.replace(whole, raw=raw, sha256=hashes)
    for layout in ("idx", "png"):
        source = datasets.find(entry.raw, tmp_path / layout)
        assert source.layout == layout
        for split in datasets.SPLITS:
            found = datasets.read(entry, source, split)
            assert datasets.content_hash(*found) == hashes[split]


def test_cifar_100_batches_use_the_fine_labels(tmp_path):
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "train").write_bytes(python2_pickle(images, [99, 3, 0, 50], b"fine_labels"))
    found, labels = readers.read_pickled_batch(tmp_path / "train", (32, 32, 3))
    assert np.array_equal(found, images) and labels.tolist() == [99, 3, 0, 50]
    planes = images.transpose(0, 3, 1, 2).reshape(4, -1)
    records = np.concatenate([[[7, 99], [7, 3], [7, 0], [7, 50]], planes], axis=1).astype(np.uint8)
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for split in datasets.SPLITS:
        (folder / f"{split}.bin").write_bytes(records.tobytes())
    raw = dataclasses.replace(catalogue.spec("cifar-100").raw, counts={"train": 4, "test": 4})
    found, labels = datasets.find(raw, tmp_path).read("train")
    assert np.array_equal(found, images) and labels.tolist() == [99, 3, 0, 50]


def test_coarse_labels_alone_are_refused_by_name(tmp_path):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    (tmp_path / "train").write_bytes(python2_pickle(images, [3, 1], b"coarse_labels"))
    with pytest.raises(datasets.DataError, match="train is no CIFAR batch .*coarse ones"):
        readers.read_pickled_batch(tmp_path / "train", (32, 32, 3))


@pytest.fixture
def hundred():
    """A data set of two images of each class of CIFAR-100."""
    whole = catalogue.spec("cifar-100")
    images = np.random.default_rng(8).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(200) % 100
    sha256 = datasets.content_hash(*datasets.canonical(images, labels))
    raw = dataclasses.replace(whole.raw, counts={"train": 200, "test": 200})
    entry = dataclasses.replace(whole, raw=raw, sha256=dict.fromkeys(datasets.SPLITS, sha256))
    return entry, images, labels


def write_hundred(root, images, labels):
    folder = root / "cifar-100-python"
    folder.mkdir()
    for split in datasets.SPLITS:
        (folder / split).write_bytes(python2_pickle(images, labels, b"fine_labels"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda labels: labels % 20, "labels of 20 classes, not 100: coarse"),
        (lambda labels: np.where(labels == 7, 8, labels), "labels of 99 classes, not 100"),
        (lambda labels: labels + 1, r"labels of 99 classes, not 100|labels up to 100"),
        (lambda labels: 99 - labels, "classes in another order"),
    ],
)
def test_wrong_labels_of_cifar_100_are_never_taken(hundred, tmp_path, change, told):
    entry, images, labels = hundred
    write_hundred(tmp_path, images, change(labels))
    with pytest.raises(datasets.DataError, match=told):
        datasets.read(entry, datasets.find(entry.raw, tmp_path), "train")


def test_class_folders_are_recognised_by_name_in_any_order(hundred, tmp_path):
    entry, images, labels = hundred
    names = catalogue.spec("cifar-100").classes
    backwards = np.argsort(-labels, kind="stable")
    content = dict.fromkeys(datasets.SPLITS, (images[backwards], labels[backwards]))
    folder = write_pngs(tmp_path, content, "cifar-100")
    source = datasets.find(entry.raw, tmp_path)
    found = datasets.read(entry, source, "train")
    assert datasets.content_hash(*found) == entry.sha256["train"]

    first, second = (folder / "train" / names[k] for k in (4, 70))  # two classes change names
    first.rename(folder / "aside")
    second.rename(first)
    (folder / "aside").rename(second)
    with pytest.raises(datasets.DataError, match="classes in another order"):
        datasets.read(entry, source, "train")

    for path in first.iterdir():
        path.rename(second / f"more-{path.name}")
    with pytest.raises(datasets.DataError, match=f"class '{names[4]}' is missing"):
        datasets.read(entry, source, "train")
    first.rmdir()
    assert datasets.find(entry.raw, tmp_path) is None
    with pytest.raises(datasets.MissingDataError, match=f"lacks train/{names[4]}"):
        datasets.load("cifar-100", tmp_path, download=False)


def test_batches_repickled_by_python_3_are_read(tmp_path):
    images = np.random.default_rng(3).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    data = np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(6, -1))
    for protocol in (2, 3, 4):
        path = tmp_path / f"protocol-{protocol}"
        path.write_bytes(pickle.dumps({"data": data, "labels": [1] * 6}, protocol))
        assert np.array_equal(readers.read_pickled_batch(path, (32, 32, 3))[0], images)


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    batch, mark = tmp_path / "data_batch_1", tmp_path / "it-ran"
    batch.write_bytes(pickle.dumps({"data": Exploit(mark), "labels": [0]}, 2))
    with pytest.raises(datasets.DataError, match=r"data_batch_1 is no CIFAR batch .*mkdir"):
        readers.read_pickled_batch(batch, (32, 32, 3))
    assert not mark.exists()


@pytest.mark.parametrize("size", [0, 1, 100, 20_000, -1])
def test_a_truncated_batch_is_an_error(small, tmp_path, size):
    content = python2_pickle(*small[1]["test"])
    path = tmp_path / "test_batch"
    path.write_bytes(content[:size])
    with pytest.raises(datasets.DataError, match="test_batch is no CIFAR batch"):
        readers.read_pickled_batch(path, (32, 32, 3))


def test_a_truncated_binary_batch_is_an_error(small, tmp_path):
    entry, content = small
    os.truncate(write_binary(tmp_path, content) / "test_batch.bin", 5000)
    with pytest.raises(datasets.DataError, match=r"test_batch.bin holds 5000 bytes"):
        datasets.read(entry, datasets.find(entry.raw, tmp_path), "test")


# --- class folders and the cache ------------------------------------------------------------------


def test_a_missing_image_is_counted(small, tmp_path):
    entry, content = small
    folder = write_pngs(tmp_path, content)
    next(folder.glob("test/frog/*.png")).unlink()
    with pytest.raises(datasets.DataError, match="holds 29 PNG images, not 30"):
        datasets.read(entry, datasets.find(entry.raw, tmp_path), "test")


def test_a_damaged_image_is_named(small, tmp_path):
    entry, content = small
    path = next(write_pngs(tmp_path, content).glob("test/frog/*.png"))
    os.truncate(path, 1000)
    with pytest.raises(datasets.DataError, match=f"{path} is not the image"):
        datasets.read(entry, datasets.find(entry.raw, tmp_path), "test")
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(datasets.DataError, match="64 × 64, not 32 × 32"):
        datasets.read(entry, datasets.find(entry.raw, tmp_path), "test")


def test_cache_serves_the_same_images_and_never_hides_a_change(small, tmp_path):
    entry, content = small
    folder = write_pngs(tmp_path, content)
    source = datasets.find(entry.raw, tmp_path)
    first = datasets.read(entry, source, "test")
    unread = dataclasses.replace(source, read=None)  # decoding again would fail
    again = datasets.read(entry, unread, "test")
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])

    changed = first[0][0].copy()
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(next(folder.glob("test/airplane/*.png")))
    with pytest.raises(datasets.DataError, match="has SHA-256"):
        datasets.read(entry, source, "test")


@pytest.mark.parametrize("damage", ["flip", "truncate", "pickle", "empty"])
def test_a_damaged_cache_is_built_anew(small, tmp_path, damage):
    entry, content = small
    write_pngs(tmp_path, content)
    source = datasets.find(entry.raw, tmp_path)
    first = datasets.read(entry, source, "test")
    (kept,) = Path(os.environ["SWS_CACHE"]).glob("*.npy")
    good = kept.read_bytes()
    if damage == "flip":
        alter(kept, -1)
    elif damage == "pickle":
        np.save(kept, np.array([{}], object), allow_pickle=True)
    else:
        os.truncate(kept, 5000 if damage == "truncate" else 0)
    again = datasets.read(entry, source, "test")
    assert np.array_equal(first[0], again[0])
    assert kept.read_bytes() == good


def test_a_useless_cache_folder_stops_nothing(small, tmp_path, monkeypatch):
    entry, content = small
    write_pngs(tmp_path, content)
    blocked = tmp_path / "a-file"
    blocked.touch()
    monkeypatch.setenv("SWS_CACHE", str(blocked))
    source = datasets.find(entry.raw, tmp_path)
    assert len(datasets.read(entry, source, "test")[1]) == 30


def test_an_incomplete_layout_says_what_it_lacks(small, tmp_path):
    entry, content = small
    (write_pickles(tmp_path, content) / "data_batch_3").unlink()
    assert datasets.find(entry.raw, tmp_path) is None
    state = datasets.availability("cifar-10", tmp_path)
    assert not state.available
    assert f"{tmp_path / 'cifar-10-batches-py'} lacks data_batch_3" in state.where
    with pytest.raises(datasets.MissingDataError, match="lacks data_batch_3"):
        datasets.load("cifar-10", tmp_path, download=False)


# --- archives -------------------------------------------------------------------------------------

ARCHIVE = "cifar-10-python.tar.gz"


@pytest.fixture
def packed(small, tmp_path):
    """A data set in its archive: its entry, the archive, the files that are in it."""
    entry, content = small
    path = write_archive(write_pickles, ARCHIVE)(tmp_path, content)
    return entry, path, tmp_path / "unpacked" / "cifar-10-batches-py"


def refused(entry, root):
    with pytest.raises(datasets.DataError) as caught:
        datasets.read(entry, datasets.find(entry.raw, root), "train")
    (line,) = str(caught.value).splitlines()
    return line


def test_an_archive_makes_a_data_set_available(packed):
    _, path, _ = packed
    state = datasets.availability("cifar-10", path.parent)
    assert (state.available, state.where) == (True, str(path))
    assert ARCHIVE in datasets.availability("cifar-10", path.parent / "unpacked/nowhere").fix


def test_files_beside_an_archive_come_first(packed):
    entry, path, folder = packed
    folder.rename(path.parent / folder.name)
    assert datasets.find(entry.raw, path.parent).folder == path.parent / folder.name


def test_half_an_archive_is_refused(packed):
    entry, path, _ = packed
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    line = refused(entry, path.parent)
    assert f"{path} cannot be read" in line
    assert "remove it to use the next source" in line


def test_an_archive_of_something_else_is_refused(packed):
    entry, path, _ = packed
    path.write_bytes(gzip.compress(b"not an archive" * 1000))
    assert f"{path} cannot be read" in refused(entry, path.parent)
    path.write_bytes(b"not even compressed")
    assert f"{path} cannot be read" in refused(entry, path.parent)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_only_ordinary_files_of_an_archive_are_read(packed, kind):
    entry, path, folder = packed
    with tarfile.open(path, "w:gz") as archive:
        for name in ("data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"):
            archive.add(folder / name, f"{folder.name}/{name}")
        other = tarfile.TarInfo(f"{folder.name}/data_batch_1")
        other.type, other.linkname = kind, str(folder / "data_batch_1")
        archive.addfile(other)
    assert f"lacks {folder.name}/data_batch_1" in refused(entry, path.parent)


def test_names_that_lead_out_of_an_archive_lead_nowhere(packed):
    entry, path, folder = packed
    with tarfile.open(path, "w:gz") as archive:
        for target in folder.iterdir():
            archive.add(target, f"../{folder.name}/{target.name}")
    before = sorted(path.parent.parent.rglob("*"))
    assert f"lacks {folder.name}/data_batch_1" in refused(entry, path.parent)
    assert sorted(path.parent.parent.rglob("*")) == before


def test_an_archive_that_swells_is_refused_before_it_fills_the_memory(packed):
    """64 MiB of zeros, in a file and in the name of one, where 300 KB of images are expected."""
    entry, path, folder = packed
    swollen = tarfile.TarInfo(f"{folder.name}/data_batch_1")
    swollen.size = 64 << 20
    for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        swollen.type = kind
        block = swollen.tobuf(tarfile.GNU_FORMAT)
        path.write_bytes(gzip.compress(block + bytes(swollen.size)))
        tracemalloc.start()
        line = refused(entry, path.parent)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert "holds more than the data set" in line
        assert peak < 16 << 20
