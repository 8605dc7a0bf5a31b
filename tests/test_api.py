"""Compressing a network that the registry does not know."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sws
from sws.api.data import Batches
from sws.data import datasets
from sws.data.augmentation import Preparation
from sws.training.evaluation import error_pct


class MyNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 5, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8 * 12 * 12, 10)

    def forward(self, x):
        return self.classifier(torch.relu(self.norm(self.convolution(x))).flatten(1))


@pytest.fixture(scope="module")
def trained():
    data = datasets.load("mnist-smoke")
    x = Preparation(data.mean, data.std)(torch.from_numpy(data.train.images.copy()))
    y = torch.from_numpy(data.train.labels.copy())
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True)
    model = MyNetwork()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(8):
        for inputs, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    test = Preparation(data.mean, data.std)(torch.from_numpy(data.test.images.copy()))
    return model, loader, test, torch.from_numpy(data.test.labels.copy())


def test_a_network_of_ones_own(trained, tmp_path):
    model, loader, x, y = copy.deepcopy(trained[0]), *trained[1:]
    before = error_pct(model, x, y)
    result = sws.compress(model, loader, epochs=12, progress=False)
    assert result.network.architecture is None
    assert {t.kind for t in result.network.quantized} == {"conv", "fc"}
    assert sws.save(result, tmp_path / "model.sws") == result.bytes
    assert result.bytes == (tmp_path / "model.sws").stat().st_size
    assert result.dense_bytes == 4 * sum(p.numel() for p in model.parameters())
    assert result.ratio > 8
    restored = sws.load(tmp_path / "model.sws", into=MyNetwork())
    assert error_pct(restored, x, y) <= before + 5


def test_a_network_outside_the_registry_loads_as_a_state_dict(trained, tmp_path):
    model = MyNetwork()
    loader = trained[1]
    network = sws.compress(model, loader, tau=0.001, epochs=2, progress=False)
    sws.save(network, tmp_path / "model.sws")
    state = sws.load(tmp_path / "model.sws")
    assert set(state) == {k for k in model.state_dict() if "num_batches" not in k}
    restored = sws.load(tmp_path / "model.sws", into=MyNetwork())
    for name, value in restored.state_dict().items():
        if name in state:
            assert torch.equal(value, state[name])


def test_another_module_is_refused(trained, tmp_path):
    network = sws.compress(MyNetwork(), trained[1], epochs=1, progress=False)
    sws.save(network, tmp_path / "model.sws")
    with pytest.raises((ValueError, RuntimeError)):
        sws.load(tmp_path / "model.sws", into=nn.Linear(3, 2))


def test_a_loader_without_a_length_needs_the_number_of_images():
    with pytest.raises(TypeError, match="images="):
        sws.compress(MyNetwork(), iter([]), progress=False)


def test_importing_the_package_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, sws, sws.codec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_default_settings_have_a_point_for_any_budget():
    for epochs in (1, 2, 5, 100):
        chosen = sws.settings(epochs=epochs, images=1000)
        total = chosen.retraining.epochs + chosen.quantization.sharing_epochs
        assert total + chosen.quantization.refinement_epochs <= max(2, epochs)


def classifier(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), *layers, nn.Linear(16, 10))


class Buffered(nn.Module):
    """Holds tensors that no file of ours may round: pixel means, a mask of infinities, counts."""

    def __init__(self):
        super().__init__()
        self.body = classifier()
        self.register_buffer("mean", torch.tensor([123.675]))
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("large", torch.tensor([1e6]))
        self.register_buffer("count", torch.tensor([3], dtype=torch.int32))

    def forward(self, x):
        return self.body(x)


def test_buffers_come_back_as_they_were(trained, tmp_path):
    network = sws.compress(Buffered(), trained[1], epochs=1, progress=False)
    sws.save(network, tmp_path / "model.sws")
    restored, first = sws.load(tmp_path / "model.sws", into=Buffered()), Buffered()
    for name, buffer in first.named_buffers():
        assert torch.equal(restored.get_buffer(name), buffer)


def test_a_frozen_layer_is_snapped_and_not_lost(trained):
    model = classifier(nn.Linear(16, 16))
    model[3].weight.requires_grad_(False)
    before = model[3].weight.clone()
    network = sws.compress(model, trained[1], epochs=3, units="weight", progress=False).network
    after = model[3].weight
    assert (after != before).any()
    (tensor,) = (t for t in network.quantized if t.name == "3.weight")
    values = tensor.scale * torch.tensor(network.codebooks[tensor.codebook].astype("float32"))
    assert torch.isclose(after.unique()[:, None], values).any(dim=1).all()
    assert (after - before).abs().mean() < 0.5 * before.abs().mean()


@pytest.mark.parametrize("method", ["soft-weight-sharing", "subsampled-outside"])
def test_a_layer_that_the_loss_does_not_reach_costs_nothing(trained, method):
    class Detour(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.idle = classifier(), nn.Linear(16, 16)

        def forward(self, x):
            return self.body(x)

    chosen = sws.settings(epochs=3, tau=0.01)
    if method == "subsampled-outside":
        from sws.compression.process import CompressionTask
        from sws.methods import subsampled

        prior = chosen.prior.model_copy(update={"estimator": method, "samples": 2000})
        chosen = chosen.model_copy(update={"prior": prior})
        model = Detour()
        batches = Batches(model, trained[1], torch.device("cpu"))
        task = CompressionTask(model, batches, 2000)
        network = subsampled.compress(task, chosen).network
    else:
        network = sws.compress(Detour(), trained[1], using=chosen, progress=False).network
    (idle,) = [t for t in network.quantized if t.name == "idle.weight"]
    assert not idle.indexes.any()


def test_what_cannot_be_compressed_is_refused_before_training(trained):
    def one_memory():
        model = classifier(nn.Linear(16, 16), nn.Linear(16, 16))
        model[4].weight = nn.Parameter(model[3].weight.detach())
        return model

    def transposed():
        model = classifier()
        model[1].weight = nn.Parameter(model[1].weight.detach().t().contiguous().t())
        return model

    def odd_buffer():
        model = classifier()
        model.register_buffer("small", torch.zeros(1, dtype=torch.int16))
        return model

    for model, words in (
        (one_memory(), "4.weight and 3.weight are two parameters in the same memory"),
        (classifier().double(), "float64: train and compress in float32"),
        (transposed(), "1.weight is a transposed view"),
        (odd_buffer(), "small is int16"),
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(784)), "no weight to compress"),
    ):
        with pytest.raises(ValueError, match=words):
            sws.compress(model, trained[1], epochs=1, progress=False)


def test_modes_and_random_numbers_are_left_as_they_were(trained):
    model = MyNetwork().eval()
    model.convolution.train()
    batches = list(trained[1])[:2]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    sws.compress(model, batches, images=100, epochs=1, progress=False)
    assert torch.equal(torch.rand(1), expected)
    assert [m.training for m in model.modules()] == [False, True, False, False]


def test_a_file_of_another_shape_changes_nothing(trained, tmp_path):
    sws.save(sws.compress(classifier(), trained[1], epochs=1, progress=False), tmp_path / "m.sws")
    other = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 9))
    before = other[1].weight.clone()
    with pytest.raises(ValueError, match="3.weight is"):
        sws.load(tmp_path / "m.sws", into=other)
    assert torch.equal(other[1].weight, before)


def test_the_last_part_trains_at_half_the_rate():
    assert sws.settings(images=9, learning_rate=1e-5).quantization.refinement_rate == 5e-6
