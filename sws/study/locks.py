"""One writer a folder: the lock that a run holds, and the line that it leaves there."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path

from sws.errors import SwsError


class LockedError(SwsError, RuntimeError):
    """Another process writes to the same folder; the message names it."""


class RunLock:
    """Held while a run writes to ``folder``; a second writer fails at once, naming the first.

    The kernel drops the lock with the process, however that ends: nothing is left to clean up. The
    lock file stands beside the folder and stays. Its first line names the process that holds it,
    or held it last; its second line is the last thing that this package's logger reported, such as
    the epoch, or how the run ended. :mod:`sws.study.status` reads it.

    Raises
    ------
    LockedError
        On entering, if another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        self.folder = Path(folder)
        self.path = lock_path(self.folder)
        self._lock = FileLock(self.path)
        self._handler = _Notes(self)

    def __enter__(self) -> RunLock:
        from filelock import Timeout

        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # whoever asks whether it is held (sws status) holds it for a moment
            self._lock.acquire(timeout=0.5, poll_interval=0.1)
        except Timeout:
            raise LockedError(
                f"{self.folder}: {self._holder()} is writing there; wait until it ends, or stop it"
            ) from None
        self.note("started")
        logger = logging.getLogger("sws")
        logger.addHandler(self._handler)
        if not logger.isEnabledFor(logging.INFO):
            logger.setLevel(logging.INFO)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        logging.getLogger("sws").removeHandler(self._handler)
        if error is None:
            self.note("finished")
        elif isinstance(error, Exception):  # a run that is told to stop keeps its last line
            self.note(f"failed: {' '.join(str(error).split()) or kind.__name__}")
        self._lock.release()

    def note(self, text: str) -> None:
        """Leave a line for those who ask what this run is doing; never a reason to fail."""
        with contextlib.suppress(OSError):
            self.path.write_text(
                f"{os.getpid()} {socket.gethostname()}\n{text}\n",
                encoding="utf-8",
                errors="backslashreplace",  # a file's name need not be text
            )

    def _holder(self) -> str:
        try:
            pid, host = self.path.read_text(encoding="utf-8").splitlines()[0].split()
        except (OSError, ValueError, IndexError):
            return "another process"
        return f"process {pid}" + ("" if host == socket.gethostname() else f" on {host}")


def lock_path(folder: Path) -> Path:
    """The lock file of a result folder."""
    return folder.with_name(f".{folder.name}.lock")


class _Notes(logging.Handler):
    """Keeps the last message in the lock file."""

    def __init__(self, run: RunLock) -> None:
        super().__init__(logging.INFO)
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        self._run.note(record.getMessage())
