"""Start networks: what compression begins with, checked before anything builds on it.

A start is a folder with ``pretrained.safetensors`` and the ``metrics.json`` that says which
network, data and seed it is of. Our own come from :func:`sws.study.stages.pretrain`; :func:`take`
puts a given one in the same place, so that nobody has to train anew what others have published.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sws.config.experiment import Experiment
from sws.errors import InputError, MissingFileError
from sws.training.on_device import Task

WEIGHTS, METRICS, CURVE = "pretrained.safetensors", "metrics.json", "history.csv"


def start_metrics(folder: Path) -> dict[str, Any]:
    """What was measured of the pre-trained network.

    Parameters
    ----------
    folder : Path
        Of the start.

    Returns
    -------
    dict
        Its ``metrics.json``.

    Raises
    ------
    MissingFileError
        If nobody has trained it.
    """
    path = Path(folder) / METRICS
    if not path.exists():
        raise MissingFileError(
            f"{path}: no pre-trained network; run 'sws pretrain' for this pair and seed first"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def load_pretrained(experiment: Experiment, task: Task, folder: Path) -> nn.Module:
    """The network in a start's folder.

    Parameters
    ----------
    experiment : Experiment
        Says which network it has to be.
    task : Task
        Data that it has to fit, and the device to put it on.
    folder : Path
        Of the start.

    Returns
    -------
    nn.Module
        The network, on the task's device.

    Raises
    ------
    MissingFileError
        If there is none.
    InputError
        If the file is damaged or of another network; the message says in what it differs.
    """
    path = Path(folder) / WEIGHTS
    if not path.exists():
        raise MissingFileError(
            f"{path}: no pre-trained network; run 'sws pretrain' for this pair and seed first"
        )
    model = task.build(experiment.model)
    try:
        state = _checked(path, experiment.model, model, task)
    except InputError as error:
        raise InputError(f"{error}; delete the folder and run 'sws pretrain' again") from None
    model.load_state_dict(state)
    return model


def take(experiment: Experiment, seed: int, file: Path, task: Task, scratch: Path) -> None:
    """Copy a given start into ``scratch``, if it is one for this experiment and seed.

    Its ``metrics.json`` has to lie beside it. The test error is measured anew, on the file as it
    is; everything else that the copy says, such as seconds and provenance, is what the given one
    said of its training.

    Parameters
    ----------
    experiment : Experiment
        Network, data set and hold-out that the start has to be of.
    seed : int
        That the start has to be of.
    file : Path
        The given ``pretrained.safetensors``.
    task : Task
        The data.
    scratch : Path
        Folder to copy into.

    Raises
    ------
    MissingFileError
        If there is no such file, or no ``metrics.json`` beside it.
    InputError
        If it is damaged, or of another architecture, class count, dtype, data set or seed.
    """
    file = Path(file)
    if not file.is_file():
        raise MissingFileError(f"{file}: there is no such start")
    told = _told(file.with_name(METRICS), experiment, seed, task)
    model = task.build(experiment.model)
    model.load_state_dict(_checked(file, experiment.model, model, task))
    told["error_start_pct"] = task.error(model)
    if task.validation is not None:
        told["error_val_pct"] = task.validation_error(model)
    shutil.copyfile(file, scratch / WEIGHTS)
    if (curve := file.with_name(CURVE)).is_file():
        shutil.copyfile(curve, scratch / CURVE)
    text = json.dumps(told, indent=1, allow_nan=False) + "\n"
    (scratch / METRICS).write_text(text, encoding="utf-8")


def _told(path: Path, experiment: Experiment, seed: int, task: Task) -> dict[str, Any]:
    """The metrics beside a given start, if they are about this experiment, data and seed."""
    if not path.is_file():
        raise MissingFileError(
            f"{path}: has to lie beside the start, to say what it was trained on"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        data = told["provenance"]["data"]
        told["seconds"]["pretrain"], told["error_start_pct"]  # what compression will ask for
        given = {k: told[k] for k in ("model", "dataset", "seed", "n_train")}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the metrics of a pre-training ({error!r})") from None
    wanted = {"model": experiment.model, "dataset": experiment.dataset, "seed": seed}
    wanted["n_train"] = task.images
    names = {"model": "network", "dataset": "data set", "n_train": "number of training images"}
    for key, value in wanted.items():
        if given[key] != value:
            raise InputError(
                f"{path}: of another {names.get(key, key)}, {given[key]}; wanted is {value}"
            )
    if data != task.dataset.digest:
        raise InputError(
            f"{path}: trained on other data, of SHA-256 {data}; "
            f"{experiment.dataset} has {task.dataset.digest}"
        )
    return told


def _checked(path: Path, name: str, model: nn.Module, task: Task) -> dict[str, Tensor]:
    """The tensors of a file, if they are the state of this network.

    Raises
    ------
    InputError
        Naming file, network and the first difference.
    """
    try:
        state = load_file(path, device=str(task.device))
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({error}), so no {name}") from None
    expected = model.state_dict()
    if strange := sorted(state.keys() ^ expected.keys()):
        what = "lacks" if strange[0] in expected else "also holds"
        raise InputError(f"{path}: of another architecture than {name}: {what} {strange[0]}")
    last = list(dict(model.named_parameters()))[-1]  # the output's bias
    classes = len(task.dataset.classes)
    if state[last].ndim == 1 and len(state[last]) != classes:
        raise InputError(
            f"{path}: a {name} of {len(state[last])} classes; {task.dataset.name} has {classes}"
        )
    for key, value in expected.items():
        if state[key].shape != value.shape:
            raise InputError(
                f"{path}: of another architecture than {name}: {key} is "
                f"{tuple(state[key].shape)}, not {tuple(value.shape)}"
            )
        if state[key].dtype != value.dtype:
            raise InputError(
                f"{path}: {key} of this {name} is {_plain(state[key].dtype)}; "
                f"a start is {_plain(value.dtype)}"
            )
        if not torch.isfinite(state[key]).all():
            raise InputError(f"{path}: {key} of this {name} holds values that are not finite")
    return state


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
