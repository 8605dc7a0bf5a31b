"""What a stage trains on and measures on: a data set on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sws.config.sections import Augmentation
from sws.data import datasets
from sws.data.augmentation import Preparation, RandomShift
from sws.data.batches import TensorBatches
from sws.models import registry
from sws.network.quantized import InputSpec
from sws.training.evaluation import error_pct

Tensors = tuple[Tensor, Tensor]
"""Images (N, H, W, C) uint8 and labels (N,) int64."""


@dataclass(frozen=True)
class Task:
    """A data set on the device: what to train on, and what to measure on.

    Attributes
    ----------
    train : Tensors
        Images that training may see.
    validation : Tensors, optional
        Training images held out of it; None if training sees all.
    test : Tensors, optional
        None where settings are chosen, so that nothing can read it.
    """

    dataset: datasets.Dataset
    device: torch.device
    train: Tensors
    validation: Tensors | None
    test: Tensors | None

    @classmethod
    def load(cls, name: str, *, hold_out: bool = False, test: bool = True) -> Task:
        """Put a data set on the device.

        Parameters
        ----------
        name : str
            As in the catalogue.
        hold_out : bool
            Keep the data set's validation images out of training.
        test : bool
            False where settings are chosen.
        """
        dataset = datasets.load(name)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

        def tensors(split: datasets.Split) -> Tensors:
            # a copy, because PyTorch takes no read-only arrays
            images, labels = (torch.from_numpy(a.copy()) for a in (split.images, split.labels))
            return images.to(device), labels.to(device)

        train, validation = dataset.train, None
        if hold_out:
            train, kept = datasets.split_validation(train, datasets.spec(name).n_validation)
            validation = tensors(kept)
        return cls(
            dataset, device, tensors(train), validation, tensors(dataset.test) if test else None
        )

    @property
    def images(self) -> int:
        """N, the number of images that training sees."""
        return len(self.train[1])

    def batches(self, batch_size: int, seed: int, augmentation: Augmentation) -> TensorBatches:
        shift = None
        if augmentation.shift or augmentation.flip:
            shift = RandomShift(augmentation.shift, augmentation.flip)
        preparation = Preparation(self.dataset.mean, self.dataset.std, shift)
        return TensorBatches(*self.train, batch_size, seed, preparation)

    def error(self, model: nn.Module) -> float:
        """Error in per cent on the test images, or on the validation images where they stand in."""
        return self._error(model, self.test if self.test is not None else self.validation)

    def validation_error(self, model: nn.Module) -> float:
        """Error in per cent on the images held out of training."""
        return self._error(model, self.validation)

    def _error(self, model: nn.Module, tensors: Tensors) -> float:
        preparation = Preparation(self.dataset.mean, self.dataset.std)
        return error_pct(model, *tensors, prepare=preparation)

    @property
    def input_spec(self) -> InputSpec:
        """What a network trained on this data expects."""
        data = self.dataset
        return InputSpec(data.input_shape, data.mean, data.std, data.classes)

    def build(self, name: str) -> nn.Module:
        """The network on the device; convolutions in the layout that is fastest there."""
        model = registry.build(name, classes=len(self.dataset.classes)).to(self.device)
        if any(p.ndim == 4 for p in model.parameters()):
            model = model.to(memory_format=torch.channels_last)
        return model
