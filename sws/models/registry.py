"""Every network of the study, declared once.

>>> from sws.models import registry
>>> registry.spec("wrn-16-4").parameters
2748890
>>> network = registry.build("lenet-300-100", classes=10)

A family is one file; a new network is a class there and an entry below. Counts are those at the
default number of classes, and tests hold every network to them. Importing this module does not
import torch; building a network does.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sws.errors import InputError

if TYPE_CHECKING:
    from torch import nn

MAX_CLASSES = 10_000
"""A compressed file names its architecture and settings: a bound keeps an altered file from asking
for a classifier that does not fit into memory."""


@dataclass(frozen=True)
class ModelSpec:
    """What the package knows about a network, without building it.

    Attributes
    ----------
    name : str
        As in paths and experiment files.
    title : str
        As a reader knows it.
    builder : str
        ``module:class``; the class's keyword arguments are the network's settings.
    input_shape : tuple of int
        (channels, height, width) of one image.
    classes : int
        Default number of classes; the counts below hold for it.
    weights, biases : int
        Values in convolution and linear weights, which are what gets compressed, and in their
        biases.
    norms : int
        Values in scales and shifts of batch normalisation, running statistics left out.
    threads : int
        That a job asks for. A small network gains nothing from a second thread; a large one takes
        what it is given, since Snakemake scales a job's threads down to the cores there are.
    memory_mb : int
        That a job asks a scheduler for: twice the peak that we saw.
    minutes : int
        That a job asks a scheduler for: a generous multiple of what our runs took on two slow
        cores. A job that runs out is resubmitted with more, and resumes from its checkpoint.
    """

    name: str
    title: str
    builder: str
    input_shape: tuple[int, int, int]
    classes: int
    weights: int
    biases: int
    norms: int
    threads: int
    memory_mb: int
    minutes: int

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self.weights + self.biases + self.norms


_MNIST, _CIFAR = (1, 28, 28), (3, 32, 32)

_ENTRIES = (
    ModelSpec(
        name="lenet-300-100",
        title="LeNet-300-100",
        builder="sws.models.lenet:LeNet300100",
        input_shape=_MNIST,
        classes=10,
        weights=266_200,
        biases=410,
        norms=0,
        threads=1,
        memory_mb=3000,
        minutes=60,
    ),
    ModelSpec(
        name="lenet-5-caffe",
        title="LeNet-5-Caffe",
        builder="sws.models.lenet:LeNet5Caffe",
        input_shape=_MNIST,
        classes=10,
        weights=430_500,
        biases=580,
        norms=0,
        threads=1,
        memory_mb=3000,
        minutes=120,
    ),
    ModelSpec(
        name="wrn-16-4",
        title="WRN-16-4",
        builder="sws.models.wide_resnet:WideResNet16x4",
        input_shape=_CIFAR,
        classes=10,
        weights=2_745_264,
        biases=10,
        norms=3_616,
        threads=16,
        memory_mb=8000,
        minutes=1440,
    ),
    ModelSpec(
        name="vgg-16",
        title="VGG-16",
        builder="sws.models.vgg:VGG16",
        input_shape=_CIFAR,
        classes=10,
        weights=14_977_728,
        biases=522,
        norms=8_448,
        threads=16,
        memory_mb=12000,
        minutes=1440,
    ),
)

NETWORKS = {entry.name: entry for entry in _ENTRIES}


def names() -> tuple[str, ...]:
    """Names of all networks."""
    return tuple(NETWORKS)


def spec(name: str) -> ModelSpec:
    """What the package knows about a network.

    Raises
    ------
    InputError
        If there is no network of that name.
    """
    try:
        return NETWORKS[name]
    except (KeyError, TypeError):
        raise InputError(f"unknown model {name!r}; choose one of {', '.join(names())}") from None


def build(name: str, **settings: Any) -> nn.Module:
    """Build a freshly initialised network (torch's global generator decides the values).

    Parameters
    ----------
    name : str
        Registry name.
    **settings
        ``classes``, the number of outputs; by default that of the registry.

    Raises
    ------
    InputError
        If the name or a setting is unknown, or ``classes`` is not an integer in 2 … 10,000.
    """
    entry = spec(name)
    module, _, kind = entry.builder.partition(":")
    builder = getattr(importlib.import_module(module), kind)
    known = tuple(inspect.signature(builder).parameters)
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(
            f"{name} has no setting {unknown[0]!r}; its settings are {', '.join(known)}"
        )
    classes = settings.setdefault("classes", entry.classes)
    if type(classes) is not int or not 2 <= classes <= MAX_CLASSES:
        raise InputError(
            f"{name}: classes is {classes!r}; it must be an integer in 2 to {MAX_CLASSES}"
        )
    return builder(**settings)
