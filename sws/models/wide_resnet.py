"""Wide residual networks for 32 × 32 colour images (Zagoruyko and Komodakis, 2016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from sws.models.initialization import initialize


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    padding = kernel // 2
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
    initialize(layer, relu=True, mode="fan_out")
    return layer


class Block(nn.Module):
    """Pre-activation block: BN → ReLU → conv 3×3 → BN → ReLU → conv 3×3, added to its input.

    Where the number of channels changes, the input passes the first BN and ReLU and a 1×1
    convolution of the same stride before the addition.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs, 3)
        self.shortcut = _conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = F.relu(self.bn1(x))
        residual = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet16x4(nn.Module):
    """Wide ResNet 16-4, the paper's "ResNet (light)": 16 layers, widening factor 4, no dropout.

    conv1 3→16, 3×3 → three groups of two blocks with 64, 128 and 256 channels (strides 1, 2, 2) →
    BN → ReLU → mean over positions → fc 256→classes. Convolutions have no bias.
    At 10 classes: 2,745,264 weights, 10 biases, 3,616 batch-norm values; 2,748,890 in all.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = _conv(3, 16, 3)
        self.group1 = nn.Sequential(Block(16, 64, 1), Block(64, 64, 1))
        self.group2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.group3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.bn = nn.BatchNorm2d(256)
        self.fc = nn.Linear(256, classes)
        initialize(self.fc, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of normalised images (N, 3, 32, 32)."""
        x = self.group3(self.group2(self.group1(self.conv1(x))))
        return self.fc(F.relu(self.bn(x)).mean((2, 3)))
