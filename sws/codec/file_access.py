"""``.sws`` files on disk: whole or not at all when written, looked at before they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from sws.codec.container import decode, encode
from sws.codec.errors import CorruptFileError
from sws.codec.header import MAGIC, check_magic
from sws.files import write_bytes
from sws.network.quantized import QuantizedNetwork

FILE_BOUND = 1 << 31


def write(network: QuantizedNetwork, file: str | os.PathLike | BinaryIO) -> int:
    """Write a network to a file, which appears whole or not at all, or to an open one.

    Returns
    -------
    int
        The number of bytes written.
    """
    data = encode(network)
    if isinstance(file, (str, os.PathLike)):
        write_bytes(file, data)
    else:
        file.write(data)
    return len(data)


def read(file: str | os.PathLike | BinaryIO) -> QuantizedNetwork:
    """Read a network from a file or an open one, from where it stands to its end.

    Raises
    ------
    CorruptFileError
        As :func:`decode`, with the file's name.
    OSError
        If the file cannot be read.
    """
    if not isinstance(file, (str, os.PathLike)):
        return decode(_read_bounded(file))
    try:
        return decode(read_file(file))
    except CorruptFileError as error:
        raise CorruptFileError(f"{file}: {error}") from None


def read_file(path: str | os.PathLike) -> bytes:
    """The bytes of a file, if they begin as those of a ``.sws`` file do and are at most 2^31.

    Links are followed. What is no ordinary file is refused before anything is read of it.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise CorruptFileError("no ordinary file")
    with path.open("rb") as file:
        return _read_bounded(file)


def _read_bounded(file: BinaryIO) -> bytes:
    start = file.read(len(MAGIC))
    check_magic(start)
    data = start + file.read(FILE_BOUND)
    if len(data) > FILE_BOUND:
        raise CorruptFileError(f"longer than {FILE_BOUND} bytes")
    return data
