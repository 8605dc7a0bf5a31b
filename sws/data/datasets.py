"""Named data sets in one canonical form, checked by hash.

>>> from sws.data import datasets
>>> data = datasets.load("mnist")
>>> data.train.images.shape, data.train.labels.shape
((60000, 28, 28, 1), (60000,))

**Canonical form.** Images uint8 (N, H, W, C); classes one after the other; inside a class, images
in the order of their bytes. One SHA-256, over the bytes of all images and then one byte per label,
names a split's content wherever it came from, and it is checked at every load.

**Sources, in order.** The data root (an argument, or ``$SWS_DATA_ROOT``), in torchvision's layout,
as class folders, or as the archive that CIFAR is downloaded in; the MNIST files that come with the
repository; torchvision's download, which goes into the data root if there is one and else into the
cache (``$SWS_CACHE``, by default ``~/.cache/sws``). Images decoded from class folders are kept in
the cache too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sws.data import archives, readers
from sws.data.catalogue import DatasetSpec, names, spec
from sws.data.readers import SPLITS, Arrays, DataError, MissingDataError, RawSet, Source
from sws.environment import CHECKOUT
from sws.files import replacing

__all__ = [
    "SPLITS",
    "Availability",
    "DataError",
    "Dataset",
    "DatasetSpec",
    "MissingDataError",
    "Split",
    "availability",
    "digest",
    "load",
    "names",
    "spec",
    "split_validation",
]

BUNDLED = CHECKOUT / "resources" / "mnist"
VALIDATION_SEED = 1
DOWNLOAD_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, H, W, C) and labels int64 (N,), read-only, in canonical order."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A loaded data set.

    Attributes
    ----------
    classes : tuple of str
        Names, in the order of the labels.
    mean, std : tuple of float
        Per channel; networks see x = (pixel / 255 − mean) / std.
    digest : str
        SHA-256 over the hashes of both splits.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        height, width, channels = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class Availability:
    """Whether a data set is on this machine: where it would be read from, or how to supply it."""

    available: bool
    where: str
    fix: str


# --- canonical form -------------------------------------------------------------------------------


def canonical(images: np.ndarray, labels: np.ndarray) -> Arrays:
    """Order images by class and, inside a class, by their bytes; labels become uint8."""
    labels = labels.astype(np.uint8)
    rows = [
        label + image.tobytes() for label, image in zip(map(_byte, labels), images, strict=True)
    ]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    return images[order], labels[order]


def _byte(label: np.uint8) -> bytes:
    return label.tobytes()


def content_hash(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of the image bytes followed by one byte per label."""
    found = hashlib.sha256(np.ascontiguousarray(images, np.uint8))
    found.update(np.ascontiguousarray(labels, np.uint8))
    return found.hexdigest()


def split_validation(split: Split, n_validation: int) -> tuple[Split, Split]:
    """Set images of a training split aside for validation.

    Which ones is fixed: those at the first ``n_validation`` places of the permutation that sorts
    raw PCG64 output (seed 1), which no version of NumPy changes. Both parts keep canonical order.

    Returns
    -------
    (train, validation) : with N − n_validation and n_validation images.

    Raises
    ------
    ValueError
        If either part would be empty.
    """
    if not 0 < n_validation < len(split):
        raise ValueError(
            f"n_validation is {n_validation}; it must lie in 1 to {len(split) - 1}, "
            "so that both parts hold images"
        )
    keys = np.random.PCG64(VALIDATION_SEED).random_raw(len(split))
    chosen = np.zeros(len(split), bool)
    chosen[np.argsort(keys, kind="stable")[:n_validation]] = True
    return _split(split.images[~chosen], split.labels[~chosen]), _split(
        split.images[chosen], split.labels[chosen]
    )


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    labels = labels.astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return Split(images, labels)


def digest(name: str) -> str:
    """SHA-256 over the hashes of both splits: names a data set's content without loading it."""
    hashes = "".join(spec(name).sha256[split] for split in SPLITS)
    return hashlib.sha256(bytes.fromhex(hashes)).hexdigest()


# --- loading --------------------------------------------------------------------------------------


def load(name: str, root: str | Path | None = None, *, download: bool = True) -> Dataset:
    """Load a data set in canonical form, checked by hash.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    root : str or Path, optional
        The data root; default ``$SWS_DATA_ROOT``.
    download : bool
        Whether torchvision may fetch what is on no disk.

    Raises
    ------
    ValueError
        If there is no data set of that name.
    MissingDataError
        If it is on no disk and is not, or cannot be, downloaded.
    DataError
        If files are unreadable or their content is not what the hash says.
    """
    entry = spec(name)
    train, test = (_split(*arrays) for arrays in _arrays(entry, _root(root), download))
    return Dataset(name, train, test, entry.classes, entry.mean, entry.std, digest(name))


