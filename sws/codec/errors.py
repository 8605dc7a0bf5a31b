"""The one error that reading a compressed file can raise."""

from __future__ import annotations

from sws.errors import SwsError

LONGEST_REASON = 300


class CorruptFileError(SwsError, ValueError):
    """The bytes are not a whole, unaltered ``.sws`` file; the message says why.

    The message may quote the file, so what a terminal would act on is shown as an escape.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(shown(reason, LONGEST_REASON))


def shown(text: str, longest: int) -> str:
    """Text of unknown origin for a terminal: escapes for what it would act on, cut where long."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
