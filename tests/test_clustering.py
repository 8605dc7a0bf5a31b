"""k-means in one dimension, against definitions that are slower and plainer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws.compression.clustering import cluster_nonzeros, kmeans, linear_centroids, nearest


def one_round(values, centres):
    index = np.abs(values[:, None] - centres).argmin(axis=1)
    return np.array(
        [values[index == k].mean() if (index == k).any() else c for k, c in enumerate(centres)]
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_it_is_a_fixed_point_of_lloyds_algorithm(seed, clusters):
    values = np.random.default_rng(seed).standard_t(3, 200)
    centres = kmeans(values, linear_centroids(values, clusters))
    assert (np.diff(centres) >= 0).all()
    np.testing.assert_allclose(one_round(values, centres), centres, atol=1e-10)


def test_it_starts_evenly_over_the_range_and_follows_lloyd_round_by_round():
    values = np.random.default_rng(0).normal(size=500)
    centres = linear_centroids(values, 7)
    assert centres[0] == values.min()
    assert centres[-1] == values.max()
    np.testing.assert_allclose(np.diff(centres), (values.max() - values.min()) / 6)
    for rounds in range(4):
        np.testing.assert_allclose(kmeans(values, linear_centroids(values, 7), rounds), centres)
        centres = one_round(values, centres)


def test_separate_groups_are_found():
    rng = np.random.default_rng(1)
    groups = np.concatenate([rng.normal(m, 0.01, 50) for m in (-1, 0.2, 3)])
    np.testing.assert_allclose(kmeans(groups, np.array([-2, 0, 2.0])), [-1, 0.2, 3], atol=0.01)


def test_an_empty_cell_keeps_its_centroid():
    assert kmeans(np.array([0.0, 0.1]), np.array([0.0, 9.0])).tolist() == [0.05, 9.0]


def test_zeros_stay_zero_and_everything_else_gets_its_nearest_value():
    weights = np.random.default_rng(2).normal(size=300)
    weights[::3] = 0
    codebook, index = cluster_nonzeros(weights, 5)
    assert codebook[0] == 0
    assert len(codebook) == 6
    assert ((index == 0) == (weights == 0)).all()
    kept = weights != 0
    best = np.abs(weights[kept, None] - codebook[1:]).min(axis=1)
    np.testing.assert_allclose(np.abs(weights[kept] - codebook[index[kept]]), best)
    assert nearest(np.array([[-9.0, 9.0]]), codebook[1:]).tolist() == [[0, 4]]


@pytest.mark.parametrize("count", [0, 1])
def test_a_layer_with_hardly_a_weight_left(count):
    weights = np.zeros(10)
    weights[:count] = 0.3
    codebook, index = cluster_nonzeros(weights, 4)
    np.testing.assert_array_equal(codebook[index], weights)
