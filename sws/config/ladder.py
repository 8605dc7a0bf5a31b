"""Points that are declared as changes of another: from one recipe to another, a step at a time.

A ladder leads from a point ``base`` to a point ``top``. Its steps are laid over the base one after
another, and the last of them must arrive at the top. Beside the cumulative points there is one for
each step that leaves this step out of the top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from sws.config.schema import Settings, validated
from sws.config.sections import Name
from sws.config.soft_weight_sharing import SoftWeightSharing

WHOLE = ("zero_precision", "precision")
"""Sections that a change replaces as a whole: they have several forms."""

Changes = dict[str, Any]


class Step(Settings):
    """One change on the way from one recipe to another."""

    name: Name
    title: Annotated[str, Field(min_length=1)] = Field(description="as a reader knows it")
    change: Changes = Field(description="settings that differ from the step before")
    without: Changes | None = Field(
        None, description="what leaves the step out of the top; default: as they were before it"
    )


class Ladder(Settings):
    """From one recipe to another, one change at a time."""

    base: Name = "paper"
    top: Name = "main"
    seeds: Annotated[int, Field(ge=1)] | None = Field(
        None, description="at most so many of the configured seeds"
    )
    steps: tuple[Step, ...] = Field(min_length=1)


def laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes laid over plain values, section by section.

    Parameters
    ----------
    base, changes : mapping
        Settings as plain values; sections of :data:`WHOLE` are replaced, others merged.

    Examples
    --------
    >>> laid_over({"retraining": {"tau": 0.1, "epochs": 3}}, {"retraining": {"tau": 0.2}})
    {'retraining': {'tau': 0.2, 'epochs': 3}}
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merge = isinstance(value, Mapping) and isinstance(old, Mapping) and key not in WHOLE
        merged[key] = laid_over(old, value) if merge else value
    return merged


def changed(base: SoftWeightSharing, changes: Changes, source: str) -> SoftWeightSharing:
    """A point with changes, checked like any other.

    Raises
    ------
    ConfigurationError
        If a key or a value is wrong.
    """
    values = laid_over(base.model_dump(mode="json"), changes)
    return validated(SoftWeightSharing, values, source)


def rungs(
    ladder: Ladder, base: SoftWeightSharing, top: SoftWeightSharing
) -> dict[str, SoftWeightSharing]:
    """Points of a ladder by name, in order: the cumulative ones, then those that leave one out.

    The first rung is the base and the last one the top, which have names of their own; neither is
    among them.

    Raises
    ------
    ValueError
        If a step changes nothing, or the steps do not arrive at the top.
    """
    found: dict[str, SoftWeightSharing] = {}
    alone: dict[str, SoftWeightSharing] = {}
    here = base
    for number, step in enumerate(ladder.steps, start=1):
        before, here = here, changed(here, step.change, f"ladder, {step.name}")
        if here == before:
            raise ValueError(f"ladder, {step.name}: changes nothing")
        found[rung_name(number, step)] = here
        without = step.without
        if without is None:
            without = _undone(_plain(before), _plain(here), _plain(top))
        alone[left_out_name(step)] = changed(top, without, f"ladder without {step.name}")
    if here != top:
        path, _ = next(_differences(_plain(here), _plain(top)))
        raise ValueError(f"the ladder does not arrive at {ladder.top!r}: {'.'.join(path)} differs")
    found.popitem()
    return found | alone


def rung_name(number: int, step: Step) -> str:
    """Name of the point after a step; they are numbered from 1."""
    return f"ladder-{number:02}-{step.name}"


def left_out_name(step: Step) -> str:
    """Name of the point that is the top without a step."""
    return f"without-{step.name}"


def _plain(point: SoftWeightSharing) -> dict[str, Any]:
    return point.model_dump(mode="json")


def _undone(before: Mapping, after: Mapping, top: Mapping) -> Changes:
    """Back to what was before a step, as far as what the step set is still there in the top."""
    still = {path for path, _ in _differences(after, top)}
    back: Changes = {}
    for path, old in _differences(after, before):
        if path not in still:
            inner = back
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = old
    return back


def _differences(
    one: Mapping, other: Mapping, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and the other's value, of all that two settings do not share."""
    for key, value in one.items():
        theirs = other[key]
        if isinstance(value, Mapping) and isinstance(theirs, Mapping) and key not in WHOLE:
            yield from _differences(value, theirs, (*path, key))
        elif value != theirs:
            yield (*path, key), theirs
