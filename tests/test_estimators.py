"""log p(w) and its gradients: the closed form against autograd, and the others against it."""

import copy
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import (
    NAMES,
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

from sws.prior import mesh, sweep
from sws.prior.components import Components, Statistics
from sws.prior.estimators import CHUNK, Exact, Subsampled, SubsampledSums, Tabulated
from sws.prior.graded import Graded


def log_likelihood(weights, means, log_precisions, log_proportions):
    """Σ_i log p(w_i) by torch.distributions, differentiable in everything."""
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=log_proportions, validate_args=False),
        torch.distributions.Normal(means, torch.exp(-0.5 * log_precisions)),
    )
    return mixture.log_prob(weights).sum()


def logsumexp_likelihood(weights, means, log_precisions, log_proportions):
    """The same with free log π_k, that is, not normalised."""
    centred = weights[:, None] - means
    constant = log_proportions + 0.5 * (log_precisions - math.log(2 * math.pi))
    joint = constant - 0.5 * torch.exp(log_precisions) * centred**2
    return torch.logsumexp(joint, dim=1).sum()


# The components and the closed form


@pytest.mark.parametrize("seed", range(6))
def test_responsibilities_sum_to_one_and_bayes_rule_holds(seed):
    components, weights = random_case(seed, 2000)
    weights = weights.double().numpy()
    log_density, responsibilities = components.responsibilities(weights)
    assert np.abs(responsibilities.sum(axis=1) - 1).max() < 1e-12
    joint = np.log(np.maximum(responsibilities, 1e-300)) + log_density[:, None]
    known = responsibilities > 1e-200
    assert np.allclose(joint[known], components.log_joint(weights)[known], rtol=1e-9, atol=1e-9)


def test_far_outliers_do_not_underflow():
    components = components_of([0, 0.5], [1e-4, 2e-4], [0.5, 0.5])
    far = torch.tensor([50.0, -50.0, 49.0], dtype=torch.float64)
    for estimator in (Exact(), Tabulated(), Graded()):
        for weights in (far, far.float()):
            scores, sums = evaluate(estimator, components, weights)
            # at that distance only the widest counts: s = (μ_1 − w)/σ_1²
            assert torch.allclose(scores.double(), (0.5 - far) / 4e-8, rtol=1e-6)
            assert sums.log_likelihood < -1e10
            assert sums.counts == pytest.approx([0.0, 3.0])
    assert np.isfinite(components.responsibilities(far.numpy())[0]).all()


@pytest.mark.parametrize("likelihood", [log_likelihood, logsumexp_likelihood])
@pytest.mark.parametrize("seed", range(5))
def test_exact_agrees_with_double_precision_autograd(likelihood, seed):
    components, weights = random_case(seed, 3000)
    # the distribution normalises π: there, the gradient for log π_k is Σ r_k − I·π_k
    normalised = likelihood is log_likelihood
    arguments = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for v in (
            weights.numpy(),
            components.means,
            components.log_precisions,
            components.log_proportions,
        )
    ]
    value = likelihood(*arguments)
    value.backward()
    scores, sums = evaluate(Exact(), components, weights.double())
    assert sums.log_likelihood == pytest.approx(value.item(), rel=1e-10)
    assert distance(scores.numpy(), arguments[0].grad.numpy()) < 1e-10
    found = list(sums.gradients(components))
    found[2] = found[2] - normalised * len(weights) * components.proportions
    for name, vector, argument in zip(NAMES, found, arguments[1:], strict=True):
        assert distance(vector, argument.grad.numpy()) < 1e-8, name


@pytest.mark.parametrize("seed", range(9))
def test_exact_in_single_precision_stays_close_to_double(seed):
    components, weights = random_case(seed)
    found = evaluate(Exact(), components, weights)
    assert_close(components, found, reference(components, weights), 2e-5)


def test_a_narrow_component_whose_mean_is_no_float32():
    # rounding the mean moves it by 3e-4 of its width, the same way for every weight
    mean = 1 - 2.0**-25
    components = components_of([0, mean], [0.1, 1e-4], [0.1, 0.9])
    offsets = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    weights = (mean + 1e-4 * offsets.double()).float()
    expected = reference(components, weights)
    assert_close(components, evaluate(Exact(), components, weights), expected, 1e-5)


