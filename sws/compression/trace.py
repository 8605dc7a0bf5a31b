"""What the figures need of a retraining: the mixture per epoch, and where the weights went."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from sws.prior.components import Components

BINS = 96
SNAPSHOTS = 24  # histograms kept of a whole retraining
SAMPLE = 20_000  # individual weights kept of either kind


class TraceRecorder:
    """Recorded once an epoch; part of the method's state, so that a resumed run has all of it.

    Parameters
    ----------
    weights : sequence of Tensor
        The pre-trained weights, from whose range the histogram's edges are taken.
    """

    def __init__(self, weights: Sequence[Tensor]):
        self.initial = _flat(weights)
        reach = 1.05 * float(np.abs(self.initial).max())
        self.edges = np.linspace(-reach, reach, BINS + 1, dtype=np.float32)
        self.epochs: list[int] = []
        self.mixtures: list[np.ndarray] = []
        self.snapshots: list[int] = []
        self.counts: list[np.ndarray] = []

    @classmethod
    def of_start(cls, weights: Iterable[Tensor]) -> TraceRecorder:
        """A trace without a mixture, with the weights as they are recorded as its epoch 0."""
        listed = list(weights)
        trace = cls(listed)
        trace.record(0, None, listed)
        return trace

    def record(
        self,
        epoch: int,
        components: Components | None,
        weights: Sequence[Tensor],
        epochs: int = 0,
    ) -> None:
        """Add an epoch; its histogram too if it is one of the evenly spread snapshots.

        Parameters
        ----------
        epoch : int
            Epochs that are over.
        components : Components, optional
            The mixture; None from methods that have none, which then has no arrays.
        weights : sequence of Tensor
            All weights as they are now.
        epochs : int
            Of the whole retraining, from which the snapshots are spread.
        """
        self.epochs.append(epoch)
        if components is not None:
            self.mixtures.append(
                np.stack([components.means, components.deviations, components.proportions])
            )
        if epoch == 0 or _is_snapshot(epoch, epochs):
            start, now = _bin(self.initial, self.edges), _bin(_flat(weights), self.edges)
            pairs = np.bincount(start * BINS + now, minlength=BINS**2)
            self.snapshots.append(epoch)
            self.counts.append(pairs.reshape(BINS, BINS).astype(np.int32))

    def tensors(
        self, before: Sequence[Tensor], indexes: Sequence[Tensor], codebook: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The arrays of ``trace.safetensors``, but for the filters.

        Parameters
        ----------
        before : sequence of Tensor
            The weights at the end of retraining, before they were snapped.
        indexes : sequence of Tensor
            What each of them became, in the same layout.
        codebook : np.ndarray
            All values of the file, 0 first.
        """
        mixture = {}
        if self.mixtures:
            mixtures = np.stack(self.mixtures).astype(np.float32)
            names = ("mixture/means", "mixture/deviations", "mixture/proportions")
            mixture = {name: mixtures[:, row] for row, name in enumerate(names)}
        retrained = _flat(before)
        zero = np.concatenate([i.reshape(-1).numpy() for i in indexes]) == 0
        kept, dropped = _sample(np.flatnonzero(~zero)), _sample(np.flatnonzero(zero))
        return {
            "epochs": np.array(self.epochs, dtype=np.int32),
            **mixture,
            "histogram/epochs": np.array(self.snapshots, dtype=np.int32),
            "histogram/edges": self.edges,
            "histogram/counts": np.stack(self.counts),
            "nonzero/initial": self.initial[kept],
            "nonzero/final": retrained[kept],
            "zero/initial": self.initial[dropped],
            "zero/final": retrained[dropped],
            "codebook": codebook.astype(np.float32),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "initial": torch.from_numpy(self.initial),
            "edges": torch.from_numpy(self.edges),
            "epochs": self.epochs,
            "mixtures": torch.from_numpy(np.stack(self.mixtures)),
            "snapshots": self.snapshots,
            "counts": torch.from_numpy(np.stack(self.counts)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.initial, self.edges = state["initial"].numpy(), state["edges"].numpy()
        self.epochs, self.snapshots = list(state["epochs"]), list(state["snapshots"])
        self.mixtures = list(state["mixtures"].numpy())
        self.counts = list(state["counts"].numpy())


def serialize(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file, the same in every process.

    The library writes the metadata in the order of a hash map that differs from run to run.
    """
    # the library writes the memory of a view as it lies, strides ignored
    data = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, dict(metadata))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _flat(weights: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([w.detach().cpu().reshape(-1).numpy() for w in weights]).copy()


def _bin(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.digitize(values, edges) - 1, 0, BINS - 1)


def _is_snapshot(epoch: int, epochs: int) -> bool:
    """True for at most :data:`SNAPSHOTS` epochs, the last one among them."""
    every = max(1, -(-epochs // SNAPSHOTS))
    return epoch == epochs or epoch % every == 0


def _sample(positions: np.ndarray) -> np.ndarray:
    """At most :data:`SAMPLE` positions, evenly spread."""
    step = max(1, -(-len(positions) // SAMPLE))
    return positions[::step]
