"""log p(w) and its gradients: the closed form against autograd, and the other two against it."""

import copy
import io
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from sws.prior import table
from sws.prior.components import Components
from sws.prior.estimators import CHUNK, Exact, Subsampled, SubsampledSums, Tabulated

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
    for estimator in (Exact(), Tabulated()):
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


@pytest.mark.parametrize("estimator", [Exact, Tabulated])
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


@pytest.mark.parametrize("estimator", [Exact(), Tabulated(), Subsampled(1000)])
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


# The tables


def test_tabulated_agrees_with_exact_on_random_mixtures():
    fallbacks = 0
    for seed in range(40):
        components, weights = random_case(seed)
        estimator = Tabulated()
        found = evaluate(estimator, components, weights)
        assert_close(components, found, reference(components, weights), case=f"seed {seed}")
        fallbacks += estimator.fallbacks
    # neither way is left untried
    assert 5 <= fallbacks <= 30


@pytest.mark.parametrize("offset", np.linspace(0, 1, 11) / 256)
def test_a_narrow_component_between_the_nodes_of_a_coarse_grid_is_seen(offset):
    components = components_of([0, 0.1 + offset], [0.05, 1e-4], [0.5, 0.5])
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(20_000, generator=generator)
    weights = torch.cat([0.05 * draw, components.means[1] + 1e-4 * draw])
    estimator = Tabulated()
    found = evaluate(estimator, components, weights)
    assert estimator.fallbacks == 0
    assert_close(components, found, reference(components, weights))


def test_the_grid_is_finer_for_narrower_components():
    elements = []
    for deviation in (0.05, 0.005, 0.0005):
        estimator = Tabulated()
        components = components_of([0, 0.3], [deviation, 0.05], [0.7, 0.3])
        evaluate(estimator, components, torch.linspace(-0.5, 0.5, 1000))
        assert estimator.fallbacks == 0
        elements.append(estimator._grid.elements)
    assert elements[0] < elements[1] < elements[2]


def test_what_no_grid_resolves_is_left_to_the_closed_form():
    components = components_of([-1, 0, 1], [1e-7, 1e-7, 0.5], [0.3, 0.3, 0.4])
    weights = torch.linspace(-2, 2, 5001)
    estimator = Tabulated()
    scores, sums = evaluate(estimator, components, weights)
    assert estimator.fallbacks == 1
    exact_scores, exact_sums = evaluate(Exact(), components, weights)
    assert torch.equal(scores, exact_scores)
    for name in ("log_likelihood", "counts", "first_moments", "second_moments"):
        assert np.array_equal(getattr(sums, name), getattr(exact_sums, name)), name


def test_returning_to_earlier_components_after_a_fallback():
    good, weights = learned_like(count=2000)
    bad = components_of([-1, 0, 1], [1e-7, 1e-7, 0.5], [0.3, 0.3, 0.4])
    estimator = Tabulated()
    first, _ = evaluate(estimator, good, weights)
    evaluate(estimator, bad, weights)
    again, sums = evaluate(estimator, good, weights)
    assert estimator.fallbacks == 1
    assert torch.allclose(again, first, rtol=1e-3, atol=1e-3 * float(first.abs().max()))
    assert sums.counts.sum() == pytest.approx(len(weights))


@pytest.mark.parametrize("seed", [1, 4, 7, 10])
def test_compiled_and_portable_paths_agree(seed, monkeypatch):
    components, weights = random_case(seed)
    estimator, portable = Tabulated(), Tabulated()
    compiled_scores, compiled = evaluate(estimator, components, weights)
    assert estimator.fallbacks == 0
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
    estimator = Tabulated()
    assert_close(components, evaluate(estimator, components, weights.double()), expected)
    assert estimator.fallbacks == 0


