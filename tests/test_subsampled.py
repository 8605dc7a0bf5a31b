"""Appendix C outside Adam: what one step does to the weights that it drew."""

import numpy as np
import pytest
import torch
from torch import nn

from sws.compression.process import CompressionTask
from sws.config.sections import Retraining
from sws.config.soft_weight_sharing import Prior, Proportion, SoftWeightSharing
from sws.data.batches import TensorBatches
from sws.methods import soft_weight_sharing, subsampled
from sws.methods.subsampled import OutsideAdam
from sws.training.loop import FitSettings, Hooks, fit


def one_step(tau, samples, rate=1e-3):
    """A linear layer after one step, and after the same step without a prior."""
    x, y = torch.randn(16, 30), torch.randint(4, (16,))

    def layer():
        torch.manual_seed(3)
        return nn.Linear(30, 4, bias=False)

    prior = Prior(
        components=5,
        zero_proportion=Proportion(value=0.5),
        interval=1000,
        samples=samples,
        estimator="subsampled-outside",
    )
    method = OutsideAdam(prior, Retraining(epochs=1, tau=tau), images=16)
    with_prior, without = layer(), layer()
    fit(with_prior, TensorBatches(x, y, 16, 0), method, FitSettings(1, rate))
    fit(without, TensorBatches(x, y, 16, 0), Hooks(), FitSettings(1, rate))
    return with_prior.weight.detach(), without.weight.detach(), method.mixture.components


def test_only_drawn_weights_move():
    torch.manual_seed(0)
    moved, plain, _ = one_step(tau=1e-3, samples=10)
    assert 0 < int((moved != plain).sum()) <= 10


def test_a_step_never_goes_beyond_the_mean_that_it_pulls_towards():
    """With τ beyond reason nearly every drawn weight arrives at its mean; all stop there."""
    torch.manual_seed(0)
    moved, plain, components = one_step(tau=10, samples=5000, rate=0.5)
    values = plain.double().numpy().reshape(-1)
    towards = components.responsibilities(values)[1] @ components.means
    agreed = components.scores(values) * (towards - values) > 0
    way = np.where(agreed, towards - values, 0.0)
    went = moved.double().numpy().reshape(-1) - values
    assert (np.abs(went) <= np.abs(way) + 1e-6).all()
    assert (went * way >= 0).all()
    assert np.mean(np.isclose(went, way, rtol=1e-4, atol=1e-6)) > 0.8


def test_a_small_step_is_that_of_adam_with_the_data_s_second_moment():
    """Δw = η·(τ/N)·(I/K)·s(w)/√v; after one step √v is the size of the data's gradient."""
    torch.manual_seed(0)
    tau, samples = 1.0, 5000
    moved, plain, components = one_step(tau, samples)
    torch.manual_seed(0)
    x, y = torch.randn(16, 30), torch.randint(4, (16,))
    torch.manual_seed(3)
    layer = nn.Linear(30, 4, bias=False)
    nn.functional.cross_entropy(layer(x), y).backward()
    scores = components.scores(plain.double().numpy())
    expected = 1e-3 * tau / 16 * (120 / samples) * scores / layer.weight.grad.abs().double().numpy()
    found = (moved.double() - plain.double()).numpy()
    large = np.abs(expected) > 1e-6  # below, float32 rounds the weights' change
    assert large.any()
    np.testing.assert_allclose(found[large], expected[large], rtol=0.2)


def test_the_method_of_appendix_c_retrains_outside_adam_where_the_settings_say_so():
    torch.manual_seed(0)
    batches = TensorBatches(torch.randn(64, 30), torch.randint(4, (64,)), 16, 0)
    prior = {"components": 5, "samples": 50, "zero_proportion": {"value": 0.5}}
    prior["estimator"] = "subsampled-outside"
    settings = SoftWeightSharing.model_validate({"prior": prior, "retraining": {"epochs": 1}})
    done = subsampled.compress(CompressionTask(nn.Linear(30, 4), batches, 64), settings)
    assert done.seconds["prior"] > 0
    with pytest.raises(ValueError, match="soft-weight-sharing-subsampled"):
        soft_weight_sharing.compress(CompressionTask(nn.Linear(30, 4), batches, 64), settings)
