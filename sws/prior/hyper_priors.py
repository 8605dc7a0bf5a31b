"""Gamma and Beta hyper-priors of the mixture (App. B).

Both are densities of λ and of π_0 themselves, without the Jacobian of whatever parametrisation is
optimised, and each counts once per component, never once per weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GammaPrior:
    """Gamma(α, β) on a precision λ: log density (α − 1)·log λ − β·λ, up to a constant (App. B)."""

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and self.beta > 0):
            raise ValueError(f"Gamma({self.alpha}, {self.beta}): α and β must be positive")

    @classmethod
    def from_mode_and_variance(cls, mode: float, variance: float) -> GammaPrior:
        """From λ* = (α − 1)/β and α/β²: β = (λ* + √(λ*² + 4·variance)) / (2·variance)."""
        if not (mode > 0 and variance > 0):
            raise ValueError(f"mode {mode} and variance {variance} must be positive")
        beta = (mode + math.sqrt(mode**2 + 4 * variance)) / (2 * variance)
        return cls(1 + mode * beta, beta)

    @property
    def mode(self) -> float:
        return (self.alpha - 1) / self.beta

    def log_density(self, log_precisions: np.ndarray) -> np.ndarray:
        return (self.alpha - 1) * log_precisions - self.beta * np.exp(log_precisions)


@dataclass(frozen=True)
class BetaPrior:
    """Beta(α, β) on π_0: log density (α − 1)·log π_0 + (β − 1)·log(1 − π_0), up to a constant."""

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (self.alpha >= 1 and self.beta >= 1):
            raise ValueError(f"Beta({self.alpha}, {self.beta}): α and β must be at least 1")

    @classmethod
    def from_mode(cls, mode: float, pseudo_count: float) -> BetaPrior:
        """From mode (α − 1)/(α + β − 2) and pseudo-count α + β − 2, the weights it is worth."""
        return cls(1 + mode * pseudo_count, 1 + (1 - mode) * pseudo_count)

    def log_density(self, proportion: float) -> float:
        return (self.alpha - 1) * math.log(proportion) + (self.beta - 1) * math.log1p(-proportion)