@pytest.mark.parametrize("path", ["compiled", "portable"])
def test_many_weights_in_parallel_slices_and_in_one(path, monkeypatch):
    components, weights = learned_like(count=60_001)
    whole_scores, whole = evaluate(Tabulated(), components, weights)
    if path == "portable":
        monkeypatch.setattr(table, "numba", None)
    monkeypatch.setattr(table, "PARALLEL_FROM", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    scores, sums = evaluate(Tabulated(), components, weights)
    assert distance(scores.numpy(), whole_scores.numpy()) < 1e-5
    assert sums.counts == pytest.approx(whole.counts, rel=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_and_infinite_weights_do_no_harm_to_others(dtype):
    components, weights = learned_like(count=1000)
    weights = weights.to(dtype)
    expected, _ = evaluate(Tabulated(), components, weights)
    broken = weights.clone()
    broken[[3, 500, 999]] = torch.tensor([math.nan, math.inf, -math.nan], dtype=dtype)
    for estimator in (Tabulated(), Exact()):
        scores, sums = evaluate(estimator, components, broken)
        assert not torch.isfinite(scores[[3, 999]]).any()
        kept = torch.ones(1000, dtype=torch.bool)
        kept[[3, 500, 999]] = False
        largest = float(expected[kept].abs().max())
        assert torch.allclose(scores[kept], expected[kept], rtol=1e-3, atol=1e-3 * largest)
        assert math.isnan(sums.log_likelihood)


def drift(components, rng, size=0.004):
    """All parameters moved by a little of a width, or of a nat."""
    count = len(components)
    means = components.means + size * components.deviations * rng.normal(size=count)
    means[0] = 0.0
    log_precisions = components.log_precisions + size * rng.normal(0.5, 1, count)
    log_proportions = components.log_proportions + size * rng.normal(size=count)
    return Components(means, log_precisions, log_proportions - np.logaddexp.reduce(log_proportions))


def test_tables_stay_valid_while_components_drift(monkeypatch):
    built = []
    resolving = table.GradedGrid.resolving
    monkeypatch.setattr(table.GradedGrid, "resolving", lambda *a: built.append(a) or resolving(*a))
    rng = np.random.default_rng(0)
    components, weights = learned_like(count=20_000)
    estimator = Tabulated()
    for step in range(1, 201):
        components = drift(components, rng)
        found = evaluate(estimator, components, weights)
        if step % 20 == 0:
            assert_close(components, found, reference(components, weights))
    assert estimator.fallbacks == 0
    assert 2 <= len(built) <= 60


def test_tables_stay_valid_while_weights_settle_on_the_means():
    # the scores shrink a thousandfold, and so must the error that is allowed
    components = components_of([0, 0.4], [0.05, 0.05], [0.5, 0.5])
    estimator = Tabulated()
    offsets = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    means = torch.tensor([0.0, 0.4]).repeat(10_000)
    for spread in 0.05 * 10 ** -np.arange(0, 3.25, 0.25):
        weights = means + float(spread) * offsets
        components = copy.copy(components)
        found = evaluate(estimator, components, weights)
        scores, _ = reference(components, weights)
    assert distance(found[0].double().numpy(), scores.numpy()) <= 1e-3


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("statistics", [True, False])
def test_tabulated_resumes_bitwise(statistics):
    rng = np.random.default_rng(3)
    components, weights = learned_like(3, count=20_000)
    estimator = Tabulated()
    for step in range(40):
        estimator(components, [weights], statistics=step % 3 == 0)
        components = drift(components, rng, 0.01)
    resumed = Tabulated()
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
def test_tabulated_resumes_before_the_first_step_and_after_a_fallback(warmed):
    estimator, resumed = Tabulated(), Tabulated()
    components, weights = learned_like(count=2000)
    bad = components_of([-1, 0, 1], [1e-7, 1e-7, 0.5], [0.3, 0.3, 0.4])
    if warmed:
        evaluate(estimator, components, weights)
        evaluate(estimator, bad, weights)
    resumed.load_state_dict(through_a_file(estimator.state_dict()))
    for mixture in (bad, components):
        one, other = (evaluate(e, mixture, weights)[0] for e in (estimator, resumed))
        assert torch.equal(one, other)


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
