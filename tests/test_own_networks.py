"""Networks, losses, batches and wishes of other people: compressed rightly, or refused in time."""

import copy
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

import sws
from sws.api import RiseError, RiseWarning, presets
from sws.api.data import images_of
from sws.api.search import Attempt, search
from sws.compression.sharing import SharedWeights
from sws.config import methods
from sws.errors import InputError
from sws.network import batch_norm
from sws.training.loop import FitSettings, fit

BATCH, RATE = 25, 5e-3


def made(seed=1, n=300):
    """Inputs (n, 12) and four classes that a linear map decides."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 12, generator=draw)
    map_ = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    return x, x @ map_


def loader_of(*tensors):
    return DataLoader(TensorDataset(*tensors), BATCH, shuffle=True)


def train(model, loader, loss, epochs=25, rate=RATE):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return model


def mlp(out=4, *, norm=False, width=24):
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(width)] if norm else []
    return nn.Sequential(nn.Linear(12, width), *middle, nn.ReLU(), nn.Linear(width, out))


@pytest.fixture(scope="module")
def data():
    x, scores = made()
    return x, scores.argmax(1)


@pytest.fixture(scope="module")
def loader(data):
    return loader_of(*data)


@pytest.fixture(scope="module")
def trained(loader):
    return train(mlp(), loader, F.cross_entropy)


@pytest.fixture(scope="module")
def normed(loader):
    return train(mlp(norm=True), loader, F.cross_entropy)


def compress(model, loader, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RiseWarning)  # every fall of quality is a failure here
        return sws.compress(
            model, loader, progress=False, **({"epochs": 8, "learning_rate": RATE} | more)
        )


def assert_same_state(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    for name in ours:
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(ours[name], theirs[name]), name


# --- losses ---------------------------------------------------------------------------------------


def test_a_loss_that_does_not_fit_is_asked_for(data):
    x, labels = data
    untrained = mlp(1)
    before = copy.deepcopy(untrained)
    for model, y in (
        (untrained, made()[1][:, :1]),  # regression, (N, 1)
        (untrained, (labels[:, None] > 1).float()),  # one logit
        (untrained, torch.zeros(len(x), dtype=torch.int64)),  # one class
        (mlp(), F.one_hot(labels, 4).float()),
        (mlp(), labels.int()),
    ):
        with pytest.raises(InputError, match="pass loss="):
            compress(model, loader_of(x, y))
    with pytest.raises(InputError, match="labels go from 1 to 4"):
        compress(mlp(), loader_of(x, labels + 1))
    with pytest.raises(InputError, match="probabilities"):
        compress(nn.Sequential(mlp(), nn.Softmax(dim=1)), loader_of(x, labels))
    assert_same_state(untrained, before)


def test_a_regression_is_not_emptied():
    x, scores = made()
    loader = loader_of(x, scores[:, :1])
    model = train(mlp(1), loader, F.mse_loss, 60)
    result = compress(model, loader, loss=F.mse_loss, epochs=20, allowed_rise=100)
    assert result.unit == "loss"
    assert result.errors["end"] < 0.03 * float(scores[:, 0].var())
    assert result.network.nonzeros > 20


def test_one_logit_and_many_labels():
    x, scores = made()
    for y in ((scores[:, :1] > 0).float(), (scores > 0).float()):
        loader = loader_of(x, y)
        loss = F.binary_cross_entropy_with_logits
        model = train(mlp(y.shape[1]), loader, loss)
        sws.compress(model, loader, loss=loss, epochs=20, progress=False)
        wrong = ((model(x) > 0).float() != y).float().mean()
        assert wrong < 0.05


def test_targets_that_broadcast_are_refused():
    x, scores = made()
    with pytest.raises(InputError, match=r"outputs \(25, 1\) with targets \(25,\)"):
        compress(mlp(1), loader_of(x, scores[:, 0]), loss=F.mse_loss)


def test_a_loss_without_a_gradient_or_of_many_values_is_refused(loader):
    with pytest.raises(InputError, match="does not depend"):
        compress(mlp(), loader, loss=lambda out, y: F.cross_entropy(out.detach(), y))
    with pytest.raises(InputError, match="one value"):
        compress(mlp(), loader, loss=lambda out, y: F.cross_entropy(out, y, reduction="none"))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, left, right):
        return self.body(torch.cat([left, right], 1))


class Named(nn.Module):
    """Takes names, returns its own loss."""

    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, values, labels=None):
        logits = self.body(values)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def test_tuples_and_mappings(data, trained):
    x, y = data
    two = TwoInputs()
    two.body.load_state_dict(trained.state_dict())
    result = compress(two, loader_of(x[:, :5], x[:, 5:], y))
    assert result.unit == "%" and result.errors["end"] <= result.errors["before"] + 2
    named = Named()
    named.body.load_state_dict(trained.state_dict())
    batches = [
        {"values": a, "labels": b, "id": ["text"] * len(a)}
        for a, b in zip(x.split(50), y.split(50), strict=True)
    ]
    result = sws.compress(named, batches, epochs=8, progress=False)
    assert result.unit == "loss"
    assert (named.body(x).argmax(1) == y).float().mean() > 0.9


# --- at the border --------------------------------------------------------------------------------


def normalised_weights():
    model = mlp()
    nn.utils.parametrizations.weight_norm(model[0])
    return model


def with_state_of_its_own():
    class Counting(nn.Sequential):
        def get_extra_state(self):
            return {"calls": 3}

        def set_extra_state(self, state):
            pass

    return Counting(*mlp())


def spoiled(value):
    model = mlp()
    with torch.no_grad():
        model[2].weight[0, 0] = value
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: spoiled(float("nan")), "2.weight holds NaN or infinity"),
        (lambda: spoiled(float("inf")), "2.weight holds NaN or infinity"),
        (lambda: mlp().to("meta"), "0.weight is on the meta device"),
        (lambda: nn.Sequential(nn.LazyLinear(4)), "0.weight is not initialised"),
        (normalised_weights, "0: weight is computed from other parameters"),
        (with_state_of_its_own, "get_extra_state"),
    ],
)
def test_networks_that_cannot_be_stored_are_refused_by_name(model, words, loader):
    with pytest.raises(InputError, match=words):
        compress(model(), loader)


def test_data_that_spoils_a_network_is_refused(data):
    x, y = data
    for value in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="NaN or infinity"):
            compress(mlp(), [(x.clone().fill_(value), y)])
    with pytest.raises(InputError, match="no batch"):
        compress(mlp(), [], images=10)
    with pytest.raises(InputError, match=r"shape \(0, 12\)"):
        compress(mlp(), [(x[:0], y[:0])])
    with pytest.raises(InputError, match="iterator"):
        compress(mlp(), iter([(x, y)]), images=len(x))


def test_what_is_empty_or_beyond_float16_is_kept(data, trained, tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp()
            self.empty = nn.Parameter(torch.zeros(0, 4))
            self.scale = nn.Parameter(torch.tensor(1e6), requires_grad=False)

        def forward(self, x):
            return self.body(x) * (self.scale / 1e6)

    model = Scaled()
    model.body.load_state_dict(trained.state_dict())
    result = compress(model, loader_of(*data))
    sws.save(result, tmp_path / "m.sws")
    restored = sws.load(tmp_path / "m.sws", into=Scaled())
    assert float(restored.scale) == 1e6
    assert_same_state(model, restored)


def test_tied_weights_are_stored_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 16)
            self.out = nn.Linear(16, 20, bias=False)
            self.out.weight = self.embedding.weight

        def forward(self, tokens):
            return self.out(self.embedding(tokens)).transpose(1, 2)

    tokens = torch.arange(300).view(60, 5) % 20
    loader = DataLoader(TensorDataset(tokens, tokens), 10)
    model = train(Tied(), loader, F.cross_entropy)
    result = compress(model, loader)
    assert [t.name for t in result.network.tensors] == ["embedding.weight"]
    sws.save(result, tmp_path / "m.sws")
    restored = sws.load(tmp_path / "m.sws", into=Tied())
    assert restored.out.weight is restored.embedding.weight
    assert_same_state(model, restored)


def test_three_dimensional_convolutions_are_compressed(tmp_path):
    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))

    x = torch.randn(100, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    y = (x.mean(dim=(1, 2, 3, 4)) > 0).long()
    loader = loader_of(x, y)
    model = train(network(), loader, F.cross_entropy)
    result = compress(model, loader)
    assert [t.name for t in result.network.quantized] == ["0.weight", "3.weight"]
    sws.save(result, tmp_path / "m.sws")
    assert_same_state(model, sws.load(tmp_path / "m.sws", into=network()))


class Signs(nn.Module):
    """Weights whose gradient is 0, and whose signs are all that counts."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5, -0.5, 0.5]]))
        self.out = nn.Linear(1, 2)

    def forward(self, x):
        return self.out(x @ torch.sign(self.weight).t())


