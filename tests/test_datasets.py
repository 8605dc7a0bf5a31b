"""Loading, checking and splitting, on real MNIST; test_sources.py has the other layouts."""

import dataclasses
import functools
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sws.data import catalogue, datasets

MNIST_FILES = sorted(datasets.BUNDLED.glob("*.gz"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SWS_CACHE", str(cache))
    root = os.environ.get("SWS_DATA_ROOT")
    monkeypatch.delenv("SWS_DATA_ROOT", raising=False)
    return root


@pytest.fixture(scope="module")
def mnist():
    return datasets.load("mnist", download=False)


@pytest.fixture
def idx_root(tmp_path):
    """A data root with real MNIST, not compressed, as torchvision leaves it."""
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in MNIST_FILES:
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return raw.parents[1]


def same(a, b):
    return all(
        np.array_equal(getattr(getattr(a, s), f), getattr(getattr(b, s), f))
        for s in datasets.SPLITS
        for f in ("images", "labels")
    )


# --- canonical form -------------------------------------------------------------------------------


def test_mnist_is_canonical(mnist):
    assert mnist.train.images.shape == (60_000, 28, 28, 1)
    assert mnist.test.images.shape == (10_000, 28, 28, 1)
    assert mnist.input_shape == (1, 28, 28)
    for split in (mnist.train, mnist.test):
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
        assert (np.diff(split.labels) >= 0).all()
        rows = [image.tobytes() for image in split.images]
        for label in range(10):
            members = [rows[k] for k in np.flatnonzero(split.labels == label)]
            assert members == sorted(members)
        with pytest.raises(ValueError, match="read-only"):
            split.images[0] = 0


def test_mnist_has_the_published_hashes(mnist):
    expected = {
        "train": "adb542c5b377c174e2b5138b6c75b395d6a21d2a4e9a44ff7659f9c83d968074",
        "test": "6e7d36f2505a63a046f457fc3a9370f2e197e9892807f2cf2d69f590865bf318",
    }
    for split, wanted in expected.items():
        part = getattr(mnist, split)
        content = part.images.tobytes() + bytes(part.labels.tolist())
        assert hashlib.sha256(content).hexdigest() == wanted


def test_mnist_images_keep_their_labels(mnist):
    with gzip.open(datasets.BUNDLED / "t10k-images-idx3-ubyte.gz") as file:
        first = file.read()[16 : 16 + 784]
    with gzip.open(datasets.BUNDLED / "t10k-labels-idx1-ubyte.gz") as file:
        label = file.read()[8]
    found = [k for k, image in enumerate(mnist.test.images) if image.tobytes() == first]
    assert label == 7 and [mnist.test.labels[k] for k in found] == [7]


def test_order_of_the_files_does_not_matter():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (50, 2, 2, 1), dtype=np.uint8)
    labels = rng.integers(0, 3, 50)
    shuffled = rng.permutation(50)
    a = datasets.canonical(images, labels)
    b = datasets.canonical(images[shuffled], labels[shuffled])
    assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
    assert datasets.content_hash(*a) == datasets.content_hash(*b)


def test_hash_sees_a_changed_label():
    images = np.zeros((3, 2, 2, 1), np.uint8)
    a = datasets.content_hash(images, np.array([0, 1, 2]))
    assert a != datasets.content_hash(images, np.array([0, 2, 2]))


def test_digest_names_the_content(mnist):
    hashes = catalogue.spec("mnist").sha256
    raw = bytes.fromhex(hashes["train"] + hashes["test"])
    assert mnist.digest == datasets.digest("mnist") == hashlib.sha256(raw).hexdigest()
    assert len({datasets.digest(name) for name in datasets.names()}) == len(datasets.names())


# --- sources of MNIST -----------------------------------------------------------------------------


def test_mnist_from_idx_files(mnist, idx_root):
    assert same(datasets.load("mnist", idx_root, download=False), mnist)
    assert datasets.availability("mnist", idx_root).where == str(idx_root / "MNIST" / "raw")


def test_mnist_from_compressed_files_under_the_environment_variable(mnist, tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in MNIST_FILES:
        shutil.copy(packed, raw)
    monkeypatch.setenv("SWS_DATA_ROOT", str(tmp_path))
    assert datasets.availability("mnist").where == str(raw)
    assert same(datasets.load("mnist", download=False), mnist)


def test_bundled_mnist_is_the_fallback(mnist, tmp_path):
    assert datasets.availability("mnist", tmp_path).where == str(datasets.BUNDLED)
    assert same(datasets.load("mnist", tmp_path, download=False), mnist)


def alter(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "position", "split"),
    [
        ("train-images-idx3-ubyte", 1_000_000, "train"),
        ("t10k-images-idx3-ubyte", -1, "test"),
        ("t10k-labels-idx1-ubyte", 500, "test"),
    ],
)
def test_an_altered_byte_is_an_error(idx_root, file, position, split):
    alter(idx_root / "MNIST" / "raw" / file, position)
    with pytest.raises(datasets.DataError) as error:
        datasets.load("mnist", idx_root)
    message = str(error.value)
    assert message.startswith(f"mnist/{split} has SHA-256 ") and "\n" not in message
    assert catalogue.spec("mnist").sha256[split] in message
    assert str(idx_root / "MNIST" / "raw") in message
    assert "restore the original files there" in message


def test_a_damaged_label_file_header_is_an_error(idx_root):
    alter(idx_root / "MNIST" / "raw" / "train-labels-idx1-ubyte", 3)
    with pytest.raises(datasets.DataError, match=r"train-labels-idx1-ubyte is no IDX file .*repl"):
        datasets.load("mnist", idx_root)


@pytest.mark.parametrize("size", [0, 3, 16, 17, 7_839_999])
def test_a_truncated_idx_file_is_an_error(idx_root, size):
    path = idx_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    os.truncate(path, size)
    with pytest.raises(datasets.DataError, match=r"t10k-images-idx3-ubyte .*replace it"):
        datasets.load("mnist", idx_root)


def test_an_overlong_idx_file_is_an_error(idx_root):
    with (idx_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(datasets.DataError, match="holds more than its 7840000"):
        datasets.load("mnist", idx_root)


@pytest.mark.parametrize("damage", ["truncate", "flip", "not gzip", "empty"])
def test_a_damaged_gzip_file_is_an_error(tmp_path, damage):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in MNIST_FILES:
        shutil.copy(packed, raw)
    path = raw / "t10k-images-idx3-ubyte.gz"
    if damage == "truncate":
        os.truncate(path, 100_000)
    elif damage == "flip":
        alter(path, 500_000)
    else:
        path.write_bytes(b"no gzip" if damage == "not gzip" else b"")
    with pytest.raises(datasets.DataError) as error:
        datasets.load("mnist", tmp_path)
    assert "\n" not in str(error.value) and str(raw) in str(error.value)


def test_cifar_10_in_full(own_cache):
    root = own_cache
    if root is None or not datasets.availability("cifar-10", root).available:
        pytest.skip("SWS_DATA_ROOT holds no CIFAR-10")
    data = datasets.load("cifar-10", root, download=False)
    assert data.train.images.shape == (50_000, 32, 32, 3) and len(data.test) == 10_000
    x = data.train.images.reshape(-1, 3) / 255
    np.testing.assert_allclose(x.mean(0), data.mean, atol=1e-4)
    np.testing.assert_allclose(x.std(0), data.std, atol=1e-3)


# --- missing data ---------------------------------------------------------------------------------


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def test_missing_data_name_the_fix(tmp_path):
    with pytest.raises(datasets.MissingDataError) as error:
        datasets.load("cifar-100", download=False)
    message = one_line(error)
    assert "cifar-100 is not on this machine (SWS_DATA_ROOT is not set)" in message
    assert "set SWS_DATA_ROOT to a folder that holds cifar-100-python/ or" in message
    assert "cifar-100/<train|test>/<class>/*.png" in message
    assert "run 'sws data cifar-100'" in message
    with pytest.raises(datasets.MissingDataError, match=r"not in the data root"):
        datasets.load("cifar-100", tmp_path, download=False)
    with pytest.raises(datasets.MissingDataError, match=r"nowhere is no folder"):
        datasets.load("cifar-100", tmp_path / "nowhere", download=False)


def test_a_download_without_network_gives_the_same_fix(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        # Nothing listens on the discard port, so that every connection is refused at once.
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(datasets.MissingDataError) as error:
        datasets.load("cifar-10", tmp_path)
    message = one_line(error)
    assert "cannot be downloaded" in message and "set SWS_DATA_ROOT" in message
    assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".cifar-10")]


@pytest.fixture
def mirror():
    """A web server with the bundled files, in place of MNIST's."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    serve = functools.partial(Quiet, directory=datasets.BUNDLED)
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_download_goes_through_torchvision(mirror, mnist, tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    sums = [(p.name, hashlib.md5(p.read_bytes()).hexdigest()) for p in MNIST_FILES]
    monkeypatch.setattr(MNIST, "mirrors", [mirror])
    # The bundled files hold the same bytes, but were compressed by another gzip.
    monkeypatch.setattr(MNIST, "resources", sums)
    # those of other data sets unpickle what they have fetched
    monkeypatch.setattr(MNIST, "__init__", lambda *_, **__: pytest.fail("made a torchvision set"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets, "BUNDLED", tmp_path / "nowhere")
    assert not datasets.availability("mnist", tmp_path).available
    assert same(datasets.load("mnist", tmp_path), mnist)
    assert datasets.availability("mnist", tmp_path).where == str(tmp_path / "MNIST" / "raw")
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == ["MNIST"]
    shutil.rmtree(tmp_path / "MNIST")
    assert same(datasets.load("mnist"), mnist)
    assert datasets.availability("mnist").where.startswith(os.environ["SWS_CACHE"])


@pytest.mark.parametrize("call", [datasets.load, datasets.availability, datasets.digest])
def test_unknown_data_set_names_the_known_ones(call):
    with pytest.raises(
        ValueError, match="unknown data set 'minst'; choose one of mnist, mnist-smo"
    ):
        call("minst")


def test_availability_of_everything(tmp_path):
    state = {name: datasets.availability(name, tmp_path) for name in datasets.names()}
    available = {name for name, s in state.items() if s.available}
    assert {"mnist", "mnist-smoke", "synthetic-100"} <= available
    assert not {"cifar-10", "cifar-100"} & available
    assert all(bool(s.fix) != s.available for s in state.values())
    write_empty_folders(tmp_path)
    assert datasets.availability("cifar-100", tmp_path).where == str(tmp_path / "cifar-100")


def write_empty_folders(root):
    for split in datasets.SPLITS:
        for name in catalogue.spec("cifar-100").classes:
            (root / "cifar-100" / split / name).mkdir(parents=True)


def test_availability_imports_no_torch():
    code = (
        "import sys; from sws.data import datasets\n"
        "for name in datasets.names(): datasets.availability(name); datasets.digest(name)\n"
        "datasets.load('mnist-smoke', download=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- generated sets and splits --------------------------------------------------------------------


def test_mnist_smoke_is_a_slice_of_mnist(mnist):
    smoke = datasets.load("mnist-smoke", download=False)
    for split, per_class in (("train", 200), ("test", 50)):
        part, whole = getattr(smoke, split), getattr(mnist, split)
        assert np.bincount(part.labels).tolist() == [per_class] * 10
        known = {(int(y), x.tobytes()) for x, y in zip(whole.images, whole.labels, strict=True)}
        assert all(
            (int(y), x.tobytes()) in known for x, y in zip(part.images, part.labels, strict=True)
        )


def test_synthetic_100_can_be_learned_but_not_by_heart():
    data = datasets.load("synthetic-100")
    assert data.train.images.shape == (2000, 32, 32, 3) and len(data.classes) == 100
    assert np.bincount(data.test.labels).tolist() == [5] * 100
    means = np.stack([data.train.images[data.train.labels == c].mean(0) for c in range(100)])
    distances = ((data.test.images[:, None] - means) ** 2).sum((2, 3, 4))
    assert (distances.argmin(1) == data.test.labels).mean() > 0.95
    seen = {x.tobytes() for x in data.train.images}
    assert len(seen) == 2000 and not any(x.tobytes() in seen for x in data.test.images)


@pytest.mark.parametrize("name", ["mnist", "mnist-smoke", "synthetic-100"])
def test_split_validation_is_fixed_and_disjoint(name):
    whole = datasets.load(name, download=False).train
    n = datasets.spec(name).n_validation
    train, validation = datasets.split_validation(whole, n)
    assert (len(train), len(validation)) == (len(whole) - n, n)
    again = datasets.split_validation(whole, n)[1]
    assert np.array_equal(validation.images, again.images)
    joined = datasets.canonical(
        np.concatenate([train.images, validation.images]),
        np.concatenate([train.labels, validation.labels]),
    )
    assert datasets.content_hash(*joined) == datasets.spec(name).sha256["train"]
    if name == "mnist":
        shares = np.bincount(validation.labels) / np.bincount(whole.labels) * len(whole) / n
        assert 0.9 < shares.min() < shares.max() < 1.1


def test_split_validation_never_moves():
    whole = datasets.Split(np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1), np.zeros(20, int))
    chosen = datasets.split_validation(whole, 5)[1].images.ravel().tolist()
    assert chosen == [2, 9, 16, 18, 19]


@pytest.mark.parametrize("n", [0, -1, 20, 21])
def test_split_validation_leaves_neither_part_empty(n):
    whole = datasets.Split(np.zeros((20, 1, 1, 1), np.uint8), np.zeros(20, int))
    with pytest.raises(ValueError, match="must lie in 1 to 19"):
        datasets.split_validation(whole, n)


def test_specs_are_consistent():
    for name in datasets.names():
        entry = datasets.spec(name)
        assert len(set(entry.classes)) == len(entry.classes) >= 2
        assert list(entry.classes) == sorted(entry.classes)
        assert len(entry.mean) == len(entry.std) in (1, 3)


def test_a_new_entry_is_told_its_hash():
    entry = dataclasses.replace(catalogue.spec("synthetic-100"), name="new")
    arrays = datasets.canonical(*entry.make("test"))
    unknown = dataclasses.replace(entry, sha256={"train": "", "test": ""})
    with pytest.raises(ValueError, match=f'"test": "{entry.sha256["test"]}"') as caught:
        datasets._check(unknown, "test", arrays, "here", "")
    assert "500 images in here" in str(caught.value)
