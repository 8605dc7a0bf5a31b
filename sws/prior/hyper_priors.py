"""Gamma and Beta hyper-priors of the mixture (App. B), and what a setting of them means.

Both are densities of λ and of π_0 themselves, without the Jacobian of whatever parametrisation is
optimised, and each counts once per component, never once per weight.

A *pseudo-count* is the number of weights that a hyper-prior is worth: α + β − 2 of a Beta, and
2·(α − 1) of a Gamma, since each weight of a component adds ½ to its α.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sws.config.sections import Precision
from sws.config.soft_weight_sharing import Proportion


@dataclass(frozen=True)
class GammaPrior:
    """Gamma(α, β) on a precision λ: log density (α − 1)·log λ − β·λ, up to a constant (App. B).

    Parameters
    ----------
    alpha, beta : float
        Shape and rate, both positive.

    Raises
    ------
    ValueError
        If one is not.

    Examples
    --------
    >>> GammaPrior(5000, 2).mode  # of the paper's tutorial: σ = 1/√λ = 0.02
    2499.5
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and self.beta > 0):
            raise ValueError(f"Gamma({self.alpha}, {self.beta}): α and β must be positive")

    @classmethod
    def from_mode_and_variance(cls, mode: float, variance: float) -> GammaPrior:
        """From λ* = (α − 1)/β and α/β²: β = (λ* + √(λ*² + 4·variance)) / (2·variance).

        Parameters
        ----------
        mode : float
            λ*, positive.
        variance : float
            Of λ, positive.

        Examples
        --------
        >>> prior = GammaPrior.from_mode_and_variance(400, 1e4)
        >>> round(prior.mode, 6), round(prior.alpha / prior.beta**2, 6)
        (400.0, 10000.0)
        """
        if not (mode > 0 and variance > 0):
            raise ValueError(f"mode {mode} and variance {variance} must be positive")
        beta = (mode + math.sqrt(mode**2 + 4 * variance)) / (2 * variance)
        return cls(1 + mode * beta, beta)

    @property
    def mode(self) -> float:
        """λ* = (α − 1)/β, the most probable precision."""
        return (self.alpha - 1) / self.beta

    def log_density(self, log_precisions: np.ndarray) -> np.ndarray:
        """Log density of λ, up to a constant, from log λ of any shape."""
        return (self.alpha - 1) * log_precisions - self.beta * np.exp(log_precisions)


@dataclass(frozen=True)
class BetaPrior:
    """Beta(α, β) on π_0: log density (α − 1)·log π_0 + (β − 1)·log(1 − π_0), up to a constant.

    Parameters
    ----------
    alpha, beta : float
        Both at least 1; 1 and 1 is the uniform density.

    Raises
    ------
    ValueError
        If one is smaller.
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (self.alpha >= 1 and self.beta >= 1):
            raise ValueError(f"Beta({self.alpha}, {self.beta}): α and β must be at least 1")

    @classmethod
    def from_mode(cls, mode: float, pseudo_count: float) -> BetaPrior:
        """From mode (α − 1)/(α + β − 2) and pseudo-count α + β − 2, the weights it is worth.

        Parameters
        ----------
        mode : float
            The most probable π_0, in (0, 1).
        pseudo_count : float
            Number of weights, 0 or more.

        Examples
        --------
        >>> BetaPrior.from_mode(0.75, 4)
        BetaPrior(alpha=4.0, beta=2.0)
        """
        return cls(1 + mode * pseudo_count, 1 + (1 - mode) * pseudo_count)

    @property
    def mode(self) -> float:
        """(α − 1)/(α + β − 2), the most probable π_0; nan where all are equally so."""
        pseudo_count = self.alpha + self.beta - 2
        return (self.alpha - 1) / pseudo_count if pseudo_count else math.nan

    def log_density(self, proportion: float) -> float:
        """Log density of π_0 in (0, 1), up to a constant."""
        return (self.alpha - 1) * math.log(proportion) + (self.beta - 1) * math.log1p(-proportion)


def gamma_prior(setting: Precision | None, count: int, progress: float) -> GammaPrior | None:
    """The Gamma hyper-prior that a setting means for a network of ``count`` weights.

    Parameters
    ----------
    setting : Precision or None
        In one of its three forms; None means none.
    count : int
        I, the number of weights under the prior.
    progress : float
        Fraction of the epochs that is over; an annealed deviation depends on it.

    Examples
    --------
    >>> prior = gamma_prior(Precision(pseudo_count=0.5, deviation=0.1), 1000, progress=0.0)
    >>> prior.alpha, round(prior.mode, 6)
    (251.0, 100.0)
    """
    if setting is None:
        return None
    if setting.alpha is not None:
        return GammaPrior(setting.alpha, setting.beta)
    if setting.mode is not None:
        return GammaPrior.from_mode_and_variance(setting.mode, setting.variance)
    half = 0.5 * setting.pseudo_count * count
    return GammaPrior(1 + half, half * annealed(setting.deviation, progress) ** 2)


def beta_prior(setting: Proportion, count: int) -> BetaPrior | None:
    """The Beta hyper-prior that a setting of π_0 means; None where π_0 is fixed.

    Parameters
    ----------
    setting : Proportion
        Its value is the mode.
    count : int
        I, the number of weights under the prior.
    """
    if not setting.learned:
        return None
    return BetaPrior.from_mode(setting.value, setting.pseudo_count * count)


def annealed(deviation: float | Sequence[tuple[float, float]], progress: float) -> float:
    """σ* at a fraction of the epochs: geometric between the knots, constant outside them.

    Parameters
    ----------
    deviation : float or sequence of (float, float)
        A constant, or knots of (fraction of the epochs, σ*), ascending.
    progress : float
        Fraction of the epochs that is over.

    Examples
    --------
    >>> round(annealed([(0.2, 0.1), (0.6, 0.001)], 0.4), 6)
    0.01
    """
    if isinstance(deviation, float | int):
        return float(deviation)
    at, value = zip(*deviation, strict=True)
    return math.exp(float(np.interp(progress, at, np.log(value))))
