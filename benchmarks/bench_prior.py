"""Time that the prior adds to retraining LeNet-300-100 (266,200 weights, 17 components).

    pytest benchmarks/bench_prior.py --benchmark-enable

The prior alone, by each way of computing it, for mixtures from a wide start to a collapse; then
epochs of retraining without it and with it, by EM and as the paper does it, by Adam in every step.
The prior's share of the time is in the last benchmark's ``extra_info`` (``--benchmark-json``).
"""

import math
import statistics
import time

import numpy as np
import pytest
import torch

from sws.config.sections import Retraining
from sws.config.soft_weight_sharing import Prior
from sws.data.augmentation import Preparation, RandomShift
from sws.data.batches import TensorBatches
from sws.methods.soft_weight_sharing import SoftWeightSharing
from sws.models import registry
from sws.network.weights import compressible
from sws.prior.components import Components
from sws.prior.estimators import Exact, Subsampled, Tabulated
from sws.prior.graded import Graded
from sws.prior.mesh import Mesh, interval
from sws.training.loop import FitSettings, Hooks, fit


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network():
    torch.manual_seed(0)
    return registry.build("lenet-300-100")


def mixture():
    """As half-way through retraining: a narrow zero component, sixteen wider ones."""
    means = np.append(0.0, np.linspace(-0.4, 0.5, 16))
    deviations = np.append(0.01, np.full(16, 0.05))
    proportions = np.append(0.95, np.full(16, 0.05 / 16))
    return Components(means, -2 * np.log(deviations), np.log(proportions))


def wide():
    """As at the paper's start: equal widths, most of the range."""
    proportions = np.append(0.999, np.full(16, 0.001 / 16))
    return Components(mixture().means, np.full(17, -2 * np.log(0.25)), np.log(proportions))


def joint():
    """After 40 epochs of the paper's recipe (Adam in every step, τ = 0.005, no hyper-priors)."""
    means = (0, -0.748, -0.851, 0.4, 0.0065, -0.494, -0.555, -0.456, -0.339, -0.405, -0.369, -0.5)
    means += (-0.694, 0.007, 0.0087, -0.492, -0.624)
    deviations = (0.0847, 0.0163, 0.0499, 0.0551, 0.0139, 0.0348, 0.0296, 0.0172, 0.0142, 0.021)
    deviations += (0.0133, 0.0226, 0.0279, 0.0146, 0.0172, 0.0269, 0.0213)
    shares = (0.98, 0.72, 18.8, 0.044, 2.5, 6.2, 9.9, 13.8, 23.8, 11.2, 6.4, 1.6, 0.043, 0.016)
    shares = np.array((*shares, 1.1, 2.9))
    proportions = np.append(0.999, 0.001 * shares / shares.sum())
    return Components(np.array(means), -2 * np.log(deviations), np.log(proportions))


def collapsed():
    """Widths from 4e-5, which is the zero component's, to 0.27; means less than 0.1 apart."""
    means = np.append(0.0, np.random.default_rng(1).uniform(-0.6, 0.6, 16))
    deviations = np.geomspace(4e-5, 0.27, 17)
    proportions = np.append(0.75, np.full(16, 0.25 / 16))
    return Components(means, -2 * np.log(deviations), np.log(proportions))


def six_decades(size=17):
    """Widths from 1e-6 to 1, all as likely."""
    rng = np.random.default_rng(2)
    means = np.append(0.0, rng.uniform(-0.5, 0.5, size - 1))
    deviations = np.geomspace(1e-6, 1, size)
    return Components(means, -2 * np.log(deviations), np.full(size, -np.log(size)))


MIXTURES = {f.__name__: f for f in (wide, mixture, joint, collapsed, six_decades)}


def drawn_from(components, shapes):
    rng, tensors = np.random.default_rng(0), []
    proportions = components.proportions / components.proportions.sum()
    for shape in shapes:
        of = rng.choice(len(components), shape, p=proportions)
        values = components.means[of] + components.deviations[of] * rng.normal(size=shape)
        tensors.append(torch.tensor(values, dtype=torch.float32))
    return tensors


def shapes():
    found = [tuple(p.shape) for p in compressible(network()).values()]
    assert sum(map(math.prod, found)) == 266_200
    return found


@pytest.fixture
def weights():
    return drawn_from(mixture(), shapes())


def test_exact(benchmark, weights):
    gradients = [torch.zeros_like(w) for w in weights]
    benchmark.pedantic(Exact(), (mixture(), weights, gradients), rounds=20, warmup_rounds=2)


def moving(start):
    """The same mixture as a new object for every call: everything has to be made anew."""
    return lambda: Components(start.means.copy(), start.log_precisions, start.log_proportions)


@pytest.mark.parametrize("wanted", ["scores", "scores-and-sums"])
@pytest.mark.parametrize("name", MIXTURES)
def test_tabulated(benchmark, name, wanted):
    """A step: the mesh made anew, then all weights."""
    estimator, components = Tabulated(), MIXTURES[name]()
    tensors, again = drawn_from(components, shapes()), moving(components)
    gradients = [torch.zeros_like(w) for w in tensors]

    def arguments():
        return (again(), tensors, gradients, -1e-5, wanted != "scores"), {}

    benchmark.pedantic(estimator, setup=arguments, rounds=200, warmup_rounds=5)
    benchmark.extra_info["elements"] = estimator._mesh.elements
    benchmark.extra_info["exact_pct"] = estimator.exact_pct


