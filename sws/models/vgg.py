"""VGG for 32 × 32 colour images (Simonyan and Zisserman, 2015, with batch normalisation)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from sws.models.initialization import initialize

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """VGG-16 as it is used on CIFAR: one hidden linear layer of 512 in place of two of 4096.

    Five stages of (conv 3×3 → BN → ReLU), 2, 2, 3, 3, 3 times with 64, 128, 256, 512, 512 channels,
    each stage followed by max-pool 2 → flatten → fc1 512→512 → ReLU → fc2 512→classes.
    Convolutions have no bias, since batch norm shifts; fc1 has no batch norm; there is no dropout.
    At 10 classes: 14,977,728 weights, 522 biases, 8,448 batch-norm values; 14,986,698 in all.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        channels = 3
        for widths in _STAGES:
            layers: list[nn.Module] = []
            for width in widths:
                conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                initialize(conv, relu=True)
                layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            self.stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.fc1 = nn.Linear(512, 512)
        self.fc2 = nn.Linear(512, classes)
        initialize(self.fc1, relu=True)
        initialize(self.fc2, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of normalised images (N, 3, 32, 32)."""
        for stage in self.stages:
            x = stage(x)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))
