"""The one call that compresses a network of any make."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sws import codec, environment
from sws.api import data, presets
from sws.api.guard import check_rise, whole_or_untouched
from sws.api.result import CompressionResult
from sws.api.search import Attempt, search
from sws.compression.process import Compressed, CompressionTask, no_checkpoint
from sws.config import methods
from sws.config.sections import Point
from sws.errors import InputError
from sws.network import batch_norm
from sws.network.batch_norm import modes_kept
from sws.network.from_module import check_buffers, with_exact_vectors
from sws.network.inputs import count
from sws.network.quantized import QuantizedNetwork
from sws.network.to_module import build_module, unwrapped
from sws.network.weights import check_compressible, compressible, leaving_out
from sws.training.checkpoints import Checkpoint
from sws.training.objectives import Objective

Validate = Iterable | Callable[[nn.Module], float]


def compress(
    model: nn.Module,
    loader: Iterable,
    *,
    loss: Callable[[Any, Any], Tensor] | None = None,
    method: str = methods.OURS,
    tau: float | None = None,
    target_bytes: int | None = None,
    target_error: float | None = None,
    validate: Validate | None = None,
    allowed_rise: float | None = None,
    units: Literal["auto", "weight", "tensor"] = "auto",
    skip: Collection[str] | Callable[[str], bool] = (),
    epochs: int = 40,
    learning_rate: float = 1e-3,
    images: int | None = None,
    bfloat16: bool = False,
    checkpoint: str | Path | None = None,
    tries: int = 6,
    seed: int = 0,
    using: Point | None = None,
    progress: bool | None = None,
) -> CompressionResult:
    """Compress a trained network. The model is changed in place.

    Afterwards the model holds exactly what the file holds; after any exception, Ctrl-C included, it
    is as it was. Every parameter of two dimensions or more is compressed, frozen ones too. Vectors
    become float16 with 5 bits of mantissa (7 in units of tensors, 10 with a loss of one's own),
    or float32 where float16 cannot hold them or rounding costs accuracy. Buffers stay as they are.

    Parameters
    ----------
    model : nn.Module
        In float32, on one device. Wrappers of ``torch.compile`` and data parallelism are looked
        through.
    loader : iterable
        A ``DataLoader``, a list, or whatever can be gone through again. A batch is (inputs,
        targets); (input, input, …, targets); or a mapping of the arguments of ``forward``.
    loss : callable, optional
        ``loss(outputs, targets)``, the mean over the batch as a tensor; for mappings, the targets
        are the batch. Without it: cross-entropy of int64 labels and at least two outputs; for
        mappings, the ``loss`` that the network returns.
    method : str
        ``soft-weight-sharing``, ``soft-weight-sharing-subsampled``, ``spike-slab``,
        ``network-surgery``, ``deep-compression``, ``no-prior`` (with ``target_bytes``) or
        ``post-hoc-mixture`` (no training).
    tau : float, optional
        τ; by default in proportion to the number of training examples (:func:`sws.settings`).
    target_bytes, target_error : int, float, optional
        Instead of ``tau``: the file's size, or the error at the end, at most. Up to ``tries`` whole
        compressions search for it.
    validate : iterable or callable, optional
        A loader of held-out data, or a function of the network whose value is better when lower.
        Without it, errors are measured on up to 10,000 training examples.
    allowed_rise : float, optional
        The error may rise by so much, in its unit, or :class:`sws.api.RiseError` is raised. Without
        it, a rise of more than 2 points, or of a tenth of a loss, is warned of.
    units : {'auto', 'weight', 'tensor'}
        What weights are measured in: as they are, or by each tensor's root mean square. ``auto``
        looks whether the prior's widths fit the weights as they are.
    skip : collection of str, or callable
        Parameters, or modules, to leave dense (float16), by name; or a predicate of names.
    epochs, learning_rate : int, float
        As in :func:`sws.settings`.
    images : int, optional
        Number of training examples; by default the loader's.
    bfloat16 : bool
        Train in mixed precision where the machine computes it.
    checkpoint : str or Path, optional
        A folder. An interrupted call goes on from it when it is repeated.
    tries : int
        Compressions in a search, at most.
    seed : int
        Of whatever is random.
    using : Point, optional
        Settings in full, instead of ``tau``, targets, ``units``, ``epochs`` and ``learning_rate``.
    progress : bool, optional
        Bars, and a line at the end; by default where standard error is a terminal. False is silent.

    Returns
    -------
    CompressionResult
        Network, errors, bytes, history; ``print`` shows them.

    Raises
    ------
    TypeError
        If the number of training examples is neither given nor known to the loader.
    sws.errors.InputError
        If network, data, loss or settings do not fit; the message says what to do. Most such faults
        are found before training. It is a ``ValueError``.
    sws.api.RiseError
        If the error rises too far.
    sws.training.loop.DivergedError
        If the loss or the mixture stops being finite.
    """
    given = {"tau": tau, "target_bytes": target_bytes, "target_error": target_error, "using": using}
    if len(several := [name for name, value in given.items() if value is not None]) > 1:
        raise InputError(f"give one of {' and '.join(several)}")
    method = _method_of(method, using)
    if method == "no-prior" and target_error is not None:
        raise InputError("no-prior prunes to a size: give target_bytes")
    if units not in ("auto", "weight", "tensor"):
        raise InputError(f"units is {units!r}: give 'auto', 'weight' or 'tensor'")
    inner = unwrapped(model)
    folder = None if checkpoint is None else Path(checkpoint)
    shown = sys.stderr.isatty() if progress is None else progress
    with ExitStack() as stack:
        stack.enter_context(leaving_out(inner, _skipped(inner, skip)))
        check_compressible(inner)
        check_buffers(inner)
        stack.enter_context(whole_or_untouched(inner, folder))
        stack.enter_context(modes_kept(inner))
        stack.enter_context(torch.random.fork_rng())
        number = data.images_of(loader) if images is None else images
        batches = data.Batches(inner, loader, data.device_of(inner))
        batch = data.first_batch(batches)
        objective = data.objective_for(inner, batch, loss)
        if any(map(batch_norm.is_folded, batch_norm.norms(inner).values())):
            batch_norm.unfold(inner, batches(0))  # it came from a file
        measure, unit = _measure(inner, batches, objective, validate)
        task = CompressionTask(
            inner, batches, number, seed=seed, measure=measure, progress=shown, objective=objective
        )
        chosen: dict[str, Any] = {
            "images": number, "tau": tau, "epochs": epochs, "learning_rate": learning_rate,
            "unit": presets.unit_for(inner) if units == "auto" else units,
            "target_bytes": target_bytes, "layers": presets.layer_sizes(inner),
            "batch_size": count(batch[0]), "bfloat16": bfloat16,
            "bias_bits": 10 if objective.unit != "%" else None,
        }  # fmt: skip
        run = _Run(task, method, chosen, using, folder)
        if method == "no-prior" or (target_bytes is None and target_error is None):
            best, every = run(1.0), []
        else:
            best, every = search(
                run, target_bytes=target_bytes, target_error=target_error, tries=tries
            )
        result = run.result(best, every, unit)
        build_module(result.network, inner)
        point_tau = getattr(getattr(result.settings, "retraining", None), "tau", None)
        check_rise(result, allowed_rise, point_tau)
        run.forget()
    if progress is not False:
        print(result, file=sys.stderr)
    return result


class _Run:
    """Whole compressions of one network, each from the same start."""

    def __init__(
        self,
        task: CompressionTask,
        method: str,
        chosen: dict[str, Any],
        using: Point | None,
        folder: Path | None,
    ):
        self.task, self.method, self.chosen, self.using = task, method, chosen, using
        self.folder = folder
        self.model = task.model
        self.start = {n: v.detach().clone() for n, v in self.model.state_dict().items()}
        self.before = task.measure(self.model)
        self.checkpoints: list[Checkpoint] = []

    def __call__(self, strength: float) -> Attempt[tuple[Compressed, Point, QuantizedNetwork]]:
        self.model.load_state_dict(self.start)
        point = self.using or presets.settings(self.method, strength=strength, **self.chosen)
        task = replace(self.task, checkpoint=self._checkpoint_of(point, strength))
        module = importlib.import_module(methods.spec(self.method).module)
        done = module.compress(task, point)
        network, error = self._as_shipped(done.network)
        size = len(codec.encode(network))
        return Attempt(strength, size, error, (done, point, network))

    def _as_shipped(self, network: QuantizedNetwork) -> tuple[QuantizedNetwork, float]:
        """What the file will hold, and its error; vectors stay exact if rounding them costs."""
        measure = self.task.measure
        if self.method == "no-prior":  # its last try need not be its best
            build_module(network, self.model)
            return network, measure(self.model)
        trained, exact = measure(self.model), with_exact_vectors(network, self.model)
        build_module(network, self.model)
        rounded = measure(self.model)
        limit = 0.2 if self.task.objective.unit == "%" else 0.01 * abs(trained)
        if rounded <= trained + limit:
            return network, rounded
        build_module(exact, self.model)
        other = measure(self.model)
        return (exact, other) if not other >= rounded else (network, rounded)

    def _checkpoint_of(self, point: Point, strength: float) -> Callable[[str], Checkpoint | None]:
        if self.folder is None:
            return no_checkpoint
        identity = {
            "version": environment.version(),
            "method": self.method,
            "settings": point.fingerprint(),
            "weights": _digest(self.start),
            "left out": " ".join(sorted(set(self.start) - set(compressible(self.model)))),
            "images": str(self.task.images),
            "seed": str(self.task.seed),
        }

        def of_phase(phase: str) -> Checkpoint:
            found = Checkpoint(self.folder / f"{phase}_{strength:.6g}.pt", identity)
            self.checkpoints.append(found)
            return found

        return of_phase

    def forget(self) -> None:
        """Remove checkpoints: nothing is left to go on with."""
        for one in self.checkpoints:
            one.remove()

    def result(self, best: Attempt, every: list[Attempt], unit: str) -> CompressionResult:
        done, point, network = best.made
        return CompressionResult(
            network=network,
            method=self.method,
            settings=point,
            errors={"before": self.before, **done.errors, "end": best.error},
            unit=unit,
            bytes=best.bytes,
            dense_bytes=4 * sum(p.numel() for p in self.model.parameters()),
            history=done.history.rows,
            seconds=done.seconds,
            attempts=[
                {"strength": one.strength, "bytes": one.bytes, "error": one.error} for one in every
            ],
        )


def _method_of(method: str, using: Point | None) -> str:
    """The method's name, checked; settings in full name their own."""
    spec = methods.spec(method)
    if using is None or isinstance(using, spec.settings):
        return method
    for other in methods.METHODS:
        if type(using) is other.settings and method == methods.OURS:
            return other.name
    raise InputError(f"using= holds {type(using).__name__}, which are no settings of {method}")


def _skipped(model: nn.Module, skip: Collection[str] | Callable[[str], bool]) -> list[str]:
    """Names of the weights to leave out.

    Raises
    ------
    InputError
        If a name is that of no parameter and of no module.
    """
    names = list(compressible(model))
    if callable(skip):
        return [name for name in names if skip(name)]
    wanted = [skip] if isinstance(skip, str) else list(skip)
    known = {n for n, _ in model.named_parameters()} | {n for n, _ in model.named_modules()}
    if unknown := [name for name in wanted if name not in known or not name]:
        raise InputError(f"skip names {', '.join(map(repr, unknown))}; weights: {', '.join(names)}")
    return [n for n in names if any(n == w or n.startswith(f"{w}.") for w in wanted)]


def _measure(
    model: nn.Module, batches: data.Batches, objective: Objective, validate: Validate | None
) -> tuple[Callable[[nn.Module], float], str]:
    """What measures a network's error, and the error's unit."""
    if validate is None:
        return data.Measure(batches, objective, data.IMAGES), objective.unit
    if callable(validate) and not hasattr(validate, "__iter__"):
        return lambda network: float(_evaluated(network, validate)), "value"
    held_out = data.Batches(model, validate, batches.device)
    return data.Measure(held_out, objective), objective.unit


def _evaluated(network: nn.Module, function: Callable[[nn.Module], float]) -> float:
    with modes_kept(network), torch.random.fork_rng(), torch.no_grad():
        network.eval()
        return function(network)


def _digest(state: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in state.items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
