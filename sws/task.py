"""What a stage trains on and measures on: a data set on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sws import datasets, models
from sws.augmentation import RandomShift
from sws.config import Augmentation
from sws.evaluation import error_pct, prepare_images
from sws.training import TensorBatches


@dataclass(frozen=True)
class Task:
    """A data set on the device: what to train on, and what to measure on."""

    dataset: datasets.Dataset
    device: torch.device
    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]

    @classmethod
    def load(cls, name: str, *, validation: bool = False) -> Task:
        """Train on everything and measure on the test set, or neither touches the test set.

        Parameters
        ----------
        validation : hold part of the training images out and measure on those instead.
        """
        dataset = datasets.load(name)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        train, held_out = dataset.train, dataset.test
        if validation:
            count = datasets.spec(name).n_validation
            train, held_out = datasets.split_validation(dataset.train, count)

        def tensors(split: datasets.Split) -> tuple[Tensor, Tensor]:
            images = prepare_images(split.images, dataset.mean, dataset.std)
            return images.to(device), torch.from_numpy(split.labels.copy()).to(device)

        return cls(dataset, device, tensors(train), tensors(held_out))

    def batches(self, batch_size: int, seed: int, augmentation: Augmentation) -> TensorBatches:
        transform = None
        if augmentation.shift or augmentation.flip:
            transform = RandomShift(augmentation.shift, augmentation.flip)
        return TensorBatches(*self.train, batch_size, seed, transform)

    def error(self, model: nn.Module) -> float:
        """Error in per cent on the held-out images."""
        return error_pct(model, *self.held_out)

    def build(self, name: str) -> nn.Module:
        """The network on the device; convolutions in the layout that is fastest there."""
        model = models.build(name, classes=len(self.dataset.classes)).to(self.device)
        if any(p.ndim == 4 for p in model.parameters()):
            model = model.to(memory_format=torch.channels_last)
        return model
