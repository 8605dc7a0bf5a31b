"""The training loop: what it minimises, whom it calls when, and what stops it."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sws.compression.process import CompressionTask, no_checkpoint
from sws.config.sections import Precision, Quantization, Retraining
from sws.config.soft_weight_sharing import Prior, SoftWeightSharing
from sws.data.augmentation import Preparation, RandomShift
from sws.data.batches import TensorBatches
from sws.methods import soft_weight_sharing, subsampled
from sws.prior.hyper_priors import annealed, gamma_prior
from sws.training.checkpoints import Checkpoint
from sws.training.loop import DivergedError, FitSettings, Hooks, OutOfMemoryError, fit

EPOCHS = FitSettings(epochs=3, learning_rate=0.01)


def blobs(count=120):
    """Three classes that a linear map tells apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    return 3 * nn.functional.one_hot(labels, 4) + torch.randn(count, 4, generator=generator), labels


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(seed=0, **more):
    return TensorBatches(*blobs(), 32, seed, **more)


def flat(model):
    return torch.cat([v.reshape(-1) for v in model.state_dict().values()])


# --- the loop -------------------------------------------------------------------------------------


def test_plain_training_lowers_the_loss():
    model = network()
    x, y = blobs()
    before = nn.functional.cross_entropy(model(x), y).item()
    history = fit(model, batches(), Hooks(), FitSettings(10, 0.01))
    after = nn.functional.cross_entropy(model(x), y).item()
    assert after < 0.6 * before
    losses = [row["cross_entropy"] for row in history.rows]
    assert [row["epoch"] for row in history.rows] == list(range(1, 11))
    assert losses[-1] < losses[0]
    assert all(row["loss"] == row["cross_entropy"] for row in history.rows)
    assert history.rows[-1]["error_train_pct"] < 5


class Recorder(Hooks):
    def __init__(self):
        self.calls = []

    def attach(self, model):
        self.model = model
        self.calls.append("attach")

    def begin_epoch(self, epoch, epochs):
        self.calls.append(f"begin {epoch}/{epochs}")

    def penalty(self):
        self.calls.append("penalty")
        return 0.5 * sum((p**2).sum() for p in self.model.parameters())

    def after_backward(self):
        assert all(p.grad is not None for p in self.model.parameters())
        self.before = flat(self.model).clone()
        self.calls.append("after_backward")

    def after_step(self):
        assert not torch.equal(flat(self.model), self.before)
        self.calls.append("after_step")

    def end_epoch(self, epoch, epochs):
        self.calls.append(f"end {epoch}/{epochs}")

    def record(self):
        self.calls.append("record")
        return {"components": 7}


def test_hooks_are_called_in_order():
    recorder = Recorder()
    validated = []

    def validate(model):
        validated.append(len(recorder.calls))
        return 12.5

    model = network()
    data = TensorBatches(*blobs(64), 32, 0)
    history = fit(model, data, recorder, FitSettings(2, 0.01), validate=validate)
    step = ["penalty", "after_backward", "after_step"]
    epochs = [[f"begin {e}/2", *step, *step, f"end {e}/2", "record"] for e in (0, 1)]
    assert recorder.calls == ["attach", *epochs[0], *epochs[1]]
    assert validated == [8, 17]  # before end_epoch
    for row in history.rows:
        assert row["components"] == 7
        assert row["error_val_pct"] == 12.5
        assert row["loss"] > row["cross_entropy"] + 1e-3


def test_a_penalty_takes_part_in_training():
    free, bound = network(), network()
    fit(free, batches(), Hooks(), FitSettings(10, 0.01))
    fit(bound, batches(), Recorder(), FitSettings(10, 0.01))
    assert flat(bound).norm() < 0.8 * flat(free).norm()


def test_a_group_may_scale_the_rate():
    class Slow(Hooks):
        def parameter_groups(self, model, settings):
            first, *others = model.parameters()
            return [{"params": [first], "rate_scale": 0.0}, {"params": others}]

    model = network()
    before = copy.deepcopy(model.state_dict())
    fit(model, batches(), Slow(), FitSettings(1, 0.01, weight_decay=0.5))
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[2].weight, before["2.weight"])


def test_a_data_loader_gives_batches():
    model = network()
    loader = DataLoader(TensorDataset(*blobs()), batch_size=32, shuffle=True)
    history = fit(model, lambda epoch: loader, Hooks(), FitSettings(10, 0.01))
    assert history.rows[-1]["error_train_pct"] < 5
    assert history.rows[-1]["cross_entropy"] < history.rows[0]["cross_entropy"]


