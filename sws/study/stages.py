"""The stages of the study: pretrain and compress. Data in, result files out.

Each stage holds a lock on its folder, checkpoints after every epoch, and puts its outputs in place
by rename when all of them are complete; ``metrics.json`` comes last.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from sws import codec
from sws.codec import rates
from sws.compression.process import Compressed, CompressionTask
from sws.compression.trace import serialize
from sws.config import methods
from sws.config.experiment import START, Experiment
from sws.config.schema import ConfigurationError, Settings
from sws.config.sections import Point, Pretraining
from sws.data.batches import ScaledBatches, TensorBatches
from sws.errors import InputError, MissingFileError
from sws.network.batch_norm import modes_kept
from sws.network.from_module import RangeError
from sws.network.quantized import Architecture, QuantizedNetwork
from sws.network.to_module import build_module
from sws.runs import records
from sws.study import provenance
from sws.study.code_hash import roots
from sws.study.locks import RunLock
from sws.study.starts import CURVE, METRICS, WEIGHTS, load_pretrained, start_metrics, take
from sws.training.checkpoints import Checkpoint
from sws.training.interruption import protected
from sws.training.loop import (
    Batches,
    DivergedError,
    FitSettings,
    History,
    Hooks,
    Stopwatch,
    computes_bfloat16,
    fit,
)
from sws.training.on_device import Task

LOG = logging.getLogger(__name__)

HISTORY = (
    "epoch", "learning_rate", "loss", "cross_entropy", "complexity",
    "error_train_pct", "error_val_pct", "nonzero_pct", "components", "stage",
)  # fmt: skip


def set_up() -> None:
    """Settings of the framework that every stage runs under."""
    # exponentials far from every mean become denormal numbers, ten times as slow
    torch.set_flush_denormal(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # a GPU's condition for the next
    torch.use_deterministic_algorithms(True, warn_only=True)
    # it would write to every new tensor, to show reads of what nothing wrote
    torch.utils.deterministic.fill_uninitialized_memory = False


def _provenance(
    stage: str, settings: Settings, experiment: Experiment, task: Task, method: str | None = None
) -> dict[str, Any]:
    return provenance.collect(
        settings.model_dump(mode="json"),
        task.dataset.digest,
        roots(stage, model=experiment.model, dataset=experiment.dataset, method=method),
        task.device.type,
        torch.get_num_threads(),
    )


def _identity(found: Mapping[str, Any], seed: int, **more: str) -> dict[str, str]:
    """What a checkpoint must share with the run that goes on from it."""
    return {
        "settings": found["settings"],
        "data": found["data"],
        "code": found["code"]["hash"],
        "seed": str(seed),
        "device": found["device"]["type"],
        "threads": str(found["threads"]),
        **more,
    }


def method_module(method: str) -> ModuleType:
    """The module that runs a method."""
    return importlib.import_module(methods.spec(method).module)


def batches_of(task: Task, settings: Point, seed: int) -> TensorBatches:
    """The batches that a method trains on, or gathers statistics from if it does not train."""
    training = getattr(settings, "retraining", settings)
    return task.batches(training.batch_size, seed, training.augmentation)


# --- outputs --------------------------------------------------------------------------------------


@contextmanager
def _outputs(folder: Path) -> Iterable[Path]:
    """A scratch folder whose files move to ``folder`` at the end, ``metrics.json`` last."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        yield scratch
        names = sorted(os.listdir(scratch), key=lambda name: name == "metrics.json")
        with protected():
            for name in names:
                (scratch / name).replace(folder / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _peak_memory_mb() -> float:
    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


# --- pretrain -------------------------------------------------------------------------------------


def run_pretraining(
    experiment: Experiment,
    seed: int,
    results: Path,
    *,
    checkpoints: Path,
    progress: bool = False,
    start: str = START,
    given: Path | None = None,
    for_trials: bool = False,
) -> Path:
    """Train the network on the whole training set; the test set is read once, at the end.

    Parameters
    ----------
    given : a ``pretrained.safetensors`` to take in place of training, checked by
        :func:`sws.study.starts.take`.
    for_trials : train without the validation images, which the error is then measured on.

    Returns
    -------
    The folder with ``pretrained.safetensors``, ``metrics.json`` and ``history.csv``.
    """
    set_up()
    pair = (experiment.model, experiment.dataset)
    folder = records.start_folder(results, pair, start, seed)
    if for_trials:
        folder = records.trials_start_folder(results, pair, start, seed)
    with RunLock(folder):
        hold_out = experiment.hold_out or for_trials
        task = Task.load(experiment.dataset, hold_out=hold_out, test=not for_trials)
        if given is None:
            pretrain_on(experiment, seed, task, folder, Path(checkpoints), progress, start)
        else:
            with _outputs(folder) as scratch:
                take(experiment, seed, given, task, scratch)
    return folder


def pretrain_on(
    experiment: Experiment,
    seed: int,
    task: Task,
    folder: Path,
    checkpoints: Path,
    progress: bool,
    start: str = START,
) -> None:
    """Train on a task from scratch; the network's files go to ``folder``, which is locked."""
    settings = experiment.start(start)
    origin = _provenance("pretrain", settings, experiment, task)
    identity = _identity(origin, seed, images=str(task.images), model=experiment.model)
    checkpoint = Checkpoint(checkpoints / below_results(folder) / "pretrain.pt", identity)
    torch.manual_seed(seed)
    model = task.build(experiment.model)
    fitting = FitSettings(
        settings.epochs,
        settings.learning_rate,
        settings.final_rate,
        weight_decay=settings.weight_decay,
        bfloat16=settings.bfloat16,
        warm_up=settings.warm_up,
        optimizer=settings.optimizer,
        decay=settings.decay,
        label_smoothing=settings.label_smoothing,
        average=settings.average,
    )
    if settings.bfloat16 and not computes_bfloat16(task.device):
        LOG.info("pretrain: float32, since this processor has no instructions for bfloat16")
    with Stopwatch() as watch:
        history = fit(
            model,
            _pretraining_batches(experiment, settings, task, model, seed),
            Hooks(),
            fitting,
            seed=seed,
            checkpoint=checkpoint,
            validate=_watch(task),
            description="pretrain",
            progress=progress,
        )
    metrics = {
        "model": experiment.model,
        "dataset": experiment.dataset,
        "seed": seed,
        "n_train": task.images,
        "error_start_pct": task.error(model),
        **_validation(task, model),
        "seconds": {"pretrain": watch.seconds},
        "peak_memory_mb": _peak_memory_mb(),
        "provenance": origin,
    }
    with _outputs(folder) as scratch:
        state = {k: v.contiguous().cpu() for k, v in model.state_dict().items()}
        save_file(state, scratch / WEIGHTS)
        history.write(scratch / CURVE, [c for c in HISTORY if c in history.rows[0]])
        _write_json(scratch / METRICS, metrics)
    checkpoint.remove()


def _pretraining_batches(
    experiment: Experiment, settings: Pretraining, task: Task, model: nn.Module, seed: int
) -> Batches:
    """The task's batches, in the image sizes that the settings ask for.

    Raises
    ------
    ConfigurationError
        If the network does not take images of one of the sizes.
    """
    batches = task.batches(settings.batch_size, seed, settings.augmentation)
    if not settings.image_sides:
        return batches
    channels, *_ = task.dataset.input_shape
    for _, side in settings.image_sides:
        image = torch.zeros(1, channels, side, side, device=task.device)
        try:
            with modes_kept(model), torch.inference_mode():
                model.eval()(image)
        except RuntimeError as error:
            raise ConfigurationError(
                f"image_sides: {experiment.model} does not take images of {side} × {side} pixels"
            ) from error
    sides = tuple((at * settings.epochs, side) for at, side in settings.image_sides)
    return ScaledBatches(batches, sides)


def _watch(task: Task) -> Callable[[nn.Module], float] | None:
    """What to follow training by: held-out images, where a network for the table leaves some."""
    return None if task.validation is None or task.test is None else task.validation_error


def _validation(task: Task, model: nn.Module) -> dict[str, float]:
    """The error on held-out images beside that on the test images, where there are both."""
    watch = _watch(task)
    return {} if watch is None else {"error_val_pct": watch(model)}


def below_results(folder: Path) -> Path:
    """The end of a result folder's path, from ``runs`` (or the like) on: where checkpoints go."""
    parts = folder.parts
    start = min(parts.index(p) for p in ("pretrained", "runs", "tuning") if p in parts)
    return Path(*parts[start:])


def _count_trials(results: Path, experiment: Experiment, method: str) -> int:
    """Trials that led to the settings: those of these results, or of the reference."""
    pair = (experiment.model, experiment.dataset)
    return len({trial.trial for trial in records.read_trials(results, pair, method)})


# --- compress -------------------------------------------------------------------------------------


def run_compression(
    experiment: Experiment,
    method: str,
    point: str,
    seed: int,
    results: Path,
    *,
    checkpoints: Path,
    progress: bool = False,
) -> Path:
    """Compress a pre-trained network and measure the file that comes of it.

    Returns
    -------
    The folder with ``metrics.json``, ``model.sws``, ``history.csv`` and ``trace.safetensors``.

    Raises
    ------
    DivergedError
        If a point of the table diverged. Of points as written and of a ladder that is the result:
        ``metrics.json`` has a ``status`` that says so, and neither errors nor sizes.
    """
    set_up()
    settings = experiment.point(method, point)
    results = Path(results)
    pair = (experiment.model, experiment.dataset)
    start = records.start_folder(results, pair, settings.start, seed)
    folder = results / "runs" / experiment.pair / method / point / f"seed-{seed}"
    with RunLock(folder):
        task = Task.load(experiment.dataset, hold_out=experiment.hold_out)
        before = start_metrics(start)
        if settings.follows is not None:
            followed = records.Case(experiment.model, experiment.dataset, *settings.follows)
            settings = method_module(method).following(
                settings, _followed_metrics(results, followed, seed)
            )
        told = {
            "model": experiment.model,
            "dataset": experiment.dataset,
            "method": method,
            "point": point,
            "seed": seed,
            "n_train": task.images,
            "tuning_trials": _count_trials(results, experiment, method),
            "start": settings.start,
            "error_start_pct": before["error_start_pct"],
        }
        try:
            outcome = compress_on(
                experiment, method, settings, seed, task, start, folder, checkpoints, progress
            )
        except (DivergedError, RangeError) as error:
            if point in experiment.methods[method]:
                raise  # a row of the table needs a file; of what others wrote, this is the result
            LOG.warning("%s", error)
            origin = _provenance("compress", settings, experiment, task, method)
            _record_divergence(folder, error, told | {"provenance": origin})
            shutil.rmtree(Path(checkpoints) / below_results(folder), ignore_errors=True)
            return folder
        metrics = told | outcome.metrics
        metrics["seconds"] = {"pretrain": before["seconds"]["pretrain"], **metrics["seconds"]}
        names = {"model": experiment.model, "dataset": experiment.dataset, "method": method}
        with _outputs(folder) as scratch:
            (scratch / "model.sws").write_bytes(outcome.data)
            outcome.compressed.history.write(scratch / "history.csv", HISTORY)
            metadata = names | {"point": point, "seed": str(seed)}
            (scratch / "trace.safetensors").write_bytes(
                serialize(outcome.trace, metadata | {"first_layer": outcome.first_layer})
            )
            _write_json(scratch / "metrics.json", metrics)
        outcome.remove_checkpoints()
    return folder


def _record_divergence(
    folder: Path, error: DivergedError | RangeError, told: Mapping[str, Any]
) -> None:
    """Leave how it ended, and the history until then; file and trace are there and empty."""
    with _outputs(folder) as scratch:
        for name in ("model.sws", "trace.safetensors"):
            (scratch / name).write_bytes(b"")
        rows = [row | {"stage": "retrain"} for row in getattr(error, "rows", [])]
        History(rows).write(scratch / "history.csv", HISTORY)
        ending = {"status": error.outcome, "message": str(error)}
        _write_json(scratch / "metrics.json", {**told, **ending})


def _followed_metrics(results: Path, case: records.Case, seed: int) -> dict[str, Any]:
    """What was measured of the run that another one takes a number from."""
    found = records.read_run(results, case, seed)
    if found is None:
        raise MissingFileError(
            f"{case.folder(results, seed) / 'metrics.json'}: needed first; run 'sws compress "
            f"{case.model}_{case.dataset} --method {case.method} --point {case.point} "
            f"--seed {seed}'"
        )
    return dict(found.metrics)


@dataclass(frozen=True)
class Outcome:
    """A compressed network, its file, and what was measured of both."""

    compressed: Compressed
    data: bytes
    trace: dict[str, np.ndarray]
    first_layer: str
    metrics: dict[str, Any]
    remove_checkpoints: Callable[[], None]


def compress_on(
    experiment: Experiment,
    method: str,
    settings: Point,
    seed: int,
    task: Task,
    start: Path,
    folder: Path,
    checkpoints: Path,
    progress: bool,
) -> Outcome:
    """Compress the network in ``start`` on a task; ``folder`` only names the checkpoints."""
    origin = _provenance("compress", settings, experiment, task, method)
    model = load_pretrained(experiment, task, start)
    identity = _identity(
        origin, seed, images=str(task.images), model=experiment.model, start=_digest(model)
    )
    saved: dict[str, Checkpoint] = {}

    def checkpoint(phase: str) -> Checkpoint:
        path = Path(checkpoints) / below_results(folder) / f"{phase}.pt"
        return saved.setdefault(phase, Checkpoint(path, identity))

    first_layer, first = next((n, p) for n, p in model.named_parameters() if p.ndim > 1)
    filters = first.detach().contiguous().cpu().numpy().copy()
    to_compress = CompressionTask(
        model,
        batches_of(task, settings, seed),
        task.images,
        seed=seed,
        checkpoint=checkpoint,
        measure=task.error,
        validate=_watch(task),
        architecture=Architecture(experiment.model, {"classes": len(task.dataset.classes)}),
        input_spec=task.input_spec,
        progress=progress,
    )
    compressed = method_module(method).compress(to_compress, settings)
    with Stopwatch() as encoding:
        data = codec.encode(compressed.network)
    with Stopwatch() as decoding:
        decoded = codec.decode(data)
    restored = build_module(decoded).to(task.device)
    end = task.error(restored)
    after = decoded.state_dict()[first_layer]
    trace = compressed.trace | {"filters/initial": filters, "filters/final": after}
    seconds = compressed.seconds | {"encode": encoding.seconds, "decode": decoding.seconds}
    metrics = {
        "error_retrained_pct": compressed.errors["retrained"],
        "error_assigned_pct": compressed.errors["assigned"],
        "error_end_pct": end,
        **_validation(task, restored),
        **_sizes(decoded, data, compressed.components),
        **compressed.measures,
        "seconds": seconds,
        "peak_memory_mb": _peak_memory_mb(),
        "provenance": origin,
    }

    def remove() -> None:
        for one in saved.values():
            one.remove()

    return Outcome(compressed, data, trace, first_layer, metrics, remove)


def _sizes(network: QuantizedNetwork, data: bytes, components: int) -> dict[str, Any]:
    """The size columns of metrics.json, from the file's own network.

    Raises
    ------
    DivergedError
        If no weight is left.
    """
    if not network.nonzeros:
        raise DivergedError(
            "every weight of the network in the file is 0; lower τ, the quality parameter or c, or "
            "ask for more weights",
            "collapsed: no weight is left",
        )
    cr = rates.rates(network, len(data))
    parts = codec.describe(data).bytes
    return {
        "parameters": network.parameters,
        "weights": network.weights,
        "nonzero_pct": 100 * network.nonzeros / network.weights,
        "bits_per_nonzero": 8 * (parts["indexes"] + parts["values"]) / network.nonzeros,
        "components": components,
        "cr": {
            "nonzero": cr.nonzero,
            "han": cr.han,
            "huffman": cr.huffman,
            "file": cr.file,
        },
        "bytes": {"dense": rates.dense_bytes(network), **parts},
    }


def _digest(model: nn.Module) -> str:
    import hashlib

    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(name.encode())
        found.update(value.contiguous().cpu().numpy().tobytes())
    return found.hexdigest()


def evaluate_file(path: Path, dataset: str) -> tuple[float, int]:
    """Decode a file and measure its test error.

    Returns
    -------
    error in per cent, number of trainable parameters.
    """
    network = codec.read(path)
    task = Task.load(dataset)
    if network.input is not None and tuple(network.input.shape) != task.dataset.input_shape:
        raise InputError(
            f"{path}: expects images of shape {tuple(network.input.shape)}, "
            f"and those of {dataset} are {task.dataset.input_shape}"
        )
    return task.error(build_module(network).to(task.device)), network.parameters
