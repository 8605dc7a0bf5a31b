"""Loaders of any kind of batch, the loss that fits them, and the error on them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sws.errors import InputError
from sws.network.batch_norm import modes_kept
from sws.network.inputs import count, forward, on_device, scores, tensors
from sws.training.objectives import CrossEntropy, LossOfTheModel, Objective, OwnLoss

IMAGES = 10_000
"""Examples that an error is measured on, at most, where no validation data is given."""


def device_of(model: nn.Module) -> torch.device:
    """Of its first parameter."""
    return next(model.parameters()).device


class Batches:
    """A loader as ``batches(epoch)``: pairs of inputs and targets on the model's device.

    A batch of two is (inputs, targets); of more, the last is the targets and the others are
    positional arguments; of one, it is both. A mapping holds arguments by name, and is the targets
    as a whole; what the network's ``forward`` does not take is left out of the inputs.

    Parameters
    ----------
    model : nn.Module
        Whose ``forward`` gets the inputs.
    loader : iterable
        Of batches; it can be gone through again and again.
    device : torch.device
        Where tensors are put.
    """

    def __init__(self, model: nn.Module, loader: Iterable, device: torch.device):
        self.loader = loader
        self.device = device
        parameters = inspect.signature(model.forward).parameters
        any_name = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._names = None if any_name else set(parameters)

    def __call__(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        for batch in self.loader:
            yield self._pair(on_device(batch, self.device))

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def _pair(self, batch: Any) -> tuple[Any, Any]:
        if isinstance(batch, Mapping):
            known = {n: v for n, v in batch.items() if self._names is None or n in self._names}
            return known, batch
        if isinstance(batch, Tensor):
            return batch, batch
        if not isinstance(batch, Sequence) or not batch:
            raise InputError(
                f"a batch is a {type(batch).__name__}: give tuples, mappings or tensors"
            )
        inputs = batch[0] if len(batch) <= 2 else tuple(batch[:-1])
        return inputs, batch[-1]


def images_of(loader: Iterable) -> int:
    """Number of training examples that a loader gives in one epoch.

    Raises
    ------
    TypeError
        If that is not known.
    """
    if isinstance(loader, Sequence):
        return sum(len(next(tensors(batch))) for batch in loader)
    sampler, size = getattr(loader, "sampler", None), getattr(loader, "batch_size", None)
    for sized in (sampler, getattr(loader, "dataset", None)):
        try:
            number = len(sized)  # type: ignore[arg-type]
        except TypeError:
            continue
        whole = getattr(loader, "drop_last", False) and size
        return number // size * size if whole else number
    raise TypeError("the loader does not know its data set's size; pass images=")


def first_batch(batches: Batches) -> tuple[Any, Any]:
    """The first batch of a loader, checked.

    Raises
    ------
    InputError
        If there is none, it holds no tensor, an empty one, NaN or infinity; or the loader can be
        gone through once only.
    """
    if isinstance(batches.loader, Iterator):
        raise InputError(
            "the loader is an iterator, which is used up after one epoch: pass a list or a "
            "DataLoader"
        )
    with torch.random.fork_rng():
        pair = next(iter(batches(0)), None)
    if pair is None:
        raise InputError("the loader gives no batch")
    found = list(tensors(pair[0]))
    if not found:
        raise InputError("the first batch holds no tensor among the inputs")
    for tensor in [*found, *tensors(pair[1])]:
        if not tensor.numel():
            raise InputError(f"the first batch holds a tensor of shape {tuple(tensor.shape)}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError("the first batch holds NaN or infinity: mend the data")
    return pair


def objective_for(
    model: nn.Module, batch: tuple[Any, Any], loss: Callable[[Any, Any], Tensor] | None
) -> Objective:
    """What to minimise, tried on a first batch.

    Parameters
    ----------
    model : nn.Module
        The network.
    batch : tuple
        (inputs, targets).
    loss : callable or None
        The user's own; None is cross-entropy, or the network's own loss for mappings.

    Raises
    ------
    InputError
        If outputs are not finite, or the loss does not fit them.
    """
    inputs, targets = batch
    with modes_kept(model), torch.random.fork_rng(), torch.enable_grad():
        model.eval()
        outputs = forward(model, inputs)
        found = scores(outputs)
        if found is not None and not torch.isfinite(found).all():
            raise InputError("the network's outputs for the first batch are not finite")
        if loss is not None:
            objective: Objective = OwnLoss(loss)
        elif isinstance(targets, Mapping):
            objective = LossOfTheModel()
        else:
            check_cross_entropy(found, targets)
            objective = CrossEntropy()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            value = objective.loss(outputs, targets)
    for warning in said:
        if "target size" in str(warning.message):
            raise InputError(
                f"the loss compares outputs {_shape(found)} with targets {_shape(targets)}, "
                "every one with every other: give both the same shape"
            )
    if not isinstance(value, Tensor) or value.ndim:
        raise InputError(f"loss= returned {_shape(value)}: it must be a tensor with one value")
    if not value.requires_grad:
        raise InputError("the loss does not depend on a parameter that trains")
    if not torch.isfinite(value):
        raise InputError(f"the loss of the first batch is {float(value.detach())}: mend the data")
    return objective


def check_cross_entropy(outputs: Tensor | None, labels: Any) -> None:
    """Cross-entropy is assumed only where it means something.

    Raises
    ------
    InputError
        If labels are no integers in range, outputs have fewer than two classes, or are
        probabilities.
    """
    kind = str(getattr(labels, "dtype", type(labels).__name__)).removeprefix("torch.")
    given = f"outputs are {_shape(outputs)}, targets {_shape(labels)} of {kind}"
    fits = isinstance(labels, Tensor) and outputs is not None and outputs.ndim >= 2
    fits = fits and kind == "int64" and outputs.shape[1] >= 2
    if not fits or labels.shape != (outputs.shape[0], *outputs.shape[2:]):
        raise InputError(
            f"{given}: cross-entropy takes outputs (N, C, …) with C ≥ 2 and int64 labels (N, …); "
            "pass loss=, such as torch.nn.functional.mse_loss"
        )
    counted = labels[labels != -100]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < outputs.shape[1]:
        raise InputError(
            f"labels go from {int(counted.min())} to {int(counted.max())} and there are "
            f"{outputs.shape[1]} outputs: count from 0, or pass loss="
        )
    sums = outputs.detach().sum(dim=1)
    if (outputs >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise InputError(
            "outputs are probabilities, and cross-entropy takes logits: leave the softmax out, or "
            "pass loss="
        )


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


class Measure:
    """Error of a network on batches: per cent wrong, or the mean loss where nothing is wrong.

    Parameters
    ----------
    batches : Batches
        The data; random orders and changes are the same every time.
    objective : Objective
        What is right, or the loss.
    images : int, optional
        How many examples to use, at most about.
    """

    def __init__(self, batches: Batches, objective: Objective, images: int | None = None):
        self.batches, self.objective, self.images = batches, objective, images

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> float:
        total, answers, seen = 0.0, 0, 0
        with modes_kept(model), torch.random.fork_rng():
            torch.manual_seed(0)
            model.eval()
            for inputs, targets in self.batches(0):
                outputs = forward(model, inputs)
                number = self.objective.answers(targets)
                wrong = self.objective.wrong(outputs, targets)
                if wrong is None:
                    total += float(self.objective.loss(outputs, targets)) * number
                else:
                    total += 100 * float(wrong)
                answers += number
                seen += count(inputs)
                if self.images is not None and seen >= self.images:
                    break
        if not answers:
            raise InputError("the data to validate on is empty")
        return total / answers
