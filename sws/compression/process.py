"""What all methods have in common: the steps of a compression, and what comes of it.

A method trains in its own way, assigns its weights to the entries of a codebook, and leaves what
follows to :class:`Process`: training at the codebook's values, refinement, the network. What a file
needs beyond weights is therefore treated alike for all methods.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sws.compression.sharing import SharedWeights
from sws.config.sections import Refinement, Training
from sws.network import batch_norm
from sws.network.from_module import build_network, check_buffers
from sws.network.quantized import Architecture, InputSpec, QuantizedNetwork
from sws.network.weights import check_compressible, compressible
from sws.training.checkpoints import Checkpoint
from sws.training.loop import Batches, FitSettings, History, Method, fit


@dataclass(frozen=True, eq=False)
class Compressed:
    """What compressing a network gives.

    Attributes
    ----------
    network : ready for :mod:`sws.codec`.
    history : a row an epoch, over all steps; ``stage`` says which.
    trace : arrays of ``trace.safetensors``, but for the filters.
    errors : what ``measure`` returned after retraining (``retrained``) and right after every weight
        was set to its codebook value, before anything made up for it (``assigned``).
    components : number of codebook entries that are used, 0 included, all codebooks together.
    seconds : wall clock; ``retrain`` and ``quantize`` (all that follows), their sum being the
        whole; methods may name parts of them, such as ``prior``.
    measures : what only this method has to say, for ``metrics.json``.
    """

    network: QuantizedNetwork
    history: History
    trace: dict[str, np.ndarray]
    errors: dict[str, float]
    components: int
    seconds: dict[str, float]
    measures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Process:
    """A compression under way. The model is changed in place. Frozen weights are compressed too.

    Attributes
    ----------
    batches : ``batches(epoch)`` yields (inputs, labels).
    seed : of whatever is random.
    checkpoint : gives the checkpoint of a stage (``retrain``, ``share``, ``refine``).
    measure : error in per cent, called after retraining and after assignment; for reporting only.
    validate : error in per cent on held-out data, after every epoch.
    unit : what priors and codebooks measure weights in: ``tensor`` is each tensor's root mean
        square at the start, so that one codebook serves layers of all sizes.
    scales : by name, the units of weights that are not measured as they are.
    """

    model: nn.Module
    batches: Batches
    seed: int = 0
    checkpoint: Callable[[str], Checkpoint | None] = lambda stage: None
    measure: Callable[[nn.Module], float] | None = None
    validate: Callable[[nn.Module], float] | None = None
    architecture: Architecture | None = None
    input_spec: InputSpec | None = None
    progress: bool = False
    unit: Literal["weight", "tensor"] = "weight"
    scales: dict[str, float] = field(default_factory=dict, init=False)
    bfloat16: bool = field(default=False, init=False)
    weight_rate: float = field(default=1.0, init=False)
    histories: list[tuple[str, History]] = field(default_factory=list, init=False)
    errors: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._started = time.perf_counter()
        self._resumed = 0.0
        check_compressible(self.model)
        check_buffers(self.model)
        if self.unit == "tensor":
            for name, weight in compressible(self.model).items():
                size = np.float32(float(weight.detach().double().square().mean().sqrt()))
                self.scales[name] = float(size) if size > 0 else 1.0

    def weights(self) -> dict[str, Tensor]:
        """All weights in their units, by name: copies, contiguous."""
        named = compressible(self.model)
        return {n: (w.detach() / self.scales.get(n, 1.0)).contiguous() for n, w in named.items()}

    def scale_free(self) -> tuple[str, ...]:
        """Names of the weights whose scale means nothing, if it is taken from them as a unit."""
        if self.unit == "weight":
            return ()
        inputs, _ = next(iter(self.batches(0)))
        return batch_norm.scale_free(self.model, compressible(self.model), inputs[:32])

    def reestimate(self) -> None:
        """Running statistics of the weights as they are now."""
        batch_norm.reestimate(self.model, self._later()(0))

    def _later(self) -> Continued:
        return Continued(self.batches, sum(len(h.rows) for _, h in self.histories))

    def train(self, stage: str, method: Method, fitting: FitSettings) -> History:
        """One stage of training, whose epochs count on from the stages before."""
        began = time.perf_counter()
        history = fit(
            self.model,
            self._later(),
            method,
            fitting,
            seed=self.seed,
            checkpoint=self.checkpoint(stage),
            validate=self.validate,
            description=stage,
            progress=self.progress,
        )
        self._resumed += history.seconds - (time.perf_counter() - began)
        self.histories.append((stage, history))
        return history

    def retrain(self, method: Method, settings: Training, **more: Any) -> None:
        """The stage that makes methods different, and the error after it.

        Parameters
        ----------
        more : further fields of :class:`sws.training.loop.FitSettings`.
        """
        self.bfloat16, self.weight_rate = settings.bfloat16, settings.weight_rate
        fitting = FitSettings(
            settings.epochs,
            settings.learning_rate,
            settings.final_rate,
            bfloat16=settings.bfloat16,
            **more,
        )
        self.train("retrain", method, fitting)
        self.report("retrained")

    def report(self, name: str) -> None:
        """Measure the error as the model is now, if anything measures."""
        if self.measure is not None:
            self.errors[name] = self.measure(self.model)

    def assign(self, indexes: Mapping[str, Tensor], codebook: np.ndarray) -> list[Tensor]:
        """Measure what snapping costs; returns the weights from before, which also come back."""
        before = list(self.weights().values())
        if self.measure is not None:
            kept = {name: v.detach().clone() for name, v in self.model.state_dict().items()}
            self._snap(indexes, codebook)
            self.reestimate()
            self.report("assigned")
            self.model.load_state_dict(kept)
        return before

    @torch.no_grad()
    def _snap(self, indexes: Mapping[str, Tensor], codebook: np.ndarray) -> None:
        parameters = dict(self.model.named_parameters())
        values = torch.as_tensor(codebook, dtype=torch.float32)
        for name, index in indexes.items():
            parameters[name].copy_(values[index] * self.scales.get(name, 1.0))

    def share(
        self,
        stage: str,
        indexes: Mapping[str, Tensor],
        codebook: np.ndarray,
        settings: Refinement,
    ) -> tuple[dict[str, Tensor], np.ndarray]:
        """Train at the codebook's values; assignments move (``share``) or not (``refine``)."""
        frozen = stage == "refine"
        epochs = settings.refinement_epochs if frozen else settings.sharing_epochs
        rate = settings.refinement_rate if frozen else settings.sharing_rate
        sharing = SharedWeights(
            indexes, codebook, settings.distortion,
            frozen=frozen, codebook_rate=settings.codebook_rate, scales=self.scales,
            weight_rate=self.weight_rate,
        )  # fmt: skip
        self.train(stage, sharing, FitSettings(epochs, rate, bfloat16=self.bfloat16))
        return sharing.indexes(), sharing.codebook.detach().cpu().numpy()

    def finish(
        self, index: np.ndarray, codebook: np.ndarray, settings: Refinement
    ) -> tuple[QuantizedNetwork, list[Tensor], list[Tensor]]:
        """Everything after assignment: what it cost, both kinds of training, the network.

        Parameters
        ----------
        index : (I,) of every weight, into the codebook.

        Returns
        -------
        The network; the weights before they were snapped; the indexes that they ended with.
        """
        indexes = unflatten(index, compressible(self.model))
        before = self.assign(indexes, codebook)
        for stage in ("share", "refine"):
            indexes, codebook = self.share(stage, indexes, codebook, settings)
        return self.build(indexes, codebook, settings.bias_bits), before, list(indexes.values())

    def build(
        self,
        indexes: Mapping[str, Tensor],
        codebook: np.ndarray,
        bias_bits: int,
        per_tensor: bool = False,
    ) -> QuantizedNetwork:
        """The network on disk, with everything that the file needs beside the indexes."""
        self.reestimate()
        return build_network(
            self.model, indexes, codebook, scales=self.scales, bias_bits=bias_bits,
            per_tensor=per_tensor,
            architecture=self.architecture, input_spec=self.input_spec,
        )  # fmt: skip

    @property
    def history(self) -> History:
        """All stages, epochs counted through."""
        rows = [row | {"stage": stage} for stage, h in self.histories for row in h.rows]
        return History([row | {"epoch": number} for number, row in enumerate(rows, start=1)])

    def compressed(
        self, network: QuantizedNetwork, trace: dict[str, np.ndarray], **measures: Any
    ) -> Compressed:
        """The result, timed until now; time that an interrupted run had spent is counted too."""
        total = time.perf_counter() - self._started + self._resumed
        retraining = sum(h.seconds for stage, h in self.histories if stage == "retrain")
        seconds = {"retrain": retraining, "quantize": total - retraining}
        entries = sum(len(codebook) - 1 for codebook in network.codebooks) + 1
        return Compressed(network, self.history, trace, self.errors, entries, seconds, measures)


def flat_weights(weights: Mapping[str, Tensor]) -> np.ndarray:
    """All weights in one float64 vector, tensor after tensor."""
    flat = [w.detach().contiguous().reshape(-1) for w in weights.values()]
    return torch.cat(flat).double().cpu().numpy()


def unflatten(index: np.ndarray, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One flat vector of indexes to a tensor for each weight."""
    parts = torch.from_numpy(index).split([w.numel() for w in weights.values()])
    return {n: p.view(w.shape) for (n, w), p in zip(weights.items(), parts, strict=True)}


@dataclass(frozen=True)
class Continued:
    """Batches whose epoch 0 is a later one of others: no order is seen twice."""

    batches: Batches
    epochs: int

    def __call__(self, epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        return self.batches(epoch + self.epochs)

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]
