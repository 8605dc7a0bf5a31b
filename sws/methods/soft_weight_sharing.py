"""Soft weight-sharing (Nowlan & Hinton 1992; Ullrich, Meeds & Welling 2017).

The loss of a mini-batch is its mean cross-entropy + (τ/N)·L^C with N the number of training images
and L^C = −log p(w, θ) (Sec. 2 and 4). The prior's gradient is added to the weights' in place, so
the framework never builds a graph over I weights × J components.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sws.checkpoints import Checkpoint
from sws.config import Precision, Prior, Retraining
from sws.config import SoftWeightSharing as Settings
from sws.likelihood import Estimator, Exact, Statistics, Subsampled, Tabulated
from sws.mixture import BetaPrior, GammaPrior, Mixture, MixtureDescent, initial_components
from sws.network import Architecture, InputSpec, QuantizedNetwork
from sws.parameters import compressible, memory_order
from sws.quantization import quantize
from sws.sharing import SharedWeights, build_network
from sws.trace import Trace
from sws.training import Batches, DivergedError, FitSettings, History, Method, Stopwatch, fit


class SoftWeightSharing(Method):
    """Retraining under a mixture prior.

    Parameters
    ----------
    prior, retraining : settings.
    images : N, the number of training images that τ is divided by.
    seed : of Appendix C's sampling.
    """

    def __init__(self, prior: Prior, retraining: Retraining, images: int, seed: int = 0):
        self.prior = prior
        self.retraining = retraining
        self.images = images
        self.seed = seed
        self.step = 0
        self._statistics: Statistics | None = None

    def attach(self, model: nn.Module) -> None:
        self.weights = list(compressible(model).values())
        components = initial_components(
            [w.detach() for w in self.weights],
            self.prior.components,
            self.prior.zero_proportion.value,
            self.prior.deviation,
        )
        self.mixture = Mixture(components, zero_proportion=self._beta_prior())
        self.estimator = build_estimator(self.prior, self.seed)
        self.descent = None
        if self.prior.update == "adam":
            self.descent = MixtureDescent(self.mixture, self.prior.rates)
        self.trace = Trace(self.weights)
        self.trace.record(0, self.mixture.components, self.weights)

    @property
    def count(self) -> int:
        """I, the number of weights under the prior."""
        return sum(w.numel() for w in self.weights)

    def _beta_prior(self) -> BetaPrior | None:
        zero = self.prior.zero_proportion
        if not zero.learned:
            return None
        return BetaPrior.from_mode(zero.value, zero.pseudo_count * self.count)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        progress = epoch / epochs
        self.mixture.set_precision_priors(
            gamma_prior(self.prior.zero_precision, self.count, progress),
            gamma_prior(self.prior.precision, self.count, progress),
        )
        ramp = self.retraining.warm_up * epochs
        self._tau = self.retraining.tau * (min(1.0, (epoch + 1) / ramp) if ramp > 0 else 1.0)

    def after_backward(self) -> None:
        update = self.step % self.prior.interval == 0
        statistics = self.estimator(
            self.mixture.components,
            [memory_order(w, w.detach()) for w in self.weights],
            [memory_order(w, w.grad) for w in self.weights],
            -self._tau / self.images,
            statistics=update,
        )
        if update:
            self._follow(statistics)
        self.step += 1

    def _follow(self, statistics: Statistics) -> None:
        """Move the mixture towards the weights."""
        self._statistics = statistics
        if self.descent is not None:
            self.descent.step(statistics)
        else:
            self.mixture.maximize(statistics, self.prior.damping)
        c = self.mixture.components
        for name, values in (("means", c.means), ("log-precisions", c.log_precisions)):
            if not np.isfinite(values).all():
                raise DivergedError(
                    f"step {self.step}: the mixture's {name} are not finite; give the precisions a "
                    "Gamma hyper-prior, or lower τ or the mixture's learning rates"
                )

    def end_epoch(self, epoch: int, epochs: int) -> None:
        self.trace.record(epoch + 1, self.mixture.components, self.weights, epochs)

    def record(self) -> dict[str, float]:
        counts = self._statistics.counts
        return {
            "complexity": float(self.mixture.complexity(self._statistics)),
            "nonzero_pct": 100 * (1 - float(counts[0] / counts.sum())),
            "components": int((counts[1:] >= 1.0).sum()) + 1,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "mixture": self.mixture.state_dict(),
            "descent": None if self.descent is None else self.descent.state_dict(),
            "estimator": self.estimator.state_dict(),
            "step": self.step,
            "statistics": self._packed_statistics(),
            "trace": self.trace.state_dict(),
        }

    def _packed_statistics(self) -> tuple[float, Tensor] | None:
        s = self._statistics
        if s is None:
            return None
        sums = np.stack([s.counts, s.first_moments, s.second_moments])
        return float(s.log_likelihood), torch.from_numpy(sums)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mixture.load_state_dict(state["mixture"])
        if self.descent is not None:
            self.descent.load_state_dict(state["descent"])
        self.estimator.load_state_dict(state["estimator"])
        self.step = state["step"]
        if state["statistics"] is not None:
            log_likelihood, sums = state["statistics"]
            self._statistics = Statistics(log_likelihood, *sums.numpy())
        self.trace.load_state_dict(state["trace"])


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
    components : number of codebook entries that are used, 0 included.
    seconds : of the retraining, wall clock.
    """

    network: QuantizedNetwork
    history: History
    trace: dict[str, np.ndarray]
    errors: dict[str, float]
    components: int
    seconds: dict[str, float]


