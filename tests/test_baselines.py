"""The methods that ours is compared with, trained for real on something small."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sws import codec
from sws.compression.masking import MaskedWeights, threshold_of
from sws.compression.process import CompressionTask, unflatten
from sws.config import methods
from sws.config.deep_compression import DeepCompression, IterativePruning, TrainedCentroids
from sws.config.network_surgery import NetworkSurgery, Surgery
from sws.config.no_prior import GradualPruning, Match, NoPrior
from sws.config.post_hoc_mixture import PostHocMixture
from sws.config.schema import ConfigurationError
from sws.config.sections import Clustering, Precision, Quantization, Retraining
from sws.config.spike_slab import Slab, SpikeSlab
from sws.data.batches import TensorBatches
from sws.methods import no_prior
from sws.methods.deep_compression import LayerwisePruning, cluster_layers
from sws.methods.network_surgery import SplicedWeights
from sws.methods.no_prior import GloballyPruned, search
from sws.network.weights import compressible
from sws.study.stages import method_module
from sws.training.checkpoints import Checkpoint
from sws.training.evaluation import error_pct
from sws.training.loop import FitSettings, Hooks, fit

SHARING = Clustering(clusters=6, sharing_epochs=2, refinement_epochs=1)
SPIKE = Precision(pseudo_count=10, deviation=0.03)
SETTINGS = {
    "deep-compression": DeepCompression(
        retraining=IterativePruning(epochs=4, learning_rate=0.01, quality=0.8, rounds=3),
        quantization=TrainedCentroids(fc=6, conv=4, epochs=2),
    ),
    "network-surgery": NetworkSurgery(
        retraining=Surgery(epochs=4, learning_rate=0.05, c=0.2, until=0.8), quantization=SHARING
    ),
    "no-prior": NoPrior(
        match=Match(bytes=700, tries=3, nonzero_pct=40, tolerance_pct=5),
        retraining=GradualPruning(epochs=4, learning_rate=0.01, interval=2),
        quantization=SHARING,
    ),
    "post-hoc-mixture": PostHocMixture(
        components=5,
        iterations=10,
        quantization=Quantization(merge="rate", assignment="rd", distortion=0.02),
    ),
    "spike-slab": SpikeSlab(
        prior=Slab(zero_precision=SPIKE, interval=2),
        retraining=Retraining(epochs=4, learning_rate=0.01, tau=0.02),
        quantization=SHARING,
    ),
}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.hidden = nn.Linear(4 * 16, 24)
        self.out = nn.Linear(24, 4)

    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(1)
        return self.out(torch.relu(self.hidden(x)))


def data(seed=0, count=192):
    """Four blurred corners: learnable in a few epochs, not without the weights."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (count,), generator=generator)
    x = 0.5 * torch.randn(count, 1, 6, 6, generator=generator)
    for corner in range(4):
        rows, columns = divmod(corner, 2)
        x[y == corner, :, 3 * rows : 3 * rows + 3, 3 * columns : 3 * columns + 3] += 0.8
    return x, y


@pytest.fixture(scope="module")
def start():
    torch.manual_seed(0)
    model = Network()
    fit(model, batches(), Hooks(), FitSettings(12, 0.01))
    assert error_pct(model, *data(1)) < 8
    return {n: v.clone() for n, v in model.state_dict().items()}


def batches():
    return TensorBatches(*data(), 32, 0)


def trained(start):
    model = Network()
    model.load_state_dict(start)
    return model


def measure(model):
    return error_pct(model, *data(1))


def run(method, start, **more):
    model = trained(start)
    settings = SETTINGS[method]
    task = CompressionTask(model, batches(), 192, measure=measure, **more)
    return method_module(method).compress(task, settings)


@pytest.fixture(scope="module")
def done(start):
    return {method: run(method, start) for method in SETTINGS}


