"""Commands that train: pretrain, compress, tune."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sws.cli.arguments import (
    Checkpoints,
    Method,
    Pair,
    Results,
    Seed,
    Seeds,
    checkpoints_in,
    interactive,
    numbers,
    results_in,
    use_configured_data,
)
from sws.errors import MissingFileError
from sws.training import interruption


@contextmanager
def working() -> Iterator[None]:
    """Find the data, stop well when told to, say in a log what a terminal shows as a bar."""
    use_configured_data()
    logger = logging.getLogger("sws")
    lines = logging.StreamHandler(sys.stdout)
    with interruption.watched():
        if not interactive():
            logger.addHandler(lines)
        try:
            yield
        finally:
            logger.removeHandler(lines)


def pretrain(
    pair: Pair,
    seed: Seed = 1,
    start: Annotated[
        str, typer.Option(help="Which of the experiment's starts; main is the shared one.")
    ] = "main",
    for_trials: Annotated[
        bool,
        typer.Option("--for-trials", help="Without the validation images, for trials on them."),
    ] = False,
    results: Results = None,
    checkpoints: Checkpoints = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A pretrained.safetensors to take in place of training, with its metrics.json "
            "beside it; checked against network, data and seed.",
        ),
    ] = None,
) -> None:
    """Train a network before any compression, or take a given one.

    Writes pretrained.safetensors, metrics.json and history.csv to
    RESULTS/pretrained/PAIR/seed-SEED, or PAIR/START/seed-SEED for another start than main.
    Interrupted, it goes on where it was when run again.

    \b
    Examples:
      sws pretrain lenet-300-100_mnist --seed 1
      sws pretrain lenet-300-100_mnist --seed 1 --start plain
      sws pretrain wrn-16-4_cifar-10 --seed 1 --from start/pretrained.safetensors
    """
    from sws.study.plan import find_experiment

    experiment, results = find_experiment(pair), results_in(results)
    experiment.start(start)
    with working():
        from sws.study import stages

        folder = stages.run_pretraining(
            experiment,
            seed,
            results,
            checkpoints=checkpoints_in(results, checkpoints),
            progress=interactive(),
            start=start,
            given=given,
            for_trials=for_trials,
        )
    print(folder)


def compress(
    pair: Pair,
    method: Method = "soft-weight-sharing",
    point: Annotated[str, typer.Option(help="Which of the experiment's settings.")] = "main",
    seed: Seed = 1,
    results: Results = None,
    checkpoints: Checkpoints = None,
) -> None:
    """Retrain a pre-trained network, quantise it, write the file.

    Writes model.sws, metrics.json, history.csv and trace.safetensors to
    RESULTS/runs/PAIR/METHOD/POINT/seed-SEED. The error in metrics.json is that of the network
    decoded from model.sws. Needs 'sws pretrain' of the same pair, seed and start.

    \b
    Example:
      sws compress lenet-300-100_mnist --seed 1
    """
    from sws.study.plan import find_experiment

    experiment, results = find_experiment(pair), results_in(results)
    experiment.point(method, point)
    with working():
        from sws.study import stages

        folder = stages.run_compression(
            experiment,
            method,
            point,
            seed,
            results,
            checkpoints=checkpoints_in(results, checkpoints),
            progress=interactive(),
        )
    print(folder)


def tune(
    pair: Pair,
    candidates: Annotated[Path, typer.Argument(help="YAML file of settings to try.")],
    method: Method = "soft-weight-sharing",
    point: Annotated[str, typer.Option(help="From which the candidates differ.")] = "main",
    seeds: Seeds = "1,2,3",
    results: Results = None,
    checkpoints: Checkpoints = None,
) -> None:
    """Try settings on validation images, never on the test set.

    Appends a line for each trial to RESULTS/tuning/PAIR/METHOD/trials.csv, or to a table in
    METHOD.POINT if they differ from another point than main.

    \b
    Example:
      sws tune lenet-300-100_mnist candidates.yaml --seeds 1,2,3
    """
    from sws.study.plan import find_experiment

    experiment, chosen, results = find_experiment(pair), numbers(seeds), results_in(results)
    if not candidates.is_file():
        raise MissingFileError(f"{candidates}: there is no such file")
    with working():
        from sws.study import tuning

        tuning.tune(
            experiment,
            method,
            candidates,
            chosen,
            results,
            checkpoints=checkpoints_in(results, checkpoints),
            progress=interactive(),
            point=point,
        )


COMMANDS = (pretrain, compress, tune)
