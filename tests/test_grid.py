"""The graded grid: its geometry, its interpolation and the transpose of it."""

import numpy as np
import pytest

from sws.prior.components import Components
from sws.prior.grid import CELLS, MAX_ELEMENTS, REACH, GradedGrid, ResolutionError


def mixture(deviations, means):
    count = len(means)
    log_precisions = -2 * np.log(np.asarray(deviations, dtype=np.float64))
    return Components(
        np.asarray(means, dtype=np.float64), log_precisions, np.full(count, -np.log(count))
    )


@pytest.fixture(scope="module")
def components():
    return mixture([0.002, 0.05, 0.2], [0.0, -0.5, 0.7])


@pytest.fixture(scope="module")
def grid(components):
    return GradedGrid.resolving(components, 2e-5, 10.0)


def elements_of(grid):
    """(left ends, widths) of all elements, from counts and starts alone."""
    left, width = [], []
    for cell, count in enumerate(grid.counts):
        width += [grid.width / count] * count
        left += list(grid.lower + grid.width * (cell + np.arange(count) / count))
    return np.array(left), np.array(width)


def locate(grid, points):
    """Element and position u in it of every point."""
    left, width = elements_of(grid)
    element = np.searchsorted(left, points, side="right") - 1
    return element, (points - left[element]) / width[element]


def test_geometry(grid, components):
    assert np.log2(grid.width) == int(np.log2(grid.width))
    assert grid.lower / grid.width == int(grid.lower / grid.width)
    assert len(grid.counts) <= CELLS
    assert set(grid.counts) <= {2**level for level in range(13)}
    left, width = elements_of(grid)
    assert len(left) == grid.elements == grid.counts.sum()
    for node in range(3):
        assert np.allclose(grid.nodes[grid.first_nodes + node], left + 0.5 * node * width, rtol=0)
    assert grid.nodes[0] <= (components.means - REACH * components.deviations).min()
    assert grid.nodes[-1] >= (components.means + REACH * components.deviations).max()


def test_elements_are_finest_at_the_narrow_component(grid):
    left, width = elements_of(grid)
    at_zero = width[(left > -0.002) & (left < 0.002)]
    assert at_zero.max() < 0.002
    assert at_zero.max() < width.max() / 16


def test_quadratics_are_reproduced(grid):
    nodes = grid.nodes
    a, b, c = grid.coefficients(3 - nodes + 2 * nodes**2)
    points = np.random.default_rng(0).uniform(nodes[0], nodes[-1], 500)
    element, u = locate(grid, points)
    values = a[element] + u * (b[element] + u * c[element])
    assert np.allclose(values, 3 - points + 2 * points**2)


def test_responsibilities_and_scores_are_interpolated_within_tolerance(grid, components):
    points = np.random.default_rng(0).uniform(-0.9, 2.2, 5000)
    points[:2500] *= 0.01
    element, u = locate(grid, points)
    _, at_nodes = components.responsibilities(grid.nodes)
    _, expected = components.responsibilities(points)

    def score(r, w):
        return (r * components.precisions * (components.means - w[:, None])).sum(axis=1)

    pairs = [(at_nodes[:, k], expected[:, k], 1.0) for k in range(3)]
    pairs.append((score(at_nodes, grid.nodes), score(expected, points), 10.0))
    for values, exact, scale in pairs:
        a, b, c = grid.coefficients(values)
        found = a[element] + u * (b[element] + u * c[element])
        # the grid is checked at the elements' quarter points: elsewhere a little more is possible
        assert np.abs(found - exact).max() <= 1.5 * 2e-5 * scale


def test_node_loads_are_the_transpose_of_the_interpolation(grid):
    rng = np.random.default_rng(1)
    points = rng.uniform(grid.nodes[0], grid.nodes[-1], 3000)
    element, u = locate(grid, points)
    powers = [np.bincount(element, u**p, grid.elements) for p in range(3)]
    loads = grid.node_loads(np.stack(powers, axis=1))
    values = rng.normal(size=grid.nodes.size)
    a, b, c = grid.coefficients(values)
    interpolated = a[element] + u * (b[element] + u * c[element])
    assert loads @ values == pytest.approx(interpolated.sum(), abs=1e-8)
    assert loads.sum() == pytest.approx(len(points))


def test_a_smaller_tolerance_needs_more_elements(components):
    sizes = [GradedGrid.resolving(components, t, 10.0).elements for t in (1e-3, 1e-4, 1e-5)]
    assert sizes[0] < sizes[1] < sizes[2] <= MAX_ELEMENTS


@pytest.mark.parametrize("mean", np.linspace(0.1, 0.11, 7))
def test_no_component_is_missed_however_narrow(mean):
    components = mixture([0.1, 2e-4], [0.0, mean])
    left, width = elements_of(GradedGrid.resolving(components, 2e-5, 1000.0))
    there = (left + width > mean - 2e-4) & (left < mean + 2e-4)
    assert width[there].max() <= 2e-4


def test_too_narrow_a_mixture_is_refused():
    with pytest.raises(ResolutionError, match="3 components is too narrow"):
        GradedGrid.resolving(mixture([1e-7, 1e-7, 0.5], [-1, 0, 1]), 2e-5, 1.0)
