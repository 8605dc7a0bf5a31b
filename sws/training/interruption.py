"""SIGTERM and SIGINT end a run between two files, never within one.

A signal raises :class:`Interrupted` where the program is. What must not be cut in two, such as the
writing of a checkpoint, runs under :func:`protected`, and the exception comes after it; training
stops between two batches (:func:`between`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """A signal asked the run to stop; no error, so that no ``except Exception`` takes it for one.

    Attributes
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class _Watch:
    """What arrived, and whether now is a bad moment."""

    def __init__(self) -> None:
        self.depth = 0
        self.pending: int | None = None

    def receive(self, number: int, _frame: object) -> None:
        # Slurm, a shell and Snakemake may each pass the same signal on: one is enough, and a second
        # exception would cut the cleaning up short.
        first, self.pending = self.pending is None, number
        if first and not self.depth:
            raise Interrupted(number)

    def check(self) -> None:
        # Whoever calls back from C, as a compiler does, swallows what is raised in a handler: this
        # raises it again.
        if self.pending is not None:
            raise Interrupted(self.pending)


_watch = _Watch()


@contextmanager
def watched() -> Iterator[None]:
    """Let SIGTERM and SIGINT raise :class:`Interrupted` in this block; for the main thread only.

    A program that uses this package as a library keeps its own handlers unless it asks for this.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _watch = _Watch()
    before = {number: signal.signal(number, _watch.receive) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _watch = _Watch()


@contextmanager
def protected() -> Iterator[None]:
    """Hold a signal back until the end of this block."""
    watch = _watch
    watch.depth += 1
    try:
        yield
    finally:
        watch.depth -= 1
    watch.check()


def between(items: Iterable[T]) -> Iterator[T]:
    """The items; a signal that arrives while one is worked on is acted on before the next."""
    with protected():
        for item in items:
            _watch.check()
            yield item