@pytest.mark.parametrize("estimator", [Exact, Tabulated, Graded])
def test_any_shapes_and_more_weights_than_a_chunk(estimator):
    components, _ = learned_like()
    generator = torch.Generator().manual_seed(0)
    shapes = [(3,), (CHUNK // 64 + 1, 64), (2, 3, 5, 5), (0,), (1, CHUNK)]
    weights = [0.3 * torch.randn(s, generator=generator) for s in shapes]
    gradients = [torch.ones(s) for s in shapes]
    sums = estimator()(components, weights, gradients, -0.25)
    flat = torch.cat([w.view(-1) for w in weights])
    scores, expected = reference(components, flat)
    added = torch.cat([g.view(-1) for g in gradients]).double() - 1
    assert distance(added.numpy(), -0.25 * scores.numpy()) < 1e-4
    assert sums.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-5)
    assert sums.counts == pytest.approx(expected.counts, rel=1e-3)


@pytest.mark.parametrize("estimator", [Exact(), Tabulated(), Graded(), Subsampled(1000)])
def test_scores_only_and_sums_only(estimator):
    components, weights = learned_like(count=5000)
    before = copy.deepcopy(estimator)
    scores, sums = evaluate(estimator, components, weights)
    other = torch.zeros_like(weights)
    alone = copy.deepcopy(before)
    assert alone(components, [weights], [other], statistics=False) is None
    assert torch.equal(other, scores)
    alone = copy.deepcopy(before)
    assert np.array_equal(alone(components, [weights]).counts, sums.counts)


def test_memory_of_exact_does_not_grow_with_weights_times_components():
    code = (
        "import resource, torch, numpy as np\n"
        "from sws.prior.estimators import Components, Exact\n"
        "J = 64\n"
        "c = Components(np.linspace(-1, 1, J), np.full(J, 5.0), np.full(J, -np.log(J)))\n"
        "def peak(count):\n"
        "    w = torch.linspace(-1, 1, count)\n"
        "    Exact()(c, [w], [torch.zeros_like(w)])\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(peak(1 << 15), peak(2_000_000))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, large = (int(v) * (1 if sys.platform == "darwin" else 1024) for v in run.stdout.split())
    # weights and scores take 16 MB; one matrix of weights × components takes 512 MB
    assert large - small < 150 * 2**20


# The mesh


@pytest.mark.parametrize("seed", range(40))
def test_tabulated_agrees_with_exact_on_random_mixtures(seed):
    components, weights = random_case(seed)
    estimator = Tabulated()
    found = evaluate(estimator, components, weights)
    assert_close(components, found, reference(components, weights))
    assert estimator.exact_pct == 0


@st.composite
def mixtures_of_all_widths(draw):
    """Components of widths from 1e-6 to 1 of the range, weights from it, broad ones, outliers.

    Means may coincide; proportions reach from 1e-12 to nearly 1.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 20))
    narrowest = draw(st.floats(-6, 0))
    deviations = 10 ** rng.uniform(narrowest, draw(st.floats(narrowest, 0)), size)
    means = np.append(0.0, rng.uniform(-0.5, 0.5, size - 1))
    if draw(st.booleans()):
        means = rng.choice(means, size)
    proportions = 10 ** rng.uniform(draw(st.sampled_from([-12, -3, 0])), 0, size)
    proportions /= proportions.sum()
    of = rng.choice(size, 6000, p=draw(st.sampled_from([proportions, np.full(size, 1 / size)])))
    weights = means[of] + deviations[of] * rng.normal(size=6000)
    broad, outliers = draw(st.sampled_from([0, 600])), draw(st.sampled_from([0, 20]))
    weights[:broad] = rng.normal(0, 0.2, broad)
    weights[broad : broad + outliers] = rng.uniform(-50, 50, outliers)
    scale = draw(st.sampled_from([1.0, 1e-3, 1e3]))
    components = components_of(means * scale, deviations * scale, proportions)
    return components, torch.tensor(weights * scale, dtype=torch.float32)


def normalised_reference(components, weights):
    """Scores and sums in float64 with responsibilities that sum to 1 even where log p is −1e12.

    There, log p itself is rounded by more than 1e-4, and with it exp(log π_k N_k − log p).
    """
    weights = weights.double().numpy()
    log_density, r = components.responsibilities(weights)
    centred = weights[:, None] - components.means
    moments = [(r * centred**power).sum(axis=0) for power in range(3)]
    return components.scores(weights), Statistics(float(log_density.sum()), *moments)


def assert_sums_close(components, found, expected, weights):
    """Sums to 1e-4 of what they are sums of, taken without their signs."""
    count, deviations = len(weights), components.deviations
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-5, abs=1e-3)
    assert np.abs(found.counts - expected.counts).max() <= 1e-5 * count
    second = expected.second_moments / deviations**2
    spread = np.sqrt(expected.counts * second) + 1e-5 * count
    first = np.abs(found.first_moments - expected.first_moments) / deviations
    assert (first <= 1e-4 * spread + 1e-7 * count).all()
    moved = np.abs(found.second_moments - expected.second_moments) / deviations**2
    assert (moved <= 1e-4 * second + 1e-5 * count).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=mixtures_of_all_widths())
def test_any_mixture_whose_widths_span_six_decades(case):
    components, weights = case
    estimator = Tabulated()
    scores, sums = evaluate(estimator, components, weights)
    exact_scores, exact_sums = normalised_reference(components, weights)
    scores = scores.double().numpy()
    assert distance(scores, exact_scores) <= 1e-3
    assert np.abs(scores - exact_scores).max() <= 1e-3 * np.abs(exact_scores).max()
    assert_sums_close(components, sums, exact_sums, weights)
    # what the mesh cannot resolve is a few crossovers between components far apart
    assert estimator.exact_pct < 0.5
    assert estimator._mesh.elements < 128 + 250 * len(components)


@pytest.mark.parametrize("offset", np.linspace(0, 1, 11) / 256)
def test_a_narrow_component_between_two_elements_of_a_coarse_mesh_is_seen(offset):
    components = components_of([0, 0.1 + offset], [0.05, 1e-5], [0.5, 0.5])
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(20_000, generator=generator)
    weights = torch.cat([0.05 * draw, components.means[1] + 1e-5 * draw])
    found = evaluate(Tabulated(), components, weights)
    assert_close(components, found, reference(components, weights))


def test_the_gradient_of_a_mixture_that_fits_its_weights():
    """What is left of it is small beside the sums that it is the difference of."""
    components, _ = learned_like()
    rng = np.random.default_rng(0)
    of = rng.choice(17, 200_000, p=components.proportions)
    weights = components.means[of] + components.deviations[of] * rng.normal(size=200_000)
    weights = torch.tensor(weights, dtype=torch.float32)
    found, expected = evaluate(Tabulated(), components, weights), reference(components, weights)
    assert_close(components, found, expected, 2e-4)


def test_one_component_needs_no_refinement():
    components = components_of([0.1], [0.01], [1.0])
    weights = 0.1 + 0.01 * torch.randn(5000, generator=torch.Generator().manual_seed(0))
    estimator = Tabulated()
    found = evaluate(estimator, components, weights)
    assert_close(components, found, reference(components, weights), 1e-6)
    assert estimator._mesh.elements == 2**mesh.LEAST_LEVEL


def test_elements_grow_with_the_logarithm_of_the_ratio_of_widths():
    elements = []
    for deviation in (1e-2, 1e-4, 1e-6):
        estimator = Tabulated()
        components = components_of([0, 0.3], [deviation, 0.2], [0.7, 0.3])
        evaluate(estimator, components, torch.linspace(-0.5, 0.5, 1000))
        elements.append(estimator._mesh.elements)
    assert elements[0] < elements[1] < elements[2] < elements[0] + 60


def test_crossovers_finer_than_the_finest_element_are_computed_exactly():
    # no component between: the score jumps by 2e14 within 3e-14 of the middle
    components = components_of([-1, 1], [1e-7, 1e-7], [0.5, 0.5])
    weights = torch.tensor([-1.0, 0.0, 1e-12, -1e-12, 0.5, 1.0], dtype=torch.float64)
    estimator = Tabulated()
    scores, sums = evaluate(estimator, components, weights)
    exact_scores, exact_sums = normalised_reference(components, weights)
    assert np.allclose(scores.numpy(), exact_scores, rtol=1e-6, atol=1e6)
    assert sums.counts == pytest.approx(exact_sums.counts)
    assert estimator.exact_pct == pytest.approx(50)


def test_an_outlier_does_not_coarsen_the_mesh_for_the_rest():
    components, weights = learned_like(count=2000)
    weights[7] = 1e6
    estimator = Tabulated()
    scores, _ = evaluate(estimator, components, weights)
    exact_scores, _ = normalised_reference(components, weights)
    rest = np.arange(2000) != 7
    assert distance(scores.double().numpy()[rest], exact_scores[rest]) < 1e-4
    assert scores[7] == pytest.approx(float(exact_scores[7]), rel=1e-4)
    assert estimator.exact_pct == pytest.approx(100 / 2000)


@pytest.mark.parametrize("value", [0.0, -0.3, 1e-30])
def test_all_weights_equal(value):
    components, _ = learned_like()
    weights = torch.full((100,), value)
    found = evaluate(Tabulated(), components, weights)
    assert_close(components, found, reference(components, weights))


def test_no_weights():
    components, _ = learned_like()
    for shapes in ([], [(0,)], [(0, 3), (0,)]):
        weights = [torch.zeros(shape) for shape in shapes]
        sums = Tabulated()(components, weights, [torch.zeros_like(w) for w in weights])
        assert sums.log_likelihood == 0
        assert np.array_equal(sums.counts, np.zeros(17))


def test_a_mixture_that_is_not_finite_is_left_to_the_closed_form():
    components = components_of([0, np.nan], [0.1, 0.1], [0.5, 0.5])
    weights = torch.linspace(-1, 1, 11)
    estimator = Tabulated()
    scores, sums = evaluate(estimator, components, weights)
    assert not torch.isfinite(scores).any()
    assert np.isnan(sums.log_likelihood)
    assert estimator.exact_pct == 100


def spread_out(seed):
    """Widths over five decades, many weights under each, in three tensors of several units."""
    rng = np.random.default_rng(seed)
    deviations = 10 ** rng.uniform(-5, 0, 12)
    means = np.append(0.0, rng.uniform(-0.5, 0.5, 11))
    components = components_of(means, deviations, np.full(12, 1 / 12))
    of = rng.integers(0, 12, 9000)
    weights = torch.tensor(means[of] + deviations[of] * rng.normal(size=9000))
    scales = [1.0, 0.37, 12.5]
    parts = [w * s for w, s in zip(weights.split(3000), scales, strict=True)]
    return components, [p.clone() for p in parts], scales


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_in_units_of_their_tensors(dtype):
    components, parts, scales = spread_out(0)
    parts = [p.to(dtype) for p in parts]
    found, expected = ([torch.zeros_like(p) for p in parts] for _ in range(2))
    sums = Tabulated()(components, parts, found, 0.5, scales=scales)
    doubles = [p.double() for p in parts]
    expected = [torch.zeros_like(p) for p in doubles]
    exact = Exact()(components, doubles, expected, 0.5, scales=scales)
    for one, other in zip(found, expected, strict=True):
        assert distance(one.double().numpy(), other.numpy()) < 1e-4
    assert_sums_close(components, sums, exact, torch.cat(parts))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_and_portable_loops_agree(seed, dtype, monkeypatch):
    components, parts, scales = spread_out(seed)
    parts = [p.to(dtype) for p in parts]
    found, other = ([torch.zeros_like(p) for p in parts] for _ in range(2))
    compiled = Tabulated()(components, parts, found, scales=scales)
    monkeypatch.setattr(sweep, "_compiled", None)
    monkeypatch.setattr(sweep, "numba", None)
    portable = Tabulated()(components, parts, other, scales=scales)
    for one, two in zip(found, other, strict=True):
        assert distance(one.numpy(), two.numpy()) < 1e-6
    for one, two in zip(
        compiled.gradients(components), portable.gradients(components), strict=True
    ):
        assert distance(one, two) < 1e-6
    assert compiled.log_likelihood == pytest.approx(portable.log_likelihood, rel=1e-9)


def test_everything_works_without_numba():
    """In a process of its own, where importing numba fails."""
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch; from mixtures import *\n"
        "from sws.prior.estimators import Tabulated\n"
        "components, weights = random_case(2, 500)\n"
        "found = evaluate(Tabulated(), components, weights)\n"
        "assert_close(components, found, reference(components, weights))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


@pytest.mark.parametrize("threads", [2, 3])
def test_many_weights_in_parallel_slices_and_in_one(threads, monkeypatch):
    components, weights = random_case(0, 60_001)
    whole_scores, whole = evaluate(Tabulated(), components, weights)
    monkeypatch.setattr(sweep, "PARALLEL_FROM", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(sweep.numba.config, "NUMBA_NUM_THREADS", threads)
    monkeypatch.setattr(sweep.numba, "set_num_threads", lambda count: None)
    scores, sums = evaluate(Tabulated(), components, weights)
    again, same = evaluate(Tabulated(), components, weights)
    assert torch.equal(scores, whole_scores)
    assert torch.equal(scores, again)
    assert np.array_equal(sums.second_moments, same.second_moments)
    assert sums.counts == pytest.approx(whole.counts, rel=1e-9)
    assert sums.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [Exact, Tabulated, Graded])
def test_nan_and_infinite_weights_do_no_harm_to_others(make, dtype):
    components, weights = learned_like(count=1000)
    weights = weights.to(dtype)
    expected, _ = evaluate(make(), components, weights)
    broken = weights.clone()
    broken[[3, 500, 999]] = torch.tensor([math.nan, math.inf, -math.nan], dtype=dtype)
    scores, sums = evaluate(make(), components, broken)
    assert not torch.isfinite(scores[[3, 999]]).any()
    kept = torch.ones(1000, dtype=torch.bool)
    kept[[3, 500, 999]] = False
    largest = float(expected[kept].abs().max())
    assert torch.allclose(scores[kept], expected[kept], rtol=1e-3, atol=1e-3 * largest)
    assert math.isnan(sums.log_likelihood)


def test_the_mesh_follows_a_mixture_that_moves_at_every_step():
    rng = np.random.default_rng(0)
    components, weights = learned_like(count=20_000)
    estimator = Tabulated()
    for _ in range(30):
        components = drift(components, rng, 0.5)
        found = evaluate(estimator, components, weights)
        assert_close(components, found, reference(components, weights))


@pytest.mark.parametrize("make", [Tabulated, Graded])
def test_tables_stay_valid_while_weights_settle_on_the_means(make):
    # the scores shrink a thousandfold, and so must the error that is allowed
    components = components_of([0, 0.4], [0.05, 0.05], [0.5, 0.5])
    estimator = make()
    offsets = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    means = torch.tensor([0.0, 0.4]).repeat(10_000)
    for spread in 0.05 * 10 ** -np.arange(0, 3.25, 0.25):
        weights = means + float(spread) * offsets
        components = copy.copy(components)
        found = evaluate(estimator, components, weights)
        scores, _ = reference(components, weights)
    assert distance(found[0].double().numpy(), scores.numpy()) <= 1e-3


def test_a_call_depends_on_nothing_before_it():
    rng = np.random.default_rng(3)
    components, weights = learned_like(3, count=20_000)
    estimator = Tabulated()
    for step in range(10):
        one, other = torch.zeros_like(weights), torch.zeros_like(weights)
        sums = estimator(components, [weights], [one], -0.1)
        copied = Components(*(v.copy() for v in vars(components).values()))
        fresh = Tabulated()
        fresh.load_state_dict(through_a_file(estimator.state_dict()))
        same = fresh(copied, [weights], [other], -0.1)
        assert torch.equal(one, other)
        assert np.array_equal(sums.counts, same.counts)
        assert fresh.exact_pct == estimator.exact_pct
        weights = weights + one * 1e-4  # the range of the weights moves, the components may not
        components = drift(components, rng, 0.01) if step % 3 == 0 else components


# The geometry of the mesh


@pytest.fixture(scope="module")
def made():
    components = components_of([0.0, -0.5, 0.7], [1e-6, 0.05, 0.2], [0.5, 0.3, 0.2])
    return mesh.Mesh.build(components, *mesh.interval(components, -1.2, 1.9))


def test_elements_cover_the_interval_and_the_tables_find_them(made):
    assert made.starts[0] == 0
    assert (np.diff(made.starts) > 0).all()
    assert made.depth == 3
    rng = np.random.default_rng(0)
    positions = np.concatenate([made.starts, made.starts[1:] - 1, rng.integers(0, 2**30, 2000)])
    for position in positions:
        shift, entry = mesh.DEPTH - mesh.FIRST_BITS, None
        entry = int(made.tables[0][position >> shift])
        for table in made.tables[1:]:
            bits = entry & 15
            shift -= bits
            entry = int(table[(entry >> 4) + ((position >> shift) & ((1 << bits) - 1))])
        assert entry >> 4 == np.searchsorted(made.starts, position, side="right") - 1


def test_edges_are_exact(made):
    assert np.log2(made.unit) == int(np.log2(made.unit))
    assert made.lower / made.unit == int(made.lower / made.unit)


def test_sums_of_moments_are_those_of_cubics(made):
    """Where one component rules, log p is a quadratic, so the sums are exact."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(-0.6, -0.4, 500)
    element = np.searchsorted(made.lower + made.unit * made.starts, weights, side="right") - 1
    t = weights - made.records[element, 0]
    powers = [np.bincount(element, t**p, made.elements) for p in range(4)]
    sums = np.zeros(10)
    made.add_sums(np.stack(powers, axis=1), sums)
    log_density, _ = made.components.responsibilities(weights)
    assert sums[0] == pytest.approx(log_density.sum(), rel=1e-9)
    assert sums[1:4].sum() == pytest.approx(500)


# Appendix C


def test_subsampled_is_unbiased():
    components, weights = learned_like(count=3000)
    parts = [weights[:2000].view(40, 50), weights[2000:]]
    scores, sums = reference(components, weights)
    estimator = Subsampled(150, seed=1)
    calls = 2000
    total, squares = torch.zeros(3000, dtype=torch.float64), torch.zeros(3000, dtype=torch.float64)
    drawn_sums = []
    for _ in range(calls):
        gradients = [torch.zeros_like(p) for p in parts]
        s = estimator(components, parts, gradients)
        flat = torch.cat([g.view(-1) for g in gradients]).double()
        total += flat
        squares += flat**2
        drawn_sums.append(
            np.concatenate([[s.log_likelihood], s.counts, s.first_moments, s.second_moments])
        )
    expected = np.concatenate(
        [[sums.log_likelihood], sums.counts, sums.first_moments, sums.second_moments]
    )
    drawn_sums = np.stack(drawn_sums)
    error = drawn_sums.std(axis=0) / math.sqrt(calls)
    assert np.abs((drawn_sums.mean(axis=0) - expected) / error).max() < 5
    # a scale wrong by one per cent would be seen
    assert error[0] < 0.01 * abs(expected[0]) / 3
    mean = total / calls
    deviation = ((squares / calls - mean**2) / calls).sqrt()
    normal = ((mean - scores) / deviation).numpy()
    assert np.abs(normal).max() < 6
    assert np.sqrt(np.mean(normal**2)) == pytest.approx(1, abs=0.1)
    along = float(mean @ scores / (scores @ scores))
    assert along == pytest.approx(1, abs=0.02)


def test_subsampled_touches_no_more_weights_than_it_draws():
    components, weights = learned_like(count=3000)
    scores, _ = evaluate(Subsampled(100), components, weights)
    assert 50 < int((scores != 0).sum()) <= 100


def test_subsampled_resumes_bitwise():
    components, weights = learned_like(count=3000)
    estimator, resumed = Subsampled(50, seed=4), Subsampled(50, seed=9)
    evaluate(estimator, components, weights)
    resumed.load_state_dict(through_a_file(estimator.state_dict()))
    previous = None
    for _ in range(5):
        one, sums = evaluate(estimator, components, weights)
        other, again = evaluate(resumed, components, weights)
        assert torch.equal(one, other)
        assert np.array_equal(sums.counts, again.counts)
        assert previous is None or not torch.equal(one, previous)
        previous = one


def test_subsampled_refuses_no_samples():
    with pytest.raises(ValueError, match="at least one weight"):
        Subsampled(0)


def test_sums_alone_from_a_sample():
    """Scores are those of the table, the sums those of Appendix C."""
    components = Components(np.array([0.0, 0.5]), np.log([100.0, 50.0]), np.log([0.8, 0.2]))
    torch.manual_seed(0)
    weights = [0.3 * torch.randn(400), 0.3 * torch.randn(30, 20)]
    both, table, sample = SubsampledSums(100, seed=5), Tabulated(), Subsampled(100, seed=5)
    found, expected = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    sums = both(components, weights, found, 0.5)
    table(components, weights, expected, 0.5, statistics=False)
    assert all(map(torch.equal, found, expected))
    by_hand = sample(components, weights)
    np.testing.assert_array_equal(sums.counts, by_hand.counts)
    np.testing.assert_array_equal(sums.second_moments, by_hand.second_moments)
    assert both(components, weights, found, 0.5, statistics=False) is None
