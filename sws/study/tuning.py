"""Trials of settings on a validation split, one table a pair and method.

The test set is not read here. A trial is a compression like any other, from a start that was
trained without the validation images.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sws.config.experiment import Experiment
from sws.config.ladder import laid_over
from sws.config.schema import ConfigurationError, validated
from sws.config.sections import Point
from sws.files import write_text
from sws.network.from_module import RangeError
from sws.report.table import to_csv
from sws.runs.records import start_folder, trials_path, trials_start_folder
from sws.runs.seeds import over_seeds
from sws.study.locks import RunLock
from sws.study.stages import (
    below_results,
    compress_on,
    method_module,
    pretrain_on,
    set_up,
)
from sws.study.starts import load_pretrained
from sws.training.loop import DivergedError, History, Stopwatch
from sws.training.on_device import Task

TRIALS = (
    "trial", "seed", "settings", "n_train", "epochs", "error_start_val_pct",
    "error_retrained_val_pct", "error_end_val_pct", "file_bytes", "cr_file", "cr_huffman", "cr_han",
    "nonzero_pct", "components", "seconds", "main", "note",
)  # fmt: skip


def tune(
    experiment: Experiment,
    method: str,
    candidates: Path,
    seeds: Iterable[int],
    results: Path,
    *,
    checkpoints: Path,
    progress: bool = False,
    point: str = "main",
) -> Path:
    """Try settings on a validation split; the test set is not read.

    Every trial starts from a network pre-trained without the validation images, one a seed, which
    all trials share. A trial that is in the table already is not run again. At the end, ``main``
    marks the smallest mean file whose mean error is at most ``allowed_rise_pct`` above its start;
    of trials that all match one size, that with the smallest mean error. A trial that diverges has
    a row without numbers, whose note says how.

    Parameters
    ----------
    candidates : YAML, name → what differs from the point.
    point : from which the candidates differ; trials beside another than ``main`` have a table of
        their own, in a folder ``<method>.<point>``.

    Returns
    -------
    ``trials.csv``.

    Raises
    ------
    ConfigurationError
        If the candidates cannot be read, or one has the name of a trial of other settings.
    """
    set_up()
    name = method if point == "main" else f"{method}.{point}"
    folder = Path(results) / "tuning" / experiment.pair / name
    table = folder / "trials.csv"
    trials = _read_candidates(candidates, experiment.point(method, point))
    with RunLock(folder):
        task = Task.load(experiment.dataset, hold_out=True, test=False)
        rows = _read_trials(table)
        for name, settings in trials.items():
            for seed in seeds:
                complete = _followed(settings, method, folder.parents[2], experiment, seed)
                done = [r for r in rows if r["trial"] == name and r["seed"] == str(seed)]
                if done:
                    _check_same(complete, done[0], table)
                    continue
                row = _trial(
                    experiment, method, complete, name, seed, task, folder, checkpoints, progress
                )
                rows.append(row)
                _write_trials(
                    table,
                    mark_main(
                        rows, experiment.allowed_rise_pct, matched=settings.follows is not None
                    ),
                )
                end = f"{row['error_end_val_pct']} % at {row['file_bytes']} bytes"
                end = row["note"] or end
                print(f"{name} seed {seed}: {row['error_start_val_pct']} → {end}", flush=True)
    return table


def _read_candidates(path: Path, base: Point) -> dict[str, Point]:
    try:
        listed = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError:
        raise ConfigurationError(f"{path}: not valid YAML") from None
    if not isinstance(listed, dict):
        raise ConfigurationError(f"{path}: expected names, each with settings to try")
    values = base.model_dump(mode="json")
    return {
        name: validated(type(base), laid_over(values, changes or {}), f"{path}: {name}")
        for name, changes in listed.items()
    }


def _trial(
    experiment: Experiment,
    method: str,
    settings: Point,
    name: str,
    seed: int,
    task: Task,
    folder: Path,
    checkpoints: Path,
    progress: bool,
) -> dict[str, str]:
    start = validation_start(experiment, folder, settings.start, seed)
    if not (start / "metrics.json").exists():
        with RunLock(start):
            pretrain_on(experiment, seed, task, start, Path(checkpoints), progress, settings.start)
    row = dict.fromkeys(TRIALS, "")
    row |= {"trial": name, "seed": str(seed), "n_train": str(task.images), "main": "0"}
    row["settings"] = json.dumps(settings.model_dump(mode="json"), separators=(",", ":"))
    row["error_start_val_pct"] = f"{task.error(load_pretrained(experiment, task, start)):.2f}"
    with Stopwatch() as watch:
        told, history = measured(
            experiment, method, settings, seed, task, start, folder / name / f"seed-{seed}",
            checkpoints, progress,
        )  # fmt: skip
    return row | told | {"epochs": str(len(history.rows)), "seconds": f"{watch.seconds:.0f}"}


def measured(
    experiment: Experiment,
    method: str,
    settings: Point,
    seed: int,
    task: Task,
    start: Path,
    folder: Path,
    checkpoints: Path,
    progress: bool,
) -> tuple[dict[str, str], History]:
    """What a trial has to say of its end, in columns of :data:`TRIALS`, and its history.

    A trial that diverges says so in ``note``, and nothing else.

    Parameters
    ----------
    start, folder : where the network to begin with lies; what the checkpoints are called after.
    """
    try:
        outcome = compress_on(
            experiment, method, settings, seed, task, start, folder, checkpoints, progress
        )
    except (DivergedError, RangeError) as error:
        shutil.rmtree(Path(checkpoints) / below_results(folder), ignore_errors=True)
        return {"note": error.outcome}, History(getattr(error, "rows", []))
    outcome.remove_checkpoints()
    found, cr = outcome.metrics, outcome.metrics["cr"]
    told = {
        "error_retrained_val_pct": f"{found['error_retrained_pct']:.2f}",
        "error_end_val_pct": f"{found['error_end_pct']:.2f}",
        "file_bytes": str(len(outcome.data)),
        "cr_file": f"{cr['file']:.2f}",
        "cr_huffman": f"{cr['huffman']:.2f}",
        "cr_han": f"{cr['han']:.2f}",
        "nonzero_pct": f"{found['nonzero_pct']:.3f}",
        "components": str(found["components"]),
    }
    return told, outcome.compressed.history


def validation_start(experiment: Experiment, folder: Path, start: str, seed: int) -> Path:
    """Where a network lies, trained yet or not, that has not seen the validation images.

    Where the study holds these out itself, its own start is that network.

    Parameters
    ----------
    folder : Path
        Of a method's trials.
    start : str
        Name of the start.
    seed : int
        Of the training.
    """
    pair = (experiment.model, experiment.dataset)
    own = start_folder(folder.parents[2], pair, start, seed)
    if experiment.hold_out and (own / "metrics.json").exists():
        return own
    return trials_start_folder(folder.parents[2], pair, start, seed)


def _followed(
    settings: Point, method: str, results: Path, experiment: Experiment, seed: int
) -> Point:
    """Settings with what they take from another method's trial of the same seed."""
    if settings.follows is None:
        return settings
    metrics = _followed_trial(results, experiment, *settings.follows, seed)
    return method_module(method).following(settings, metrics)


