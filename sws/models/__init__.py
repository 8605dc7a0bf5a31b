"""The networks of the study, by name.

>>> from sws import models
>>> network = models.build("lenet-300-100", classes=10)
>>> models.spec("wrn-16-4").parameters
2748890

A family is one file; adding a network is a class there and a line in the registry below. Counts in
the registry are those at the default number of classes, and tests hold every network to them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from sws.models.lenet import LeNet5Caffe, LeNet300100
from sws.models.vgg import VGG16
from sws.models.wide_resnet import WideResNet16x4

# A compressed file names its architecture and settings: a bound keeps an altered file from asking
# for a classifier that does not fit into memory.
MAX_CLASSES = 10_000

__all__ = ["MAX_CLASSES", "ModelSpec", "build", "names", "spec"]


@dataclass(frozen=True)
class ModelSpec:
    """What the registry knows about a network, without building it.

    Attributes
    ----------
    name : registry name.
    input_shape : (channels, height, width) of one image.
    classes : default number of classes; the counts below hold for it.
    weights : values in convolution and linear weights, which are what gets compressed.
    biases : values in the biases of these layers.
    norms : values in the scales and shifts of batch normalisation (running statistics left out).
    builder : the module class; its keyword arguments are the settings.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    weights: int
    biases: int
    norms: int
    builder: Callable[..., nn.Module]

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self.weights + self.biases + self.norms

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the settings that :func:`build` takes."""
        return tuple(inspect.signature(self.builder).parameters)


_MNIST, _CIFAR = (1, 28, 28), (3, 32, 32)

_REGISTRY = {
    entry.name: entry
    for entry in (
        ModelSpec("lenet-300-100", _MNIST, 10, 266_200, 410, 0, LeNet300100),
        ModelSpec("lenet-5-caffe", _MNIST, 10, 430_500, 580, 0, LeNet5Caffe),
        ModelSpec("wrn-16-4", _CIFAR, 10, 2_745_264, 10, 3_616, WideResNet16x4),
        ModelSpec("vgg-16", _CIFAR, 10, 14_977_728, 522, 8_448, VGG16),
    )
}


def names() -> tuple[str, ...]:
    """Names of all networks."""
    return tuple(_REGISTRY)


def spec(name: str) -> ModelSpec:
    """Return what the registry knows about a network.

    Raises
    ------
    ValueError
        If there is no network of that name.
    """
    try:
        return _REGISTRY[name]
    except (KeyError, TypeError):
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(names())}") from None


def build(name: str, **settings: Any) -> nn.Module:
    """Build a freshly initialised network (torch's global generator decides the values).

    Parameters
    ----------
    name : registry name.
    **settings : ``classes``, the number of outputs (default: that of the registry).

    Raises
    ------
    ValueError
        If the name or a setting is unknown, or ``classes`` is not an integer in 2 … 10,000.
    """
    entry = spec(name)
    unknown = sorted(set(settings) - set(entry.settings))
    if unknown:
        raise ValueError(
            f"{name} has no setting {unknown[0]!r}; its settings are {', '.join(entry.settings)}"
        )
    classes = settings.setdefault("classes", entry.classes)
    if type(classes) is not int or not 2 <= classes <= MAX_CLASSES:
        raise ValueError(
            f"{name}: classes is {classes!r}; it must be an integer in 2 to {MAX_CLASSES}"
        )
    return entry.builder(**settings)