def _arrays(entry: DatasetSpec, root: Path | None, download: bool) -> list[Arrays]:
    """The arrays of both splits, canonical and checked."""
    if entry.raw is not None:
        source = find(entry.raw, root) or _download(entry.raw, root, download)
        return [read(entry, source, split) for split in SPLITS]
    base = [()] * len(SPLITS)
    if entry.base is not None:
        base = _arrays(spec(entry.base), root, download)
    made = [canonical(*entry.make(split, *base[k])) for k, split in enumerate(SPLITS)]
    for split, arrays in zip(SPLITS, made, strict=True):
        _check(entry, split, arrays, "memory", "report it as a defect, with NumPy's version")
    return made


def read(entry: DatasetSpec, source: Source, split: str) -> Arrays:
    """Read a split from a place, bring it into canonical form and check it.

    Parameters
    ----------
    entry : DatasetSpec
        Of the catalogue.
    source : Source
        Where its files lie.
    split : str
        ``train`` or ``test``.
    """
    marker = None
    if source.slow:
        folder = source.folder / split
        marker = _cache() / "sources" / readers.fingerprint(entry.raw, folder)[:32]
        kept = _from_cache(entry, split, marker)
        if kept is not None:
            return kept
    arrays = canonical(*source.read(split))
    fix = "restore the original files there, or remove them to use the next source"
    if source.folder == BUNDLED:
        fix = "restore the original files there: git checkout -- resources/mnist"
    _check(entry, split, arrays, str(source.folder), fix)
    if marker is not None:
        _to_cache(entry, split, arrays, marker)
    return arrays


def _check(entry: DatasetSpec, split: str, arrays: Arrays, where: str, fix: str) -> None:
    found, expected = content_hash(*arrays), entry.sha256[split]
    if not expected:  # a new entry of the catalogue
        pixels = arrays[0].reshape(-1, arrays[0].shape[-1]) / 255
        mean, std = (np.round(f(axis=0), 4).tolist() for f in (pixels.mean, pixels.std))
        raise DataError(
            f'{entry.name}/{split} has no hash yet; write "{split}": "{found}" into its entry in '
            f"sws/data/catalogue.py if the {len(arrays[1])} images in {where} are right (their "
            f"mean is {mean}, std {std})"
        )
    if found != expected:
        raise DataError(
            f"{entry.name}/{split} has SHA-256 {found}, expected {expected}, "
            f"in {len(arrays[1])} images read from {where}{_suspicion(entry, arrays[1])}; {fix}"
        )


def _suspicion(entry: DatasetSpec, labels: np.ndarray) -> str:
    """What the labels alone show to be wrong with a data set, for a message."""
    counts = np.bincount(labels, minlength=len(entry.classes))
    seen = int(np.count_nonzero(counts))
    if seen < len(entry.classes):
        return f" (labels of {seen} classes, not {len(entry.classes)}: coarse labels, or one lost)"
    if len(counts) > len(entry.classes):
        return f" (labels up to {len(counts) - 1}, of {len(entry.classes)} classes)"
    if entry.raw is not None and len(set(counts)) == 1:
        return " (as many of every class: altered images, or classes in another order)"
    return ""


def find(raw: RawSet, root: Path | None) -> Source | None:
    """The first place that holds every file of a data set; opens none of them."""
    return next((place for place in _places(raw, root) if not place.missing()), None)


def _places(raw: RawSet, root: Path | None) -> list[Source]:
    found = []
    if root is not None:
        found += [*readers.places(raw, root), *archives.places(raw, root)]
    if raw.name == "mnist":
        files = raw.layouts["idx"][1]
        found.append(readers.flat_source(raw, "idx", BUNDLED, files))
    return found + list(readers.places(raw, _downloads()))


def _root(root: str | Path | None) -> Path | None:
    root = root or os.environ.get("SWS_DATA_ROOT")
    return Path(root).expanduser().absolute() if root else None


def _cache() -> Path:
    return Path(os.environ.get("SWS_CACHE") or "~/.cache/sws").expanduser().absolute()


def _downloads() -> Path:
    return _cache() / "downloads"


# --- what is there --------------------------------------------------------------------------------


