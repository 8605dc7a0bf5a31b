"""What training minimises, and which answers count as wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor

from sws.errors import InputError
from sws.network.inputs import count, scores


class Objective(Protocol):
    """The loss of a batch, and its error where answers are right or wrong.

    Attributes
    ----------
    unit : str
        Of what :func:`sws.training.evaluation.loader_error` measures: ``%`` or ``loss``.
    """

    unit: str

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """A scalar, the mean over the batch."""
        ...

    def wrong(self, outputs: Any, targets: Any) -> Tensor | None:
        """Number of wrong answers, or None where there is no such thing."""
        ...

    def answers(self, targets: Any) -> int:
        """How many answers a batch asks for."""
        ...


class CrossEntropy:
    """Cross-entropy of integer labels: outputs (N, C, …), labels (N, …).

    Parameters
    ----------
    label_smoothing : float
        ε; the target is (1 − ε)·one-hot + ε/C.
    """

    unit = "%"

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        logits = scores(outputs)
        return F.cross_entropy(logits.float(), targets, label_smoothing=self.label_smoothing)

    def wrong(self, outputs: Any, targets: Tensor) -> Tensor:
        counted = targets != -100  # the framework's word for a label that does not count
        return ((scores(outputs).argmax(dim=1) != targets) & counted).sum()

    def answers(self, targets: Tensor) -> int:
        return targets.numel()


class OwnLoss:
    """A loss of the user's own.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets)`` gives the mean over the batch; outputs as the network
        returns them, targets as the loader gives them.
    """

    unit = "loss"

    def __init__(self, function: Callable[[Any, Any], Tensor]):
        self.function = function

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        return self.function(outputs, targets)

    def wrong(self, outputs: Any, targets: Any) -> None:
        return None

    def answers(self, targets: Any) -> int:
        return count(targets)


class LossOfTheModel(OwnLoss):
    """The ``loss`` that a network returns with its outputs, as language models do."""

    def __init__(self) -> None:
        super().__init__(_returned)


def _returned(outputs: Any, targets: Any) -> Tensor:
    named = outputs.get("loss") if isinstance(outputs, Mapping) else None
    if named is None:
        named = getattr(outputs, "loss", None)
    if named is None:
        raise InputError(
            "the network returns no loss for these batches; give them labels, or pass "
            "loss=, a function of (outputs, batch)"
        )
    return named
