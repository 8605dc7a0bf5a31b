"""Mixtures and weights that tests of the prior share, and how estimates are compared."""

import io

import numpy as np
import pytest
import torch

from sws.prior.components import Components
from sws.prior.estimators import Exact

NAMES = ("means", "log-precisions", "log-proportions")


def components_of(means, deviations, proportions):
    means, deviations, proportions = (
        np.asarray(v, dtype=np.float64) for v in (means, deviations, proportions)
    )
    return Components(means, -2 * np.log(deviations), np.log(proportions))


def random_case(seed, count=10_000):
    """A mixture with σ down to 1e-4, and float32 weights: from it, broad ones, far outliers."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 14))
    deviations = 10 ** rng.uniform(*[(-4, -1), (-2.5, 0), (-4, -3.5)][seed % 3], size)
    means = np.append(0.0, rng.uniform(-1, 1, size - 1))
    proportions = rng.dirichlet(np.full(size, rng.choice([0.5, 5.0]))) + 1e-6
    proportions /= proportions.sum()
    drawn = rng.choice(size, count, p=proportions)
    weights = means[drawn] + deviations[drawn] * rng.normal(size=count)
    weights[: count // 10] = rng.normal(0, 0.3, count // 10)
    weights[:20] = rng.uniform(-50, 50, 20)
    mixture = components_of(means, deviations, proportions)
    return mixture, torch.tensor(rng.permutation(weights), dtype=torch.float32)


def learned_like(seed=0, count=50_000):
    """A mixture as retraining leaves it, weights with it: a pinched zero and sixteen others."""
    rng = np.random.default_rng(seed)
    means = np.append(0.0, np.linspace(-0.4, 0.5, 16))
    proportions = np.append(0.95, np.full(16, 0.05 / 16))
    mixture = components_of(means, np.append(0.004, np.full(16, 0.02)), proportions)
    drawn = rng.choice(17, count, p=proportions)
    weights = means[drawn] + 1.2 * mixture.deviations[drawn] * rng.normal(size=count)
    return mixture, torch.tensor(weights, dtype=torch.float32)


def evaluate(estimator, components, weights, factor=1.0):
    scores = torch.zeros_like(weights)
    return scores, estimator(components, [weights], [scores], factor)


def reference(components, weights):
    """Scores and sums in closed form in double precision, whatever the weights' own."""
    return evaluate(Exact(), components, weights.double())


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def assert_close(components, found, expected, tolerance=1e-3, case=""):
    """The issue's criterion, for the scores and for each vector of the mixture's parameters."""
    (scores, sums), (exact_scores, exact_sums) = found, expected
    scores, exact_scores = scores.double().numpy(), exact_scores.numpy()
    assert distance(scores, exact_scores) <= tolerance, case
    assert np.abs(scores - exact_scores).max() <= tolerance * np.abs(exact_scores).max(), case
    both = zip(NAMES, sums.gradients(components), exact_sums.gradients(components), strict=True)
    for name, vector, exact in both:
        assert distance(vector, exact) <= tolerance, f"{name} {case}"
    assert sums.log_likelihood == pytest.approx(exact_sums.log_likelihood, rel=1e-5)


def drift(components, rng, size=0.004):
    """All parameters moved by a little of a width, or of a nat."""
    count = len(components)
    means = components.means + size * components.deviations * rng.normal(size=count)
    means[0] = 0.0
    log_precisions = components.log_precisions + size * rng.normal(0.5, 1, count)
    log_proportions = components.log_proportions + size * rng.normal(size=count)
    return Components(means, log_precisions, log_proportions - np.logaddexp.reduce(log_proportions))


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)
