"""The J components of the mixture, what one says of a weight, and the sums over all weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sws.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Components:
    """The J components of a mixture, p(w) = Σ_k π_k N(w | μ_k, σ_k²) (eq. 2 of the paper).

    Attributes
    ----------
    means : np.ndarray
        (J,) float64: μ.
    log_precisions : np.ndarray
        (J,) float64: log λ = −2·log σ.
    log_proportions : np.ndarray
        (J,) float64: log π.

    Examples
    --------
    A weight half-way between two equal components belongs to both alike:

    >>> mixture = Components(np.array([0.0, 1.0]), np.zeros(2), np.log([0.5, 0.5]))
    >>> log_density, responsibilities = mixture.responsibilities(np.array([0.5]))
    >>> responsibilities
    array([[0.5, 0.5]])
    >>> mixture.scores(np.array([0.5]))  # and is pulled nowhere
    array([0.])
    """

    means: np.ndarray
    log_precisions: np.ndarray
    log_proportions: np.ndarray

    @property
    def precisions(self) -> np.ndarray:
        """(J,) λ = 1/σ²."""
        return np.exp(self.log_precisions)

    @property
    def deviations(self) -> np.ndarray:
        """(J,) σ."""
        return np.exp(-0.5 * self.log_precisions)

    @property
    def proportions(self) -> np.ndarray:
        """(J,) π."""
        return np.exp(self.log_proportions)

    @property
    def log_heights(self) -> np.ndarray:
        """(J,) log π_k N(μ_k | μ_k, σ_k²): what each adds to the density at its mean."""
        return self.log_proportions + 0.5 * (self.log_precisions - math.log(2 * math.pi))

    def __len__(self) -> int:
        return len(self.means)

    def log_joint(self, weights: np.ndarray) -> np.ndarray:
        """log π_k N(w | μ_k, σ_k²) for float64 weights of any shape; components on a last axis."""
        centred = weights[..., None] - self.means
        return self.log_heights - 0.5 * self.precisions * centred**2

    def responsibilities(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log p(w), r_k(w)), computed in the log domain, so far outliers do not underflow."""
        joint = self.log_joint(weights)
        peak = joint.max(axis=-1, keepdims=True)
        ratio = np.exp(joint - peak)
        total = ratio.sum(axis=-1, keepdims=True)
        return (peak + np.log(total))[..., 0], ratio / total

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """s(w) = d log p(w)/dw of float64 weights of any shape, in closed form."""
        _, responsibilities = self.responsibilities(weights)
        return (responsibilities * self.precisions * (self.means - weights[..., None])).sum(-1)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sums over all weights under fixed components.

    Attributes
    ----------
    log_likelihood : float
        Σ_i log p(w_i), in nats.
    counts : np.ndarray
        (J,) Σ_i r_k(w_i).
    first_moments : np.ndarray
        (J,) Σ_i r_k(w_i)·(w_i − μ_k).
    second_moments : np.ndarray
        (J,) Σ_i r_k(w_i)·(w_i − μ_k)².
    """

    log_likelihood: float
    counts: np.ndarray
    first_moments: np.ndarray
    second_moments: np.ndarray

    def scaled(self, factor: float) -> Statistics:
        """All sums times a factor, as of a sample that stands for more weights."""
        return Statistics(
            self.log_likelihood * factor,
            self.counts * factor,
            self.first_moments * factor,
            self.second_moments * factor,
        )

    def gradients(self, components: Components) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gradients of Σ_i log p(w_i) for μ, log λ and log π, each (J,).

        The last one treats the log π_k as free; a parametrisation projects it on the simplex.
        """
        precisions = components.precisions
        return (
            precisions * self.first_moments,
            0.5 * (self.counts - precisions * self.second_moments),
            self.counts,
        )


def initial_components(
    weights: Sequence[Tensor],
    size: int,
    zero_proportion: float,
    deviation: float,
    means: Literal["range", "mass"] | tuple[float, float] = "range",
) -> Components:
    """Components as the paper starts them: means evenly over the weights' range, equal widths.

    Parameters
    ----------
    weights : sequence of Tensor
        All weights that the mixture is for.
    size : int
        J, the zero component included; at least 3, since one mean cannot span a range.
    zero_proportion : float
        π_0; the others share the rest equally.
    deviation : float
        σ of every component at the start.
    means : {'range', 'mass'} or (float, float)
        Where the means other than 0 lie: evenly from the smallest weight to the largest; in the
        middle of intervals that hold equal numbers of weights; or evenly between two values.

    Raises
    ------
    InputError
        If the size is too small, or the weights are all equal.

    Examples
    --------
    >>> initial_components([np.array([-1.0, 0.2, 3.0])], 4, 0.7, 0.25).means
    array([ 0., -1.,  1.,  3.])
    >>> initial_components([np.array([-1.0, 0.2, 3.0])], 4, 0.7, 0.25, means=(-0.6, 0.6)).means
    array([ 0. , -0.6,  0. ,  0.6])
    >>> initial_components([np.linspace(0, 1, 101) ** 2], 3, 0.7, 0.25, means="mass").means
    array([0.    , 0.0625, 0.5625])
    """
    if size < 3:
        raise InputError(f"a mixture of {size} has no two means to spread over the weights")
    lowest = min(float(w.min()) for w in weights)
    highest = max(float(w.max()) for w in weights)
    if not lowest < highest:
        raise InputError("all weights are equal: there is no range to spread the means over")
    if means == "mass":
        arrays = [w.double().cpu().numpy() if hasattr(w, "cpu") else w for w in weights]
        middles = (np.arange(size - 1) + 0.5) / (size - 1)
        free = np.quantile(np.concatenate([a.ravel() for a in arrays]), middles)
    else:
        free = np.linspace(*((lowest, highest) if means == "range" else means), size - 1)
    proportions = np.full(size, (1 - zero_proportion) / (size - 1))
    proportions[0] = zero_proportion
    log_precisions = np.full(size, -2 * math.log(deviation))
    return Components(np.concatenate([[0.0], free]), log_precisions, np.log(proportions))