def test_an_epoch_without_a_batch_is_a_clear_error():
    spent = iter([blobs()])
    with pytest.raises(ValueError, match="epoch 2.*no batch"):
        fit(network(), lambda epoch: spent, Hooks(), EPOCHS)


def test_the_rate_follows_a_cosine():
    settings = FitSettings(1, 0.01, final_rate=0.1)
    assert settings.rate(0, 10) == pytest.approx(0.01)
    assert settings.rate(5, 10) == pytest.approx(0.0055)
    assert settings.rate(10, 10) == pytest.approx(0.001)
    assert FitSettings(1, 0.01, final_rate=1.0).rate(7, 10) == pytest.approx(0.01)


def test_identical_runs_give_identical_bytes():
    first, second, other = network(), network(), network()
    rows = fit(first, batches(), Hooks(), EPOCHS).rows
    assert fit(second, batches(), Hooks(), EPOCHS).rows == rows
    fit(other, batches(seed=1), Hooks(), EPOCHS)
    assert flat(first).numpy().tobytes() == flat(second).numpy().tobytes()
    assert not torch.equal(flat(first), flat(other))


def test_each_epoch_sees_every_image_once_in_its_own_order():
    data = TensorBatches(torch.arange(10.0)[:, None], torch.arange(10), 4, seed=3)
    orders = [torch.cat([y for _, y in data(epoch)]).tolist() for epoch in (0, 1, 0)]
    assert [len(y) for _, y in data(0)] == [4, 4, 2]
    assert len(data) == 3
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] == orders[2] != orders[1]
    assert all(torch.equal(x[:, 0], y.float()) for x, y in data(0))


def test_the_history_is_written_with_empty_fields(tmp_path):
    history = fit(network(), batches(), Hooks(), FitSettings(1, 0.01))
    history.write(tmp_path / "h.csv", ["epoch", "error_val_pct", "loss"])
    header, row = (tmp_path / "h.csv").read_text().splitlines()
    assert header == "epoch,error_val_pct,loss"
    assert row == f"1,,{history.rows[0]['loss']:.9g}"


# --- divergence -----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_checkpoint(tmp_path):
    checkpoint = Checkpoint(tmp_path / "fit.pt", {})
    kept = []

    def broken(epoch):
        x, y = blobs()
        if epoch == 2:
            kept.append(checkpoint.path.read_bytes())
            x[5, 1] = math.nan
        yield x, y

    with pytest.raises(DivergedError, match="epoch 3.*learning rate") as caught:
        fit(network(), broken, Hooks(), FitSettings(5, 0.01), checkpoint=checkpoint)
    assert "\n" not in str(caught.value)
    assert checkpoint.path.read_bytes() == kept[0]
    assert checkpoint.load()["epoch"] == 2


def test_a_loss_that_is_not_finite_is_noticed_within_the_epoch():
    x, y = blobs()
    x[:] = math.nan
    steps = []

    class Counting(Hooks):
        def after_step(self):
            steps.append(1)

    with pytest.raises(DivergedError, match="epoch 1, step 20: .*learning rate"):
        fit(network(), TensorBatches(x, y, 1, 0), Counting(), FitSettings(1, 0.01))
    assert len(steps) == 20


def test_out_of_memory_says_what_would_help(tmp_path):
    """A batch that no machine has room for; the checkpoint of the epoch before stays."""
    checkpoint = Checkpoint(tmp_path / "fit.pt", {})

    class Wasteful(Hooks):
        def begin_epoch(self, epoch, epochs):
            self.epoch = epoch

        def after_backward(self):
            if self.epoch == 1:
                torch.empty(1 << 48)

    with pytest.raises(OutOfMemoryError, match="epoch 2: out of memory .* lower batch_size"):
        fit(network(), batches(), Wasteful(), FitSettings(3, 0.01), checkpoint=checkpoint)
    assert checkpoint.load()["epoch"] == 1


def test_a_mixture_that_takes_every_weight_stops_retraining():
    """τ so large that the data do not matter: all that is left is the zero component."""
    precision = Precision(pseudo_count=100, deviation=1e-3)
    prior = Prior(components=5, interval=1, zero_precision=precision, precision=precision)
    method = soft_weight_sharing.SoftWeightSharing(prior, Retraining(epochs=30, tau=10), 120)
    with pytest.raises(DivergedError, match=r"step \d+: the mixture has collapsed, .* lower τ"):
        fit(network(), batches(), method, FitSettings(30, 0.05))


