"""What all methods have in common: the task, the steps of a compression, and what comes of it.

A method is a function ``compress(task, settings)``. It trains in its own way, gives every weight an
entry of a codebook, and leaves the rest to :meth:`Process.finish`: training at the codebook's
values, refinement, the network. What a file needs beyond weights is therefore treated alike for all
methods.
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
from sws.compression.trace import TraceRecorder
from sws.config.sections import Refinement, Training
from sws.errors import InputError
from sws.network import batch_norm
from sws.network.from_module import build_network, check_buffers
from sws.network.inputs import first, forward, scores
from sws.network.quantized import Architecture, InputSpec, QuantizedNetwork
from sws.network.weights import check_compressible, compressible
from sws.training.checkpoints import Checkpoint
from sws.training.loop import Batches, DivergedError, FitSettings, History, Hooks, fit
from sws.training.objectives import Objective


def no_checkpoint(phase: str) -> None:
    """Gives no phase a checkpoint."""


@dataclass(frozen=True, eq=False)
class CompressionTask:
    """What to compress, on which data, and who watches; the same for every method.

    Attributes
    ----------
    model : nn.Module
        The trained network, which is changed in place. Frozen weights are compressed too.
    batches : callable
        ``batches(epoch)`` yields (inputs, labels).
    images : int
        N, the number of training images.
    seed : int
        Of whatever is random.
    checkpoint : callable
        Gives the checkpoint of a phase (``retrain``, ``share``, ``refine``), or None.
    measure : callable, optional
        Error of a network in per cent, called after retraining and after assignment; for reporting
        only.
    validate : callable, optional
        Error of a network in per cent on held-out data, called after every epoch.
    architecture : Architecture, optional
        How the registry builds the network; without it the file holds tensors only.
    input_spec : InputSpec, optional
        What the network takes.
    progress : bool
        Whether to show progress bars.
    objective : Objective, optional
        What training minimises beside a method's own terms; cross-entropy without one.
    """

    model: nn.Module
    batches: Batches
    images: int
    seed: int = 0
    checkpoint: Callable[[str], Checkpoint | None] = no_checkpoint
    measure: Callable[[nn.Module], float] | None = None
    validate: Callable[[nn.Module], float] | None = None
    architecture: Architecture | None = None
    input_spec: InputSpec | None = None
    progress: bool = False
    objective: Objective | None = None

    def steps(self, settings: Training) -> int:
        """Steps of the optimiser in a whole training."""
        return settings.epochs * -(-self.images // settings.batch_size)


@dataclass(frozen=True, eq=False)
class Compressed:
    """What compressing a network gives.

    Attributes
    ----------
    network : QuantizedNetwork
        Ready for :mod:`sws.codec`.
    history : History
        One row per epoch, over all phases; the column ``stage`` says which.
    trace : dict of str to np.ndarray
        Arrays of ``trace.safetensors``, but for the filters.
    errors : dict of str to float
        What ``measure`` returned after retraining (``retrained``) and right after every weight was
        set to its codebook value, before anything made up for it (``assigned``).
    components : int
        Number of codebook entries that are used, 0 included, all codebooks together.
    seconds : dict of str to float
        Wall clock; ``retrain`` and ``quantize`` (all that follows), their sum being the whole;
        methods may name parts of them, such as ``prior``.
    measures : dict of str to object
        What only this method has to say, for ``metrics.json``.
    """

    network: QuantizedNetwork
    history: History
    trace: dict[str, np.ndarray]
    errors: dict[str, float]
    components: int
    seconds: dict[str, float]
    measures: dict[str, Any] = field(default_factory=dict)


class Process:
    """A compression under way, phase by phase: retraining, assignment, sharing, refinement.

    Parameters
    ----------
    task : CompressionTask
        What to compress.
    unit : {'weight', 'tensor'}
        What priors and codebooks measure weights in: ``tensor`` is each tensor's root mean square
        at the start, so that one codebook serves layers of all sizes.
    vectors : bool
        Whether biases are quantised too.

    Attributes
    ----------
    scales : dict of str to float
        By name, the units of weights that are not measured as they are.

    Raises
    ------
    InputError
        If the network is not one that can be compressed.
    """

    def __init__(
        self,
        task: CompressionTask,
        unit: Literal["weight", "tensor"] = "weight",
        vectors: bool = False,
    ):
        self._began = time.perf_counter()
        self._resumed = 0.0
        self._bfloat16 = False
        self._weight_rate = 1.0
        self.task = task
        self.model = task.model
        self.unit = unit
        self.vectors = vectors
        self.scales: dict[str, float] = {}
        self.histories: list[tuple[str, History]] = []
        self.errors: dict[str, float] = {}
        check_compressible(self.model)
        check_buffers(self.model)
        if vectors and batch_norm.norms(self.model):
            raise InputError(
                "covers: all is for networks without batch normalisation, whose vectors are folded "
                "after assignment; use covers: weights"
            )
        if unit == "tensor":
            for name, weight in self.quantized().items():
                size = np.float32(float(weight.detach().double().square().mean().sqrt()))
                self.scales[name] = float(size) if size > 0 else 1.0
        self._few: Any = None
        self._start = list(self.weights().values())  # for the trace

    def quantized(self) -> dict[str, nn.Parameter]:
        """The parameters that get a codebook's values, by name."""
        return compressible(self.model, self.vectors)

    def weights(self) -> dict[str, Tensor]:
        """All weights in their units, by name: copies, contiguous."""
        named = self.quantized()
        return {n: (w.detach() / self.scales.get(n, 1.0)).contiguous() for n, w in named.items()}

    def flat_weights(self) -> np.ndarray:
        """All weights in their units: (I,) float64, tensor after tensor."""
        return flatten(self.weights().values())

    def scale_free(self) -> tuple[str, ...]:
        """Names of the weights whose scale means nothing, if it is taken from them as a unit."""
        if self.unit == "weight":
            return ()
        inputs, _ = next(iter(self.task.batches(0)))
        return batch_norm.scale_free(self.model, compressible(self.model), first(inputs, 32))

    @torch.no_grad()
    def outputs(self) -> Tensor | None:
        """What the network makes of 32 inputs in evaluation; None if that is no tensor."""
        if self._few is None:
            with torch.random.fork_rng():
                inputs, _ = next(iter(self.task.batches(0)))
            self._few = first(inputs, 32)
        with batch_norm.modes_kept(self.model):
            self.model.eval()
            found = scores(forward(self.model, self._few))
        return None if found is None else found.float()

    def reestimate(self) -> None:
        """Running statistics of the weights as they are now."""
        batch_norm.reestimate(self.model, self._later()(0))

    def _later(self) -> Continued:
        return Continued(self.task.batches, sum(len(h.rows) for _, h in self.histories))

    def train(self, phase: str, hooks: Hooks, fitting: FitSettings) -> History:
        """One phase of training, whose epochs count on from the phases before.

        Parameters
        ----------
        phase : str
            ``retrain``, ``share`` or ``refine``.
        hooks : Hooks
            What to add to plain training.
        fitting : FitSettings
            How long and how fast.
        """
        began = time.perf_counter()
        history = fit(
            self.model,
            self._later(),
            hooks,
            fitting,
            seed=self.task.seed,
            checkpoint=self.task.checkpoint(phase),
            validate=self.task.validate,
            description=phase,
            objective=self.task.objective,
            progress=self.task.progress,
        )
        self._resumed += history.seconds - (time.perf_counter() - began)
        self.histories.append((phase, history))
        return history

    def retrain(self, hooks: Hooks, settings: Training, **more: Any) -> None:
        """The phase that makes methods different, and the error after it.

        Parameters
        ----------
        hooks : Hooks
            What the method adds to plain training.
        settings : Training
            How long and how fast; its precision and the weights' rate hold for later phases too.
        **more
            Further fields of :class:`sws.training.loop.FitSettings`.
        """
        self._bfloat16, self._weight_rate = settings.bfloat16, settings.weight_rate
        fitting = FitSettings(
            settings.epochs,
            settings.learning_rate,
            settings.final_rate,
            bfloat16=settings.bfloat16,
            **more,
        )
        self.train("retrain", hooks, fitting)
        self.report("retrained")

    def report(self, name: str) -> None:
        """Measure the error as the model is now, if anything measures."""
        if self.task.measure is not None:
            self.errors[name] = self.task.measure(self.model)

    def finish(
        self,
        index: np.ndarray,
        codebook: np.ndarray,
        settings: Refinement,
        *,
        trace: TraceRecorder | None = None,
        per_tensor: bool = False,
        seconds: Mapping[str, float] | None = None,
        **measures: Any,
    ) -> Compressed:
        """Everything after assignment: what it cost, both kinds of training, the network.

        Parameters
        ----------
        index : np.ndarray
            (I,) int64 entry of every weight, tensor after tensor.
        codebook : np.ndarray
            (K,) values in the unit of the weights; entry 0 is 0.
        settings : Refinement
            Of the two phases that follow.
        trace : TraceRecorder, optional
            Where the weights went, recorded by the method; without it, start and end.
        per_tensor : bool
            Whether each tensor gets a codebook of its own, of the entries that it uses.
        seconds : mapping of str to float, optional
            Parts of the wall clock that only this method has.
        **measures
            What only this method has to say, for ``metrics.json``.
        """
        indexes = unflatten(index, self.quantized())
        before = self.assign(indexes, codebook)
        for phase in ("share", "refine"):
            indexes, codebook = self.share(phase, indexes, codebook, settings)
        network = self.build(indexes, codebook, settings.bias_bits, per_tensor)
        arrays = (trace or self._start_and_end(before)).tensors(
            before, list(indexes.values()), np.concatenate(network.codebooks)
        )
        entries = sum(len(codebook) - 1 for codebook in network.codebooks) + 1
        spent = self._seconds() | dict(seconds or {})
        return Compressed(network, self.history, arrays, self.errors, entries, spent, measures)

    def assign(self, indexes: Mapping[str, Tensor], codebook: np.ndarray) -> list[Tensor]:
        """Measure what snapping costs; returns the weights from before, which also come back."""
        before = list(self.weights().values())
        if self.task.measure is not None:
            kept = {name: v.detach().clone() for name, v in self.model.state_dict().items()}
            self._snap(indexes, codebook)
            self.reestimate()
            found = self.outputs()
            if found is not None and not torch.isfinite(found).all():
                raise DivergedError(
                    "assignment: with every weight at its codebook value the network's outputs are "
                    "not finite; leave out the weights that it divides by"
                )
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
        phase: Literal["share", "refine"],
        indexes: Mapping[str, Tensor],
        codebook: np.ndarray,
        settings: Refinement,
    ) -> tuple[dict[str, Tensor], np.ndarray]:
        """Train at the codebook's values; assignments move (``share``) or not (``refine``).

        Parameters
        ----------
        phase : {'share', 'refine'}
            Which of the two.
        indexes : mapping of str to Tensor
            By tensor name, int64 in the shape of the weight, into the codebook.
        codebook : np.ndarray
            (K,) values to start from.
        settings : Refinement
            Epochs and rates of both phases.

        Returns
        -------
        indexes, codebook
            As they are after the phase.
        """
        frozen = phase == "refine"
        epochs = settings.refinement_epochs if frozen else settings.sharing_epochs
        rate = settings.refinement_rate if frozen else settings.sharing_rate
        sharing = SharedWeights(
            indexes, codebook, settings.distortion,
            frozen=frozen, codebook_rate=settings.codebook_rate, scales=self.scales,
            weight_rate=self._weight_rate, outputs=self.outputs,
        )  # fmt: skip
        self.train(phase, sharing, FitSettings(epochs, rate, bfloat16=self._bfloat16))
        return sharing.indexes(), sharing.codebook.detach().cpu().numpy()

    def build(
        self,
        indexes: Mapping[str, Tensor],
        codebook: np.ndarray,
        bias_bits: int,
        per_tensor: bool = False,
    ) -> QuantizedNetwork:
        """The network on disk, with everything that the file needs beside the indexes.

        Parameters
        ----------
        indexes : mapping of str to Tensor
            By tensor name, into the codebook.
        codebook : np.ndarray
            (K,) values.
        bias_bits : int
            Bits of the mantissa that float16 biases keep.
        per_tensor : bool
            Whether each tensor gets a codebook of its own.
        """
        self.reestimate()
        return build_network(
            self.model, indexes, codebook, scales=self.scales, bias_bits=bias_bits,
            per_tensor=per_tensor,
            architecture=self.task.architecture, input_spec=self.task.input_spec,
        )  # fmt: skip

    def _start_and_end(self, before: list[Tensor]) -> TraceRecorder:
        """The trace of a method that follows no mixture."""
        trace = TraceRecorder.of_start(self._start)
        epochs = sum(len(h.rows) for phase, h in self.histories if phase == "retrain")
        trace.record(epochs, None, before, epochs)
        return trace

    @property
    def history(self) -> History:
        """All phases, epochs counted through; the column ``stage`` says which phase."""
        rows = [row | {"stage": phase} for phase, h in self.histories for row in h.rows]
        return History([row | {"epoch": number} for number, row in enumerate(rows, start=1)])

    def _seconds(self) -> dict[str, float]:
        """Wall clock until now; time that an interrupted run had spent is counted too."""
        total = time.perf_counter() - self._began + self._resumed
        retraining = sum(h.seconds for phase, h in self.histories if phase == "retrain")
        return {"retrain": retraining, "quantize": total - retraining}


def flatten(weights: Iterable[Tensor]) -> np.ndarray:
    """Weights in one float64 vector, tensor after tensor."""
    flat = [w.detach().contiguous().reshape(-1) for w in weights]
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
