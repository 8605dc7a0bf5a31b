"""Initial values of layers, common to all families."""

from __future__ import annotations

from torch import nn


def initialize(layer: nn.Linear | nn.Conv2d, *, relu: bool, mode: str = "fan_in") -> None:
    """Draw weights from a normal distribution that keeps the signal's size; biases start at 0.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        Linear or convolution, changed in place.
    relu : bool
        Whether a ReLU follows. With one, the variance is 2 / fan (He et al., 2015), since it halves
        the signal's power; without, 1 / fan (LeCun et al., 1998).
    mode : str
        ``fan_in`` keeps activations in size, ``fan_out`` gradients.
    """
    gain = "relu" if relu else "linear"
    nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity=gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