def _check_same(settings: Point, row: Mapping[str, str], table: Path) -> None:
    """A name must not stand for two settings."""
    if not _agree(json.loads(row["settings"]), settings.model_dump(mode="json")):
        raise ConfigurationError(
            f"{table}: trial {row['trial']!r} of seed {row['seed']} ran with other settings than "
            "it has now; give the new ones another name, or delete the row"
        )


def _agree(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether settings are the same, keys aside that have come or gone in between."""
    return all(
        _agree(then[key], now[key]) if isinstance(now[key], dict) else then[key] == now[key]
        for key in then.keys() & now.keys()
    )


def _followed_trial(
    results: Path, experiment: Experiment, method: str, point: str, seed: int
) -> dict[str, Any]:
    """As ``metrics.json`` would say it: a seed's trial of that name, or the one marked as main.

    Raises
    ------
    ConfigurationError
        If there is no such trial.
    """
    path = trials_path(results, (experiment.model, experiment.dataset), method)
    for row in _read_trials(path):
        named = row["main"] == "1" if point == "main" else row["trial"] == point
        if named and row["seed"] == str(seed) and row["file_bytes"]:
            return {
                "bytes": {"file": int(row["file_bytes"])},
                "nonzero_pct": float(row["nonzero_pct"]),
            }
    raise ConfigurationError(
        f"{path}: has no trial {point!r} of seed {seed} to follow; tune {method} first, or give "
        "match.bytes"
    )


def mark_main(
    rows: list[dict[str, str]], allowed: float, *, matched: bool = False
) -> list[dict[str, str]]:
    """Flag the trial with the smallest mean file among those that rise by at most ``allowed``.

    Parameters
    ----------
    matched : all files have one size on purpose, so that the smallest mean error decides.
    """
    seeds = {r["seed"] for r in rows}
    means: dict[str, tuple[float, float]] = {}
    for name in dict.fromkeys(r["trial"] for r in rows):
        own = [r for r in rows if r["trial"] == name and r["error_end_val_pct"]]
        if {r["seed"] for r in own} == seeds:
            rise = (float(r["error_end_val_pct"]) - float(r["error_start_val_pct"]) for r in own)
            size = (float(r["file_bytes"]) for r in own)
            means[name] = (over_seeds(rise).mean, over_seeds(size).mean)
    if matched:
        fitting = {n: rise for n, (rise, _) in means.items()}
    else:
        fitting = {n: size for n, (rise, size) in means.items() if rise <= allowed + 1e-9}
    best = min(fitting, key=fitting.__getitem__) if fitting else None
    return [r | {"main": str(int(r["trial"] == best))} for r in rows]


def _read_trials(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_trials(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, to_csv(rows, TRIALS))
