"""The two LeNets of the pruning literature, for 28 × 28 grey images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from sws.models.initialization import initialize


class LeNet300100(nn.Module):
    """LeNet-300-100: a perceptron with two hidden layers.

    flatten → fc1 784→300 → ReLU → fc2 300→100 → ReLU → fc3 100→classes.
    At 10 classes: 266,200 weights and 410 biases.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)
        initialize(self.fc1, relu=True)
        initialize(self.fc2, relu=True)
        initialize(self.fc3, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, 1, 28, 28) or of vectors (N, 784)."""
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5Caffe(nn.Module):
    """LeNet-5 as BVLC Caffe ships it: no ReLU after the convolutions.

    conv1 1→20, 5×5 → max-pool 2 → conv2 20→50, 5×5 → max-pool 2 → flatten → fc1 800→500 → ReLU →
    fc2 500→classes. At 10 classes: 430,500 weights and 580 biases.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, classes)
        initialize(self.conv1, relu=False)
        initialize(self.conv2, relu=False)
        initialize(self.fc1, relu=True)
        initialize(self.fc2, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, 1, 28, 28)."""
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)
