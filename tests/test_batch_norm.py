"""Batch normalisation: which weights have no scale, statistics gathered anew, two numbers kept."""

import numpy as np
import pytest
import torch
from torch import nn

from sws import codec
from sws.compression.process import CompressionTask, Process
from sws.config.sections import Precision, Quantization, Retraining
from sws.config.soft_weight_sharing import Prior, Proportion, SoftWeightSharing
from sws.data.batches import TensorBatches
from sws.methods import soft_weight_sharing
from sws.models import registry
from sws.network import batch_norm
from sws.network.to_module import build_module
from sws.network.weights import compressible
from sws.prior.components import Components
from sws.prior.estimators import Exact, Subsampled, Tabulated
from sws.training.loop import FitSettings, Hooks, fit


def coloured(count=96, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, 32, 32, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    return x + labels[:, None, None, None], labels


class Small(nn.Module):
    """A convolution whose output is normalised, one whose output is not, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3, stride=2)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.fc(torch.relu(self.second(x)).mean((2, 3)))


def small():
    torch.manual_seed(0)
    return Small().to(memory_format=torch.channels_last)


def test_scale_free_weights_of_the_registry():
    """VGG: all convolutions. Wide ResNet: the stem and the first convolution of each block, since
    the second is added to something before it is normalised."""
    x, _ = coloured(8)
    vgg, wide = registry.build("vgg-16"), registry.build("wrn-16-4")
    found = batch_norm.scale_free(vgg, compressible(vgg), x)
    assert set(found) == {n for n in compressible(vgg) if n.startswith("stages")}
    found = batch_norm.scale_free(wide, compressible(wide), x)
    assert set(found) == {n for n in compressible(wide) if n.endswith("conv1.weight")}


def test_looking_for_them_leaves_no_trace():
    model, (x, _) = small(), coloured(8)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    random = torch.get_rng_state()
    assert batch_norm.scale_free(model, compressible(model), x) == ("first.weight",)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert model.training
    lenet = registry.build("lenet-300-100")
    assert batch_norm.scale_free(lenet, compressible(lenet), torch.zeros(2, 1, 28, 28)) == ()


def test_statistics_are_plain_means_over_the_batches():
    """Against moments of the convolution's outputs, over as many batches as are asked for."""
    model, (x, y) = small(), coloured()
    batch_norm.reestimate(model, TensorBatches(x, y, 32, 0)(0), images=64)
    order = [b for b, _ in TensorBatches(x, y, 32, 0)(0)][:2]
    with torch.no_grad():
        outputs = [model.first(b).transpose(0, 1).flatten(1) for b in order]
    mean = torch.stack([o.mean(dim=1) for o in outputs]).mean(dim=0)
    variance = torch.stack([o.var(dim=1) for o in outputs]).mean(dim=0)
    torch.testing.assert_close(model.norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.norm.running_var, variance, rtol=1e-4, atol=1e-5)
    assert model.norm.momentum == 0.1


def test_folding_keeps_the_function():
    model, (x, y) = small(), coloured()
    with torch.no_grad():
        model.norm.weight.copy_(torch.linspace(-1, 2, 8))
        model.norm.bias.normal_()
        model.first.weight[3] = 0  # a channel that is constant
    batch_norm.reestimate(model, TensorBatches(x, y, 32, 0)(0))
    folded = Small()
    folded.load_state_dict(batch_norm.folded(model))
    assert torch.equal(folded.norm.running_mean, torch.zeros(8))
    assert torch.equal(folded.norm.running_var, torch.ones(8))
    assert folded.norm.weight[3] == 0
    with torch.inference_mode():
        torch.testing.assert_close(folded.eval()(x), model.eval()(x), rtol=1e-4, atol=1e-5)


# --- weights in units of their tensor -------------------------------------------------------------


@pytest.mark.parametrize("estimator", [Exact(), Tabulated(), Subsampled(50, 3)])
def test_a_prior_over_scaled_weights(estimator):
    """d log p(w/s)/dw of every tensor, and the sums, are those of the weights divided by hand."""
    components = Components(
        np.array([0.0, -1.0, 1.5]), -2 * np.log([0.2, 0.5, 0.4]), np.log([0.6, 0.2, 0.2])
    )
    torch.manual_seed(0)
    scales = [0.04, 1.0, 3.0]
    weights = [s * torch.randn(40, 20) for s in scales]
    weights[0][0, 0] = 0.04 * 60  # far outside any grid
    state = estimator.state_dict()
    found = [torch.ones_like(w) for w in weights]
    sums = estimator(components, weights, found, 0.5, scales=scales)
    estimator.load_state_dict(state)
    expected = [torch.zeros_like(w) for w in weights]
    by_hand = estimator(
        components, [w / s for w, s in zip(weights, scales, strict=True)], expected, 0.5
    )
    for gradient, score, scale in zip(found, expected, scales, strict=True):
        torch.testing.assert_close(gradient, 1 + score / scale, rtol=1e-3, atol=1e-3)
    assert sums.log_likelihood == pytest.approx(by_hand.log_likelihood, rel=1e-5)
    np.testing.assert_allclose(sums.counts, by_hand.counts, rtol=1e-4)


SETTINGS = SoftWeightSharing(
    unit="tensor",
    prior=Prior(
        components=9,
        deviation=1.0,
        zero_proportion=Proportion(value=0.7),
        interval=2,
        zero_precision=Precision(pseudo_count=10, deviation=((0.0, 0.2), (0.8, 0.1))),
        precision=Precision(pseudo_count=0.01, deviation=((0.0, 1.0), (0.8, 0.2))),
    ),
    retraining=Retraining(epochs=3, batch_size=32, learning_rate=2e-3, weight_rate=5, tau=0.002),
    quantization=Quantization(
        merge="rate", assignment="rd", distortion=0.2, sharing_epochs=2, refinement_epochs=1
    ),
)


def trained():
    model, (x, y) = small(), coloured()
    data = TensorBatches(x, y, 32, 0)
    fit(model, data, Hooks(), FitSettings(5, 0.01))
    with torch.no_grad():
        model.fc.weight.mul_(8)  # tensors of very different size
    return model, data


def test_units_are_root_mean_squares():
    model, data = trained()
    process = Process(CompressionTask(model, data, 96), "tensor")
    for name, weight in process.weights().items():
        assert float(weight.square().mean().sqrt()) == pytest.approx(1, rel=1e-5)
        torch.testing.assert_close(weight * process.scales[name], model.get_parameter(name).data)
    assert process.scales["fc.weight"] > 4 * process.scales["first.weight"]
    assert process.flat_weights().size == 3 * 8 * 9 + 8 * 6 * 9 + 18


def test_the_norm_of_a_scale_free_tensor_stays():
    model, data = trained()
    before = {n: float(w.detach().norm()) for n, w in compressible(model).items()}
    process = Process(CompressionTask(model, data, 96), "tensor")
    assert process.scale_free() == ("first.weight",)
    method = soft_weight_sharing.SoftWeightSharing(
        SETTINGS.prior, SETTINGS.retraining, 96, 0, process.scales, process.scale_free()
    )
    process.retrain(method, SETTINGS.retraining)
    after = {n: float(w.detach().norm()) for n, w in compressible(model).items()}
    assert after["first.weight"] == pytest.approx(before["first.weight"], rel=1e-4)
    assert after["fc.weight"] != pytest.approx(before["fc.weight"], rel=1e-3)


def test_compressed_in_units_of_each_tensor_the_file_holds_the_network():
    """One codebook and a scale a tensor; what decodes computes what the trained model computes."""
    model, data = trained()
    start = Process(CompressionTask(model, data, 96), "tensor").scales
    errors = []

    def measure(network):
        errors.append(1)
        network.eval()
        with torch.inference_mode():
            wrong = (network(data.inputs).argmax(1) != data.labels).float().mean()
        network.train()
        return 100 * float(wrong)

    task = CompressionTask(model, data, 96, seed=1, measure=measure)
    done = soft_weight_sharing.compress(task, SETTINGS)
    assert set(done.errors) == {"retrained", "assigned"}
    network = done.network
    assert len(network.codebooks) == 1
    assert {t.name: t.scale for t in network.quantized} == start
    decoded = codec.decode(codec.encode(network))
    assert decoded == network
    restored = build_module(decoded, Small()).eval()
    with torch.inference_mode():
        expected = model.eval()(data.inputs)
        torch.testing.assert_close(restored(data.inputs), expected, rtol=0.02, atol=0.02)
    assert 0 < network.nonzeros < network.weights


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_folding_is_exact_for_any_epsilon(eps):
    norm = nn.BatchNorm2d(3, eps=eps)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, -0.5, 2.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, -0.3]))
        norm.running_mean.copy_(torch.tensor([5.0, -3.0, 0.5]))
        norm.running_var.copy_(torch.tensor([0.2, 4.0, 1.0]))
    model = nn.Sequential(norm).eval()
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) + 2
    before = model(x)
    model.load_state_dict(batch_norm.folded(model))
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)
