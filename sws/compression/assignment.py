"""From retrained weights to a codebook and indexes: merging and assignment (Sec. 4.3 of the paper).

*Merging*: components that hardly differ become one, by their KL divergence as in the paper, or by
the bits that telling them apart costs. *Assignment*: every weight gets an index, by the rules
``map`` (the paper), ``nearest`` or ``rd`` (rate-distortion). Index 0 always means 0.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from sws.config.sections import Quantization
from sws.prior.components import Components

CHUNK = 1 << 16


def kl_divergence(components: Components, i: int, j: int) -> float:
    """KL(N_i ‖ N_j) of two components, proportions aside, in nats.

    Parameters
    ----------
    components : Components
        The mixture.
    i : int
        Component that the expectation is over.
    j : int
        The other component.
    """
    ratio = math.exp(components.log_precisions[j] - components.log_precisions[i])
    shift = components.means[i] - components.means[j]
    scaled = shift**2 * math.exp(components.log_precisions[j])
    return 0.5 * (ratio + scaled - 1 - math.log(ratio))


def merge_components(
    components: Components, threshold: float, width: Literal["variance", "precision"] = "variance"
) -> Components:
    """Merge pairs of components while the smallest KL divergence is below a threshold (Sec. 4.3).

    π = π_i + π_j, μ = (π_i·μ_i + π_j·μ_j)/π, σ² = (π_i·σ_i² + π_j·σ_j²)/π. The divergence of a
    pair is the smaller of its two directions. Whatever merges with component 0 takes its mean of 0.

    Parameters
    ----------
    components : Components
        The mixture.
    threshold : float
        In nats.
    width : {'variance', 'precision'}
        What is averaged: σ², or 1/σ² as the authors' tutorial does.
    """
    means, precisions = components.means.copy(), components.precisions
    proportions = components.proportions
    while len(means) > 2:
        current = Components(means, np.log(precisions), np.log(proportions))
        pairs = [
            (min(kl_divergence(current, i, j), kl_divergence(current, j, i)), i, j)
            for i in range(len(means))
            for j in range(i + 1, len(means))
        ]
        divergence, i, j = min(pairs)
        if divergence >= threshold:
            break
        total = proportions[i] + proportions[j]
        share = proportions[i] / total
        means[i] = 0.0 if i == 0 else share * means[i] + (1 - share) * means[j]
        if width == "variance":
            precisions[i] = 1 / (share / precisions[i] + (1 - share) / precisions[j])
        else:
            precisions[i] = share * precisions[i] + (1 - share) * precisions[j]
        proportions[i] = total
        means, precisions, proportions = (np.delete(v, j) for v in (means, precisions, proportions))
    return Components(means, np.log(precisions), np.log(proportions))


def assign_map(weights: np.ndarray, components: Components) -> np.ndarray:
    """Index of the component with the largest responsibility, in the log domain (Sec. 4.3)."""
    return _chunked(weights, lambda w: components.log_joint(w).argmax(axis=-1))


def assign_nearest(weights: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Index of the nearest codebook value."""
    return _chunked(weights, lambda w: np.abs(w[:, None] - codebook).argmin(axis=-1))


def assign_rate_distortion(
    weights: np.ndarray,
    codebook: np.ndarray,
    rates: np.ndarray,
    importance: np.ndarray | float,
) -> np.ndarray:
    """argmin_k ½·importance_i·(w_i − c_k)² + rate_k.

    Parameters
    ----------
    weights : np.ndarray
        Of any shape.
    codebook : np.ndarray
        (K,) values.
    rates : np.ndarray
        (K,) price of an index, −τ_q·log p_k.
    importance : np.ndarray or float
        N·h_i, the second derivative of the training loss for each weight (or one for all).
    """
    scale = np.broadcast_to(np.asarray(importance, dtype=np.float64), weights.shape).reshape(-1)
    flat = weights.reshape(-1).astype(np.float64)
    index = np.empty(flat.size, dtype=np.int64)
    for begin in range(0, flat.size, CHUNK):
        part = slice(begin, begin + CHUNK)
        distance = (flat[part, None] - codebook) ** 2
        index[part] = (0.5 * scale[part, None] * distance + rates).argmin(axis=1)
    return index.reshape(weights.shape)


