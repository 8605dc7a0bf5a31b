"""The one training loop. It knows no method: pre-training is training with hooks that do nothing.

A method acts inside :func:`fit` by its :class:`Hooks`; that is all that priors, masks, projections
and per-cluster gradients need.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from sws.errors import InputError, SwsError
from sws.network.inputs import forward
from sws.training.checkpoints import Checkpoint
from sws.training.interruption import between
from sws.training.objectives import CrossEntropy, Objective

LOG = logging.getLogger(__name__)
CHECK_EVERY = 20  # steps between looks at the loss, which a GPU has to be waited for

Batches = Callable[[int], Iterable[tuple[Any, Any]]]


class DivergedError(SwsError, RuntimeError):
    """Training met a value it cannot go on from; the message names step, quantity and remedy.

    Attributes
    ----------
    outcome : str
        What a table says instead of numbers, such as ``diverged at step 120``.
    rows : list of dict
        The history of the phase until then.
    """

    def __init__(self, message: str, outcome: str = "diverged"):
        super().__init__(message)
        self.outcome = outcome
        self.rows: list[dict[str, Any]] = []


class OutOfMemoryError(SwsError, RuntimeError):
    """A step did not fit into memory; the message names the epoch and what would help."""


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast.

    Attributes
    ----------
    epochs : passes over the data.
    learning_rate : the highest.
    final_rate : fraction of it that is left at the end of the decay; 1 keeps it constant.
    decay : how the rate falls, by a half ``cosine`` or along a ``linear`` path.
    warm_up : fraction of the steps over which the rate rises linearly, before it decays.
    optimizer : ``adamw``, or ``sgd`` with Nesterov's momentum of 0.9.
    weight_decay : on weights only; decoupled under AdamW, added to the gradient under SGD.
    label_smoothing : ε; the target is (1 − ε)·one-hot + ε/classes (Szegedy et al., 2016).
    average : d of the moving average w̄ ← d·w̄ + (1 − d)·w after every step, which the model ends
        with; running statistics are averaged alike. 0 leaves it out.
    bfloat16 : autocast of the forward and backward pass; parameters stay float32. Left out on a
        processor that has no instructions for it (:func:`computes_bfloat16`).
    """

    epochs: int
    learning_rate: float
    final_rate: float = 0.0
    weight_decay: float = 0.0
    bfloat16: bool = False
    warm_up: float = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    decay: Literal["cosine", "linear"] = "cosine"
    label_smoothing: float = 0.0
    average: float = 0.0

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step of all."""
        rising = self.warm_up * steps
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        done = (step - rising) / max(1, steps - rising)
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.decay == "cosine" else 1 - done
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * left)


class Hooks:
    """What a method may add to the loop, at the places where it is called; these add nothing."""

    def attach(self, model: nn.Module) -> None:
        """Called once, before the first epoch, with the model that will be trained."""

    def parameter_groups(self, model: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
        """Adam's parameter groups; by default weights decay and everything else does not.

        A group may hold a ``rate_scale``, by which the schedule's learning rate is multiplied.
        """
        matrices = [p for p in model.parameters() if p.ndim > 1 and p.requires_grad]
        others = [p for p in model.parameters() if p.ndim <= 1 and p.requires_grad]
        return [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]

    def prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Called once with the optimiser, for methods that take steps of their own beside it."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch."""

    def penalty(self) -> Tensor | None:
        """A differentiable term to add to the mean loss of the batch."""
        return None

    def after_backward(self) -> None:
        """Called with all gradients in place, before the optimiser's step."""

    def after_step(self) -> None:
        """Called after the optimiser's step."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after each epoch, before :meth:`record` and the checkpoint."""

    def record(self) -> dict[str, float]:
        """What to write into the history at the end of an epoch."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@dataclass
class History:
    """One row an epoch, and the wall clock of them all, whichever process ran them."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def write(self, path: Path, columns: Sequence[str]) -> None:
        """As CSV, nine significant digits, an empty field for what a row does not have."""
        lines = [",".join(columns)]
        for row in self.rows:
            lines.append(",".join(_field(row.get(c)) for c in columns))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _field(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def fit(
    model: nn.Module,
    batches: Batches,
    hooks: Hooks,
    settings: FitSettings,
    *,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    objective: Objective | None = None,
    description: str = "",
    progress: bool = False,
) -> History:
    """Train a network in place.

    Parameters
    ----------
    model : nn.Module
        Trained in place.
    batches : callable
        ``batches(epoch)`` yields (x, y): inputs (:func:`sws.network.inputs.forward`) and what the
        objective compares outputs with, on the model's device.
    hooks : Hooks
        What to add to plain training.
    settings : FitSettings
        How long and how fast.
    seed : int
        Of torch's global generator.
    checkpoint : Checkpoint, optional
        Written at the start and after every epoch, and resumed from if it fits (same bytes in the
        end as without the interruption).
    validate : callable, optional
        Error in per cent on held-out data, called after every epoch; of the moving average
            where there is one.
    objective : Objective, optional
        What to minimise; without one, cross-entropy of integer labels.
    description : str
        Name of this training in bars and logs.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    DivergedError
        If the loss is not finite; the last checkpoint is left as it is.
    OutOfMemoryError
        If a step does not fit into memory; the same holds.
    """
    model.zero_grad(set_to_none=True)  # what an earlier training left must not reach the first step
    hooks.attach(model)
    groups = hooks.parameter_groups(model, settings)
    optimizer = _optimizer(groups, settings)
    hooks.prepare(optimizer)
    average = _moving_average(model, settings)
    objective = objective or CrossEntropy(settings.label_smoothing)
    history, first = History(), 0
    started = time.perf_counter()
    torch.manual_seed(seed)

    def save(epochs: int) -> None:
        if checkpoint is not None:
            checkpoint.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "hooks": hooks.state_dict(),
                    "history": history.rows,
                    "epoch": epochs,
                    "seconds": history.seconds,
                    "random": torch.get_rng_state(),
                }
                | ({} if average is None else {"average": average.state_dict()})
            )

    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        hooks.load_state_dict(saved["hooks"])
        history.rows, first = saved["history"], saved["epoch"]
        history.seconds = saved["seconds"]
        started -= history.seconds
        torch.set_rng_state(saved["random"])
        if average is not None:
            average.load_state_dict(saved["average"])
        LOG.info("%s epoch %d/%d: going on from here", description, first, settings.epochs)
    else:
        save(0)
    for epoch in range(first, settings.epochs):
        hooks.begin_epoch(epoch, settings.epochs)
        try:
            row = _train_epoch(
                model, batches, hooks, settings, objective, optimizer, average, epoch, description,
                progress,
            )  # fmt: skip
        except DivergedError as error:
            error.rows = history.rows
            raise
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"epoch {epoch + 1}: out of memory ({str(error).splitlines()[0][:120]}); lower "
                "batch_size, or set bfloat16, or run fewer jobs at a time"
            ) from error
        row["error_val_pct"] = (
            validate(model if average is None else average.module) if validate else None
        )
        try:
            hooks.end_epoch(epoch, settings.epochs)
        except DivergedError as error:
            error.rows = [*history.rows, row | hooks.record()]
            raise
        history.rows.append(row | hooks.record())
        history.seconds = time.perf_counter() - started
        save(epoch + 1)
        LOG.info("%s epoch %d/%d: %s", description, epoch + 1, settings.epochs, _line(row))
    if average is not None:
        model.load_state_dict(average.module.state_dict())
    return history


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 saves time on a device.

    On a processor without instructions for it (AVX-512 on x86) it is emulated, which took eight
    times as long as float32.

    Parameters
    ----------
    device : torch.device
        That computes.

    Returns
    -------
    bool
        True for whatever is no CPU.
    """
    if device.type != "cpu":
        return True
    try:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except AttributeError:  # a build without oneDNN
        return False


def _moving_average(model: nn.Module, settings: FitSettings) -> AveragedModel | None:
    """The average of parameters and running statistics; the first step makes it a copy."""
    if not settings.average:
        return None
    return AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True
    )


def _line(row: dict[str, Any]) -> str:
    """What a log says of an epoch."""
    told = {"loss": "loss {:.4g}", "error_train_pct": "training error {:.2f} %"}
    told |= {"error_val_pct": "validation error {:.2f} %"}
    return ", ".join(text.format(row[k]) for k, text in told.items() if row.get(k) is not None)


def _optimizer(groups: list[dict[str, Any]], settings: FitSettings) -> torch.optim.Optimizer:
    rate = settings.learning_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, rate, fused=True)


def _train_epoch(
    model, batches, hooks, settings, objective, optimizer, average, epoch, description, progress
) -> dict[str, float | None]:
    model.train()
    device = next(model.parameters()).device
    bfloat16 = settings.bfloat16 and computes_bfloat16(device)
    total = torch.zeros(2, dtype=torch.float64, device=device)
    seen, penalties = 0, 0.0
    rate = settings.learning_rate
    stream = batches(epoch)
    length = _steps(batches)
    label = f"{description} epoch {epoch + 1}/{settings.epochs}".strip()
    bar = tqdm(stream, label, length, leave=False, disable=not progress, unit="batch")
    for number, (x, y) in enumerate(between(bar)):
        if length is not None:
            rate = settings.rate(epoch * length + number, settings.epochs * length)
        else:
            rate = settings.rate(epoch, settings.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate_scale", 1.0)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            outputs = forward(model, x)
        loss = fitted = objective.loss(outputs, y)
        if (penalty := hooks.penalty()) is not None:
            loss = loss + penalty
            penalties += float(penalty.detach())
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        hooks.after_backward()
        optimizer.step()
        hooks.after_step()
        if average is not None:
            average.update_parameters(model)
        with torch.no_grad():
            wrong = objective.wrong(outputs, y)
            wrong = torch.zeros_like(total[1]) if wrong is None else wrong.double()
            total += torch.stack([fitted.detach().double() * objective.answers(y), wrong])
        seen += objective.answers(y)
        if (number + 1) % CHECK_EVERY == 0:
            _check_finite(total, description, epoch, number, settings, length)
    if not seen:
        raise InputError(
            f"epoch {epoch + 1} yielded no batch; batches(epoch) must give new ones every time"
        )
    _check_finite(total, description, epoch, number, settings, length)
    cross_entropy, wrong = (total / seen).tolist()
    return {
        "epoch": epoch + 1,
        "learning_rate": rate,
        "loss": cross_entropy + penalties / (number + 1),
        "cross_entropy": cross_entropy,
        "error_train_pct": None if objective.unit != "%" else 100 * wrong,
    }


def _check_finite(
    total: Tensor,
    description: str,
    epoch: int,
    number: int,
    settings: FitSettings,
    length: int | None,
) -> None:
    if not torch.isfinite(total[0]):
        where = f"epoch {epoch + 1}" if length is None else f"step {epoch * length + number + 1:,}"
        label = f"{description} epoch {epoch + 1}, step {number + 1}".strip()
        raise DivergedError(
            f"{label}: the loss is not finite; lower the learning rate (now "
            f"{settings.learning_rate:g})",
            f"diverged at {where}",
        )


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether an allocation failed; on a CPU the framework has no exception of its own for that."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _steps(batches: Batches) -> int | None:
    """Steps of an epoch, where the batches can tell."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        return None


class Stopwatch:
    """Wall-clock seconds of a ``with`` block."""

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