def test_a_gradient_of_zero_does_not_mean_no_effect():
    model = Signs()
    hooks = SharedWeights(
        {"weight": torch.tensor([[1, 2, 1]])},
        np.array([0.0, 0.5, -0.5]),
        0.01,
        outputs=lambda: model(torch.eye(3)).detach(),
    )
    x = torch.eye(3)
    fit(model, lambda epoch: [(x, torch.tensor([0, 1, 0]))], hooks, FitSettings(2, 0.01))
    assert model.weight.tolist() == [[0.5, -0.5, 0.5]]


# --- what is measured is what is shipped ----------------------------------------------------------


@pytest.mark.parametrize("method", [m for m in methods.names() if m != "no-prior"])
def test_the_model_is_the_network_of_the_file(method, trained, loader, data, tmp_path):
    model = copy.deepcopy(trained)
    result = compress(model, loader, method=method, allowed_rise=100)
    assert sws.save(result, tmp_path / "m.sws") == result.bytes
    assert_same_state(model, sws.load(tmp_path / "m.sws", into=mlp()))
    x, y = data
    wrong = 100 * float((model(x).argmax(1) != y).float().mean())
    assert result.errors["end"] == pytest.approx(wrong)
    assert {"before", "retrained", "assigned", "end"} == set(result.errors)
    assert f"{result.bytes:,} bytes" in str(result) and "retrained" in str(result)


