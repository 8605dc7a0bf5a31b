"""QuantizedNetwork ⇄ the bytes of a ``.sws`` file.

NumPy and compiled loops, no deep-learning framework. ``docs/format.md`` describes the format for
whoever writes another reader.
"""

from sws.codec.container import (
    FileDescription,
    TensorReport,
    decode,
    describe,
    encode,
)
from sws.codec.errors import CorruptFileError
from sws.codec.file_access import read, read_file, write

__all__ = [
    "CorruptFileError",
    "FileDescription",
    "TensorReport",
    "decode",
    "describe",
    "encode",
    "read",
    "read_file",
    "write",
]
