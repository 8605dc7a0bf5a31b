"""A mesh that follows the mixture: cubics on dyadic elements, made anew whenever it moves.

**How wide an element may be.** What a step needs (the score, r_k, r_k·z_k, r_k·z_k² and log p) is
analytic but for the zeros of p(w) in the complex plane, and a polynomial converges by the distance
of the nearest. With k the component that dominates in the middle of an element, p can vanish where

    D(t) = log π_k N_k − log π_j N_j = A + B·t + C·t² = ±iπ,    t = w − middle,

hence not nearer than the root R of ``|C|·R² + |B|·R = √(A² + π²)``. An element of half-width h is
fine enough once ``MARGIN``·h ≤ R for every j; and where D > ``NEGLIGIBLE`` all over it, j is left
out of it. Both tests are a few multiplications: the elements are known before any exponential is
computed. Where one component rules the score is linear, and one element reaches from crossover to
crossover; where two meet, elements halve until they resolve the crossover, be it as narrow as σ²/d
(d the distance of their means). So the number of elements grows with the number of components and
with the *logarithm* of the ratio of their widths.

**How a weight finds its element.** A position is an integer of ``DEPTH`` bits. Its leading
``FIRST_BITS`` are looked up in a first table, at most ``SECOND_BITS`` more in a second, the rest in
a third: no search, no branch that depends on the weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sws.prior.compiled import compiled
from sws.prior.components import Components

DEPTH = 30
FIRST_BITS = 11
SECOND_BITS = 10
LEAST_LEVEL = 7  # sums over many elements are faster: an addition waits for the last to the same
NEGLIGIBLE = 36.0  # nats: e^-36 is the rounding of float64
MARGIN = 10.0
TAIL = 8.0  # widths from a mean; farther out h shrinks as 1/√z, a cubic's error being of order h⁴
FAR = 2.0**24  # widths of the narrowest component; farther from all means, weights are left out
FARTHEST = 32.0  # beyond, it shrinks no more: few weights are there
# Gauss's, since errors then cancel in sums over weights that lie about evenly in an element
NODES = np.polynomial.legendre.leggauss(4)[0]
COEFFICIENTS = np.linalg.inv(np.vander(NODES, increasing=True))  # of a cubic, from its node values


@dataclass(frozen=True, eq=False)
class Mesh:
    """E elements that together cover an interval, and the mixture on them.

    Attributes
    ----------
    components : the mixture.
    lower, unit : left end of the interval, and the length of a step of the positions.
    starts : (E,) position of each element's left end, ascending from 0.
    resolved : (E,) False where even the finest element is too wide: there, the closed form counts.
    depth : how many of the three tables are needed.
    tables : from positions to elements. Entries of the first two are place · 2^4 + bits: the next
        table is read at ``place`` plus the number that so many further bits of the position are;
        those of the last needed are element · 2^4, or negative where nothing is resolved.
    records : (E, 5) middle of an element, and the score's coefficients there, of powers of t.
    """

    components: Components
    lower: float
    unit: float
    starts: np.ndarray
    resolved: np.ndarray
    depth: int
    tables: tuple[np.ndarray, np.ndarray, np.ndarray]
    records: np.ndarray
    _halves: np.ndarray
    _firsts: np.ndarray
    _members: np.ndarray
    _log_density: np.ndarray
    _responsibilities: np.ndarray

    @classmethod
    def build(cls, components: Components, lower: float, width: float) -> Mesh:
        """The mesh of ``components`` over [lower, lower + width]."""
        parameters = vectors(components)
        unit = width / 2.0**DEPTH
        starts, levels, resolved, firsts, members = _divide(*parameters, lower, unit)
        halves = 0.5 * unit * np.exp2(DEPTH - levels)
        middles = lower + unit * starts + halves
        records, *at_nodes = _evaluate(*parameters, middles, halves, firsts, members)
        depth, *tables = _index(starts, levels, resolved)
        parts = (depth, tuple(tables), records, halves, firsts, members, *at_nodes)
        return cls(components, lower, unit, starts, resolved, *parts)

    @property
    def elements(self) -> int:
        return len(self.starts)

    def add_sums(self, moments: np.ndarray, sums: np.ndarray) -> None:
        """Σ f(w_i) from the weights' moments: the transpose of the interpolation.

        Parameters
        ----------
        moments : (E, 4) sums of 1, t, t², t³ over the weights in each element.
        sums : (1 + 3J,) what log p, r_k, r_k·(w − μ_k) and r_k·(w − μ_k)² sum to is added.
        """
        means, middles = self.components.means, self.records[:, 0]
        nodes = (self._log_density, self._responsibilities)
        _add_sums(moments, middles, self._halves, self._firsts, self._members, means, *nodes, sums)


def vectors(components: Components) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """μ, λ and log π + ½·log(λ/2π), as the compiled code takes them."""
    constants = components.log_proportions + 0.5 * (
        components.log_precisions - math.log(2 * math.pi)
    )
    return np.ascontiguousarray(components.means), components.precisions, constants


def interval(components: Components, lowest: float, highest: float) -> tuple[float, float]:
    """(lower, width) of a mesh for weights in [lowest, highest].

    Both are rounded, the width to a power of two, so that every edge is a float64 without rounding.
    An outlier may not make the rest too coarse: it is left out if it is very far from all means.
    """
    reach = FAR * float(components.deviations.min())
    low = min(max(lowest, float(components.means.min()) - reach), highest)
    high = max(min(highest, float(components.means.max()) + reach), low)
    least = 2.0**-20 * max(abs(low), abs(high), 1e-30)
    width = 2.0 ** math.ceil(math.log2(1.002 * max(high - low, least)))
    step = width / 1024
    return step * math.floor(low / step), width


@compiled
def _grown(array, size):
    """The array, or a longer copy of it if it has fewer than ``size`` entries."""
    if size <= len(array):
        return array
    longer = np.empty((max(size, 2 * len(array)), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


@compiled
def _divide(means, precisions, constants, lower, unit):
    """Halve the interval until every element is fine enough; from left to right.

    Returns
    -------
    starts, levels, resolved : (E,) an element of level ℓ is 2^−ℓ of the interval.
    firsts, members : members[firsts[e] : firsts[e + 1]] are the components that count in e.
    """
    size = len(means)
    starts, levels = np.empty(1024, np.int64), np.empty(1024, np.int64)
    resolved = np.empty(1024, np.bool_)
    firsts, members = np.zeros(1025, np.int64), np.empty(4096, np.int64)
    # row ℓ: the components that the parent of an element of level ℓ kept
    kept, counts = np.empty((DEPTH + 2, size), np.int64), np.zeros(DEPTH + 2, np.int64)
    kept[0], counts[0] = np.arange(size), size
    stack = np.zeros((DEPTH + 2, 2), np.int64)
    waiting, count, joint = 1, 0, np.empty(size)
    while waiting:
        waiting -= 1
        start, level = stack[waiting]
        half = 0.5 * unit * (np.int64(1) << (DEPTH - level))
        fine, stay = _test(
            means, precisions, constants, lower + unit * start + half, half,
            kept[level, : counts[level]], kept[level + 1], joint,
        )  # fmt: skip
        counts[level + 1] = stay
        if level < LEAST_LEVEL or (not fine and level < DEPTH):
            middle = start + (np.int64(1) << (DEPTH - level - 1))
            stack[waiting, 0], stack[waiting, 1] = middle, level + 1
            stack[waiting + 1, 0], stack[waiting + 1, 1] = start, level + 1
            waiting += 2
            continue
        starts, levels = _grown(starts, count + 1), _grown(levels, count + 1)
        resolved, firsts = _grown(resolved, count + 1), _grown(firsts, count + 2)
        starts[count], levels[count], resolved[count] = start, level, fine
        filled = firsts[count]
        members = _grown(members, filled + stay)
        members[filled : filled + stay] = kept[level + 1, :stay]
        firsts[count + 1] = filled + stay
        count += 1
    return (
        starts[:count], levels[:count], resolved[:count],
        firsts[: count + 1], members[: firsts[count]],
    )  # fmt: skip


@compiled
def _test(means, precisions, constants, middle, half, candidates, kept, joint):
    """Whether an element is fine enough, and how many of the candidates count in it (``kept``)."""
    best = candidates[0]
    for j in candidates:
        joint[j] = constants[j] - 0.5 * precisions[j] * (middle - means[j]) ** 2
        if joint[j] > joint[best]:
            best = j
    slope = precisions[best] * (means[best] - middle)
    best_tail = math.sqrt(precisions[best]) * (abs(middle - means[best]) + 3 * MARGIN * half)
    fine, radius, stay = True, MARGIN * half, 1
    kept[0] = best
    for j in candidates:
        if j == best:
            continue
        a = joint[best] - joint[j]
        b = abs(slope - precisions[j] * (means[j] - middle))
        c = 0.5 * (precisions[j] - precisions[best])
        # the smallest D: at its vertex if that lies in the element, else at an end
        least = a - b * b / (4 * c) if b < 2 * c * half else a - b * half + c * half * half
        if least > NEGLIGIBLE:
            continue
        kept[stay] = j
        stay += 1
        if fine:
            # z is up to ``tail`` nearby, and an error of r counts for z² times as much in r·z²
            tail = math.sqrt(precisions[j]) * (abs(middle - means[j]) + 3 * radius)
            tail = min(max(tail, best_tail), FARTHEST) / TAIL
            wide = radius * math.sqrt(tail) if tail > 1 else radius
            fine = ((abs(c) * wide + b) * wide) ** 2 <= a * a + math.pi**2
    return fine, stay


@compiled
def _evaluate(means, precisions, constants, middles, halves, firsts, members):
    """Records, and at the four nodes of each element log p and r of the components in it."""
    count = len(middles)
    records, log_density = np.empty((count, 5)), np.empty((count, 4))
    responsibilities = np.empty((len(members), 4))
    scores = np.empty(4)
    for e in range(count):
        here = range(firsts[e], firsts[e + 1])
        for q in range(4):
            node = middles[e] + halves[e] * NODES[q]
            peak, total, score = -np.inf, 0.0, 0.0
            for n in here:
                j = members[n]
                value = constants[j] - 0.5 * precisions[j] * (node - means[j]) ** 2
                responsibilities[n, q] = value
                peak = max(peak, value)
            for n in here:
                value = math.exp(responsibilities[n, q] - peak)
                responsibilities[n, q] = value
                total += value
            for n in here:
                j = members[n]
                responsibilities[n, q] /= total
                score += responsibilities[n, q] * precisions[j] * (means[j] - node)
            log_density[e, q], scores[q] = peak + math.log(total), score
        records[e, 0], scale = middles[e], 1.0
        for power in range(4):
            records[e, 1 + power] = (COEFFICIENTS[power] * scores).sum() * scale
            scale /= halves[e]
    return records, log_density, responsibilities


@compiled
def _index(starts, levels, resolved):
    """How many tables are needed, and the tables."""
    count = len(starts)
    regions = np.zeros((1, 4), np.int64)
    regions[0, 1] = FIRST_BITS
    first = np.empty(1 << FIRST_BITS, np.int32)
    # the later tables begin with an entry for each element: one found early is passed on
    passed = np.arange(count).astype(np.int32) << 4
    regions, size = _fill(first, regions, SECOND_BITS, count, starts, levels)
    second = np.empty(size, np.int32)
    second[:count] = passed
    depth = 2 if len(regions) else 1
    regions, size = _fill(second, regions, DEPTH, count, starts, levels)
    third = np.empty(size, np.int32)
    third[:count] = passed
    depth = 3 if len(regions) else depth
    _fill(third, regions, 0, 0, starts, levels)
    for n in range(count, size):
        # only elements of the last level can be too wide, and those are all found here
        if not resolved[third[n] >> 4]:
            third[n] = -1
    return depth, first, second, third


@compiled
def _fill(table, regions, most, used, starts, levels):
    """Write a table, region by region (place, bits, position, level).

    Returns
    -------
    regions : that the next table needs, of at most ``most`` bits each.
    used : its size with them, where the first ``used`` entries are taken already.
    """
    later = np.empty((64, 4), np.int64)
    waiting = 0
    for r in range(len(regions)):
        place, bits, position, level = regions[r]
        level += bits
        width = np.int64(1) << (DEPTH - level)
        e = np.searchsorted(starts, position, side="right") - 1
        for entry in range(place, place + (1 << bits)):
            while e + 1 < len(starts) and starts[e + 1] <= position:
                e += 1
            if levels[e] <= level:
                table[entry] = e << 4
            else:
                deepest, other = levels[e], e + 1
                while other < len(starts) and starts[other] < position + width:
                    deepest = max(deepest, levels[other])
                    other += 1
                more = min(deepest - level, most)
                table[entry] = used << 4 | more
                later = _grown(later, waiting + 1)
                later[waiting, 0], later[waiting, 1] = used, more
                later[waiting, 2], later[waiting, 3] = position, level
                waiting += 1
                used += 1 << more
            position += width
    return later[:waiting], used


@compiled
def _add_sums(
    moments, middles, halves, firsts, members, means, log_density, responsibilities, sums
):
    size, powers = len(means), np.empty(4)
    for e in range(len(middles)):
        if moments[e, 0] == 0.0:
            continue
        scale = 1.0
        for power in range(4):
            powers[power] = moments[e, power] * scale
            scale /= halves[e]
        for q in range(4):
            load = (COEFFICIENTS[:, q] * powers).sum()
            node = middles[e] + halves[e] * NODES[q]
            sums[0] += load * log_density[e, q]
            for n in range(firsts[e], firsts[e + 1]):
                j = members[n]
                part, centred = load * responsibilities[n, q], node - means[j]
                sums[1 + j] += part
                sums[1 + size + j] += part * centred
                sums[1 + 2 * size + j] += part * centred * centred
