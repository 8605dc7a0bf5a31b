"""The one error that reading a compressed file can raise."""

from __future__ import annotations

from sws.errors import SwsError


class CorruptFileError(SwsError, ValueError):
    """The bytes are not a whole, unaltered ``.sws`` file; the message says why.

    The message may quote the file, so what a terminal would act on is shown as an escape.
    """

    def __init__(self, reason: str) -> None:
        shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in reason)
        super().__init__("".join(shown))
