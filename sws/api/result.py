"""What a compression gives back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, BinaryIO

from sws import codec
from sws.config.schema import Settings
from sws.network.quantized import QuantizedNetwork


@dataclass(frozen=True, eq=False)
class CompressionResult:
    """A compressed network, and what it cost.

    Attributes
    ----------
    network : QuantizedNetwork
        What the file holds, and the model too.
    method : str
        That made it.
    settings : Settings
        Of the method, in full.
    errors : dict of str to float
        ``before``; ``retrained``; ``assigned``, with every weight at its codebook value and nothing
        done about that yet; ``end``, of the file's network. Each on the data to validate on, or on
        training examples.
    unit : str
        Of the errors: ``%`` of answers, the mean ``loss``, or a ``value`` that the user's function
        returned.
    bytes : int
        Size of the file.
    dense_bytes : int
        Of all parameters as float32.
    history : list of dict
        A row for each epoch.
    seconds : dict of str to float
        Wall clock.
    attempts : list of dict
        What a search tried: ``strength``, ``bytes`` and ``error`` of each.
    """

    network: QuantizedNetwork
    method: str
    settings: Settings
    errors: dict[str, float]
    unit: str
    bytes: int
    dense_bytes: int
    history: list[dict[str, Any]]
    seconds: dict[str, float]
    attempts: list[dict[str, float]]

    @property
    def ratio(self) -> float:
        """Dense size over the file's size."""
        return self.dense_bytes / self.bytes

    @property
    def rise(self) -> float:
        """Error at the end less that before, in :attr:`unit`."""
        return self.errors["end"] - self.errors["before"]

    def save(self, file: str | os.PathLike | BinaryIO) -> int:
        """Write a ``.sws`` file, like :func:`sws.save`; returns its size in bytes."""
        return codec.write(self.network, file)

    def __str__(self) -> str:
        unit = " %" if self.unit == "%" else f" ({self.unit})"
        steps = " → ".join(f"{name} {value:.4g}{unit}" for name, value in self.errors.items())
        share = 100 * self.network.nonzeros / max(1, self.network.weights)
        return (
            f"{self.method}: {self.bytes:,} bytes instead of {self.dense_bytes:,} "
            f"({self.ratio:.1f} times smaller), {share:.1f} % of the weights are not 0\n"
            f"error: {steps}"
        )
