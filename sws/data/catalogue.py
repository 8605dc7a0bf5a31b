"""Every data set by name: classes, normalisation, hashes, and how the generated ones are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sws.data.readers import SPLITS, Arrays, RawSet
from sws.errors import InputError


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set without its images.

    Attributes
    ----------
    title : str
        As a reader knows it.
    n_validation : int
        Images of the training split that are set aside when choosing settings.
    sha256 : mapping of str to str
        Of each split in canonical form.
    raw : RawSet, optional
        How it lies on disk; None if it is generated or derived.
    base : str, optional
        Name of the data set that this one is a slice of.
    make : callable, optional
        Generates a split, or takes it from the same split of ``base``.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_validation: int
    sha256: Mapping[str, str]
    raw: RawSet | None = None
    base: str | None = None
    make: Callable[..., Arrays] | None = None


def _evenly(images: np.ndarray, labels: np.ndarray, per_class: int) -> Arrays:
    """Take images of each class at even distances in canonical order."""
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.arange(per_class) * len(members) // per_class])
    chosen = np.concatenate(chosen)
    return images[chosen], labels[chosen]


def _smoke(split: str, images: np.ndarray, labels: np.ndarray) -> Arrays:
    return _evenly(images, labels, {"train": 200, "test": 50}[split])


def _synthetic(split: str) -> Arrays:
    """Each class is a 4 × 4 colour pattern; an image is half of it, shifted, and half noise.

    Integers from raw PCG64 output only, so that the bytes are the same on every machine.
    """
    classes, per_class = 100, {"train": 20, "test": 5}[split]
    patterns = _random_bytes(0, (classes, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    seed = 1 + SPLITS.index(split)
    labels = np.arange(classes, dtype=np.uint8).repeat(per_class)
    noise = _random_bytes(seed, (len(labels), 32, 32, 3))
    shifts = _random_bytes(seed + len(SPLITS), (len(labels), 2)).astype(int) % 5 - 2
    images = np.empty_like(noise)
    for k, label in enumerate(labels):
        pattern = np.roll(patterns[label], tuple(shifts[k]), axis=(0, 1))
        images[k] = pattern // 2 + noise[k] // 2
    return images, labels


def _random_bytes(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    words = np.random.PCG64(seed).random_raw(-(-size // 8))
    return words.astype("<u8").view(np.uint8)[:size].reshape(shape)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_DIGITS = tuple("0123456789")
_CIFAR_10 = _words("airplane automobile bird cat deer dog frog horse ship truck")
_CIFAR_100 = _words(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm"""
)
_IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))

MNIST = DatasetSpec(
    name="mnist",
    title="MNIST",
    classes=_DIGITS,
    # x = pixel / 255: the background stays exactly 0.
    mean=(0.0,),
    std=(1.0,),
    n_validation=10_000,
    sha256={
        "train": "adb542c5b377c174e2b5138b6c75b395d6a21d2a4e9a44ff7659f9c83d968074",
        "test": "6e7d36f2505a63a046f457fc3a9370f2e197e9892807f2cf2d69f590865bf318",
    },
    raw=RawSet(
        name="mnist",
        shape=(28, 28, 1),
        classes=_DIGITS,
        counts={"train": 60_000, "test": 10_000},
        layouts={"idx": ("MNIST/raw", _IDX)},
        torchvision="MNIST",
    ),
)

MNIST_SMOKE = DatasetSpec(
    name="mnist-smoke",
    title="MNIST, a slice",
    classes=_DIGITS,
    mean=(0.0,),
    std=(1.0,),
    n_validation=500,
    sha256={
        "train": "c37645beabbecf70240c9b3eefba5baaebd6f6d0f7b3e216deebc1ee675f0e0d",
        "test": "2a9976e49de1a5d99add336e5fcdee91e720dc16726a0ff62943cdf45f576a32",
    },
    base="mnist",
    make=_smoke,
)

CIFAR_10 = DatasetSpec(
    name="cifar-10",
    title="CIFAR-10",
    classes=_CIFAR_10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    n_validation=5_000,
    sha256={
        "train": "4910a40da56bac5b7538c23f910e7c68f72aafe3a3f7d6f5cc190a55f82a75be",
        "test": "5e0a2541d8cc7e6601a81ec23b2eef95018f1291eb93e5a3ddf64938dea239ea",
    },
    raw=RawSet(
        name="cifar-10",
        shape=(32, 32, 3),
        classes=_CIFAR_10,
        counts={"train": 50_000, "test": 10_000},
        layouts={
            "pickle": (
                "cifar-10-batches-py",
                {"train": _BATCHES, "test": ("test_batch",)},
            ),
            "binary": (
                "cifar-10-batches-bin",
                {
                    "train": tuple(f"{name}.bin" for name in _BATCHES),
                    "test": ("test_batch.bin",),
                },
            ),
        },
        archives={
            "pickle": "cifar-10-python.tar.gz",
            "binary": "cifar-10-binary.tar.gz",
        },
        torchvision="CIFAR10",
    ),
)

CIFAR_100 = DatasetSpec(
    name="cifar-100",
    title="CIFAR-100",
    classes=_CIFAR_100,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    n_validation=5_000,
    sha256={
        "train": "2f5558b87c609c7261f957462c9054b1557b16153c379ec8df265f673fec6a30",
        "test": "f14eef2335f57b85efabcf819ed94735405693e024104d90d379cf1283c56cc4",
    },
    raw=RawSet(
        name="cifar-100",
        shape=(32, 32, 3),
        classes=_CIFAR_100,
        counts={"train": 50_000, "test": 10_000},
        layouts={
            "pickle": ("cifar-100-python", {"train": ("train",), "test": ("test",)}),
            "binary": (
                "cifar-100-binary",
                {"train": ("train.bin",), "test": ("test.bin",)},
            ),
        },
        label_bytes=2,
        archives={
            "pickle": "cifar-100-python.tar.gz",
            "binary": "cifar-100-binary.tar.gz",
        },
        torchvision="CIFAR100",
    ),
)

SYNTHETIC_100 = DatasetSpec(
    name="synthetic-100",
    title="Synthetic, 100 classes",
    classes=tuple(f"pattern-{k:02d}" for k in range(100)),
    mean=(0.498, 0.500, 0.493),
    std=(0.204, 0.204, 0.209),
    n_validation=500,
    sha256={
        "train": "35c18616c8904e8442b2ad35287447bd78c93b1aaf68632a539bdda08cd875b0",
        "test": "4700395ac71eca6fbf737527daa97f99b5ac80022140dd08907256ca1644728d",
    },
    make=_synthetic,
)

SPECS = {entry.name: entry for entry in (MNIST, MNIST_SMOKE, CIFAR_10, CIFAR_100, SYNTHETIC_100)}
"""Every data set, by name."""


def names() -> tuple[str, ...]:
    """Names of all data sets."""
    return tuple(SPECS)


def spec(name: str) -> DatasetSpec:
    """Return what is known of a data set without its images.

    Raises
    ------
    InputError
        If there is no data set of that name.
    """
    try:
        return SPECS[name]
    except (KeyError, TypeError):
        raise InputError(f"unknown data set {name!r}; choose one of {', '.join(names())}") from None