@pytest.mark.parametrize("method", SETTINGS)
def test_every_method_gives_a_network_that_still_works(done, method):
    result = done[method]
    network = result.network
    restored = codec.decode(codec.encode(network))
    module = Network()
    state = {k: torch.from_numpy(v.copy()) for k, v in restored.state_dict().items()}
    module.load_state_dict(state)
    assert measure(module) < 50  # chance is 75
    assert set(result.errors) == {"retrained", "assigned"}
    assert set(result.seconds) >= {"retrain", "quantize"}
    assert result.components == sum(len(c) - 1 for c in network.codebooks) + 1
    assert network.parameters == sum(p.numel() for p in module.parameters())
    phases = [row["stage"] for row in result.history.rows]
    assert [row["epoch"] for row in result.history.rows] == list(range(1, len(phases) + 1))
    if method != "post-hoc-mixture":
        assert phases[:4] == ["retrain"] * 4
        assert network.nonzeros < 0.9 * network.weights
        assert result.measures["nonzero_retrained_pct"] < 90
    assert ("mixture/means" in result.trace) == (method in ("post-hoc-mixture", "spike-slab"))
    assert result.trace["histogram/counts"].sum(axis=(1, 2)).tolist()[-1] == network.weights


@pytest.mark.parametrize("method", ["deep-compression", "network-surgery", "no-prior"])
def test_a_killed_run_ends_with_the_same_bytes(done, start, tmp_path, method):
    """Every phase is stopped after its first epoch, and the whole begun again each time."""

    class StoppedError(Exception):
        pass

    class Stopping(Checkpoint):
        def save(self, state):
            super().save(state)
            marker = self.path.with_suffix(".stopped")
            if not marker.exists():
                marker.touch()
                raise StoppedError

    def checkpoint(phase):
        return Stopping(tmp_path / f"{phase}.pt", {"test": "masks"})

    for _ in range(20):
        try:
            again = run(method, start, checkpoint=checkpoint)
            break
        except StoppedError:
            continue
    assert len(list(tmp_path.glob("*.stopped"))) >= 2
    assert codec.encode(again.network) == codec.encode(done[method].network)
    whole = done[method]
    assert again.history.rows == whole.history.rows
    assert again.measures == whole.measures
    for name, value in whole.trace.items():
        np.testing.assert_array_equal(again.trace[name], value)


# --- deep compression -----------------------------------------------------------------------------


def test_thresholds_are_multiples_of_each_layers_deviation_and_rise_by_rounds(start):
    model = trained(start)
    settings = IterativePruning(epochs=8, quality=1.0, quality_of={"out": 0.5}, rounds=4, until=0.5)
    pruning = LayerwisePruning(settings)
    pruning.attach(model)
    deviations = {
        n: float(w.detach().std(correction=0)) for n, w in compressible(trained(start)).items()
    }
    before = {n: w.detach().clone() for n, w in compressible(model).items()}
    shares = []
    for epoch in range(8):
        pruning.begin_epoch(epoch, 8)
        shares.append(pruning.nonzero_pct)
        quality = min(epoch + 1, 4) / 4 if epoch < 1 else None
        if quality:  # nothing trained in between: the first threshold is exact
            expected = before["hidden.weight"].abs() > 0.25 * deviations["hidden.weight"]
            assert torch.equal(pruning.masks["hidden.weight"], expected)
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares[4:])) == 1
    out = before["out.weight"].abs() > 0.5 * deviations["out.weight"]
    assert torch.equal(pruning.masks["out.weight"], out)
    hidden = before["hidden.weight"].abs() > deviations["hidden.weight"]
    assert torch.equal(pruning.masks["hidden.weight"], hidden)


def test_a_layer_that_does_not_exist_is_named(start):
    settings = IterativePruning(epochs=1, quality_of={"fc9": 1.0})
    with pytest.raises(ValueError, match="no layer 'fc9'; its layers are conv, hidden, out"):
        LayerwisePruning(settings).attach(trained(start))


def test_each_layer_has_a_codebook_of_its_own(done, start):
    network = done["deep-compression"].network
    assert len(network.codebooks) == 3
    assert [t.codebook for t in network.quantized] == [0, 1, 2]
    assert len(network.codebooks[0]) <= 5
    assert all(len(c) <= 7 for c in network.codebooks)
    weights = compressible(trained(start))
    codebook, flat = cluster_layers(weights, TrainedCentroids(fc=6, conv=4))
    assert len(codebook) == 1 + 4 + 6 + 6
    for name, index in unflatten(flat, weights).items():
        weight = start[name]
        used = index.unique()
        assert (codebook[index] == 0).sum() == int((weight == 0).sum())
        assert used.numel() <= 6


def test_centroids_move_by_the_sum_of_their_weights_gradients(done, start):
    """Trained centroids differ from those of k-means, and assignments do not."""
    kept = {t.name: t.indexes != 0 for t in done["deep-compression"].network.quantized}
    share = sum(int(k.sum()) for k in kept.values()) / sum(k.size for k in kept.values())
    assert 100 * share <= done["deep-compression"].measures["nonzero_retrained_pct"] + 1e-9


# --- network surgery ------------------------------------------------------------------------------


def surgery(start, **more):
    model = trained(start)
    method = SplicedWeights(Surgery(epochs=1, **more), steps=100)
    method.attach(model)
    return model, method


def test_thresholds_are_of_weights_and_biases_together(start):
    _, method = surgery(start, c=0.5, c_of={"out": -9.0})
    size = torch.cat([start["hidden.weight"].reshape(-1), start["hidden.bias"]]).abs()
    expected = float(size.mean() + 0.5 * size.std(correction=0))
    assert method.thresholds["hidden.weight"] == pytest.approx(expected)
    assert method.thresholds["hidden.bias"] == method.thresholds["hidden.weight"]
    assert method.thresholds["out.weight"] == 0  # max(0, mean + c · sd)


def test_masks_close_below_nine_tenths_and_open_above_eleven_tenths(start):
    model, method = surgery(start, c=0.0)
    limit = method.thresholds["hidden.weight"]
    values = torch.tensor([0.89, 0.95, 1.05, 1.11]) * limit
    for mask, expected in ((True, [False, True, True, True]), (False, [False, False, False, True])):
        method.latent["hidden.weight"].data[0, :4] = values
        method.masks["hidden.weight"][0, :4] = mask
        method._operate()
        assert method.masks["hidden.weight"][0, :4].tolist() == expected
    method._show()
    assert model.hidden.weight[0, :3].tolist() == [0, 0, 0]


def test_what_was_cut_gets_the_gradient_of_the_masked_network_and_can_come_back(start):
    model, method = surgery(start, c=0.5)
    method._operate()
    method._show()
    x, y = data()
    nn.functional.cross_entropy(model(x), y).backward()
    gradient = model.hidden.weight.grad.clone()
    cut = ~method.masks["hidden.weight"]
    assert (gradient[cut] != 0).any()
    method.after_backward()
    assert torch.equal(method.latent["hidden.weight"].grad, gradient)
    with torch.no_grad():
        method.latent["hidden.weight"][cut] = 10.0
    method.after_step()
    assert method.masks["hidden.weight"].all()
    assert (model.hidden.weight[cut] == 10.0).all()


def test_masks_are_updated_less_and_less_and_then_not_at_all(start):
    _, method = surgery(start, c=0.0, gamma=0.1, power=1.0, until=0.5)
    calls = []
    method._operate = lambda: calls.append(method.step)
    for _ in range(100):
        method.after_step()
    assert calls[0] == 0  # (1 + 0)^−p = 1
    assert max(calls) < 50
    expected = sum(1 / (1 + 0.1 * step) for step in range(50))
    assert abs(len(calls) - expected) < 12


# --- no prior -------------------------------------------------------------------------------------


def test_sparsity_rises_cubically_by_one_threshold(start):
    model = trained(start)
    count = sum(w.numel() for w in compressible(model).values())
    pruning = GloballyPruned(GradualPruning(epochs=1, interval=10, until=0.5), 100, steps=100)
    pruning.attach(model)
    for step in range(1, 101):
        pruning.after_step()
        progress = min(1, step // 10 * 10 / 50)
        left = count - (count - 100) * (1 - (1 - progress) ** 3)
        assert sum(int(m.sum()) for m in pruning.masks.values()) == pytest.approx(left, abs=1)
    sizes = torch.cat([w.detach().reshape(-1).abs() for w in compressible(trained(start)).values()])
    kept = torch.cat([m.reshape(-1) for m in pruning.masks.values()])
    assert sizes[kept].min() > sizes[~kept].max()
    assert threshold_of(compressible(trained(start)), count) < 0


@pytest.mark.parametrize(("wanted", "first"), [(500, 90), (500, 40), (1500, 5), (400, 900)])
def test_the_search_finds_the_size(wanted, first):
    calls = []

    def size_of(number):
        calls.append(number)
        return round(100 + 3.1 * number**0.9)

    number = search(size_of, first, 1000, wanted, 0.01, 12)
    assert abs(size_of(number) / wanted - 1) <= 0.01
    assert len(calls) <= 10


def test_the_search_gives_up_after_its_tries():
    calls = []
    search(lambda n: calls.append(n) or 10 * n, 500, 1000, 3, 0.01, 4)
    assert len(calls) <= 4


def test_the_nearest_try_is_kept(done):
    measures = done["no-prior"].measures
    assert 1 <= measures["tries"] <= 3
    assert measures["matched_bytes"] == 700
    if measures["tries"] > 1:
        assert done["no-prior"].seconds["search"] > 0


def test_a_size_must_be_given():
    settings = SETTINGS["no-prior"].model_copy(update={"match": Match()})
    assert settings.follows == ("soft-weight-sharing", "main")
    with pytest.raises(ValueError, match=r"match\.bytes"):
        no_prior.compress(CompressionTask(Network(), batches(), 192), settings)
    metrics = {"bytes": {"file": 1234}, "nonzero_pct": 7.5}
    filled = no_prior.following(settings, metrics)
    assert (filled.match.bytes, filled.match.nonzero_pct) == (1234, 7.5)
    assert filled.follows is None
    assert filled.fingerprint() != settings.fingerprint()


# --- the rest -------------------------------------------------------------------------------------


def test_pruned_weights_do_not_move(start):
    class Half(MaskedWeights):
        def attach(self, model):
            super().attach(model)
            for mask in self.masks.values():
                mask.view(-1)[::2] = False
            self.apply()

    model = trained(start).to(memory_format=torch.channels_last)
    method = Half(weight_decay=0.5)
    fit(model, batches(), method, FitSettings(2, 0.01))
    for name, weight in compressible(model).items():
        assert (weight[~method.masks[name]] == 0).all()
        assert (weight[method.masks[name]] != 0).all()


def test_a_post_hoc_mixture_trains_nothing(start):
    values = SETTINGS["post-hoc-mixture"].model_dump(mode="json")
    values["quantization"]["sharing_epochs"] = 1
    with pytest.raises(ValueError, match="no training"):
        PostHocMixture.model_validate(values)


def test_the_slab_keeps_its_width_and_both_keep_their_mean(done):
    trace = done["spike-slab"].trace
    assert (trace["mixture/means"] == 0).all()
    np.testing.assert_allclose(trace["mixture/deviations"][:, 1], 0.25, rtol=0.05)
    assert trace["mixture/deviations"][-1, 0] < 0.1


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'magic'; choose one of soft-weight-sh"):
        methods.spec("magic")


def test_the_registry_needs_no_deep_learning_framework():
    code = "import sys; from sws.config import methods; print('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=os.environ, capture_output=True, text=True
    )
    assert found.stdout.strip() == "False", found.stderr


def test_pruning_must_begin_before_it_ends():
    with pytest.raises(ValueError, match="begin must be smaller"):
        GradualPruning(epochs=1, begin=0.8, until=0.5)


def test_settings_of_all_methods_are_told_apart(tmp_path):
    from sws.config.experiment import load_experiment

    root = Path(__file__).resolve().parents[1]
    experiment = load_experiment(root / "config/experiments/lenet-300-100_mnist.yaml")
    assert set(SETTINGS) < set(experiment.methods)
    for method, points in experiment.methods.items():
        if method != "soft-weight-sharing-subsampled":
            assert len(points) >= 3, method
    with pytest.raises(ConfigurationError, match="deep-compression has no point 'huge'"):
        experiment.point("deep-compression", "huge")
