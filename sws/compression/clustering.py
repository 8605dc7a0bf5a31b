"""k-means of numbers: Lloyd's algorithm, exact and without approximation in one dimension.

In one dimension the cells of Lloyd's algorithm are intervals, so sorted values and their running
sums give every step in O(K·log N).
"""

from __future__ import annotations

import numpy as np


def linear_centroids(values: np.ndarray, clusters: int) -> np.ndarray:
    """Centroids evenly over the range of the values (Han et al. 2016, Sec. 3.2).

    Large weights are few and matter most; density-based or random starts leave them without a
    centroid of their own.
    """
    return np.linspace(values.min(), values.max(), clusters)


def kmeans(values: np.ndarray, centroids: np.ndarray, rounds: int = 1000) -> np.ndarray:
    """Lloyd's algorithm until nothing moves.

    Parameters
    ----------
    values : np.ndarray
        (N,) floating point.
    centroids : np.ndarray
        (K,) to start from.
    rounds : int
        An upper bound; convergence usually takes fewer than a hundred.

    Returns
    -------
    (K,) float64 centroids, ascending. One whose cell holds no value stays where it was.
    """
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.sort(centroids.astype(np.float64))
    for _ in range(rounds):
        limits = np.searchsorted(ordered, (centres[:-1] + centres[1:]) / 2)
        edges = np.concatenate([[0], limits, [ordered.size]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        moved = np.sort(np.where(counts > 0, means, centres))
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def nearest(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Index of the nearest of ascending centroids, int64 in the shape of the values."""
    return np.searchsorted((centroids[:-1] + centroids[1:]) / 2, values)


def cluster_nonzeros(weights: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """A codebook of 0 and of the k-means of everything else, and the index of every weight.

    Parameters
    ----------
    weights : np.ndarray
        (I,), most of them 0, which stay 0.
    clusters : int
        Values that are not 0.

    Returns
    -------
    codebook : (K + 1,) float64, entry 0 is 0.
    index : (I,) int64.
    """
    kept = weights != 0
    values = weights[kept]
    index = np.zeros(weights.shape, dtype=np.int64)
    if not values.size:
        return np.zeros(1), index
    centroids = kmeans(values, linear_centroids(values, clusters))
    index[kept] = 1 + nearest(values, centroids)
    return np.concatenate([[0.0], centroids]), index
