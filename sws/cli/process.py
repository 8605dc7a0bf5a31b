"""The process that a command runs in: its exit status, and standard output and error.

Output degrades where the terminal cannot show it, and is dropped where nobody reads it: neither is
a reason to stop work or to call it failed.
"""

from __future__ import annotations

import codecs
import enum
import io
import os
import sys
from typing import TextIO

LEGIBLE = "sws-legible"
"""Name of the error handler for what an encoding lacks; see :func:`legible`."""

_PLAIN = {"×": "x", "±": "+-", "–": "-", "−": "-", "→": "->", "≤": "<=", "≥": ">=", "·": "*"}
_ESCAPED_BYTES = range(0xDC80, 0xDD00)


class Status(enum.IntEnum):
    """How a command ends; each number means one thing."""

    OK = 0
    """The command did what it was asked."""
    FAILED = 1
    """It could not; standard error says why in one line."""
    USAGE = 2
    """It was called wrongly: an unknown option, a value out of range."""
    DIFFERS = 3
    """``sws compare`` compared, and a number differs by more than its margin."""
    STOPPED = 75
    """A signal stopped training, which goes on from its checkpoint when run again: EX_TEMPFAIL of
    sysexits.h."""
    INTERRUPTED = 130
    """Ctrl-C in a command that does not train."""


def legible(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler of :mod:`codecs`: replace what an encoding lacks by something to read.

    Symbols of the tables become ASCII and other characters their number (``\\xfc``). The bytes of a
    file name that is no text pass as they are.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = bytearray()
    for character in error.object[error.start : error.end]:
        if ord(character) in _ESCAPED_BYTES:
            found.append(ord(character) - 0xDC00)
        else:
            found += _PLAIN.get(character, character).encode("ascii", "backslashreplace")
    return bytes(found), error.end


codecs.register_error(LEGIBLE, legible)


def prepare() -> None:
    """Make standard output and error safe to write to, for the rest of this process.

    A stream that was closed is opened on the null device, before a file of results gets its number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    sys.stdout, sys.stderr = _stream(sys.stdout, 1), _stream(sys.stderr, 2)


def to_log(descriptor: int) -> None:
    """Send standard output and error, of libraries too, to a file, in UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for stream in (sys.stdout, sys.stderr):
        # lines appear in the log as they are written, for whoever watches it
        stream.reconfigure(encoding="utf-8", errors=LEGIBLE, line_buffering=True)


def _stream(old: TextIO | None, number: int) -> TextIO:
    """Standard output or error as it was, but one that survives its reader."""
    if old is not None:
        old.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(number, "w", closefd=False)),
        encoding=getattr(old, "encoding", "utf-8"),
        errors=LEGIBLE,
        line_buffering=getattr(old, "line_buffering", False),
        write_through=getattr(old, "write_through", False),
    )


class _Descriptor(io.FileIO):
    """A descriptor that goes to the null device once nobody reads it, as after ``| head``."""

    def write(self, data) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes
