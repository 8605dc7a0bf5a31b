"""Time that the prior adds to retraining LeNet-300-100 (266,200 weights, 17 components).

    pytest benchmarks/bench_prior.py --benchmark-enable

The prior alone, by each way of computing it; then epochs of retraining without it and with it. The
prior's share of the time is in the last benchmark's ``extra_info`` (``--benchmark-json``).
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


@pytest.fixture
def weights():
    """The shapes of the network's three weight tensors, filled from the mixture."""
    rng, components = np.random.default_rng(0), mixture()
    tensors = []
    for parameter in compressible(network()).values():
        drawn = rng.choice(17, parameter.shape, p=components.proportions)
        values = components.means[drawn] + components.deviations[drawn] * rng.normal(
            size=parameter.shape
        )
        tensors.append(torch.tensor(values, dtype=torch.float32))
    assert sum(t.numel() for t in tensors) == 266_200
    return tensors


def test_exact(benchmark, weights):
    gradients = [torch.zeros_like(w) for w in weights]
    benchmark.pedantic(Exact(), (mixture(), weights, gradients), rounds=20, warmup_rounds=2)


@pytest.mark.parametrize("wanted", ["scores", "scores-and-sums"])
def test_tabulated(benchmark, weights, wanted):
    """Tables at hand."""
    estimator, components = Tabulated(), mixture()
    gradients = [torch.zeros_like(w) for w in weights]
    arguments = (components, weights, gradients, -1e-5, wanted != "scores")
    benchmark.pedantic(estimator, arguments, rounds=200, warmup_rounds=5)
    benchmark.extra_info["elements"] = estimator._grid.elements
    assert estimator.fallbacks == 0


@pytest.mark.parametrize("rebuilt", ["tables", "grid-and-tables"])
def test_tabulated_rebuilt(benchmark, weights, rebuilt):
    """New components: their tables on the grid at hand, as after any update; or a new grid too."""
    estimator, factor = Tabulated(), 1e-4 if rebuilt == "tables" else 0.2
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
    assert estimator.fallbacks == 0


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

    def __init__(self, estimator):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (60_000, 28, 28, 1), dtype=torch.uint8, generator=generator)
        labels = torch.randint(10, (60_000,), generator=generator)
        preparation = Preparation((0.0,), (1.0,), RandomShift(1))
        self.batches = TensorBatches(images, labels, 128, 0, preparation)
        self.estimator = estimator

    def method(self):
        if self.estimator is None:
            return Hooks()
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


@pytest.mark.parametrize("estimator", ["none", "tabulated"])
def test_epochs_of_retraining(benchmark, estimator):
    run = Run(None if estimator == "none" else estimator)
    benchmark.pedantic(run, rounds=2, warmup_rounds=1)
    benchmark.extra_info["epochs"] = EPOCHS


def test_share_of_the_prior(benchmark):
    """Runs without and with it in turn, so that a busy machine slows both alike."""
    plain, full = Run(None), Run("tabulated")
    shares = []
    benchmark.pedantic(lambda: shares.append(1 - plain() / full()), rounds=3, warmup_rounds=1)
    benchmark.extra_info["share_of_the_prior_pct"] = round(100 * statistics.median(shares[1:]), 1)