def _chunked(weights: np.ndarray, rule: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    flat = weights.reshape(-1).astype(np.float64)
    parts = [rule(flat[b : b + CHUNK]) for b in range(0, flat.size, CHUNK)]
    index = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    return index.astype(np.int64).reshape(weights.shape)


def merge_by_rate(
    codebook: np.ndarray, counts: np.ndarray, importance: float, price: float
) -> np.ndarray:
    """Merge codebook entries while that saves more bits than it costs loss.

    Merging i and j raises ½·importance·Σ(w − c)² by ½·importance·n_i·n_j/(n_i + n_j)·(c_i − c_j)²
    and saves the nats that telling them apart takes, n·log n − n_i·log n_i − n_j·log n_j, and one
    float16 entry. Only neighbours are tried. Entry 0 keeps its value.

    Parameters
    ----------
    codebook, counts : np.ndarray
        (K,) values and how many weights have each.
    importance : float
        Second derivative of the training loss per weight, summed over the images.
    price : float
        Loss that a nat is worth (τ_q).

    Returns
    -------
    The codebook that is left, entry 0 first.
    """
    values = codebook.astype(np.float64)
    numbers = np.maximum(counts.astype(np.float64), 1e-9)
    zero = 0
    while len(values) > 2:
        order = np.argsort(values)
        left, right = order[:-1], order[1:]
        n, m = numbers[left], numbers[right]
        loss = 0.5 * importance * n * m / (n + m) * (values[left] - values[right]) ** 2
        touches_zero = (left == zero) | (right == zero)
        other = np.where(left == zero, right, left)
        to_zero = 0.5 * importance * numbers[other] * values[other] ** 2
        loss = np.where(touches_zero, to_zero, loss)
        nats = (n + m) * np.log(n + m) - n * np.log(n) - m * np.log(m) + 16 * math.log(2)
        gain = price * nats - loss
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        keep, drop = (
            (zero, int(other[best])) if touches_zero[best] else (int(left[best]), int(right[best]))
        )
        total = numbers[keep] + numbers[drop]
        if keep != zero:
            share = numbers[keep] / total
            values[keep] = share * values[keep] + (1 - share) * values[drop]
        numbers[keep] = total
        values, numbers = np.delete(values, drop), np.delete(numbers, drop)
    return values


def fit_codebook(
    weights: np.ndarray, codebook: np.ndarray, distortion: float, rounds: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Entropy-constrained Lloyd iterations: assignment by ``rd``, then p_k and c_k.

    The price of a nat is 2·distortion² in squared weight, the exchange rate of a component of that
    standard deviation. Entries that fewer than two weights use are dropped.

    Parameters
    ----------
    weights : np.ndarray
        All weights, of any shape.
    codebook : np.ndarray
        (K,) values to start from; entry 0 is 0 and stays so.
    distortion : float
        Standard deviation that sets the exchange rate of squared error and nats.
    rounds : int
        How many iterations.

    Returns
    -------
    codebook, nats : (K,) each; nats is −log p_k. Entry 0 is 0.
    """
    book = codebook.astype(np.float64).copy()
    nats = np.zeros(len(book))
    for _ in range(rounds):
        index = assign_rate_distortion(weights, book, nats, 1 / distortion**2).reshape(-1)
        counts = np.bincount(index, minlength=len(book))
        sums = np.bincount(index, weights.reshape(-1), minlength=len(book))
        kept = counts >= 2
        kept[0] = True
        book = (sums / np.maximum(counts, 1))[kept]
        book[0] = 0.0
        nats = -np.log((counts[kept] + 0.5) / (counts[kept] + 0.5).sum())
    return book, nats


def quantize(
    weights: np.ndarray, components: Components, settings: Quantization
) -> tuple[np.ndarray, np.ndarray]:
    """Merge, and assign every weight.

    Parameters
    ----------
    weights : np.ndarray
        (I,) all weights of the network.
    components : Components
        The mixture they were trained under.
    settings : Quantization
        Which rules to use.

    Returns
    -------
    codebook, index : (K,) float64 values with entry 0 = 0, (I,) int64.
    """
    if settings.merge == "divergence":
        components = merge_components(components, settings.merge_below, settings.merged_width)
    codebook = components.means
    if settings.merge == "rate":
        counts = np.bincount(assign_nearest(weights, codebook), minlength=len(codebook))
        codebook = merge_by_rate(codebook, counts, 1 / settings.distortion**2, 1.0)
        codebook, _ = fit_codebook(weights, codebook, settings.distortion)
    if settings.assignment == "map":
        index = assign_map(weights, components)
    elif settings.assignment == "nearest":
        index = assign_nearest(weights, codebook)
    else:
        codebook, nats = fit_codebook(weights, codebook, settings.distortion)
        index = assign_rate_distortion(weights, codebook, nats, 1 / settings.distortion**2)
    return codebook, index