@pytest.mark.parametrize("estimator", ["exact", "tabulated", "subsampled"])
def test_weights_that_are_not_finite_stop_retraining(estimator):
    x, y = blobs()
    x[5, 1] = math.nan
    prior = Prior(estimator=estimator, components=5, interval=1)
    method = soft_weight_sharing.SoftWeightSharing(prior, Retraining(epochs=2), len(y))
    with pytest.raises(DivergedError):
        fit(network(), TensorBatches(x, y, 32, 0), method, EPOCHS)


# --- the stages of soft weight-sharing ------------------------------------------------------------

SETTINGS = SoftWeightSharing(
    prior=Prior(
        components=5,
        interval=1,
        zero_precision=Precision(pseudo_count=1, deviation=0.02),
        precision=Precision(pseudo_count=0.1, deviation=((0, 0.2), (1, 0.05))),
        zero_proportion={"value": 0.6, "learned": True},
    ),
    retraining=Retraining(epochs=2, learning_rate=0.01, tau=0.01),
    quantization=Quantization(
        merge="rate", assignment="rd", sharing_epochs=2, refinement_epochs=2, distortion=0.05
    ),
)


def convolutional():
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    return model.to(memory_format=torch.channels_last)


def images():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(96, 2, 6, 6, generator=generator)
    return x, (x.mean(dim=(1, 2, 3)) > 0).long() + (x[:, 0].mean(dim=(1, 2)) > 0.1).long()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"update": "adam"},
        *({"estimator": f"subsampled{variant}"} for variant in ("", "-sums", "-outside")),
    ],
)
def test_interrupted_anywhere_it_ends_the_same(tmp_path, changes):
    """Every epoch of every phase is interrupted once; nothing of the result may show it."""
    prior = SETTINGS.prior.model_copy(update=changes)
    settings = SETTINGS.model_copy(update={"prior": prior})
    x, y = images()
    bytes_ = (50 * x).clamp(0, 255).byte().permute(0, 2, 3, 1)
    preparation = Preparation((0.2,), (0.4,), RandomShift(1, flip=True))
    data = TensorBatches(bytes_, y, 32, 0, preparation)

    def run(seen, checkpoint):
        task = CompressionTask(convolutional(), seen, 96, seed=5, checkpoint=checkpoint)
        return subsampled.compress(task, settings)  # of any estimator

    whole = run(data, no_checkpoint)
    interruptions = 0
    pending = set(range(1, 6))

    def interrupting(epoch):
        for number, batch in enumerate(data(epoch)):
            if number == 1 and epoch in pending:
                pending.remove(epoch)
                raise KeyboardInterrupt
            yield batch

    # a length, so that the learning rate follows the same schedule
    stream = type("Stream", (), {"__call__": lambda _, e: interrupting(e), "__len__": lambda _: 3})
    while True:
        try:
            pieces = run(stream(), lambda phase: Checkpoint(tmp_path / f"{phase}.pt", {"a": "b"}))
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == 5
    assert pieces.network == whole.network
    assert pieces.history.rows == whole.history.rows
    assert pieces.trace.keys() == whole.trace.keys()
    for name, values in whole.trace.items():
        assert pieces.trace[name].tobytes() == values.tobytes(), name


def test_parameters_that_do_not_train_stay_as_they_are():
    """A part that the user froze, or that the loss does not reach, is not in the way."""
    model = network()
    model[0].bias.requires_grad_(False)
    before = model[0].bias.clone()
    done = soft_weight_sharing.compress(CompressionTask(model, batches(), 120), SETTINGS)
    assert torch.equal(model[0].bias, before)
    assert {t.name for t in done.network.quantized} == {"0.weight", "2.weight"}


def test_a_hyper_prior_given_by_pseudo_count_and_deviation():
    """α − 1 is half the pseudo-count times the weights; the mode (α − 1)/β is 1/σ²."""
    prior = gamma_prior(Precision(pseudo_count=0.5, deviation=0.1), 1000, 0.3)
    assert prior.alpha == pytest.approx(251)
    assert (prior.alpha - 1) / prior.beta == pytest.approx(100)
    knots = Precision(pseudo_count=0.5, deviation=((0.2, 0.1), (0.6, 0.001)))
    for progress, deviation in ((0, 0.1), (0.2, 0.1), (0.4, 0.01), (0.6, 0.001), (1, 0.001)):
        prior = gamma_prior(knots, 1000, progress)
        assert prior.alpha == pytest.approx(251)
        assert (prior.alpha - 1) / prior.beta == pytest.approx(deviation**-2)
        assert annealed(knots.deviation, progress) == pytest.approx(deviation)
    given = gamma_prior(Precision(mode=100, variance=50), 1000, 0)
    assert (given.alpha - 1) / given.beta == pytest.approx(100)
    assert given.alpha / given.beta**2 == pytest.approx(50)
    assert gamma_prior(None, 1000, 0) is None


