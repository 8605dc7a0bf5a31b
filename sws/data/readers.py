"""Where raw images lie and how each layout is read.

Readers return images as uint8 (N, H, W, C) and labels as uint8 (N,), in the order of the files.
They trust no length in a file, and execute nothing that a file says: CIFAR's pickles go through an
unpickler that knows numbers, strings, lists, dicts and one kind of array.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from sws.errors import SwsError

Arrays = tuple[np.ndarray, np.ndarray]
SPLITS = ("train", "test")
RESTORE = "replace it with the original file, or remove it to use the next source"


class DataError(SwsError, ValueError):
    """Raw data are unreadable or not what they should be; the message is one line, with the fix."""


class MissingDataError(DataError):
    """A data set is in none of the places where it is looked for."""


@dataclass(frozen=True)
class RawSet:
    """What the readers must know about a data set that comes from files.

    Attributes
    ----------
    shape : tuple of int
        (height, width, channels) of an image.
    classes : tuple of str
        Names, in the order of the labels; also the names of class folders.
    counts : mapping of str to int
        Images in each split.
    layouts : mapping of str to tuple
        Torchvision's layouts: kind (``idx``, ``pickle``, ``binary``) → (folder, files of each
        split). For ``idx`` a split has an image and a label file.
    archives : mapping of str to str
        Layout → the archive that its files are downloaded in, which may lie there as it is.
    label_bytes : int
        Labels ahead of each image in the binary layout; the last one counts.
    torchvision : str
        Class of ``torchvision.datasets`` that downloads it.
    """

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    layouts: Mapping[str, tuple[str, Mapping[str, tuple[str, ...]]]] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)
    label_bytes: int = 1
    torchvision: str = ""

    @property
    def image_bytes(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Source:
    """One place that may hold a data set in one layout.

    Attributes
    ----------
    needed : tuple of Path
        Files or folders without which the place does not hold the data set.
    read : callable
        Reads a split.
    slow : bool
        Many small files, so that decoded images are worth keeping.
    """

    layout: str
    folder: Path
    needed: tuple[Path, ...]
    read: Callable[[str], Arrays]
    slow: bool = False

    def missing(self) -> list[Path]:
        """What the place lacks (existence only: nothing is opened)."""
        return [path for path in self.needed if not os.path.exists(path)]


def places(raw: RawSet, root: Path) -> Iterator[Source]:
    """Every place under a data root where the data set may lie, in the order of preference."""
    for kind, (folder, files) in raw.layouts.items():
        yield flat_source(raw, kind, root / folder, files)
    yield folder_source(raw, root / raw.name)


def flat_source(
    raw: RawSet, kind: str, folder: Path, files: Mapping[str, tuple[str, ...]]
) -> Source:
    """A folder with a few large files; the idx files may be compressed with gzip.

    Parameters
    ----------
    raw : RawSet
        What the files must hold.
    kind : str
        ``idx``, ``pickle`` or ``binary``.
    folder : Path
        Where the files lie.
    files : mapping of str to tuple of str
        Names of each split's files.
    """
    pick = _plain_or_gz if kind == "idx" else lambda path: path
    paths = {split: tuple(pick(folder / f) for f in files[split]) for split in SPLITS}
    needed = tuple(path for split in SPLITS for path in paths[split])
    return Source(kind, folder, needed, lambda split: read_split(raw, kind, split, paths[split]))


def read_split(raw: RawSet, kind: str, split: str, paths: tuple[Path, ...]) -> Arrays:
    """The images and labels in the files of a layout, in their order."""
    reader = {"idx": _read_idx_split, "pickle": _read_pickles, "binary": _read_binary}[kind]
    return reader(raw, split, paths)


def folder_source(raw: RawSet, folder: Path) -> Source:
    """``<folder>/<split>/<class>/*.png``, the layout of torchvision's ImageFolder."""
    needed = tuple(folder / split / name for split in SPLITS for name in raw.classes)
    return Source("png", folder, needed, lambda split: _read_pngs(raw, folder / split), slow=True)


def _plain_or_gz(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if os.path.exists(packed) and not os.path.exists(path) else path


# --- IDX ------------------------------------------------------------------------------------------


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzip-compressed if its name ends in ``.gz``.

    Parameters
    ----------
    path : Path
        Of the file.
    shape : tuple of int
        The shape that the file must announce and hold.

    Raises
    ------
    DataError
        If the file is not IDX, announces another shape, is truncated or has bytes to spare.
    """
    header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
    size = int(np.prod(shape))
    try:
        with _open(path) as file:
            start = file.read(len(header))
            # One byte more than needed shows an overlong file without reading all of it.
            values = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {RESTORE}") from error
    if start != header:
        raise DataError(
            f"{path} is no IDX file of unsigned bytes of shape {shape} "
            f"(it starts with {start[:16].hex()}, not {header.hex()}); {RESTORE}"
        )
    if len(values) != size:
        found = f"ends after {len(values)} of" if len(values) < size else "holds more than"
        raise DataError(f"{path} {found} its {size} values; {RESTORE}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _read_idx_split(raw: RawSet, split: str, paths: tuple[Path, ...]) -> Arrays:
    count = raw.counts[split]
    images = read_idx(paths[0], (count, *raw.shape[:2]))
    return images.reshape(count, *raw.shape), read_idx(paths[1], (count,))


# --- CIFAR batches --------------------------------------------------------------------------------


class _PickledDtype:
    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code.decode("latin-1") if isinstance(code, bytes) else code

    def __setstate__(self, state: object) -> None:
        pass


class _PickledArray:
    """Takes an array's pickled state apart without building whatever array it asks for."""

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.values = state


class _BatchUnpickler(pickle.Unpickler):
    _allowed: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledDtype,
        # How protocol 2 spells bytes when Python 3 writes it.
        ("_codecs", "encode"): lambda text, _: text.encode("latin-1"),
    }

    def find_class(self, module: str, name: str) -> object:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_pickled_batch(path: Path, image_shape: tuple[int, int, int]) -> Arrays:
    """Read one batch of the "python version" of CIFAR-10 or CIFAR-100, without running its pickle.

    Raises
    ------
    DataError
        If the file is no such batch, or its pickle asks for anything but numbers and arrays.
    """
    height, width, channels = image_shape
    try:
        with path.open("rb") as file:
            batch = _BatchUnpickler(file, encoding="bytes").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
        data = batch["data"]
        if "coarse_labels" in batch and "fine_labels" not in batch:
            raise ValueError("its labels are the coarse ones, of superclasses")
        labels = batch["fine_labels"] if "fine_labels" in batch else batch["labels"]
        if data.dtype.code != "u1" or data.fortran or not isinstance(data.values, bytes):
            raise ValueError("its images are not unsigned bytes")
        planes = np.frombuffer(data.values, np.uint8).reshape(len(labels), channels, height, width)
        labels = np.array(labels, np.uint8)
    except Exception as error:  # a hostile pickle can raise anything
        raise DataError(f"{path} is no CIFAR batch ({error}); {RESTORE}") from error
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _read_pickles(raw: RawSet, split: str, paths: tuple[Path, ...]) -> Arrays:
    batches = [read_pickled_batch(path, raw.shape) for path in paths]
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _read_binary(raw: RawSet, split: str, paths: tuple[Path, ...]) -> Arrays:
    """CIFAR's "binary version": records of one or two labels and three colour planes."""
    record = raw.label_bytes + raw.image_bytes
    height, width, channels = raw.shape
    blocks = []
    for path in paths:
        try:
            with path.open("rb") as file:
                content = file.read(record * raw.counts[split] + 1)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}); {RESTORE}") from error
        if not content or len(content) % record:
            raise DataError(
                f"{path} holds {len(content)} bytes, no multiple of {record}; {RESTORE}"
            )
        blocks.append(np.frombuffer(content, np.uint8).reshape(-1, record))
    records = np.concatenate(blocks)
    planes = records[:, raw.label_bytes :].reshape(-1, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, raw.label_bytes - 1]


# --- class folders --------------------------------------------------------------------------------


def _png_files(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            found = [e for e in entries if e.name.lower().endswith(".png")]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error}); restore the folder") from error
    return sorted(found, key=lambda entry: entry.name)


def _read_pngs(raw: RawSet, folder: Path) -> Arrays:
    paths, labels = [], []
    for label, name in enumerate(raw.classes):
        found = _png_files(folder / name)
        if not found:
            raise DataError(
                f"{folder / name} holds no PNG image, so class {name!r} is missing; "
                "complete or restore the folder"
            )
        paths += [entry.path for entry in found]
        labels += [label] * len(found)
    if len(paths) != raw.counts[folder.name]:
        # Said before decoding, which takes a while.
        raise DataError(
            f"{folder} holds {len(paths)} PNG images, not {raw.counts[folder.name]}; "
            "complete or restore the folder"
        )
    images = np.empty((len(paths), *raw.shape), np.uint8)
    for k, path in enumerate(paths):
        images[k] = _decode_png(path, raw.shape)
    return images, np.array(labels, np.uint8)


def _decode_png(path: str, shape: tuple[int, int, int]) -> np.ndarray:
    from PIL import Image

    height, width, channels = shape
    try:
        with Image.open(path, formats=("PNG",)) as image:
            # Checked before decoding: a header may announce a picture that fills the memory.
            if image.size != (width, height):
                raise ValueError(f"it is {image.size[0]} × {image.size[1]}, not {width} × {height}")
            return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(shape)
    except (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} is not the image it should be ({error}); replace it with the original"
        ) from error


def fingerprint(raw: RawSet, folder: Path) -> str:
    """Names, sizes and times of a split's class folders: changes when a file is changed."""
    digest = hashlib.sha256()
    for name in raw.classes:
        for entry in _png_files(folder / name):
            state = entry.stat()
            line = f"{name}/{entry.name} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
