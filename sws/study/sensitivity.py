"""The trials of the study of the mixture's update: which there are, and how one runs.

Validation images only: the test set is not read here.
"""

from __future__ import annotations

import json
from pathlib import Path

from sws.config.experiment import Experiment
from sws.config.ladder import changed, laid_over
from sws.config.methods import OURS
from sws.config.schema import ConfigurationError, read_yaml, validated
from sws.config.sensitivity import Curve, Sensitivity, trial_name
from sws.config.soft_weight_sharing import SoftWeightSharing
from sws.files import write_text
from sws.runs.records import rate_trial_folder

KINDS = ("means", "precisions", "proportions")


def load(path: Path) -> Sensitivity:
    """Read and check ``config/sensitivity.yaml``.

    Raises
    ------
    ConfigurationError
        One line for everything that is wrong in it.
    """
    return validated(Sensitivity, read_yaml(path), path)


def trials(study: Sensitivity, experiment: Experiment) -> dict[str, SoftWeightSharing]:
    """Settings of every trial by its name, curve by curve.

    Raises
    ------
    ConfigurationError
        If a change or a value is not one that the settings take.
    """
    base = experiment.point(OURS, study.point)
    found = {}
    for curve in study.curves:
        changes = laid_over(study.change, curve.change)
        for value in curve.values:
            name = trial_name(curve, value)
            at = changed(base, changes, f"sensitivity, {name}")
            found[name] = changed(at, _varied(at, curve, value), f"sensitivity, {name}")
    return found


def _varied(at: SoftWeightSharing, curve: Curve, value: float) -> dict:
    """What a curve's value changes in the settings."""
    if curve.varies == "interval":
        return {"prior": {"interval": round(value)}}
    if curve.varies == "damping":
        return {"prior": {"damping": value}}
    rates = [value if curve.varies in ("rates", kind) else rate for kind, rate in
             zip(KINDS, at.prior.rates, strict=True)]  # fmt: skip
    return {"prior": {"rates": rates}}


def run(
    study: Sensitivity,
    experiment: Experiment,
    name: str,
    seed: int,
    results: Path,
    *,
    checkpoints: Path,
    progress: bool = False,
) -> Path:
    """Run one trial, from the start that ``sws pretrain --for-trials`` made.

    Returns
    -------
    Path
        Its folder. A trial that diverged has a ``note`` that says how.

    Raises
    ------
    ConfigurationError
        If the study has no such trial.
    """
    from sws.study.locks import RunLock
    from sws.study.stages import HISTORY, set_up
    from sws.study.starts import load_pretrained
    from sws.study.tuning import measured, validation_start
    from sws.training.on_device import Task

    known = trials(study, experiment)
    if name not in known:
        raise ConfigurationError(
            f"the study has no trial {name!r}; it has {', '.join(list(known)[:3])}, …"
        )
    set_up()
    settings, folder = known[name], rate_trial_folder(results, name, seed)
    below = Path(results) / "tuning" / experiment.pair
    with RunLock(folder):
        task = Task.load(experiment.dataset, hold_out=True, test=False)
        start = validation_start(experiment, below / OURS, settings.start, seed)
        before = task.error(load_pretrained(experiment, task, start))
        told, history = measured(
            experiment, OURS, settings, seed, task, start,
            below / "sensitivity" / name / f"seed-{seed}", Path(checkpoints), progress,
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        history.write(folder / "history.csv", HISTORY)
        row = {"trial": name, "seed": seed, "settings": settings.model_dump(mode="json")}
        row |= {"error_start_val_pct": before, "epochs": len(history.rows)} | told
        write_text(folder / "trial.json", json.dumps(row, indent=1) + "\n")
    return folder
