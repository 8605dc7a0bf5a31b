"""The prior of the paper: a mixture of Gaussians over all weights of a network, and hyper-priors.

    log p(w, θ) = Σ_i log Σ_k π_k N(w_i | μ_k, 1/λ_k)  +  Σ_k log Gamma(λ_k)  +  log Beta(π_0)

Component 0 is the zero component: μ_0 = 0 never moves, and π_0 is either fixed or learned under the
Beta hyper-prior (Sec. 3, App. B). Hyper-priors are densities of λ and of π_0 themselves, without
the Jacobian of whatever parametrisation is optimised, and count once per component.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sws.prior.components import Components, Statistics
from sws.prior.hyper_priors import BetaPrior, GammaPrior

SMALLEST_PROPORTION = 1e-12
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-15  # Adam's


class Mixture:
    """The mixture's parameters θ and the two ways of following the weights with them.

    Parameters
    ----------
    components : Components
        Starting point; ``components.means[0]`` must be 0.
    zero_precision : GammaPrior, optional
        Hyper-prior of the zero component's precision.
    precision : GammaPrior, optional
        Hyper-prior of every other component's.
    zero_proportion : BetaPrior, optional
        Hyper-prior under which π_0 is learned; without one it stays fixed.

    Raises
    ------
    ValueError
        If the mean of component 0 is not 0.

    Examples
    --------
    A step of EM moves the second mean to the weights that it answers for, and leaves the first:

    >>> start = Components(np.array([0.0, 1.0]), np.full(2, 6.0), np.log([0.5, 0.5]))
    >>> mixture = Mixture(start)
    >>> ones = Statistics(0.0, np.array([2.0, 2.0]), np.array([0.1, 0.4]), np.array([0.02, 0.1]))
    >>> mixture.maximize(ones)
    >>> mixture.components.means
    array([0. , 1.2])
    """

    def __init__(
        self,
        components: Components,
        zero_precision: GammaPrior | None = None,
        precision: GammaPrior | None = None,
        zero_proportion: BetaPrior | None = None,
    ):
        if components.means[0] != 0:
            raise ValueError("component 0 is the zero component: its mean must be 0")
        self.components = components
        self.zero_proportion = zero_proportion
        self.set_precision_priors(zero_precision, precision)

    def set_precision_priors(self, zero: GammaPrior | None, others: GammaPrior | None) -> None:
        """Replace the Gamma hyper-priors, as an annealing schedule does between epochs."""
        gammas = [zero] + [others] * (len(self.components) - 1)
        self._alpha = np.array([1.0 if g is None else g.alpha for g in gammas])
        self._beta = np.array([0.0 if g is None else g.beta for g in gammas])

    def log_hyper_prior(self) -> float:
        """log p(θ) up to a constant: one Gamma term per component and one Beta term."""
        c = self.components
        total = float(((self._alpha - 1) * c.log_precisions - self._beta * c.precisions).sum())
        if self.zero_proportion is not None:
            total += self.zero_proportion.log_density(float(c.proportions[0]))
        return total

    def complexity(self, statistics: Statistics) -> float:
        """L^C = −log p(w, θ), in nats."""
        return -statistics.log_likelihood - self.log_hyper_prior()

    def maximize(self, statistics: Statistics, damping: float = 1.0) -> None:
        """One MAP-EM step: move θ towards the maximiser of the expected log joint.

        π_0 = (R_0 + α − 1)/(I + α + β − 2) if learned; λ_k = (R_k/2 + α − 1)/(M_k/2 + β) with M_k
        about the new mean; μ_k = Σ r w / R_k. With responsibilities held, each is exact; no
        learning rate is involved.

        Parameters
        ----------
        statistics : Statistics
            Sums over all weights under the components as they are.
        damping : float
            In (0, 1]; 1 goes all the way. Acts on μ, log λ and π.
        """
        c, counts = self.components, statistics.counts
        safe = np.maximum(counts, 1e-9)
        shift = statistics.first_moments / safe
        shift[0] = 0.0
        second = np.maximum(statistics.second_moments - shift * statistics.first_moments, 0.0)
        top, bottom = 0.5 * counts + self._alpha - 1, 0.5 * second + self._beta
        known = (top > 0) & (bottom > 0)
        target = np.where(known, np.log(np.where(known, top, 1) / np.where(known, bottom, 1)), 0)
        log_precisions = np.where(known, target, c.log_precisions)
        proportions = self._maximal_proportions(counts)
        mixed = (1 - damping) * c.proportions + damping * proportions
        self.components = Components(
            c.means + damping * shift,
            c.log_precisions + damping * (log_precisions - c.log_precisions),
            np.log(np.maximum(mixed, SMALLEST_PROPORTION)),
        )

    def _maximal_proportions(self, counts: np.ndarray) -> np.ndarray:
        zero = float(self.components.proportions[0])
        if self.zero_proportion is not None:
            prior = self.zero_proportion
            extra = prior.alpha + prior.beta - 2
            total = max(counts.sum() + extra, SMALLEST_PROPORTION)
            zero = (counts[0] + prior.alpha - 1) / total
            zero = min(max(zero, SMALLEST_PROPORTION), 1 - SMALLEST_PROPORTION)
        others = np.maximum(counts[1:], SMALLEST_PROPORTION)
        return np.concatenate([[zero], (1 - zero) * others / others.sum()])

    def gradient(self, statistics: Statistics) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gradient of L^C for μ, log λ and the mixing logits γ, each (J,).

        π_k = (1 − π_0)·softmax(γ_1..γ_{J−1})_k, and π_0 = sigmoid(γ_0). Entry 0 of the first is 0,
        and entry 0 of the last too unless π_0 is learned.
        """
        c = self.components
        means, log_precisions, counts = statistics.gradients(c)
        log_precisions = log_precisions + (self._alpha - 1) - self._beta * c.precisions
        total, zero = counts.sum(), float(c.proportions[0])
        shares = c.proportions / (1 - zero)
        logits = counts - shares * (total - counts[0])
        logits[0] = 0.0
        if self.zero_proportion is not None:
            prior = self.zero_proportion
            logits[0] = counts[0] - zero * total
            logits[0] += (prior.alpha - 1) * (1 - zero) - (prior.beta - 1) * zero
        means = means.copy()
        means[0] = 0.0
        return -means, -log_precisions, -logits

    def state_dict(self) -> dict[str, Tensor]:
        c = self.components
        return {
            "means": torch.from_numpy(c.means.copy()),
            "log_precisions": torch.from_numpy(c.log_precisions.copy()),
            "log_proportions": torch.from_numpy(c.log_proportions.copy()),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.components = Components(
            *(state[k].numpy().copy() for k in ("means", "log_precisions", "log_proportions"))
        )


class MixtureDescent:
    """Joint gradient descent on θ by Adam, as in the paper (Sec. 4.2), with a rate for each kind.

    θ appears only in L^C, so the scale τ/N of that term would cancel in Adam but for its ε. Adam is
    written out: torch's takes five times as long over three vectors of J numbers.

    Parameters
    ----------
    mixture : Mixture
        What moves.
    rates : tuple of float
        Learning rates of the means, the log-precisions and the mixing logits.
    """

    def __init__(self, mixture: Mixture, rates: tuple[float, float, float]):
        self.mixture = mixture
        c = mixture.components
        zero = c.proportions[0]
        logits = c.log_proportions.copy()
        logits[0] = math.log(zero) - math.log1p(-zero)
        self._parameters = np.stack([c.means, c.log_precisions, logits])
        self._rates = np.array(rates)[:, None]
        self._first = np.zeros_like(self._parameters)
        self._second = np.zeros_like(self._parameters)
        self._steps = 0

    def step(self, statistics: Statistics) -> None:
        """One Adam step on μ, log λ and the mixing logits."""
        gradient = np.stack(self.mixture.gradient(statistics))
        self._steps += 1
        self._first += (1 - BETA_1) * (gradient - self._first)
        self._second += (1 - BETA_2) * (gradient**2 - self._second)
        size = np.sqrt(self._second / (1 - BETA_2**self._steps)) + EPSILON
        self._parameters -= self._rates * (self._first / (1 - BETA_1**self._steps)) / size
        means, log_precisions, logits = self._parameters.copy()
        others = logits[1:] - logits[1:].max()
        others = others - math.log(np.exp(others).sum())
        log_zero, log_rest = -np.logaddexp(0, -logits[0]), -np.logaddexp(0, logits[0])
        proportions = np.concatenate([[log_zero], log_rest + others])
        self.mixture.components = Components(means, log_precisions, proportions)

    def state_dict(self) -> dict:
        """Parameters and both moments as tensors (3, J), and the number of steps."""
        names = ("parameters", "first", "second")
        arrays = (self._parameters, self._first, self._second)
        state = {n: torch.from_numpy(a.copy()) for n, a in zip(names, arrays, strict=True)}
        return state | {"steps": self._steps}

    def load_state_dict(self, state: dict) -> None:
        self._parameters = state["parameters"].numpy().copy()
        self._first, self._second = state["first"].numpy().copy(), state["second"].numpy().copy()
        self._steps = state["steps"]
