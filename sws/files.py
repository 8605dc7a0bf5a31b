"""Files that appear whole or not at all: written beside their place, then renamed there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the place of ``path`` if the block succeeds.

    The name beside it starts with a dot, names this process, and has the same ending, from which
    some writers tell the format. Leftovers of killed processes are removed.

    Yields
    ------
    Path
        Where to write.
    """
    path = Path(path)
    for left in path.parent.glob(f".{path.stem}.partial-*{path.suffix}"):
        if not _alive(left.name.removesuffix(path.suffix).rpartition("-")[2]):
            left.unlink(missing_ok=True)
    beside = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes | memoryview) -> Path:
    """Write a file that survives a crash of the machine: the data is on disk before its name is.

    Raises
    ------
    OSError
        If it cannot be written; what stood there before still does.
    """
    with replacing(path) as beside, beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write a text file in UTF-8 with Unix line ends, whatever the locale."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def _alive(process: str) -> bool:
    """Whether a process of this machine may still be writing; a name that is no number is left."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        pass
    return True
