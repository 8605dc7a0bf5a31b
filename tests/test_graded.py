"""The graded grid: geometry, interpolation and its transpose; the estimator that keeps it."""

import numpy as np
import pytest
import torch
from mixtures import (
    assert_close,
    components_of,
    distance,
    drift,
    evaluate,
    learned_like,
    random_case,
    reference,
    through_a_file,
)

from sws.prior import table
from sws.prior.components import Components
from sws.prior.estimators import Tabulated
from sws.prior.graded import Graded
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


# The estimator


def test_graded_agrees_with_exact_on_random_mixtures():
    fallbacks = 0
    for seed in range(40):
        components, weights = random_case(seed)
        estimator = Graded()
        found = evaluate(estimator, components, weights)
        assert_close(components, found, reference(components, weights), case=f"seed {seed}")
        fallbacks += estimator.gave_up
    # neither way is left untried
    assert 5 <= fallbacks <= 35


@pytest.mark.parametrize("offset", np.linspace(0, 1, 11) / 256)
def test_a_narrow_component_between_the_nodes_of_a_coarse_grid_is_seen(offset):
    components = components_of([0, 0.1 + offset], [0.05, 1e-4], [0.5, 0.5])
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(20_000, generator=generator)
    weights = torch.cat([0.05 * draw, components.means[1] + 1e-4 * draw])
    estimator = Graded()
    found = evaluate(estimator, components, weights)
    assert not estimator.gave_up
    assert_close(components, found, reference(components, weights))


def test_the_grid_is_finer_for_narrower_components():
    elements = []
    for deviation in (0.05, 0.005, 0.0005):
        estimator = Graded()
        components = components_of([0, 0.3], [deviation, 0.05], [0.7, 0.3])
        evaluate(estimator, components, torch.linspace(-0.5, 0.5, 1000))
        assert not estimator.gave_up
        elements.append(estimator._grid.elements)
    assert elements[0] < elements[1] < elements[2]


TOO_NARROW = ([-1, 0, 1], [1e-7, 1e-7, 0.5], [0.3, 0.3, 0.4])


def test_what_no_grid_resolves_is_left_to_the_mesh_for_good(monkeypatch):
    good, weights = learned_like(count=2000)
    bad = components_of(*TOO_NARROW)
    estimator = Graded()
    evaluate(estimator, good, weights)
    scores, sums = evaluate(estimator, bad, weights)
    assert estimator.gave_up
    monkeypatch.setattr(GradedGrid, "resolving", None)  # no grid is tried again
    by_mesh, expected = evaluate(Tabulated(), bad, weights)
    assert torch.equal(scores, by_mesh)
    assert np.array_equal(sums.counts, expected.counts)
    again, _ = evaluate(estimator, good, weights)
    assert torch.equal(again, evaluate(Tabulated(), good, weights)[0])


def test_weights_outside_the_grid_are_counted():
    components, weights = learned_like(count=2000)
    weights[:5] = 30.0
    estimator = Graded()
    evaluate(estimator, components, weights)
    assert estimator.exact_pct == pytest.approx(100 * 5 / 2000)


@pytest.mark.parametrize("seed", [1, 4, 7, 10])
def test_compiled_and_portable_paths_agree(seed, monkeypatch):
    components, weights = random_case(seed)
    estimator, portable = Graded(), Graded()
    compiled_scores, compiled = evaluate(estimator, components, weights)
    assert not estimator.gave_up
    monkeypatch.setattr(table, "_compiled", None)
    monkeypatch.setattr(table, "numba", None)
    scores, sums = evaluate(portable, components, weights)
    assert distance(compiled_scores.numpy(), scores.numpy()) < 1e-5
    pairs = zip(compiled.gradients(components), sums.gradients(components), strict=True)
    for one, other in pairs:
        assert distance(one, other) < 1e-5
    assert compiled.log_likelihood == pytest.approx(sums.log_likelihood, rel=1e-6)


@pytest.mark.parametrize("seed", [1, 4, 7, 10])
def test_tables_serve_double_precision_weights(seed):
    components, weights = random_case(seed)
    expected = reference(components, weights)
    estimator = Graded()
    assert_close(components, evaluate(estimator, components, weights.double()), expected)
    assert not estimator.gave_up


@pytest.mark.parametrize("path", ["compiled", "portable"])
def test_many_weights_in_parallel_slices_and_in_one(path, monkeypatch):
    components, weights = learned_like(count=60_001)
    whole_scores, whole = evaluate(Graded(), components, weights)
    if path == "portable":
        monkeypatch.setattr(table, "numba", None)
    monkeypatch.setattr(table, "PARALLEL_FROM", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    scores, sums = evaluate(Graded(), components, weights)
    assert distance(scores.numpy(), whole_scores.numpy()) < 1e-5
    assert sums.counts == pytest.approx(whole.counts, rel=1e-6)


def test_tables_stay_valid_while_components_drift(monkeypatch):
    built = []
    resolving = table.GradedGrid.resolving
    monkeypatch.setattr(table.GradedGrid, "resolving", lambda *a: built.append(a) or resolving(*a))
    rng = np.random.default_rng(0)
    components, weights = learned_like(count=20_000)
    estimator = Graded()
    for step in range(1, 201):
        components = drift(components, rng)
        found = evaluate(estimator, components, weights)
        if step % 20 == 0:
            assert_close(components, found, reference(components, weights))
    assert not estimator.gave_up
    assert 2 <= len(built) <= 60


@pytest.mark.parametrize("statistics", [True, False])
def test_graded_resumes_bitwise(statistics):
    rng = np.random.default_rng(3)
    components, weights = learned_like(3, count=20_000)
    estimator = Graded()
    for step in range(40):
        estimator(components, [weights], statistics=step % 3 == 0)
        components = drift(components, rng, 0.01)
    resumed = Graded()
    resumed.load_state_dict(through_a_file(estimator.state_dict()))
    for step in range(30):
        one, other = torch.zeros_like(weights), torch.zeros_like(weights)
        wanted = statistics or step % 4 == 0
        sums = estimator(components, [weights], [one], -0.1, wanted)
        copied = Components(*(v.copy() for v in vars(components).values()))
        sums_resumed = resumed(copied, [weights], [other], -0.1, wanted)
        assert torch.equal(one, other)
        if wanted:
            assert sums.log_likelihood == sums_resumed.log_likelihood
            assert np.array_equal(sums.counts, sums_resumed.counts)
            assert np.array_equal(sums.second_moments, sums_resumed.second_moments)
        components = drift(components, rng, 0.01)


@pytest.mark.parametrize("warmed", [False, True])
def test_graded_resumes_before_the_first_step_and_after_a_fallback(warmed):
    estimator, resumed = Graded(), Graded()
    components, weights = learned_like(count=2000)
    bad = components_of(*TOO_NARROW)
    if warmed:
        evaluate(estimator, components, weights)
        evaluate(estimator, bad, weights)
    resumed.load_state_dict(through_a_file(estimator.state_dict()))
    for mixture in (bad, components):
        one, other = (evaluate(e, mixture, weights)[0] for e in (estimator, resumed))
        assert torch.equal(one, other)
