"""A size or an error that is wanted: a short search for how strongly to compress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sws.errors import InputError

T = TypeVar("T")

CLOSE = 0.05
"""A file that is smaller than wanted by at most this share ends the search."""
FARTHEST = 2.0**12


@dataclass(frozen=True)
class Attempt(Generic[T]):
    """One try: how strong, what came of it."""

    strength: float
    bytes: int
    error: float
    made: T


def search(
    attempt: Callable[[float], Attempt[T]],
    *,
    target_bytes: int | None = None,
    target_error: float | None = None,
    tries: int = 6,
) -> tuple[Attempt[T], list[Attempt[T]]]:
    """The best try that keeps within a target.

    Strength goes up by factors of 4, or down, until one try keeps within the target and another
    does not, and then half-way between them, on a logarithmic scale. Nothing is random.

    Parameters
    ----------
    attempt : callable
        Compresses with a strength; files get smaller and errors larger as it grows, up to noise.
    target_bytes : int, optional
        The file may have so many; the smallest error within that is best.
    target_error : float, optional
        The error may be so large; the smallest file within that is best.
    tries : int
        At most.

    Returns
    -------
    best, all : the best try, and all in their order.

    Raises
    ------
    InputError
        If none keeps within the target; the message says what the closest reached.
    """
    known: list[Attempt[T]] = []
    strength = 1.0
    for _ in range(tries):
        known.append(attempt(strength))
        if target_bytes is not None and 1 - CLOSE <= known[-1].bytes / target_bytes <= 1:
            break
        following = _next(known, target_bytes, target_error)
        if following is None:
            break
        strength = following
    within = [k for k in known if _keeps(k, target_bytes, target_error)]
    if within:
        key = (lambda k: k.error) if target_bytes is not None else (lambda k: k.bytes)
        return min(within, key=key), known
    if target_bytes is not None:
        smallest = min(k.bytes for k in known)
        raise InputError(
            f"no file of {target_bytes:,} bytes in {len(known)} tries, the smallest had "
            f"{smallest:,}; allow more tries, or another method"
        )
    least = min(k.error for k in known)
    raise InputError(
        f"no error of {target_error:g} in {len(known)} tries, the smallest was {least:.4g}; allow "
        "more tries or more epochs"
    )


def _keeps(one: Attempt, target_bytes: int | None, target_error: float | None) -> bool:
    if target_bytes is not None:
        return one.bytes <= target_bytes
    return target_error is not None and one.error <= target_error


def _next(
    known: list[Attempt], target_bytes: int | None, target_error: float | None
) -> float | None:
    """The strength to try next; None where there is nothing left to try."""
    kept = [k.strength for k in known if _keeps(k, target_bytes, target_error)]
    failed = [k.strength for k in known if not _keeps(k, target_bytes, target_error)]
    for_bytes = target_bytes is not None
    if not failed:  # all keep within it: for bytes weaker is better, for errors stronger
        found = min(kept) / 4 if for_bytes else max(kept) * 4
    elif not kept:
        found = max(failed) * 4 if for_bytes else min(failed) / 4
    else:
        inside, outside = (min(kept), max(failed)) if for_bytes else (max(kept), min(failed))
        found = (inside * outside) ** 0.5
        if abs(inside / outside - 1) < 0.02:
            return None
    far = not 1 / FARTHEST <= found <= FARTHEST
    return None if far or any(k.strength == found for k in known) else found