def compress(
    model: nn.Module,
    batches: Batches,
    images: int,
    settings: Settings,
    *,
    seed: int = 0,
    checkpoint: Callable[[str], Checkpoint | None] = lambda stage: None,
    measure: Callable[[nn.Module], float] | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    architecture: Architecture | None = None,
    input_spec: InputSpec | None = None,
    progress: bool = False,
) -> Compressed:
    """Retrain under the prior, quantise, refine. The model is changed in place.

    Parameters
    ----------
    batches : ``batches(epoch)`` yields (inputs, labels).
    images : N, the number of training images.
    checkpoint : gives the checkpoint of a stage (``retrain``, ``share``, ``refine``).
    measure : error in per cent, called after retraining and after assignment; for reporting only.
    validate : error in per cent on held-out data, after every epoch.
    """
    common = {"seed": seed, "validate": validate, "progress": progress}
    errors: dict[str, float] = {}
    retraining, quantization = settings.retraining, settings.quantization
    prior = SoftWeightSharing(settings.prior, retraining, images, seed)
    fitting = FitSettings(
        retraining.epochs,
        retraining.learning_rate,
        retraining.final_rate,
        bfloat16=retraining.bfloat16,
    )
    with Stopwatch() as watch:
        first = fit(model, batches, prior, fitting, checkpoint=checkpoint("retrain"),
                    description="retrain", **common)  # fmt: skip
    if measure is not None:
        errors["retrained"] = measure(model)
    weights = compressible(model)
    before = [w.detach().clone().contiguous() for w in weights.values()]
    flat = torch.cat([w.reshape(-1) for w in before]).double().cpu().numpy()
    codebook, nats, index = quantize(flat, prior.mixture.components, quantization)
    indexes = _unflatten(index, weights)
    if measure is not None:
        errors["assigned"] = _measure_snapped(model, measure, indexes, codebook)
    histories = [("retrain", first)]
    for stage, epochs, rate in (
        ("share", quantization.sharing_epochs, quantization.sharing_rate),
        ("refine", quantization.refinement_epochs, quantization.refinement_rate),
    ):
        sharing = SharedWeights(
            indexes, codebook, nats, quantization.distortion,
            frozen=stage == "refine", codebook_rate=quantization.codebook_rate,
        )  # fmt: skip
        fitting = FitSettings(epochs, rate, bfloat16=retraining.bfloat16)
        done = fit(model, _later(batches, histories), sharing, fitting,
                   checkpoint=checkpoint(stage), description=stage, **common)  # fmt: skip
        histories.append((stage, done))
        indexes, codebook = sharing.indexes(), sharing.codebook.detach().numpy()
        nats = sharing.nats.numpy()
    network = build_network(
        model, indexes, codebook, bias_bits=quantization.bias_bits,
        architecture=architecture, input_spec=input_spec,
    )  # fmt: skip
    trace = prior.trace.tensors(before, list(indexes.values()), network.codebooks[0])
    seconds = {"retrain": watch.seconds}
    size = len(network.codebooks[0])
    return Compressed(network, _joined(histories), trace, errors, size, seconds)


@torch.no_grad()
def _measure_snapped(
    model: nn.Module,
    measure: Callable[[nn.Module], float],
    indexes: dict[str, Tensor],
    codebook: np.ndarray,
) -> float:
    """Error with every weight at its codebook value; the weights come back unchanged."""
    values = torch.as_tensor(codebook, dtype=torch.float32)
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if name in indexes}
    parameters = dict(model.named_parameters())
    for name, index in indexes.items():
        parameters[name].copy_(values[index])
    error = measure(model)
    for name, value in kept.items():
        parameters[name].copy_(value)
    return error


def _unflatten(index: np.ndarray, weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """One flat vector of indexes to a tensor for each weight."""
    parts = torch.from_numpy(index).split([w.numel() for w in weights.values()])
    return {n: p.view(w.shape) for (n, w), p in zip(weights.items(), parts, strict=True)}


def _later(batches: Batches, histories: list[tuple[str, History]]) -> Batches:
    """The batches with epochs counted on from the stages before: no order is seen twice."""
    return Continued(batches, sum(len(h.rows) for _, h in histories))


@dataclass(frozen=True)
class Continued:
    """Batches whose epoch 0 is a later one of others."""

    batches: Batches
    epochs: int

    def __call__(self, epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        return self.batches(epoch + self.epochs)

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]


def _joined(histories: list[tuple[str, History]]) -> History:
    rows = [row | {"stage": stage} for stage, history in histories for row in history.rows]
    return History([row | {"epoch": number} for number, row in enumerate(rows, start=1)])


def build_estimator(prior: Prior, seed: int = 0) -> Estimator:
    """The estimator that the settings name."""
    if prior.estimator == "exact":
        return Exact()
    if prior.estimator == "subsampled":
        return Subsampled(prior.samples, seed)
    return Tabulated()


def gamma_prior(setting: Precision | None, count: int, progress: float) -> GammaPrior | None:
    """The Gamma hyper-prior that a setting means for a network of ``count`` weights.

    Parameters
    ----------
    progress : fraction of the epochs that is over; an annealed deviation depends on it.
    """
    if setting is None:
        return None
    if setting.alpha is not None:
        return GammaPrior(setting.alpha, setting.beta)
    if setting.mode is not None:
        return GammaPrior.from_mode_and_variance(setting.mode, setting.variance)
    half = 0.5 * setting.pseudo_count * count
    return GammaPrior(1 + half, half * annealed(setting.deviation, progress) ** 2)


def annealed(deviation: float | Sequence[tuple[float, float]], progress: float) -> float:
    """σ* at a fraction of the epochs: geometric between the knots, constant outside them."""
    if isinstance(deviation, float | int):
        return float(deviation)
    at, value = zip(*deviation, strict=True)
    return math.exp(float(np.interp(progress, at, np.log(value))))