def availability(name: str, root: str | Path | None = None) -> Availability:
    """Say whether a data set is on this machine; looks for files, opens and imports nothing.

    Raises
    ------
    ValueError
        If there is no data set of that name.
    """
    entry = spec(name)
    if entry.base is not None:
        return availability(entry.base, root)
    if entry.raw is None:
        return Availability(True, "generated", "")
    source = find(entry.raw, _root(root))
    if source is not None:
        return Availability(True, str(source.folder), "")
    return Availability(False, _searched(entry.raw, _root(root)), _how_to_supply(entry.raw))


def _searched(raw: RawSet, root: Path | None) -> str:
    """What is wrong with the places that were searched, for a message."""
    if root is None:
        found = "SWS_DATA_ROOT is not set"
    elif not os.path.isdir(root):
        found = f"the data root {root} is no folder"
    else:
        found = f"not in the data root {root}"
    for place in _places(raw, root):
        if os.path.isdir(place.folder):
            missing = place.missing()
            found += f"; {place.folder} lacks {missing[0].relative_to(place.folder)}"
            found += f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return found


def _how_to_supply(raw: RawSet) -> str:
    layouts = [f"{folder}/" for folder, _ in raw.layouts.values()]
    layouts += [f"{raw.name}/<train|test>/<class>/*.png", *raw.archives.values()]
    return (
        f"set SWS_DATA_ROOT to a folder that holds {' or '.join(layouts)}, "
        f"or, with a network, run 'sws data {raw.name}'"
    )


def _missing(raw: RawSet, root: Path | None, reason: str) -> MissingDataError:
    return MissingDataError(
        f"data set {raw.name} is not on this machine ({_searched(raw, root)}){reason}; "
        f"{_how_to_supply(raw)}"
    )


# --- download and cache ---------------------------------------------------------------------------


def _download(raw: RawSet, root: Path | None, allowed: bool) -> Source:
    """Let torchvision fetch a data set into the data root, or else into the cache."""
    if not allowed:
        raise _missing(raw, root, "")
    target = root if root is not None and os.access(root, os.W_OK) else _downloads()
    try:
        from filelock import FileLock

        target.mkdir(parents=True, exist_ok=True)
        # Jobs for several seeds may want the same data set at once.
        with FileLock(target / f".{raw.name}.lock"):
            if find(raw, root) is None:
                _fetch(raw, target)
    except Exception as error:  # no torchvision, no network, no space: one message for all
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise _missing(raw, root, f" and cannot be downloaded ({reason})") from error
    source = find(raw, root)
    if source is None:
        raise _missing(raw, root, " and the download lacks files")
    return source


def _fetch(raw: RawSet, target: Path) -> None:
    import torchvision

    folder, files = next(iter(raw.layouts.values()))
    timeout = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as scratch:
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
        try:
            # not through the constructor, which would unpickle what it has fetched
            kind = getattr(torchvision.datasets, raw.torchvision)
            fetcher = kind.__new__(kind)
            fetcher.root = scratch
            fetcher.download()
        finally:
            socket.setdefaulttimeout(timeout)
        (target / folder).mkdir(parents=True, exist_ok=True)
        # Moved only when complete, so that an interrupted download is never mistaken for data.
        for file in (f for split in SPLITS for f in files[split]):
            os.replace(Path(scratch, folder, file), target / folder / file)


def _cache_file(entry: DatasetSpec, split: str) -> Path:
    return _cache() / f"{entry.name}-{split}-{entry.sha256[split][:16]}.npy"


def _from_cache(entry: DatasetSpec, split: str, marker: Path) -> Arrays | None:
    """Images kept from an earlier load of the very same files, if they still have the right hash.

    The marker stands for names, sizes and times of the files: a changed file is decoded anew, so
    that the cache never hides an altered source.
    """
    path = _cache_file(entry, split)
    if not (marker.exists() and path.exists()):
        return None
    try:
        rows = np.load(path, allow_pickle=False)
        labels = rows[:, 0].copy()
        images = rows[:, 1:].reshape(-1, *entry.raw.shape)
    except (OSError, ValueError, EOFError, IndexError):
        return None
    same = content_hash(images, labels) == entry.sha256[split]
    return (np.ascontiguousarray(images), labels) if same else None


def _to_cache(entry: DatasetSpec, split: str, arrays: Arrays, marker: Path) -> None:
    images, labels = arrays
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    # The cache only saves time: a read-only home or a full disk must not stop a run.
    with contextlib.suppress(OSError):
        marker.parent.mkdir(parents=True, exist_ok=True)
        with replacing(_cache_file(entry, split)) as beside:
            np.save(beside, rows, allow_pickle=False)
        marker.touch()