def test_a_normalisation_of_inputs_with_a_large_mean_survives(data, tmp_path):
    x, y = data
    loader = loader_of(x + 2000, y)

    def network():
        return nn.Sequential(nn.BatchNorm1d(12), mlp())

    model = train(network(), loader, F.cross_entropy)
    result = compress(model, loader, method="post-hoc-mixture", allowed_rise=100)
    assert result.errors["end"] <= result.errors["assigned"] + 0.5  # rounding costs nothing
    sws.save(result, tmp_path / "m.sws")
    restored = sws.load(tmp_path / "m.sws", into=network()).eval()
    wrong = 100 * float((restored(x + 2000).argmax(1) != y).float().mean())
    assert result.errors["end"] == pytest.approx(wrong)


def test_a_bias_that_float16_blurs_is_kept_exactly():
    x, scores = made()
    loader = loader_of(x, scores[:, :1])
    model = train(mlp(1), loader, F.mse_loss, 60)
    with torch.no_grad():
        model[2].bias += 5000
    far = loader_of(x, scores[:, :1] + 5000)
    result = compress(model, far, loss=F.mse_loss, epochs=20, allowed_rise=100)
    assert result.errors["end"] < 0.03 * float(scores[:, 0].var())


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_after_an_exception_the_model_is_as_it_was(fault, normed, loader, monkeypatch):
    model = copy.deepcopy(normed)
    model[0].bias.requires_grad_(False)
    calls = []

    def step(self):
        calls.append(1)
        if len(calls) == 20:
            raise fault

    monkeypatch.setattr("sws.methods.soft_weight_sharing.SoftWeightSharing.after_step", step)
    with pytest.raises(fault) as caught:
        compress(model, loader)
    for name, value in normed.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert not model[0].bias.requires_grad and model[0].weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    if fault is KeyboardInterrupt:
        assert "as it was" in caught.value.__notes__[0]


def test_an_interrupted_call_goes_on(trained, loader, tmp_path, monkeypatch):
    whole = sws.compress(copy.deepcopy(trained), loader, epochs=6, progress=False)
    calls = []
    finish = SharedWeights.end_epoch

    def stop_sharing(self, epoch, epochs):
        if not calls:
            calls.append(1)
            raise KeyboardInterrupt
        finish(self, epoch, epochs)

    monkeypatch.setattr(SharedWeights, "end_epoch", stop_sharing)
    model = copy.deepcopy(trained)
    with pytest.raises(KeyboardInterrupt):
        sws.compress(model, loader, epochs=6, progress=False, checkpoint=tmp_path)
    assert any(tmp_path.iterdir())
    again = sws.compress(model, loader, epochs=6, progress=False, checkpoint=tmp_path)
    assert again.network == whole.network
    assert not any(tmp_path.iterdir())


# --- units, guard, targets ------------------------------------------------------------------------


def test_units_follow_the_weights_own_scale(trained, normed):
    assert presets.unit_for(trained) == "weight"
    assert presets.unit_for(normed) == "tensor"
    small = copy.deepcopy(trained)
    with torch.no_grad():
        small[0].weight *= 0.05
    assert presets.unit_for(small) == "tensor"
    with torch.no_grad():
        small[0].weight *= 2000
    assert presets.unit_for(small) == "tensor"


