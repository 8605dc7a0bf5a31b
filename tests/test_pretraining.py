"""What lets a start be made in few epochs: smoothing, averaging, linear decay, small images."""

import itertools
import math

import pytest
import torch
from torch import nn

from sws.config.sections import Pretraining
from sws.data.batches import ScaledBatches, TensorBatches, scaled
from sws.training import loop
from sws.training.checkpoints import Checkpoint
from sws.training.loop import FitSettings, Hooks, fit


def data():
    """Three classes of small images, each with a brightness of its own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 3
    noise = torch.randn(96, 2, 8, 8, generator=generator)
    return noise + 2 * labels.reshape(-1, 1, 1, 1), labels


def network():
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(4)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def batches(**more):
    return TensorBatches(*data(), 32, 0, **more)


def test_a_linear_rate_rises_and_falls_in_straight_lines():
    settings = FitSettings(10, 0.4, warm_up=0.2, decay="linear", final_rate=0.1)
    rates = [settings.rate(step, 100) for step in range(101)]
    assert rates[:20] == pytest.approx([0.4 * (k + 1) / 21 for k in range(20)])
    assert rates[20:] == pytest.approx([0.4 - 0.36 * k / 80 for k in range(81)])


def test_smoothed_labels_are_what_is_learnt():
    """The best logits for a class of its own: a finite margin, log((1 − ε + ε/C) / (ε/C))."""
    x, y = torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8)
    model = nn.Linear(3, 3, bias=False)
    nn.init.zeros_(model.weight)
    settings = FitSettings(400, 5.0, final_rate=1.0, optimizer="sgd", label_smoothing=0.3)
    history = fit(model, TensorBatches(x, y, 24, 0), Hooks(), settings)
    logits = model.weight.detach().T
    margin = logits.diagonal() - logits[[0, 1, 2], [1, 2, 0]]
    assert margin.tolist() == pytest.approx([math.log(0.8 / 0.1)] * 3, rel=1e-3)
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.1))
    assert history.rows[-1]["cross_entropy"] == pytest.approx(entropy, rel=1e-4)


class Snapshots(Hooks):
    """All states that the steps lead to."""

    def attach(self, model):
        self.model, self.states = model, []

    def after_step(self):
        self.states.append({k: v.clone() for k, v in self.model.state_dict().items()})


def test_the_model_ends_with_the_average_of_weights_and_statistics():
    method, model, errors = Snapshots(), network(), []

    def validate(measured):
        errors.append({k: v.clone() for k, v in measured.state_dict().items()})
        return 0.0

    settings = FitSettings(3, 0.05, optimizer="sgd", average=0.8)
    fit(model, batches(), method, settings, validate=validate)
    assert len(method.states) == 9
    expected = method.states[0]
    for state in method.states[1:]:
        expected = {k: 0.8 * expected[k] + 0.2 * state[k] for k in expected}
    found = model.state_dict()
    for name, value in expected.items():
        if found[name].is_floating_point():
            torch.testing.assert_close(found[name], value, msg=name)
            assert torch.equal(errors[-1][name], found[name])
    assert not torch.equal(found["1.running_mean"], method.states[-1]["1.running_mean"])


def test_an_average_does_not_touch_the_training():
    plain, averaged = Snapshots(), Snapshots()
    fit(network(), batches(), plain, FitSettings(2, 0.05))
    fit(network(), batches(), averaged, FitSettings(2, 0.05, average=0.9))
    for first, second in zip(plain.states, averaged.states, strict=True):
        assert all(torch.equal(first[k], second[k]) for k in first)


def test_interrupted_in_any_epoch_an_average_ends_the_same(tmp_path):
    settings = FitSettings(4, 0.05, average=0.9, decay="linear", label_smoothing=0.1)
    whole = network()
    fit(whole, batches(), Hooks(), settings)
    pending = {1, 2, 3}

    class Interrupting(Hooks):
        def begin_epoch(self, epoch, epochs):
            if epoch in pending:
                pending.remove(epoch)
                raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            fit(
                network(), batches(), Interrupting(), settings,
                checkpoint=Checkpoint(tmp_path / "pretrain.pt", {"a": "b"}),
            )  # fmt: skip
    pieces = network()
    checkpoint = Checkpoint(tmp_path / "pretrain.pt", {"a": "b"})
    fit(pieces, batches(), Interrupting(), settings, checkpoint=checkpoint)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, pieces.state_dict()[name]), name


# --- small images first ---------------------------------------------------------------------------


def test_images_grow_with_the_epochs():
    seen = [
        {x.shape[-1] for x, _ in ScaledBatches(batches(), ((0, 4), (2.4, 6), (4, 8)))(epoch)}
        for epoch in range(6)
    ]
    assert seen == [{4}, {4}, {4}, {6}, {8}, {8}]
    assert len(ScaledBatches(batches(), ((0, 4),))) == len(batches())


def test_scaling_keeps_labels_order_and_the_full_size_as_it_is():
    small = list(ScaledBatches(batches(), ((0, 4),))(3))
    for (x, y), (half, labels) in zip(batches()(3), small, strict=True):
        assert torch.equal(y, labels)
        assert half.mean().item() == pytest.approx(x.mean().item(), abs=0.05)
        assert scaled(x, 8) is x


def test_a_smaller_image_is_the_mean_of_its_pixels():
    image = torch.full((1, 1, 8, 8), 3.0)
    torch.testing.assert_close(scaled(image, 4), torch.full((1, 1, 4, 4), 3.0))
    stripes = torch.arange(8).remainder(2).float().expand(1, 1, 8, 8)
    inner = scaled(stripes, 4)[..., 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5))


@pytest.mark.parametrize(
    "sides", [[[0.1, 16], [0.5, 32]], [[0, 16], [0, 32]], [[0, 16], [0.5, 24], [0.4, 32]], [[0, 1]]]
)
def test_sides_out_of_order_are_refused(sides):
    with pytest.raises(ValueError, match="image_sides"):
        Pretraining(epochs=1, learning_rate=0.1, image_sides=sides)


# --- arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize("supported", [False, True])
def test_bfloat16_is_left_out_where_the_processor_would_emulate_it(monkeypatch, supported):
    monkeypatch.setattr(loop, "computes_bfloat16", lambda device: supported)
    kinds = []
    model = network()
    model[0].register_forward_hook(lambda *call: kinds.append(call[-1].dtype))
    fit(model, batches(), Hooks(), FitSettings(1, 0.05, bfloat16=True))
    assert set(kinds) == {torch.bfloat16 if supported else torch.float32}


def test_rates_of_the_default_are_a_cosine_as_before():
    settings = FitSettings(1, 0.01, final_rate=0.1)
    falls = itertools.pairwise(settings.rate(step, 50) for step in range(50))
    assert all(a > b for a, b in falls)
    assert settings.decay == "cosine"
    assert not (settings.average or settings.label_smoothing)