@pytest.mark.parametrize("name", MIXTURES)
def test_mesh(benchmark, name):
    """Making the mesh, alone."""
    components = MIXTURES[name]()
    over = interval(components, -1.0, 1.0)
    benchmark.pedantic(Mesh.build, (components, *over), rounds=200, warmup_rounds=5)


def test_tabulated_wide_resnet(benchmark):
    """2.75 million weights under 64 components of widths from 1e-6 to 1, in every step."""
    estimator, components = Tabulated(), six_decades(64)
    tensors, again = drawn_from(components, [(2_745_264,)]), moving(components)
    gradients = [torch.zeros_like(w) for w in tensors]

    def arguments():
        return (again(), tensors, gradients, -1e-5), {}

    benchmark.pedantic(estimator, setup=arguments, rounds=20, warmup_rounds=2)


@pytest.mark.parametrize("wanted", ["scores", "scores-and-sums"])
def test_graded(benchmark, weights, wanted):
    """Tables at hand."""
    estimator, components = Graded(), mixture()
    gradients = [torch.zeros_like(w) for w in weights]
    arguments = (components, weights, gradients, -1e-5, wanted != "scores")
    benchmark.pedantic(estimator, arguments, rounds=200, warmup_rounds=5)
    benchmark.extra_info["elements"] = estimator._grid.elements
    assert not estimator.gave_up


@pytest.mark.parametrize("rebuilt", ["tables", "grid-and-tables"])
def test_graded_rebuilt(benchmark, weights, rebuilt):
    """New components: their tables on the grid at hand, as after any update; or a new grid too."""
    estimator, factor = Graded(), 1e-4 if rebuilt == "tables" else 0.2
    gradients = [torch.zeros_like(w) for w in weights]
    count = 0

    def arguments():
        nonlocal count
        count += 1
        start = mixture()
        moved = Components(
            start.means,
            start.log_precisions + factor * (count % 2),
            start.log_proportions,
        )
        return (moved, weights, gradients, -1e-5), {}

    benchmark.pedantic(estimator, setup=arguments, rounds=30, warmup_rounds=2)
    assert not estimator.gave_up


def test_subsampled(benchmark, weights):
    gradients = [torch.zeros_like(w) for w in weights]
    benchmark.pedantic(
        Subsampled(10_000), (mixture(), weights, gradients), rounds=50, warmup_rounds=2
    )


def test_broadcast_with_autograd(benchmark, weights):
    """The obvious way: a matrix of weights × components, and the framework's graph over it."""
    components = mixture()
    parameters = [
        torch.tensor(v, dtype=torch.float32, requires_grad=True)
        for v in (components.means, components.log_precisions, components.log_proportions)
    ]
    leaves = [w.requires_grad_() for w in weights]

    def step():
        means, log_precisions, log_proportions = parameters
        flat = torch.cat([w.view(-1) for w in leaves])
        constant = log_proportions + 0.5 * (log_precisions - math.log(2 * math.pi))
        joint = constant - 0.5 * log_precisions.exp() * (flat[:, None] - means) ** 2
        torch.logsumexp(joint, dim=1).sum().backward()

    benchmark.pedantic(step, rounds=10, warmup_rounds=1)


EPOCHS = 4  # in the first, the mixture moves so fast that the grid is made anew at every update


class Run:
    """Epochs of retraining (469 steps each) by the training loop itself, reference settings."""

    def __init__(self, estimator, update="em"):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (60_000, 28, 28, 1), dtype=torch.uint8, generator=generator)
        labels = torch.randint(10, (60_000,), generator=generator)
        preparation = Preparation((0.0,), (1.0,), RandomShift(1))
        self.batches = TensorBatches(images, labels, 128, 0, preparation)
        self.estimator, self.update = estimator, update

    def method(self):
        if self.estimator is None:
            return Hooks()
        if self.update == "adam":
            prior = Prior(zero_precision=None, precision=None, update="adam", interval=1)
            return SoftWeightSharing(prior, Retraining(epochs=EPOCHS, tau=0.005), 60_000)
        prior = Prior(
            deviation=0.05,
            zero_precision={"pseudo_count": 10, "deviation": 0.01},
            precision={"pseudo_count": 0.0075, "deviation": 0.05},
            interval=10,
            damping=0.1,
            estimator=self.estimator,
        )
        return SoftWeightSharing(prior, Retraining(epochs=EPOCHS, tau=0.3), 60_000)

    def __call__(self):
        """Seconds of processor time: with one thread, the wall clock's on a quiet machine."""
        start = time.process_time()
        fit(network(), self.batches, self.method(), FitSettings(EPOCHS, 2e-3))
        return time.process_time() - start


@pytest.mark.parametrize("prior", ["none", "em", "adam"])
def test_epochs_of_retraining(benchmark, prior):
    run = Run(None if prior == "none" else "tabulated", prior)
    benchmark.pedantic(run, rounds=2, warmup_rounds=1)
    benchmark.extra_info["epochs"] = EPOCHS


def test_share_of_the_prior(benchmark):
    """Runs without and with it in turn, so that a busy machine slows both alike."""
    plain, full = Run(None), Run("tabulated")
    shares = []
    benchmark.pedantic(lambda: shares.append(1 - plain() / full()), rounds=3, warmup_rounds=1)
    benchmark.extra_info["share_of_the_prior_pct"] = round(100 * statistics.median(shares[1:]), 1)
