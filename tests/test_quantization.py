"""Merging, assignment and the fitting of a codebook."""

import itertools
import math

import numpy as np
import pytest

from sws.compression.assignment import (
    assign_map,
    assign_nearest,
    assign_rate_distortion,
    fit_codebook,
    kl_divergence,
    merge_by_rate,
    merge_components,
    quantize,
)
from sws.config.sections import Quantization
from sws.prior.components import Components

BOOK = np.array([0.0, -0.5, -0.25, 0.25, 0.75])  # exact in float16


def components(means, deviations, proportions):
    means, deviations = np.array(means, float), np.array(deviations, float)
    return Components(means, -2 * np.log(deviations), np.log(np.array(proportions, float)))


# --- merging --------------------------------------------------------------------------------------

PAIR = components([0, 1, 1.5], [0.1, 1, 0.5], [0.6, 0.1, 0.3])


def test_the_divergence_is_that_of_gaussians():
    grid = np.linspace(-20, 20, 400_001)
    log_p, log_q = (
        -0.5 * ((grid - m) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi))
        for m, s in ((1, 1), (1.5, 0.5))
    )
    expected = np.sum(np.exp(log_p) * (log_p - log_q)) * (grid[1] - grid[0])
    assert kl_divergence(PAIR, 1, 2) == pytest.approx(expected, rel=1e-6)
    assert kl_divergence(PAIR, 2, 1) == pytest.approx(0.5 * (0.5 - 1 + math.log(4)))


def test_merging_follows_the_formula_of_the_paper():
    """The pair's smaller divergence is 0.443; σ² is the mean of the variances alone."""
    assert len(merge_components(PAIR, 0.443)) == 3
    merged = merge_components(PAIR, 0.444)
    np.testing.assert_allclose(merged.means, [0, (0.1 * 1 + 0.3 * 1.5) / 0.4])
    np.testing.assert_allclose(merged.proportions, [0.6, 0.4])
    np.testing.assert_allclose(merged.deviations**2, [0.01, (0.1 * 1 + 0.3 * 0.25) / 0.4])


def test_whatever_merges_with_zero_becomes_zero():
    near = components([0, 0.01, 3], [0.1, 0.1, 0.1], [0.5, 0.3, 0.2])
    merged = merge_components(near, 0.1)
    assert merged.means.tolist() == [0, 3]
    np.testing.assert_allclose(merged.proportions, [0.8, 0.2])


def test_a_threshold_of_0_merges_nothing():
    twins = components([0, 1, 1, 1 + 1e-12], [0.1, 0.2, 0.2, 0.2], [0.4, 0.2, 0.2, 0.2])
    assert len(merge_components(twins, 0)) == 4
    assert len(merge_components(twins, 1e-10)) == 2


def test_the_closest_pair_merges_first_and_again():
    chain = components([0, 1, 1.1, 1.25, 9], [0.1] * 5, [0.2] * 5)
    merged = merge_components(chain, 2.5)
    np.testing.assert_allclose(merged.means, [0, (1.05 * 0.4 + 1.25 * 0.2) / 0.6, 9])
    assert merged.proportions.sum() == pytest.approx(1)


