"""The one error that reading a compressed file can raise."""

from __future__ import annotations


class CorruptFileError(ValueError):
    """The bytes are not a whole, unaltered ``.sws`` file; the message says why."""
