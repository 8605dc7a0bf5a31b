"""Arguments that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Pair = Annotated[
    str,
    typer.Argument(
        help="Network and data set, such as lenet-300-100_mnist (see config/experiments), "
        "or the path of an experiment file."
    ),
]
Results = Annotated[Path, typer.Option(help="Folder of all results.")]
Checkpoints = Annotated[
    Path | None,
    typer.Option(help="Folder of checkpoints; default $SWS_CHECKPOINT_ROOT, or in the results."),
]
Method = Annotated[str, typer.Option(help="How to compress.")]
Seed = Annotated[int, typer.Option(min=0, help="Of initialisation and the order of batches.")]
Seeds = Annotated[str | None, typer.Option(help="Seeds, separated by commas.")]
Pairs = Annotated[str | None, typer.Option(help="Pairs, separated by commas.")]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", help="Configuration, then overlays; default config/config.yaml."),
]


def interactive() -> bool:
    """Whether somebody watches: progress bars on a terminal, plain lines in a log."""
    return sys.stderr.isatty()


def names(text: str) -> list[str]:
    """``a,b`` → [a, b]; an empty text is an empty list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str) -> list[int]:
    """``1,2`` → [1, 2].

    Raises
    ------
    typer.BadParameter
        If a part is no whole number ≥ 0, or one comes twice.
    """
    parts = names(text)
    if not parts or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} is no list of seeds; write it as 1,2,3")
    found = [int(part) for part in parts]
    if len(set(found)) < len(found):
        raise typer.BadParameter(f"{text!r} names a seed twice")
    return found
