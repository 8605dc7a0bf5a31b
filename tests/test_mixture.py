"""The prior's parameters: hyper-priors, initial values, and the two ways of moving them."""

import io
import math

import numpy as np
import pytest
import torch
from scipy import stats

from sws.config.sections import Precision
from sws.prior.components import Components, initial_components
from sws.prior.estimators import Exact
from sws.prior.hyper_priors import BetaPrior, GammaPrior, annealed, gamma_prior
from sws.prior.mixture import Mixture, MixtureDescent

ZERO = GammaPrior(4.0, 0.002)
OTHERS = GammaPrior(2.5, 0.01)
BETA = BetaPrior.from_mode(0.7, 500.0)
HYPER_PRIORS = [(None, None, None), (ZERO, OTHERS, None), (ZERO, OTHERS, BETA), (None, None, BETA)]


def random_mixture(seed, *priors, size=6):
    rng = np.random.default_rng(seed)
    means = np.append(0.0, rng.uniform(-1, 1, size - 1))
    proportions = np.append(0.6, 0.4 * rng.dirichlet(np.ones(size - 1)))
    log_precisions = -2 * np.log(rng.uniform(0.02, 0.3, size))
    return Mixture(Components(means, log_precisions, np.log(proportions)), *priors)


def random_weights(seed, count=2000):
    rng = np.random.default_rng(seed + 1000)
    weights = rng.normal(rng.choice([0, 0, 0, -0.5, 0.3, 0.8], count), rng.uniform(0.01, 0.2))
    weights[:5] = rng.uniform(-3, 3, 5)
    return torch.tensor(weights)


def statistics_of(mixture, weights):
    return Exact()(mixture.components, [weights])


def complexity_of(mixture, weights):
    return mixture.complexity(statistics_of(mixture, weights))


def copy_of(components):
    return Components(*(v.copy() for v in vars(components).values()))


# Hyper-priors


@pytest.mark.parametrize(("mode", "variance"), [(1.0, 2.0), (400.0, 10.0), (1e4, 1e9), (1e-2, 1e3)])
def test_gamma_from_mode_and_variance(mode, variance):
    prior = GammaPrior.from_mode_and_variance(mode, variance)
    assert prior.mode == pytest.approx(mode)
    assert stats.gamma(prior.alpha, scale=1 / prior.beta).var() == pytest.approx(variance)
    around = prior.log_density(np.log(mode * np.array([0.99, 1.0, 1.01])))
    assert around.argmax() == 1


def test_log_densities_are_those_of_gamma_and_beta_up_to_a_constant():
    at = np.array([0.3, 2.0, 700.0])
    difference = ZERO.log_density(np.log(at)) - stats.gamma(4.0, scale=500.0).logpdf(at)
    assert np.ptp(difference) < 1e-9
    at = np.array([0.01, 0.5, 0.999])
    expected = stats.beta(BETA.alpha, BETA.beta).logpdf(at)
    assert np.ptp([BETA.log_density(p) - e for p, e in zip(at, expected, strict=True)]) < 1e-9
    assert (BETA.alpha - 1) / (BETA.alpha + BETA.beta - 2) == pytest.approx(0.7)


@pytest.mark.parametrize("arguments", [(0.0, 1.0), (1.0, -1.0)])
def test_impossible_hyper_priors_are_refused(arguments):
    with pytest.raises(ValueError, match="must be positive"):
        GammaPrior(*arguments)
    with pytest.raises(ValueError, match="must be positive"):
        GammaPrior.from_mode_and_variance(*arguments)
    with pytest.raises(ValueError, match="at least 1"):
        BetaPrior(*arguments)