def test_merging_leaves_its_argument_alone():
    before = [v.copy() for v in (PAIR.means, PAIR.log_precisions, PAIR.log_proportions)]
    merge_components(PAIR, 10)
    for old, new in zip(
        before, (PAIR.means, PAIR.log_precisions, PAIR.log_proportions), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_merging_by_rate_joins_duplicates_and_keeps_what_is_distinct():
    book = np.array([0, 0.5, -0.5, 0.5, 0.5001])
    left = merge_by_rate(book, np.array([900, 30, 40, 20, 10]), importance=1e4, price=1.0)
    assert left[0] == 0
    np.testing.assert_allclose(np.sort(left), [-0.5, 0, (0.5 * 50 + 0.5001 * 10) / 60], atol=1e-12)


def test_merging_by_rate_keeps_the_sum_of_all_weights():
    rng = np.random.default_rng(0)
    book = np.concatenate([[0], rng.uniform(0.5, 1, 30)])
    counts = np.concatenate([[10_000], rng.integers(1, 50, 30)])
    left = merge_by_rate(book, counts, importance=2000, price=1.0)
    assert 2 < len(left) < 31
    # each that is left is the mean of a run of neighbours, so all of them fit between the extremes
    assert left[1:].min() >= book[1:].min()
    assert left[1:].max() <= book[1:].max()
    one = merge_by_rate(book[: 1 + 2], counts[: 1 + 2], importance=1e9, price=1.0)
    assert len(one) == 3
    together = merge_by_rate(np.array([0, 5, 5.01, 9]), np.array([9, 3, 1, 4]), 100.0, 1.0)
    np.testing.assert_allclose(np.sort(together), [0, (15 + 5.01) / 4, 9])


def test_merging_by_rate_weighs_bits_against_loss():
    """Joining 10 and 30 weights 0.1 apart costs ½·h·7.5·0.01, and saves entropy and an entry."""
    saved = 40 * math.log(40) - 10 * math.log(10) - 30 * math.log(30) + 16 * math.log(2)
    limit = saved / (0.5 * 7.5 * 0.01)
    book, counts = np.array([0, 5.0, 5.1]), np.array([1000, 10, 30])
    assert len(merge_by_rate(book, counts, limit * 1.001, 1.0)) == 3
    np.testing.assert_allclose(merge_by_rate(book, counts, limit * 0.999, 1.0), [0, 5.075])
    assert len(merge_by_rate(book, counts, limit * 1.001, 1.01)) == 2


# --- assignment -----------------------------------------------------------------------------------


def test_map_takes_the_largest_responsibility():
    mixture = components([0, -0.3, 0.3], [0.05, 0.1, 0.02], [0.7, 0.2, 0.1])
    weights = np.linspace(-0.8, 0.8, 321).reshape(3, 107)
    index = assign_map(weights, mixture)
    assert index.shape == weights.shape
    density = (
        mixture.proportions
        * np.exp(-0.5 * ((weights[..., None] - mixture.means) / mixture.deviations) ** 2)
        / mixture.deviations
    )
    np.testing.assert_array_equal(index, density.argmax(axis=-1))
    assert set(index.ravel()) == {0, 1, 2}


def test_a_far_outlier_is_not_silently_pruned():
    """All densities underflow there; their logarithms do not."""
    mixture = components([0, -0.3, 0.3], [1e-3, 0.05, 0.05], [0.999, 0.0005, 0.0005])
    weights = np.array([50.0, -50.0, 0.0, 1e4])
    assert not np.exp(mixture.log_joint(weights[:1])).any()
    assert assign_map(weights, mixture).tolist() == [2, 1, 0, 2]


def test_nearest_takes_the_smallest_distance():
    weights = np.array([[0.1, 0.13], [-0.4, 9.0], [0.5, -9.0]])
    assert assign_nearest(weights, BOOK).tolist() == [[0, 3], [1, 4], [3, 1]]


def test_all_rules_take_many_and_no_weights():
    mixture = components(BOOK, [0.1] * 5, [0.2] * 5)
    many = np.random.default_rng(0).normal(0, 0.5, 200_000)
    expected = np.concatenate([assign_nearest(p, BOOK) for p in np.split(many, 100)])
    for rule in (
        lambda w: assign_nearest(w, BOOK),
        lambda w: assign_map(w, mixture),
        lambda w: assign_rate_distortion(w, BOOK, np.zeros(5), 1.0),
    ):
        np.testing.assert_array_equal(rule(many), expected)
        assert rule(np.zeros((0, 4))).shape == (0, 4)


def test_rate_distortion_without_rates_is_nearest():
    weights = np.random.default_rng(1).normal(0, 0.5, (40, 25))
    importance = np.random.default_rng(2).uniform(0.1, 10, (40, 25))
    index = assign_rate_distortion(weights, BOOK, np.zeros(5), importance)
    np.testing.assert_array_equal(index, assign_nearest(weights, BOOK))


def test_rate_distortion_prefers_cheap_entries():
    """At w = 0.2, going from 0.25 to 0 costs ½·h·(0.04 − 0.0025) more."""
    book, weight = np.array([0, 0.25]), np.array([0.2])
    extra = 0.5 * 100 * (0.04 - 0.0025)
    for rate, expected in ((0.99 * extra, 1), (1.01 * extra, 0)):
        assert assign_rate_distortion(weight, book, np.array([0, rate]), 100.0) == [expected]
    important = assign_rate_distortion(
        np.array([0.2, 0.2]), book, np.array([0, extra]), np.array([90.0, 110.0])
    )
    assert important.tolist() == [0, 1]


# --- the codebook ---------------------------------------------------------------------------------


def cost(weights, book, nats, distortion):
    table = 0.5 * ((weights[:, None] - book) / distortion) ** 2 + nats
    return table.min(axis=1).sum()


def spread(seed=0, count=3000):
    rng = np.random.default_rng(seed)
    centres = np.array([0, 0, 0, 0, 0, -0.4, 0.3, 0.5])
    return rng.choice(centres, count) + rng.normal(0, 0.03, count)


def test_fitting_a_codebook_lowers_its_cost():
    weights, start = spread(), np.concatenate([[0], np.linspace(-0.7, 0.7, 15)])
    counts = np.bincount(assign_nearest(weights, start), minlength=16) + 0.5
    costs = [cost(weights, start, -np.log(counts / counts.sum()), 0.05)]
    for rounds in (1, 2, 4, 10):
        book, nats = fit_codebook(weights, start, 0.05, rounds)
        costs.append(cost(weights, book, nats, 0.05))
        assert book[0] == 0
        assert len(book) == len(nats)
        assert np.exp(-nats).sum() == pytest.approx(1)
    assert all(b <= a for a, b in itertools.pairwise(costs))
    assert costs[-1] < 0.95 * costs[0]


def test_a_fitted_entry_is_the_mean_of_its_weights():
    weights = np.array([0.0, 0.01, -0.02, 0.9, 1.1, 1.0, -3.0])
    book, nats = fit_codebook(weights, np.array([0, 1.2, -2.9, 7.0]), 0.1)
    np.testing.assert_allclose(book, [0, 1.0])  # one weight alone does not pay for an entry
    np.testing.assert_allclose(nats, -np.log(np.array([3.5, 4.5]) / 8), atol=0.5)


def test_fitting_leaves_its_argument_alone():
    start = BOOK.copy()
    fit_codebook(spread(), start, 0.05)
    np.testing.assert_array_equal(start, BOOK)


# --- both together --------------------------------------------------------------------------------

RULES = [("divergence", rule) for rule in ("map", "nearest", "rd")]
RULES += [("rate", rule) for rule in ("nearest", "rd")]


@pytest.mark.parametrize(("merge", "assignment"), RULES)
def test_weights_that_are_codebook_values_keep_them(merge, assignment):
    weights = np.random.default_rng(0).choice(BOOK, 2000, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    mixture = components(BOOK, [0.02] * 5, [0.6, 0.1, 0.1, 0.1, 0.1])
    settings = Quantization(merge=merge, assignment=assignment)
    book, index = quantize(weights, mixture, settings)
    np.testing.assert_array_equal(book[index], weights)
    assert book[0] == 0


@pytest.mark.parametrize(("merge", "assignment"), RULES)
def test_quantizing_twice_is_quantizing_once(merge, assignment):
    weights = spread()
    settings = Quantization(merge=merge, assignment=assignment, distortion=0.03)
    means = np.concatenate([[0], np.linspace(-0.6, 0.6, 12)])
    mixture = components(means, [0.04] * 13, [0.64] + [0.03] * 12)
    book, index = quantize(weights, mixture, settings)
    once = book[index]
    assert np.unique(once).size > 2
    assert np.abs(once - weights).max() < 0.4
    deviations = [0.04] * len(book)
    shares = (np.bincount(index, minlength=len(book)) + 0.5) / (len(index) + 0.5 * len(book))
    if assignment == "map":
        shares = mixture.proportions
    again, index = quantize(once, components(book, deviations, shares), settings)
    np.testing.assert_allclose(again[index], once, atol=1e-12)
