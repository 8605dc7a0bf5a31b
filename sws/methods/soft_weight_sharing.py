"""Soft weight-sharing (Nowlan & Hinton 1992; Ullrich, Meeds & Welling 2017).

The loss of a mini-batch is its mean cross-entropy + (τ/N)·L^C with N the number of training images
and L^C = −log p(w, θ) (Sec. 2 and 4). The prior's gradient is added to the weights' in place, so
the framework never builds a graph over I weights × J components.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sws.compression.assignment import quantize
from sws.compression.process import Compressed, CompressionTask, Process
from sws.compression.trace import TraceRecorder
from sws.config.sections import Retraining
from sws.config.soft_weight_sharing import Prior
from sws.config.soft_weight_sharing import SoftWeightSharing as Settings
from sws.errors import InputError
from sws.network.weights import compressible, gradients, memory_order
from sws.prior.components import Components, Statistics, initial_components
from sws.prior.estimators import Estimator, Exact, Subsampled, SubsampledSums, Tabulated
from sws.prior.graded import Graded
from sws.prior.hyper_priors import beta_prior, gamma_prior
from sws.prior.mixture import Mixture, MixtureDescent
from sws.training.loop import DivergedError, FitSettings, Hooks


class SoftWeightSharing(Hooks):
    """Retraining under a mixture prior.

    Parameters
    ----------
    prior : Prior
        The mixture's size, start and hyper-priors, and how it follows the weights.
    retraining : Retraining
        τ, and how fast weights move.
    images : int
        N, the number of training images that τ is divided by.
    seed : int
        Of Appendix C's sampling.
    scales : mapping of str to float, optional
        By name, the unit of a tensor's weights: the prior is one of w / scale, and the optimiser's
        steps are in that unit. Frozen weights shape the mixture and do not move.
    held : sequence of str
        Names of scale-free tensors, whose norms stay as they are
        (:mod:`sws.network.batch_norm`).

    Attributes
    ----------
    mixture : Mixture
        The prior as it is now; from :meth:`attach` on.
    trace : TraceRecorder
        Where mixture and weights went.
    seconds : float
        Wall clock of the prior's steps.
    """

    def __init__(
        self,
        prior: Prior,
        retraining: Retraining,
        images: int,
        seed: int = 0,
        scales: Mapping[str, float] | None = None,
        held: Sequence[str] = (),
    ):
        self.prior = prior
        self.retraining = retraining
        self.images = images
        self.seed = seed
        self.scale_of = scales or {}
        self.held = frozenset(held)
        self.step = 0
        self.seconds = 0.0
        self._statistics: Statistics | None = None
        self._tau = 0.0
        # from attach() on
        self.weights: list[nn.Parameter] = []
        self.scales: list[float] = []
        self.norms: list[tuple[nn.Parameter, float]] = []
        self.mixture: Mixture
        self.estimator: Estimator
        self.descent: MixtureDescent | None = None
        self.trace: TraceRecorder

    def attach(self, model: nn.Module) -> None:
        named = compressible(model, vectors=self.prior.covers == "all")
        self.weights = list(named.values())
        self.scales = [self.scale_of.get(name, 1.0) for name in named]
        held = [w for n, w in named.items() if n in self.held and w.requires_grad]
        self.norms = [(w, float(w.detach().norm())) for w in held]
        start = self._in_units()
        components = self.initial(start)
        beta = beta_prior(self.prior.zero_proportion, self.count)
        self.mixture = Mixture(components, zero_proportion=beta)
        self.estimator = self.build_estimator()
        self.descent = None
        if self.prior.update == "adam":
            self.descent = MixtureDescent(self.mixture, self.prior.rates)
        self.trace = TraceRecorder(start)
        self.trace.record(0, self.mixture.components, start)

    def build_estimator(self) -> Estimator:
        """The estimator that the settings name.

        Raises
        ------
        ValueError
            If it is ``subsampled-outside``, which takes an optimiser's step of its own.
        """
        name, samples = self.prior.estimator, self.prior.samples
        if name == "exact":
            return Exact()
        if name == "subsampled":
            return Subsampled(samples, self.seed)
        if name == "subsampled-sums":
            return SubsampledSums(samples, self.seed, self._tabulated())
        if name == "subsampled-outside":
            raise InputError(f"{name}: use the method soft-weight-sharing-subsampled")
        return self._tabulated()

    def _tabulated(self) -> Graded | Tabulated:
        """Under EM, as the published runs were made; Adam moves the mixture in every step."""
        return Graded() if self.prior.update == "em" else Tabulated()

    def _in_units(self) -> list[Tensor]:
        return [w.detach() / s for w, s in zip(self.weights, self.scales, strict=True)]

    def parameter_groups(self, model: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
        """A group for each scale, so that all weights move alike in their own units."""
        of_scale: dict[float, list[Tensor]] = {}
        for weight, scale in zip(self.weights, self.scales, strict=True):
            if weight.requires_grad:
                of_scale.setdefault(scale, []).append(weight)
        known = {id(w) for w in self.weights}
        others = [p for p in model.parameters() if id(p) not in known and p.requires_grad]
        factor = self.retraining.weight_rate
        groups = [{"params": p, "rate_scale": factor * s} for s, p in of_scale.items()]
        groups.append({"params": others})
        return [g | {"weight_decay": 0.0} for g in groups if g["params"]]

    def initial(self, weights: Sequence[Tensor]) -> Components:
        """The mixture before the first step."""
        return initial_components(
            weights,
            self.prior.components,
            self.prior.zero_proportion.value,
            self.prior.deviation,
            self.prior.means,
        )

    @property
    def count(self) -> int:
        """I, the number of weights under the prior."""
        return sum(w.numel() for w in self.weights)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        progress = epoch / epochs
        self.mixture.set_precision_priors(
            gamma_prior(self.prior.zero_precision, self.count, progress),
            gamma_prior(self.prior.precision, self.count, progress),
        )
        ramp = self.retraining.warm_up * epochs
        self._tau = self.retraining.tau * (min(1.0, (epoch + 1) / ramp) if ramp > 0 else 1.0)

    def after_backward(self) -> None:
        began = self.clock()
        found = gradients(self.weights)
        update = self.step % self.prior.interval == 0
        statistics = self.estimator(
            self.mixture.components,
            [memory_order(w, w.detach()) for w in self.weights],
            [memory_order(w, g) for w, g in zip(self.weights, found, strict=True)],
            -self._tau / self.images,
            statistics=update,
            scales=self.scales,
        )
        if update:
            self.follow(statistics)
        self.step += 1
        self.seconds += self.clock() - began

    def clock(self) -> float:
        """Seconds, when a GPU has done what it was told so far."""
        device = self.weights[0].device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def follow(self, statistics: Statistics) -> None:
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
                    "Gamma hyper-prior, or lower τ or the mixture's learning rates",
                    f"diverged at step {self.step:,}",
                )

    @torch.no_grad()
    def after_step(self) -> None:
        """Put back the norm of what the prior could shrink at no loss."""
        for weight, norm in self.norms:
            now = weight.norm()
            weight.mul_(torch.where(now > 0, norm / now, 1.0))

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Record; a network that the prior has emptied is not worth another epoch.

        Raises
        ------
        DivergedError
            If, late, less than one weight a tensor is left outside the zero component.
        """
        statistics = self._statistics
        late = epoch + 1 > epochs / 2  # before, wide components may still share the small weights
        if late and statistics.counts[1:].sum() < len(self.weights):
            tau = self.retraining.tau
            remedy = f"lower τ (now {tau:g})" if tau else "give the zero component a narrower σ"
            raise DivergedError(
                f"step {self.step}: the mixture has collapsed, "
                f"{100 * statistics.counts[0] / self.count:.4f} % of the weights are in its zero "
                f"component; {remedy}",
                f"collapsed at step {self.step:,}",
            )
        self.trace.record(epoch + 1, self.mixture.components, self._in_units(), epochs)

    def record(self) -> dict[str, float]:
        """L^C and counts by the last statistics, which are up to ``interval`` steps old."""
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
            "seconds": self.seconds,
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
        self.step, self.seconds = state["step"], state["seconds"]
        if state["statistics"] is not None:
            log_likelihood, sums = state["statistics"]
            self._statistics = Statistics(log_likelihood, *sums.numpy())
        self.trace.load_state_dict(state["trace"])


def compress(
    task: CompressionTask, settings: Settings, retrained_as: type[SoftWeightSharing] | None = None
) -> Compressed:
    """Retrain under the prior, quantise, refine.

    Parameters
    ----------
    task : CompressionTask
        What to compress.
    settings : sws.config.soft_weight_sharing.SoftWeightSharing
        The operating point.
    retrained_as : type of SoftWeightSharing, optional
        What retrains, for methods that vary this one.

    Raises
    ------
    InputError
        If the settings name an estimator that what retrains does not have.
    """
    retraining, quantization = settings.retraining, settings.quantization
    process = Process(task, settings.unit, vectors=settings.prior.covers == "all")
    prior = (retrained_as or SoftWeightSharing)(
        settings.prior, retraining, task.images, task.seed, process.scales, process.scale_free()
    )
    process.retrain(prior, retraining)
    components = prior.mixture.components
    codebook, index = quantize(process.flat_weights(), components, quantization)
    return process.finish(
        index,
        codebook,
        quantization,
        trace=prior.trace,
        seconds={"prior": prior.seconds},
        prior_exact_pct=prior.estimator.exact_pct,
    )