def test_hyper_prior_counts_once_per_component_however_many_weights():
    mixture = random_mixture(0, ZERO, OTHERS, BETA)
    plain = Mixture(mixture.components)
    c = mixture.components
    expected = float(ZERO.log_density(c.log_precisions[0]))
    expected += sum(float(OTHERS.log_density(v)) for v in c.log_precisions[1:])
    expected += BETA.log_density(c.proportions[0])
    slopes = np.append(3.0 - 0.002 * c.precisions[0], 1.5 - 0.01 * c.precisions[1:])
    for count in (10, 1000, 50_000):
        statistics = statistics_of(mixture, random_weights(1, count))
        assert plain.complexity(statistics) - mixture.complexity(statistics) == pytest.approx(
            expected, rel=1e-6
        )
        difference = plain.gradient(statistics)[1] - mixture.gradient(statistics)[1]
        assert np.allclose(difference, slopes, rtol=1e-6)


def test_precision_priors_can_be_replaced():
    mixture = random_mixture(0, ZERO, OTHERS)
    mixture.set_precision_priors(None, GammaPrior(1.0, 0.5))
    assert mixture.log_hyper_prior() == pytest.approx(
        -0.5 * mixture.components.precisions[1:].sum()
    )


# Gradients


def complexity(parameters, weights, mixture):
    """L^C as a function of μ, log λ and the mixing logits, by torch."""
    means, log_precisions, logits = parameters
    log_zero = mixture.components.log_proportions[0] + 0 * logits[0]
    rest = torch.log1p(-log_zero.exp())
    if mixture.zero_proportion is not None:
        log_zero, rest = torch.nn.functional.logsigmoid(torch.stack([logits[0], -logits[0]]))
    proportions = torch.cat([log_zero[None], rest + torch.log_softmax(logits[1:], 0)])
    constant = proportions + 0.5 * (log_precisions - math.log(2 * math.pi))
    joint = constant - 0.5 * log_precisions.exp() * (weights[:, None] - means) ** 2
    value = -torch.logsumexp(joint, dim=1).sum()
    for k, prior in enumerate([ZERO] + [OTHERS] * (len(means) - 1)):
        value = value - (prior.alpha - 1) * log_precisions[k] + prior.beta * log_precisions[k].exp()
    if (beta := mixture.zero_proportion) is not None:
        value = value - (beta.alpha - 1) * log_zero - (beta.beta - 1) * rest
    return value


@pytest.mark.parametrize("beta", [None, BETA])
@pytest.mark.parametrize("seed", range(4))
def test_gradient_agrees_with_double_precision_autograd(seed, beta):
    mixture = random_mixture(seed, ZERO, OTHERS, beta)
    weights, c = random_weights(seed), mixture.components
    logits = c.log_proportions.copy()
    logits[0] = math.log(c.proportions[0] / (1 - c.proportions[0]))
    parameters = [torch.tensor(v, requires_grad=True) for v in (c.means, c.log_precisions, logits)]
    value = complexity(parameters, weights, mixture)
    value.backward()
    statistics = statistics_of(mixture, weights)
    assert mixture.complexity(statistics) == pytest.approx(value.item(), rel=1e-10)
    expected = [p.grad.numpy().copy() for p in parameters]
    expected[0][0] = 0.0
    for found, exact in zip(mixture.gradient(statistics), expected, strict=True):
        assert np.allclose(found, exact, rtol=1e-8, atol=1e-8 * np.abs(exact).max())
    assert (expected[2][0] != 0) == (beta is not None)


# Expectation-maximisation


@pytest.mark.parametrize("priors", HYPER_PRIORS)
@pytest.mark.parametrize("seed", range(4))
def test_maximize_never_decreases_the_log_joint(seed, priors):
    mixture, weights = random_mixture(seed, *priors), random_weights(seed)
    values = []
    for _ in range(60):
        statistics = statistics_of(mixture, weights)
        values.append(mixture.complexity(statistics))
        mixture.maximize(statistics)
        assert mixture.components.means[0] == 0
        assert mixture.components.proportions.sum() == pytest.approx(1)
    values = np.array(values)
    assert np.diff(values).max() <= 1e-9 * np.abs(values).max()
    assert values[0] - values[-1] > 10


