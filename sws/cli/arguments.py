"""Arguments that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sws.config.seeds import MAX_SEED

if TYPE_CHECKING:
    from sws.config.configuration import Configuration

Pair = Annotated[
    str,
    typer.Argument(
        help="Network and data set, such as lenet-300-100_mnist (see config/experiments), "
        "or the path of an experiment file."
    ),
]
Results = Annotated[Path | None, typer.Option(help="Folder of all results; default as configured.")]
Checkpoints = Annotated[
    Path | None,
    typer.Option(
        help="Folder of checkpoints; default $SWS_CHECKPOINT_ROOT, as configured, in the results."
    ),
]
Method = Annotated[str, typer.Option(help="How to compress.")]
Seed = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="Of initialisation and the order of batches.")
]
Seeds = Annotated[str | None, typer.Option(help="Seeds, separated by commas.")]
Pairs = Annotated[str | None, typer.Option(help="Pairs, separated by commas.")]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", help="Configuration, then overlays; default config/config.yaml."),
]


def configuration(files: Sequence[Path] | None = None, *overlays: str) -> Configuration:
    """What is configured: in these files, or else in ``config/`` here or in the checkout.

    Parameters
    ----------
    files : given on the command line.
    overlays : files of ``config/`` that change ``config.yaml``, if none are given.

    Raises
    ------
    ConfigurationError
        If a file is wrong, or there is none in either place.
    """
    from sws.config.configuration import load_configuration
    from sws.config.schema import ConfigurationError
    from sws.study.plan import find_config

    if files:
        return load_configuration(*files)
    found = {name: find_config(name) for name in ("config.yaml", *overlays)}
    for name, path in found.items():
        if path is None:
            raise ConfigurationError(f"there is no config/{name} here; name a file with --config")
    return load_configuration(*found.values())


def _configured() -> Configuration | None:
    from sws.study.plan import find_config

    return configuration() if find_config() else None


def results_in(chosen: Path | None, config: Sequence[Path] | None = None) -> Path:
    """The folder of all results: chosen, as configured, or ``results`` here."""
    if chosen is not None:
        return chosen
    found = configuration(config) if config else _configured()
    return found.results if found else Path("results")


def checkpoints_in(results: Path, chosen: Path | None) -> Path:
    """Where checkpoints go: chosen, ``$SWS_CHECKPOINT_ROOT``, as configured, or below the results.

    The workflow, in which a configured folder comes first, hands it to its jobs as that variable.
    """
    from sws.runs.records import checkpoint_root

    if chosen is None and not os.environ.get("SWS_CHECKPOINT_ROOT") and (found := _configured()):
        chosen = found.checkpoint_root
    return checkpoint_root(results, chosen)


def use_configured_data() -> None:
    """Read raw data from where they are configured to lie, unless ``$SWS_DATA_ROOT`` is set.

    The workflow sets it for its jobs, empty if need be: these never look at the configuration.
    """
    if "SWS_DATA_ROOT" not in os.environ and (found := _configured()) and found.data_root:
        os.environ["SWS_DATA_ROOT"] = str(found.data_root.absolute())


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
        If a part is no whole number from 0 to the largest seed, or one comes twice.
    """
    parts = names(text)
    if not parts or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} is no list of seeds; write it as 1,2,3")
    # by length first: Python refuses to read a number of thousands of digits
    if any(len(part) > len(str(MAX_SEED)) or int(part) > MAX_SEED for part in parts):
        raise typer.BadParameter(f"a seed is too large; the largest is {MAX_SEED}")
    found = [int(part) for part in parts]
    if len(set(found)) < len(found):
        raise typer.BadParameter(f"{text!r} names a seed twice")
    return found