# --- augmentation ---------------------------------------------------------------------------------


def shifts(image, pixels):
    """All (2n + 1)² shifts of an image, by a plain loop over pixels."""
    height, width, _ = image.shape
    found = {}
    for down in range(-pixels, pixels + 1):
        for right in range(-pixels, pixels + 1):
            moved = torch.zeros_like(image)
            for i in range(height):
                for j in range(width):
                    if 0 <= i - down < height and 0 <= j - right < width:
                        moved[i, j] = image[i - down, j - right]
            found[down, right] = moved
    return found


@pytest.mark.parametrize("flip", [False, True])
def test_every_image_is_shifted_by_a_few_pixels(flip):
    image = torch.arange(1, 41, dtype=torch.uint8).view(4, 5, 2)
    done = RandomShift(1, flip)(image.expand(300, 4, 5, 2), torch.Generator().manual_seed(0))
    assert done.shape == (300, 4, 5, 2)
    assert done.dtype == torch.uint8
    allowed = list(shifts(image, 1).values())
    if flip:
        allowed += list(shifts(image.flip(1), 1).values())
    counts = [sum(torch.equal(d, a) for d in done) for a in allowed]
    assert sum(counts) == 300
    assert min(counts) > 0


def test_a_flip_alone_happens_half_of_the_time():
    image = torch.arange(6.0).view(2, 3, 1).expand(1000, 2, 3, 1)
    done = RandomShift(0, flip=True)(image, torch.Generator().manual_seed(0))
    flipped = sum(torch.equal(d, image[0].flip(1)) for d in done)
    assert 400 < flipped < 600
    assert flipped + sum(torch.equal(d, image[0]) for d in done) == 1000


def test_preparation_normalises_each_channel_after_the_shift():
    """x = (pixel / 255 − mean) / std; what moved in is a black pixel, not a zero."""
    image = torch.tensor([255, 51], dtype=torch.uint8).expand(200, 3, 3, 2)
    prepare = Preparation((0.5, 0.1), (0.25, 0.2), RandomShift(2))
    done = prepare(image, torch.Generator().manual_seed(0))
    assert done.shape == (200, 2, 3, 3)
    assert done.dtype == torch.float32
    torch.testing.assert_close(done[:, 0].unique(), torch.tensor([-2.0, 2.0]))
    torch.testing.assert_close(done[:, 1].unique(), torch.tensor([-0.5, 0.5]))


def test_augmentation_is_decided_by_the_generator():
    images = torch.randn(50, 6, 6, 1)
    done = [
        RandomShift(2, flip=True)(images, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    ]
    assert torch.equal(done[0], done[1])
    assert not torch.equal(done[0], done[2])


# --- the schedule ---------------------------------------------------------------------------------


def test_the_rate_rises_and_then_decays():
    settings = FitSettings(10, 0.4, warm_up=0.2)
    rates = [settings.rate(step, 100) for step in range(101)]
    assert rates[:20] == pytest.approx([0.4 * (k + 1) / 21 for k in range(20)])
    assert rates[20] == pytest.approx(0.4)
    assert rates[60] == pytest.approx(0.2)
    assert rates[100] == pytest.approx(0)
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))


def test_sgd_takes_nesterov_steps():
    """Two steps on a constant gradient: v ← 0.9·v + g, w ← w − η·(g + 0.9·v)."""
    model = nn.Linear(2, 2, bias=False)
    start = model.weight.detach().clone()

    class Constant(Hooks):
        def after_backward(self):
            model.weight.grad = torch.ones(2, 2)

    x, y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    settings = FitSettings(1, 0.1, final_rate=1.0, optimizer="sgd")
    fit(model, TensorBatches(x, y, 2, 0), Constant(), settings)
    velocity, expected = torch.zeros(2, 2), start.clone()
    for _ in range(2):
        velocity = 0.9 * velocity + 1
        expected -= 0.1 * (1 + 0.9 * velocity)
    torch.testing.assert_close(model.weight.detach(), expected)