@pytest.mark.parametrize("priors", HYPER_PRIORS[1:3])
def test_what_maximize_converges_to_is_a_stationary_point(priors):
    # components that are well apart, so that convergence is quick
    draw = torch.randn(3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centres = torch.tensor([0.0, 0.0, 0.0, -1.0, 0.6, 1.5], dtype=torch.float64).repeat(500)
    weights = centres + 0.1 * draw
    start = Components(
        np.array([0.0, -0.8, 0.5, 1.2]), np.full(4, 4.0), np.log([0.7, 0.1, 0.1, 0.1])
    )
    mixture = Mixture(start, *priors)
    for _ in range(300):
        mixture.maximize(statistics_of(mixture, weights))
    settled = copy_of(mixture.components)
    statistics = statistics_of(mixture, weights)
    for gradient in mixture.gradient(statistics):
        assert np.abs(gradient).max() < 1e-5 * len(weights)
    for damping in (1.0, 0.3):
        mixture.maximize(statistics, damping)
        for name, values in vars(mixture.components).items():
            assert np.allclose(values, getattr(settled, name), atol=1e-8), name
    assert np.abs(settled.means[1:] - start.means[1:]).max() > 0.05


def test_maximize_by_hand():
    # one weight at 0, three about 1: with components this narrow, r is 0 or 1
    start = Components(np.array([0.0, 1.1]), np.full(2, 8.0), np.log([0.5, 0.5]))
    mixture = Mixture(start, ZERO, OTHERS, BetaPrior(3.0, 2.0))
    weights = torch.tensor([0.0, 0.9, 1.0, 1.1], dtype=torch.float64)
    mixture.maximize(statistics_of(mixture, weights))
    c = mixture.components
    assert c.means == pytest.approx([0, 1.0])
    assert c.precisions == pytest.approx([(0.5 + 3) / 0.002, (1.5 + 1.5) / (0.01 + 0.01)])
    assert c.proportions == pytest.approx([(1 + 2) / (4 + 3), 4 / 7])


def test_damping_goes_part_of_the_way():
    weights = random_weights(2)
    whole, part = (random_mixture(2, ZERO, OTHERS, BETA) for _ in range(2))
    start = copy_of(whole.components)
    whole.maximize(statistics_of(whole, weights))
    part.maximize(statistics_of(part, weights), 0.25)
    for name in ("means", "log_precisions", "proportions"):
        before, after = getattr(start, name), getattr(whole.components, name)
        assert np.allclose(getattr(part.components, name), before + 0.25 * (after - before)), name


def test_a_component_without_weights_stays_finite():
    components = Components(np.array([0.0, 90.0]), np.full(2, 8.0), np.log([0.9, 0.1]))
    weights = random_weights(0)
    for priors in HYPER_PRIORS:
        mixture = Mixture(copy_of(components), *priors)
        for _ in range(3):
            mixture.maximize(statistics_of(mixture, weights))
        for name, values in vars(mixture.components).items():
            assert np.isfinite(values).all(), name
        assert mixture.components.means[1] == pytest.approx(90.0)


@pytest.mark.parametrize("descend", [False, True])
def test_fixed_pi_0_stays_and_learned_pi_0_moves(descend):
    weights = random_weights(3)
    found = []
    for beta in (None, BetaPrior.from_mode(0.95, 20_000.0), BetaPrior.from_mode(0.05, 20_000.0)):
        mixture = random_mixture(3, ZERO, OTHERS, beta)
        descent = MixtureDescent(mixture, (1e-3, 1e-2, 3e-2))
        for _ in range(200):
            statistics = statistics_of(mixture, weights)
            descent.step(statistics) if descend else mixture.maximize(statistics)
            assert 0 < mixture.components.proportions[0] < 1
        found.append(mixture.components.proportions[0])
    assert found[0] == pytest.approx(0.6, abs=1e-12)
    # ten pseudo-counts a weight pull it most of the way to the mode
    assert found[1] == pytest.approx(0.95, abs=0.07)
    assert found[2] == pytest.approx(0.05, abs=0.07)


def test_learned_pi_0_follows_the_weights_under_a_weak_hyper_prior():
    weights = torch.cat([torch.zeros(900, dtype=torch.float64), torch.ones(100).double()])
    start = Components(np.array([0.0, 1.0]), np.full(2, 6.0), np.log([0.3, 0.7]))
    mixture = Mixture(start, ZERO, OTHERS, BetaPrior(1.0, 1.0))
    mixture.maximize(statistics_of(mixture, weights))
    assert mixture.components.proportions[0] == pytest.approx(0.9)


def test_pi_0_stays_inside_the_unit_interval_where_no_weight_is_left_to_it():
    start = Components(np.array([0.0, 5.0]), np.full(2, 8.0), np.log([0.5, 0.5]))
    mixture = Mixture(start, ZERO, OTHERS, BetaPrior(1.0, 1.0))
    for value in (5.0, 0.0):
        weights = torch.full((100,), value, dtype=torch.float64)
        for _ in range(3):
            mixture.maximize(statistics_of(mixture, weights))
            assert 0 < mixture.components.proportions[0] < 1
            assert np.isfinite(mixture.complexity(statistics_of(mixture, weights)))
            assert all(
                np.isfinite(g).all() for g in mixture.gradient(statistics_of(mixture, weights))
            )


# Gradient descent


@pytest.mark.parametrize("beta", [None, BETA])
def test_descent_reduces_the_complexity(beta):
    mixture, weights = random_mixture(5, ZERO, OTHERS, beta), random_weights(5)
    descent = MixtureDescent(mixture, (2e-3, 1e-2, 1e-2))
    values = [complexity_of(mixture, weights)]
    for _ in range(100):
        descent.step(statistics_of(mixture, weights))
        values.append(complexity_of(mixture, weights))
        assert mixture.components.means[0] == 0
        assert mixture.components.proportions.sum() == pytest.approx(1)
    assert values[20] < values[0]
    assert values[-1] < values[0] - 50


def test_descent_is_that_of_torch():
    """Sixty steps beside torch.optim.Adam on the same gradients."""
    mixture, weights = random_mixture(5, ZERO, OTHERS, BETA), random_weights(5)
    rates = (2e-3, 1e-2, 3e-2)
    descent = MixtureDescent(mixture, rates)
    own = [torch.from_numpy(v.copy()) for v in descent._parameters]
    groups = [{"params": [p], "lr": r} for p, r in zip(own, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, eps=1e-15)
    for _ in range(60):
        statistics = statistics_of(mixture, weights)
        for parameter, gradient in zip(own, mixture.gradient(statistics), strict=True):
            parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        descent.step(statistics)
        for name, expected in zip(("means", "log_precisions"), own[:2], strict=True):
            found = getattr(mixture.components, name)
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-10, atol=1e-13)
        log_rest = torch.nn.functional.logsigmoid(-own[2][0])
        others = log_rest + torch.log_softmax(own[2][1:], dim=0)
        found = mixture.components.log_proportions
        np.testing.assert_allclose(found[1:], others.numpy(), rtol=1e-9)
        log_zero = torch.nn.functional.logsigmoid(own[2][0])
        assert found[0] == pytest.approx(log_zero.item(), rel=1e-9)


def test_descent_gives_every_kind_its_own_rate():
    mixture, weights = random_mixture(5, ZERO, OTHERS, BETA), random_weights(5)
    start = copy_of(mixture.components)
    MixtureDescent(mixture, (1e-3, 0.0, 0.0)).step(statistics_of(mixture, weights))
    moved = mixture.components
    assert np.abs(moved.means[1:] - start.means[1:]) == pytest.approx(1e-3, rel=1e-4)
    assert np.array_equal(moved.log_precisions, start.log_precisions)
    assert np.allclose(moved.log_proportions, start.log_proportions, atol=1e-12)


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("descend", [False, True])
def test_resumes_bitwise(descend):
    weights = random_weights(6)
    mixture = random_mixture(6, ZERO, OTHERS, BETA)
    descent = MixtureDescent(mixture, (1e-3, 1e-2, 1e-2))

    def step(mixture, descent):
        statistics = statistics_of(mixture, weights)
        descent.step(statistics) if descend else mixture.maximize(statistics, 0.3)

    for _ in range(5):
        step(mixture, descent)
    saved = through_a_file([mixture.state_dict(), descent.state_dict()])
    resumed = random_mixture(7, ZERO, OTHERS, BETA)
    resumed_descent = MixtureDescent(resumed, (1e-3, 1e-2, 1e-2))
    resumed.load_state_dict(saved[0])
    resumed_descent.load_state_dict(saved[1])
    for _ in range(5):
        step(mixture, descent)
        step(resumed, resumed_descent)
        for name, values in vars(mixture.components).items():
            assert np.array_equal(values, getattr(resumed.components, name)), name


# Where a mixture starts, and what settings mean


def test_initial_components_spread_over_the_range_of_the_weights():
    weights = [torch.tensor([[-0.4, 0.1]]), torch.tensor([0.8, 0.0, 0.2])]
    c = initial_components(weights, 5, 0.9, 0.25)
    assert c.means == pytest.approx([0, -0.4, 0.0, 0.4, 0.8])
    assert c.means[0] == 0
    assert c.deviations == pytest.approx(np.full(5, 0.25))
    assert c.proportions == pytest.approx([0.9, 0.025, 0.025, 0.025, 0.025])
    with pytest.raises(ValueError, match="all weights are equal"):
        initial_components([torch.ones(4)], 5, 0.9, 0.25)
    with pytest.raises(ValueError, match="mixture of 2"):
        initial_components([torch.arange(4.0)], 2, 0.9, 0.25)


def test_component_0_must_be_at_zero():
    with pytest.raises(ValueError, match="mean must be 0"):
        Mixture(Components(np.array([0.1, 1.0]), np.zeros(2), np.log([0.5, 0.5])))


def test_annealed_goes_through_its_knots_geometrically():
    knots = ((0.2, 0.1), (0.6, 0.001), (0.8, 0.01))
    for at, value in knots:
        assert annealed(knots, at) == pytest.approx(value)
    assert annealed(knots, 0.4) == pytest.approx(0.01)
    assert annealed(knots, 0.7) == pytest.approx(math.sqrt(0.001 * 0.01))
    assert annealed(knots, 0.0) == pytest.approx(0.1)
    assert annealed(knots, 1.0) == pytest.approx(0.01)
    assert annealed(0.03, 0.5) == 0.03
    assert annealed(((0.0, 0.03),), 0.5) == pytest.approx(0.03)


def test_the_three_forms_of_a_precision_setting():
    assert gamma_prior(None, 100, 0.0) is None
    assert gamma_prior(Precision(alpha=2.0, beta=0.5), 100, 0.0) == GammaPrior(2.0, 0.5)
    prior = gamma_prior(Precision(mode=50.0, variance=9.0), 100, 0.0)
    assert (prior.mode, prior.alpha / prior.beta**2) == pytest.approx((50, 9))
    setting = Precision(pseudo_count=0.1, deviation=((0.0, 0.1), (1.0, 0.001)))
    for progress, deviation in ((0.0, 0.1), (0.5, 0.01), (1.0, 0.001)):
        prior = gamma_prior(setting, 1000, progress)
        assert prior.alpha == pytest.approx(1 + 50)
        assert prior.mode == pytest.approx(deviation**-2)
