"""Data sets that lie in a data root as they are downloaded: CIFAR's ``.tar.gz`` files.

Nothing is unpacked to disk. Of an archive only ordinary files with the expected names are read,
into memory and never more than these can hold; the readers then take them as they take files.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sws.data.readers import RESTORE, Arrays, DataError, RawSet, Source, read_split

SLACK = 4
"""How many times the bytes of all images an archive may hold: it has labels and other files too."""


def places(raw: RawSet, root: Path) -> Iterator[Source]:
    """The archives under a data root that may hold a data set."""
    for kind, name in raw.archives.items():
        yield archive_source(raw, kind, root / name, *raw.layouts[kind])


def archive_source(
    raw: RawSet, kind: str, archive: Path, folder: str, files: Mapping[str, tuple[str, ...]]
) -> Source:
    """An archive that holds the files of a layout, in its folder.

    Parameters
    ----------
    kind : of the layout: ``pickle`` or ``binary``.
    folder : inside the archive.
    files : of each split, in that folder.
    """
    limit = SLACK * raw.image_bytes * sum(raw.counts.values()) + (1 << 20)

    def read(split: str) -> Arrays:
        wanted = [f"{folder}/{name}" for name in files[split]]
        contents = _contents(archive, wanted, limit)
        members = tuple(_Member(f"{archive}: {name}", contents[name]) for name in wanted)
        return read_split(raw, kind, split, members)

    return Source(kind, archive, (archive,), read)


@dataclass(frozen=True)
class _Member:
    """What readers need of a file: a name for messages, and its bytes."""

    name: str
    content: bytes

    def open(self, mode: str) -> BinaryIO:
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return self.name


class _Bounded:
    """A stream that refuses to give more than ``limit`` bytes, whatever lengths a file states."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._left = limit

    def read(self, size: int) -> bytes:
        found = self._file.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise DataError("it holds more than the data set")
        return found


def _contents(archive: Path, wanted: Iterable[str], limit: int) -> dict[str, bytes]:
    """Name → bytes of files of an archive, read in one pass.

    Raises
    ------
    DataError
        If the archive is damaged, lacks a file, or holds far more than the data set.
    """
    left, found = set(wanted), {}
    try:
        with (
            gzip.open(archive) as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, limit), mode="r|") as members,
        ):
            for member in members:
                if member.name in left and member.isreg():
                    found[member.name] = members.extractfile(member).read()
                    left.remove(member.name)
                if not left:
                    return found
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{archive} cannot be read ({error}); {RESTORE}") from error
    raise DataError(f"{archive} lacks {', '.join(sorted(left))}; {RESTORE}")
