"""Errors that rise too far, and a model that is whole or as it was."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from sws.api.result import CompressionResult
from sws.errors import SwsError

POINTS, SHARE = 2.0, 0.1
"""Rises that are warned of: per cent of answers, and of a loss its share."""


class RiseError(SwsError, RuntimeError):
    """The error rose by more than is allowed; the model is as it was."""


class RiseWarning(UserWarning):
    """The error rose by more than most users would accept."""


@contextmanager
def whole_or_untouched(model: nn.Module, checkpoint: Path | None) -> Iterator[None]:
    """If the block raises anything, Ctrl-C included, the model's values are those of before.

    Parameters
    ----------
    model : nn.Module
        Whose parameters and buffers are put back.
    checkpoint : Path or None
        The folder that an interrupted run goes on from; named to whoever interrupts.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    kept = [(value, value.detach().clone()) for _, value in named]
    trains = [(value, value.requires_grad) for _, value in model.named_parameters()]
    try:
        yield
    except BaseException as error:
        with torch.no_grad():
            for value, before in kept:
                value.copy_(before)
        if isinstance(error, KeyboardInterrupt):
            error.add_note(
                "The model is as it was before."
                + (
                    f" The same call goes on from {checkpoint}."
                    if checkpoint is not None
                    else " With checkpoint=FOLDER the same call would go on from here."
                )
            )
        raise
    finally:
        for value, mode in trains:
            value.requires_grad_(mode)
            value.grad = None


def check_rise(result: CompressionResult, allowed: float | None, tau: float | None) -> None:
    """Refuse a rise beyond what is allowed; without a bound, warn of a large one.

    Parameters
    ----------
    result : CompressionResult
        With its errors.
    allowed : float or None
        In the unit of the errors.
    tau : float or None
        That was used, where the method has one.

    Raises
    ------
    RiseError
        If the error rose further than is allowed, or is no number.
    """
    rise, before = result.rise, result.errors["before"]
    text = (
        f"the error rose from {before:.4g} to {result.errors['end']:.4g} {result.unit}; "
        f"{_where(result.errors, tau)}"
    )
    if not math.isfinite(rise) or (allowed is not None and rise > allowed):
        raise RiseError(f"{text}; the model is as it was")
    usual = POINTS if result.unit == "%" else SHARE * abs(before)
    if allowed is None and rise > usual:
        warnings.warn(text, RiseWarning, stacklevel=3)


def _where(errors: Mapping[str, float], tau: float | None) -> str:
    """The phase that lost most, and what helps there."""
    retrained = errors.get("retrained", errors["before"])
    if retrained - errors["before"] > errors["end"] - retrained:
        remedies = ["another learning_rate", "more epochs"]
        if tau:
            remedies.insert(0, f"a smaller tau (now {tau:.3g})")
        return f"most of it in retraining: try {', '.join(remedies)}"
    assigned = errors.get("assigned", math.nan)
    return (
        f"most of it where weights become shared values (right after that, {assigned:.4g}): try "
        "more epochs, the other units, or skip= for the layers that matter most"
    )