class Small(nn.Module):
    """Small weights before a layer normalisation, which makes their size good."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(12, 48), nn.LayerNorm(48), nn.Linear(48, 4)
        nn.init.normal_(self.first.weight, std=0.02)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


def test_small_weights_before_a_layer_norm_survive(loader):
    model = train(Small(), loader, F.cross_entropy, rate=5e-4)
    with torch.no_grad():
        model.first.weight *= 0.02 / model.first.weight.square().mean().sqrt()
        model.first.bias *= 0.0
    model = train(model, loader, F.cross_entropy, epochs=5, rate=1e-4)
    result = compress(model, loader, epochs=20, learning_rate=5e-4)
    assert result.settings.unit == "tensor"
    assert result.errors["end"] <= result.errors["before"] + 2


def test_tau_has_one_default(trained, loader):
    result = compress(copy.deepcopy(trained), loader)
    assert result.settings.retraining.tau == sws.settings(images=300).retraining.tau
    with pytest.raises(InputError, match="images= or tau="):
        sws.settings()


def test_a_rise_is_warned_of_or_refused(trained, loader):
    model = copy.deepcopy(trained)
    with pytest.raises(RiseError, match=r"in retraining: try a smaller tau \(now 5\)"):
        compress(model, loader, tau=5.0, learning_rate=0.05, allowed_rise=1.0)
    assert_same_state(model, trained)
    with pytest.warns(RiseWarning, match="smaller tau"):
        sws.compress(model, loader, tau=5.0, learning_rate=0.05, epochs=8, progress=False)


def test_advice_is_such_that_can_help(trained, loader):
    with pytest.raises(RiseError) as caught:
        sws.compress(
            copy.deepcopy(trained), loader, tau=0.0, learning_rate=0.9, epochs=4,
            allowed_rise=0.0, progress=False,
        )  # fmt: skip
    assert "smaller tau" not in str(caught.value) and "learning_rate" in str(caught.value)


def falling(strength):
    """A file of 1000 bytes that shrinks with the strength, and an error that grows."""
    return Attempt(strength, round(1000 * strength**-0.5), strength, None)


def test_a_search_ends_within_its_target():
    for wanted in (900, 400, 90):
        best, known = search(falling, target_bytes=wanted, tries=8)
        assert 0.75 * wanted <= best.bytes <= wanted
        assert best.error == min(k.error for k in known if k.bytes <= wanted)
    for allowed in (0.1, 1.5, 30):
        best, _ = search(falling, target_error=allowed, tries=8)
        assert allowed / 2 <= best.error <= allowed
    with pytest.raises(InputError, match="smallest had 250"):
        search(falling, target_bytes=1, tries=3)
    with pytest.raises(InputError, match=r"smallest was 0.0625"):
        search(falling, target_error=1e-6, tries=3)


def test_a_target_size_and_a_target_error(trained, loader):
    def wanting(**target):
        model = copy.deepcopy(trained)
        more = {"method": "post-hoc-mixture", "allowed_rise": 100}
        result = compress(model, loader, **more, **target)
        assert not result.history  # nothing was trained
        return result

    free = wanting()
    smaller = wanting(target_bytes=free.bytes - 60)
    assert smaller.bytes <= free.bytes - 60 and 1 < len(smaller.attempts) <= 6
    assert smaller.errors["end"] == min(
        one["error"] for one in smaller.attempts if one["bytes"] <= free.bytes - 60
    )
    exact = wanting(target_error=5.0)
    assert exact.errors["end"] <= 5.0
    assert exact.bytes == min(o["bytes"] for o in exact.attempts if o["error"] <= 5.0)


def test_no_prior_prunes_to_a_size(trained, loader):
    model = copy.deepcopy(trained)
    with pytest.raises(InputError, match="target_bytes"):
        compress(model, loader, method="no-prior")
    result = compress(model, loader, method="no-prior", target_bytes=300, allowed_rise=100)
    assert 0.9 * 300 <= result.bytes <= 1.1 * 300


# --- wishes ---------------------------------------------------------------------------------------


def test_what_is_skipped_stays_dense(trained, loader):
    for skip in (["2"], "2.weight", lambda name: name.startswith("2.")):
        model = copy.deepcopy(trained)
        result = compress(model, loader, skip=skip)
        assert [t.name for t in result.network.quantized] == ["0.weight"]
        assert len(model[2].weight.unique()) > 80
    with pytest.raises(InputError, match="skip names 'head'"):
        compress(copy.deepcopy(trained), loader, skip=["head"])


def test_held_out_data_is_what_errors_are_of(trained, loader):
    x, scores = made(seed=2, n=100)
    y = scores.argmax(1)
    result = compress(copy.deepcopy(trained), loader, validate=loader_of(x, y))
    before = 100 * float((trained(x).argmax(1) != y).float().mean())
    assert result.errors["before"] == pytest.approx(before)
    counted = compress(
        copy.deepcopy(trained), loader, validate=lambda m: (m(x).argmax(1) != y).sum(),
        allowed_rise=10,
    )  # fmt: skip
    assert counted.unit == "value" and counted.errors["before"] == pytest.approx(before)


def test_the_number_of_examples_is_the_samplers(data):
    whole = TensorDataset(*data)
    part = DataLoader(whole, BATCH, sampler=SubsetRandomSampler(range(60)))
    assert images_of(part) == 60
    assert images_of(DataLoader(whole, 64, drop_last=True)) == 256
    assert images_of([(data[0][:7], data[1][:7]), (data[0][:5], data[1][:5])]) == 12


def test_wrappers_do_not_matter(trained, loader, tmp_path):
    model = nn.DataParallel(copy.deepcopy(trained))
    result = compress(model, loader)
    assert {t.name for t in result.network.quantized} == {"0.weight", "2.weight"}
    sws.save(result, tmp_path / "m.sws")
    assert_same_state(sws.load(tmp_path / "m.sws", into=mlp()), model.module)
    assert_same_state(sws.load(tmp_path / "m.sws", into=torch.compile(mlp()))._orig_mod,
                      model.module)  # fmt: skip
    on_meta = sws.load(tmp_path / "m.sws", into=mlp().to("meta"))
    assert_same_state(on_meta, model.module)


def test_all_mismatches_are_listed(trained, loader, tmp_path):
    sws.save(compress(copy.deepcopy(trained), loader), tmp_path / "m.sws")
    other = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 5), nn.Linear(5, 5))
    with pytest.raises(InputError) as caught:
        sws.load(tmp_path / "m.sws", into=other)
    for fault in ("3.weight is not in the file", "2.weight is (4, 24) in the file and (5, 24)",
                  "2.bias is (4,)"):  # fmt: skip
        assert fault in str(caught.value)


# --- life after loading ---------------------------------------------------------------------------


def test_a_loaded_network_survives_a_training_pass(normed, loader, data, tmp_path):
    model = copy.deepcopy(normed)
    sws.save(compress(model, loader, epochs=20), tmp_path / "m.sws")
    restored = sws.load(tmp_path / "m.sws", into=mlp(norm=True)).eval()
    x, y = data
    before = restored(x)
    sws.unfold(restored, loader)
    torch.testing.assert_close(restored(x), before, rtol=1e-3, atol=1e-3)
    restored.train()
    for inputs, _ in loader:
        restored(inputs)
    restored.eval()
    wrong_before = float((before.argmax(1) != y).float().mean())
    assert float((restored(x).argmax(1) != y).float().mean()) <= wrong_before + 0.02


def test_a_compressed_network_can_be_compressed_again(normed, loader):
    model = copy.deepcopy(normed)
    first = compress(model, loader, epochs=15)
    assert any(batch_norm.is_folded(n) for n in batch_norm.norms(model).values())
    second = compress(model, loader, epochs=15, allowed_rise=100)
    assert second.errors["before"] == pytest.approx(first.errors["end"], abs=1)
    assert second.errors["retrained"] <= first.errors["end"] + 2  # statistics to train with


def test_zeros_stay_zero_in_fine_tuning(trained, loader):
    model = copy.deepcopy(trained)
    sws.compress(model, loader, tau=0.02, epochs=20, progress=False)
    empty = model[0].weight == 0
    assert empty.any()
    kept = sws.keep_zeros(model)
    before = model[0].weight.detach().clone()
    train(model, loader, F.cross_entropy, 1)
    assert torch.equal(model[0].weight == 0, empty)
    assert not torch.equal(model[0].weight, before)
    kept.remove()
    train(model, loader, F.cross_entropy, 1)
    assert (model[0].weight[empty] != 0).any()


# --- the page -------------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[1] / "docs" / "your-own-network.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.filterwarnings("ignore::sws.api.RiseWarning")
@pytest.mark.parametrize("code", EXAMPLES, ids=["vision", "transformer", "table", "sequence"])
def test_the_examples_of_the_page_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    code = code.replace("epochs=20", "epochs=6, progress=False, allowed_rise=100")
    assert "progress=False" in code
    scope = {}
    exec(compile(code.replace("target_error=5.0", "target_error=60.0"), "page", "exec"), scope)
    assert scope["result"].ratio > 2
