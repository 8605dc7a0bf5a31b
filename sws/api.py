"""Compress your own network in a few lines.

>>> import sws
>>> network = sws.compress(model, loader)          # retrains model in place, then quantises it
>>> sws.save(network, "model.sws")                 # size of the file in bytes
>>> sws.load("model.sws", into=fresh_model)        # weights from the file
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, BinaryIO

import torch
from torch import nn

from sws import codec
from sws.config.sections import Precision, Quantization, Retraining
from sws.config.soft_weight_sharing import Prior, SoftWeightSharing
from sws.network import batch_norm
from sws.network.batch_norm import modes_kept
from sws.network.quantized import QuantizedNetwork
from sws.network.to_module import build_module

TAU_PER_IMAGE, TAU_PER_IMAGE_NORMALISED = 3.3e-6, 4e-7
"""τ by default, for each training image (docs/decisions/0008-tau-per-image.md). Our MNIST rows have
2.4e-6 and 5e-6; the CIFAR-10 rows, whose networks are normalised, 2.7e-7 and 6.7e-7."""


def settings(
    tau: float = 0.2, epochs: int = 40, learning_rate: float = 1e-3, *, normalised: bool = False
) -> SoftWeightSharing:
    """The settings of our rows, MNIST's or Wide ResNet's, for a budget of epochs.

    Parameters
    ----------
    tau : τ, the price of a nat of the prior: larger gives smaller files and larger errors.
    epochs : of everything together; three fifths retrain under the prior, the rest trains the
        shared weights. With fewer than 8 the prior's widths do not close, and snapping costs more.
    learning_rate : Adam's at the start of each part, about that of the pre-training.
    normalised : whether the network has batch normalisation. Its weights are then measured in units
        of each tensor's root mean square, since they have no scale of their own.
    """
    retraining = max(1, round(0.6 * epochs))
    at, zero, others = (0.0, 0.6, 0.8), (0.005, 0.03, 0.003), (0.2, 0.1, 0.02)
    if normalised:
        zero, others = (0.1, 0.5, 0.05), (3.0, 1.5, 0.3)
    return SoftWeightSharing(
        unit="tensor" if normalised else "weight",
        prior=Prior(
            deviation=3.0 if normalised else 0.25,
            zero_precision=Precision(pseudo_count=10, deviation=tuple(zip(at, zero, strict=True))),
            precision=Precision(pseudo_count=0.0075, deviation=tuple(zip(at, others, strict=True))),
        ),
        retraining=Retraining(
            epochs=retraining,
            learning_rate=learning_rate,
            weight_rate=20.0 if normalised else 1.0,
            tau=tau,
        ),
        quantization=Quantization(
            merge="rate",
            assignment="rd",
            distortion=0.15 if normalised else 0.01,
            sharing_epochs=max(0, epochs - retraining - 1),
            sharing_rate=learning_rate,
            refinement_epochs=1,
            refinement_rate=learning_rate / 2,
            bias_bits=7 if normalised else 5,
        ),
    )


def compress(
    model: nn.Module,
    loader: Iterable,
    *,
    tau: float | None = None,
    epochs: int = 40,
    learning_rate: float = 1e-3,
    images: int | None = None,
    seed: int = 0,
    using: SoftWeightSharing | None = None,
    progress: bool = True,
) -> QuantizedNetwork:
    """Compress a trained classifier by soft weight-sharing. The model is changed in place.

    Every parameter with two to four dimensions is compressed, frozen ones too. Vectors become
    float16 with 5 bits of mantissa (7 in networks with batch normalisation), other parameters
    float16, and buffers stay as they are.

    Parameters
    ----------
    loader : a ``DataLoader`` (or any iterable that can be gone through again) of (inputs, labels).
    tau : τ; by default in proportion to the number of training examples.
    epochs, learning_rate : as in :func:`settings`, which knows by the model whether it is
        ``normalised``.
    images : number of training examples; by default that of ``loader.dataset``.
    using : settings in full, instead of ``tau``, ``epochs`` and ``learning_rate``.

    Raises
    ------
    TypeError
        If the number of training examples is neither given nor known to the loader.
    ValueError
        If the network is not one that can be compressed; the message says why and what to do.
    sws.training.loop.DivergedError
        If the loss or the mixture stops being finite.
    """
    if images is None:
        try:
            images = len(loader.dataset)  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            raise TypeError("the loader does not know its data set's size; pass images=") from None
    if using is None:
        normalised = bool(batch_norm.norms(model))
        if tau is None:
            tau = images * (TAU_PER_IMAGE_NORMALISED if normalised else TAU_PER_IMAGE)
        using = settings(tau, epochs, learning_rate, normalised=normalised)
    with modes_kept(model), torch.random.fork_rng():
        # not above: they load numba, and reading a file should not wait for that
        from sws.compression.process import CompressionTask
        from sws.methods import soft_weight_sharing

        batches = _Loader(loader, _device(model))
        task = CompressionTask(model, batches, images, seed=seed, progress=progress)
        return soft_weight_sharing.compress(task, using).network


class _Loader:
    """A loader as ``batches(epoch)``, its tensors on the model's device."""

    def __init__(self, loader: Iterable, device: torch.device):
        self.loader = loader
        self.device = device

    def __call__(self, epoch: int) -> Iterable:
        for x, y in self.loader:
            yield x.to(self.device), y.to(self.device)

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def save(network: QuantizedNetwork, file: str | os.PathLike | BinaryIO) -> int:
    """Write a ``.sws`` file; returns its size in bytes.

    Parameters
    ----------
    file : path or binary file
        A path appears whole or not at all; an open file is written to where it stands.
    """
    return codec.write(network, file)


def load(
    file: str | os.PathLike | BinaryIO, into: nn.Module | None = None
) -> nn.Module | dict[str, Any]:
    """Read a ``.sws`` file.

    Parameters
    ----------
    file : path or binary file
        What is read is an open file's rest.
    into : torch.nn.Module, optional
        A module to load the weights into. Without one, a network of the registry is built, and
        of any other its state dict (NumPy arrays) is returned.

    Raises
    ------
    sws.codec.CorruptFileError
        If the file is damaged.
    ValueError
        If the tensors do not fit the module.
    """
    network = codec.read(file)
    if into is None and network.architecture is None:
        return network.state_dict()
    return build_module(network, into)
