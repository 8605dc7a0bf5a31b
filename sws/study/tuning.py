"""Trials of settings on a validation split, one table a pair and method.

The test set is not read here. A trial is a compression like any other, from a start that was
trained without the validation images.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sws.config.experiment import Experiment
from sws.config.schema import ConfigurationError, validated
from sws.config.sections import Point
from sws.files import write_text
from sws.report.table import to_csv
from sws.runs.records import trials_path
from sws.runs.seeds import over_seeds
from sws.study.locks import RunLock
from sws.study.stages import compress_on, method_module, pretrain_on, set_up
from sws.study.starts import load_pretrained
from sws.training.loop import Stopwatch
from sws.training.on_device import Task

TRIALS = (
    "trial", "seed", "settings", "n_train", "epochs", "error_start_val_pct", "error_end_val_pct",
    "file_bytes", "cr_file", "cr_huffman", "nonzero_pct", "seconds", "main", "note",
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
) -> Path:
    """Try settings on a validation split; the test set is not read.

    Every trial starts from a network pre-trained without the validation images, one a seed, which
    all trials share. A trial that is in the table already is not run again. At the end, ``main``
    marks the smallest mean file whose mean error is at most ``allowed_rise_pct`` above its start;
    of trials that all match one size, that with the smallest mean error.

    Parameters
    ----------
    candidates : YAML, name → what differs from the experiment's point ``main``.

    Returns
    -------
    ``trials.csv``.

    Raises
    ------
    ConfigurationError
        If the candidates cannot be read, or one has the name of a trial of other settings.
    """
    set_up()
    folder = Path(results) / "tuning" / experiment.pair / method
    table = folder / "trials.csv"
    trials = _read_candidates(candidates, experiment.point(method, "main"))
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
                print(
                    f"{name} seed {seed}: {row['error_start_val_pct']} → "
                    f"{row['error_end_val_pct']} % at {row['file_bytes']} bytes"
                )
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
        name: validated(type(base), _merged(values, changes or {}), f"{path}: {name}")
        for name, changes in listed.items()
    }


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes laid over a mapping, section by section; a hyper-prior is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        deep = isinstance(value, dict) and isinstance(merged.get(key), dict)
        replace = key in ("zero_precision", "precision")
        merged[key] = _merged(merged[key], value) if deep and not replace else value
    return merged


def _start(experiment: Experiment, folder: Path, seed: int) -> Path:
    """The folder of the network that trials begin with, trained yet or not.

    Where the study holds the validation images out itself, its own start is that network.
    """
    own = folder.parents[2] / "pretrained" / experiment.pair / f"seed-{seed}"
    if experiment.hold_out and (own / "metrics.json").exists():
        return own
    return folder.parent / "pretrained" / f"seed-{seed}"


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
    start = _start(experiment, folder, seed)
    if not (start / "metrics.json").exists():
        with RunLock(start):
            pretrain_on(experiment, seed, task, start, Path(checkpoints), progress)
    before = task.error(load_pretrained(experiment, task, start))
    with Stopwatch() as watch:
        outcome = compress_on(
            experiment, method, settings, seed, task, start, folder / name / f"seed-{seed}",
            checkpoints, progress,
        )  # fmt: skip
    outcome.remove_checkpoints()
    epochs = len(outcome.compressed.history.rows)
    return {
        "trial": name,
        "seed": str(seed),
        "settings": json.dumps(settings.model_dump(mode="json"), separators=(",", ":")),
        "n_train": str(task.images),
        "epochs": str(epochs),
        "error_start_val_pct": f"{before:.2f}",
        "error_end_val_pct": f"{outcome.metrics['error_end_pct']:.2f}",
        "file_bytes": str(len(outcome.data)),
        "cr_file": f"{outcome.metrics['cr']['file']:.2f}",
        "cr_huffman": f"{outcome.metrics['cr']['huffman']:.2f}",
        "nonzero_pct": f"{outcome.metrics['nonzero_pct']:.3f}",
        "seconds": f"{watch.seconds:.0f}",
        "main": "0",
        "note": "",
    }


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
        own = [r for r in rows if r["trial"] == name]
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
