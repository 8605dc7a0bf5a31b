"""Shared weights while they train, and the network that is made of them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from sws import codec
from sws.compression.sharing import SharedWeights, add_by_entry, any_order, membership
from sws.data.batches import TensorBatches
from sws.models import registry
from sws.network.from_module import build_network
from sws.network.quantized import Architecture, QuantizedTensor, RawTensor
from sws.network.to_module import build_module
from sws.network.weights import compressible
from sws.training.evaluation import error_pct
from sws.training.loop import FitSettings, fit

BOOK = np.array([0, -0.3, 0.2, 0.4])


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 9, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))


LAYOUTS = [torch.contiguous_format, torch.channels_last]


def network(layout=torch.channels_last):
    torch.manual_seed(0)
    return Network().to(memory_format=layout)


def indexes(model, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.choice(4, tuple(p.shape), p=[0.4, 0.2, 0.2, 0.2]))
        for name, p in compressible(model).items()
    }


def data(count=64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, 5, 5, generator=generator)
    return x, torch.randint(5, (count,), generator=generator)


def shared(model, **more):
    return SharedWeights(indexes(model), BOOK, 0.1, **more)


def assert_shared(model, method):
    book = method.codebook.detach()
    for name, index in method.indexes().items():
        assert torch.equal(dict(model.named_parameters())[name], book[index]), name
    assert book[0] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("frozen", [False, True])
def test_weights_are_codebook_values_all_the_time(layout, frozen):
    model = network(layout)
    start = indexes(model)
    checked = []

    class Checked(SharedWeights):
        def after_step(self):
            super().after_step()
            assert_shared(model, self)
            checked.append(True)

    method = Checked(start, BOOK, 0.1, frozen=frozen)
    before = model.fc.bias.detach().clone()
    fit(model, TensorBatches(*data(), 16, 0), method, FitSettings(5, 0.02))
    assert len(checked) == 20
    assert_shared(model, method)
    now = method.indexes()
    for name, index in start.items():
        assert (now[name][index == 0] == 0).all(), "zeros stay zero"
        assert now[name].is_contiguous()
        if frozen:
            assert torch.equal(now[name], index)
    if not frozen:
        assert any(not torch.equal(now[n], start[n]) for n in start)
    assert method.codebook[0] == 0
    assert (method.codebook.detach() != torch.tensor(BOOK).float())[1:].all()
    assert not torch.equal(model.fc.bias, before)
    total = sum(p.numel() for p in compressible(model).values())
    assert method.counts.sum() == total
    zeros = sum(int((p == 0).sum()) for p in compressible(model).values())
    assert method.counts[0] == zeros
    assert method.record()["nonzero_pct"] == pytest.approx(100 * (1 - zeros / total), rel=1e-5)


def test_training_shared_weights_lowers_the_loss():
    model = network()
    history = fit(model, TensorBatches(*data(), 16, 0), shared(model), FitSettings(15, 0.02))
    assert history.rows[-1]["cross_entropy"] < 0.9 * history.rows[0]["cross_entropy"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_codebook_entry_gets_the_sum_of_its_weights_gradients(layout, frozen):
    model = network(layout)
    method = shared(model, frozen=frozen)
    method.attach(model)
    x, y = data()
    book = torch.tensor(BOOK, dtype=torch.float32, requires_grad=True)
    state = {name: book[index] for name, index in indexes(model).items()}
    dense = {n: v.detach().clone().requires_grad_() for n, v in state.items()}
    rest = {n: p for n, p in model.named_parameters() if n not in state}
    nn.functional.cross_entropy(functional_call(model, state | rest, (x,)), y).backward()
    nn.functional.cross_entropy(functional_call(model, dense | rest, (x,)), y).backward()
    model.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(model(x), y).backward()
    method.after_backward()
    assert method.codebook.grad[0] == 0
    torch.testing.assert_close(method.codebook.grad[1:], book.grad[1:])
    for name, index, latent in zip(state, indexes(model).values(), method.latent, strict=True):
        if frozen:
            assert not latent.requires_grad
            continue
        order = dense[name].grad, index
        if layout == torch.channels_last and index.ndim == 4:
            order = tuple(v.permute(0, 2, 3, 1) for v in order)
        gradient, index = (v.reshape(-1) for v in order)
        torch.testing.assert_close(latent.grad, gradient[index != 0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_earlier_gradients_do_not_leak_into_the_first_step(layout):
    """The weights are not in the optimiser, which therefore does not clear their gradients."""
    clean, dirty = network(layout), network(layout)
    for parameter in dirty.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    for model in (clean, dirty):
        fit(model, TensorBatches(*data(), 16, 0), shared(model), FitSettings(1, 0.02))
    for a, b in zip(clean.parameters(), dirty.parameters(), strict=True):
        assert torch.equal(a, b)


class Recorded(SharedWeights):
    """Keeps the network's output from before and after the end of the epoch."""

    def end_epoch(self, epoch, epochs):
        self.before = self.run()
        super().end_epoch(epoch, epochs)
        self.after = self.run()


@pytest.mark.parametrize("frozen", [False, True])
def test_what_has_no_effect_becomes_zero(frozen):
    """An input that is always 0, a unit whose outputs nobody reads, and units without inputs."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.rand(48, 6)
    x[:, 2] = 0
    start = {n: torch.randint(1, 4, p.shape) for n, p in compressible(model).items()}
    start["0.weight"][3:] = 0  # units 3 and 4 have no inputs ...
    start["2.weight"][:, 0] = 0  # ... and nobody reads unit 0
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([0.1, 0.2, 0.3, -1.0, 1.0]))
    method = Recorded(start, BOOK, 0.05, frozen=frozen)
    method.run = lambda: model(x).detach()
    labels = torch.arange(48) % 3
    fit(model, TensorBatches(x, labels, 16, 0), method, FitSettings(1, 1e-3))
    now = method.indexes()
    assert (now["0.weight"][:, 2] == 0).all()
    assert (now["0.weight"][0] == 0).all()
    assert (now["2.weight"][:, 3] == 0).all()  # unit 3 is off
    assert model[0].bias[3] == 0  # and its bias costs nothing now
    assert model[0].bias[4] > 0.9  # unit 4 is on without inputs: its bias has an effect
    assert (now["2.weight"][:, 4] != 0).any()
    assert (now["0.weight"][1:3, :2] != 0).any()
    assert torch.equal(method.before, method.after)
    assert_shared(model, method)


def test_a_network_of_zeros_trains_its_biases():
    model = network()
    nothing = {n: torch.zeros(p.shape, dtype=torch.int64) for n, p in compressible(model).items()}
    method = SharedWeights(nothing, BOOK, 0.1)
    before = model.fc.bias.detach().clone()
    fit(model, TensorBatches(*data(), 16, 0), method, FitSettings(2, 0.02))
    assert not torch.equal(model.fc.bias, before)
    assert method.counts.tolist() == [sum(i.numel() for i in nothing.values()), 0, 0, 0]


# --- what it becomes on disk ----------------------------------------------------------------------


def values(built, name):
    return built.state_dict()[name]


def single(index, book, bias, **more):
    model = nn.Linear(len(index[0]), len(index))
    with torch.no_grad():
        model.bias.copy_(torch.tensor(bias))
    return build_network(model, {"weight": torch.tensor(index)}, np.array(book), **more)


def test_a_codebook_starts_at_zero_and_holds_what_is_used():
    built = single([[3, 1], [1, 0]], [0.0, 0.5, 9.0, -0.25], [0.0, 1.0])
    (book,) = built.codebooks
    assert book.dtype == np.float16
    assert book[0] == 0
    assert not np.signbit(book[0])
    assert sorted(book.tolist()) == [-0.25, 0, 0.5]
    assert values(built, "weight").tolist() == [[-0.25, 0.5], [0.5, 0.0]]
    assert built.quantized[0].indexes.dtype == np.uint8


def test_entries_that_float16_cannot_tell_apart_become_one():
    built = single([[1, 2], [3, 4]], [0.0, 0.5, 0.50001, -1e-9, 1.0], [0.0, 1.0])
    assert built.codebooks[0].size == 3
    assert values(built, "weight").tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert built.nonzeros == 3


def test_other_parameters_keep_the_bits_they_are_given():
    bias = [1 + 1 / 64, 1 + 3 / 64, -(1 + 1 / 32), 0.1, -0.0, 65504.0, 6e-8]
    index = [[0]] * len(bias)
    full = values(single(index, [0.0], bias), "bias")
    np.testing.assert_array_equal(full, np.float16(bias).astype(np.float32))
    five = values(single(index, [0.0], bias, bias_bits=5), "bias")
    assert five[:3].tolist() == [1.0, 1.0625, -1.03125]  # ties to even
    assert abs(five[3] - 0.1) <= 0.1 / 64
    assert not np.signbit(five[4])
    assert np.isfinite(five).all()
    raw = np.float16(five[:5]).view(np.uint16)
    assert not (raw & 0b11111).any()


@pytest.mark.parametrize("bits", [1, 5, 10])
def test_rounding_is_to_the_nearest(bits):
    bias = np.random.default_rng(0).normal(0, 1, 500)
    rounded = values(single([[0]] * 500, [0.0], bias.tolist(), bias_bits=bits), "bias")
    assert (np.abs(rounded - bias) <= np.abs(bias) * 2.0 ** -(bits + 1) * 1.01).all()


def test_what_float16_cannot_hold_is_float32():
    built = single([[1]], [0.0, 1e6], [-7e4])
    assert built.codebooks[0].tolist() == [0.0, 1e6]
    assert values(built, "bias").tolist() == [-7e4]
    tiny = np.float32(3e-8)  # float16 has 2^-24, 6e-8, and nothing below it
    built = single([[1]], [0.0, tiny], [tiny])
    assert built.codebooks[0].tolist() == [0.0, tiny] and values(built, "bias") == [tiny]
    assert codec.decode(codec.encode(built)) == built
    with pytest.raises(OverflowError, match="codebook"):
        single([[1]], [0.0, float("inf")], [0.0])
    with pytest.raises(OverflowError, match="bias"):
        single([[1]], [0.0, 1.0], [float("nan")])
    assert single([[0]], [0.0, 1e6], [0.0]).codebooks[0].tolist() == [0.0]  # nothing uses it


def test_many_entries_get_wider_indexes():
    index = np.arange(300).reshape(3, 100)
    built = single(index.tolist(), np.arange(300) / 512, [0.0] * 3)
    assert built.quantized[0].indexes.dtype == np.uint16
    np.testing.assert_array_equal(values(built, "weight"), np.float32(index / 512))


def test_every_tensor_finds_its_place():
    model = network()
    built = build_network(model, indexes(model), BOOK)
    kinds = {
        t.name: t.kind if isinstance(t, QuantizedTensor) else t.trainable for t in built.tensors
    }
    assert kinds == {
        "conv.weight": "conv", "conv.bias": True, "norm.weight": True, "norm.bias": True,
        "norm.running_mean": False, "norm.running_var": False, "fc.weight": "fc", "fc.bias": True,
    }  # fmt: skip
    assert built.parameters == sum(p.numel() for p in model.parameters())


def exact(model):
    """Give every parameter a value that float16 holds, the weights those of a codebook."""
    book = np.float16(BOOK).astype(np.float32)
    chosen = indexes(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in chosen:
                parameter.copy_(torch.from_numpy(book)[chosen[name]])
            else:
                parameter.copy_((0.1 * torch.randn(parameter.shape)).half().float())
    return chosen


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5-caffe"])
def test_the_file_holds_the_very_network(name):
    torch.manual_seed(0)
    model = registry.build(name)
    built = build_network(model, exact(model), BOOK, architecture=Architecture(name, {}))
    decoded = codec.decode(codec.encode(built))
    assert decoded == built
    x = torch.rand(50, 1, 28, 28)
    labels = model(x).argmax(dim=1)
    with torch.inference_mode():
        assert torch.equal(build_module(decoded)(x), model(x))
    assert error_pct(build_module(decoded), x, labels) == 0
    labels[:5] = (labels[:5] + 1) % 10
    assert error_pct(build_module(decoded), x, labels, batch_size=7) == pytest.approx(10)


def test_a_network_the_registry_does_not_know_comes_back_with_its_buffers():
    model = network(torch.contiguous_format)
    chosen = exact(model)
    with torch.no_grad():
        model.norm.running_mean.copy_(torch.tensor([0.5, -1, 0.25, 2]))
        model.norm.running_var.copy_(torch.tensor([1, 4, 0.25, 2]))
    decoded = codec.decode(codec.encode(build_network(model, chosen, BOOK)))
    x, _ = data()
    restored = build_module(decoded, Network())
    with torch.inference_mode():  # a·x + b is a normalisation in float16, with 11 bits each
        torch.testing.assert_close(restored.eval()(x), model.eval()(x), rtol=1e-2, atol=2e-3)
    assert torch.equal(restored.norm.running_mean, torch.zeros(4))
    with pytest.raises(ValueError, match="pass the module"):
        build_module(decoded)
    with pytest.raises(ValueError, match="0.conv.weight is not in the file"):
        build_module(decoded, nn.Sequential(Network()))


def test_quantizing_a_quantized_network_returns_it():
    model = network()
    built = build_network(model, exact(model), BOOK)
    (book,) = built.codebooks
    module = build_module(built, Network())
    positions = {
        name: torch.from_numpy(np.abs(p.detach().numpy()[..., None] - book).argmin(axis=-1))
        for name, p in compressible(module).items()
    }
    again = build_network(module, positions, book)
    assert again == built
    assert any(isinstance(t, RawTensor) for t in again.tensors)


def test_sums_by_entry_are_one_matrix_product():
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(5, (1000,), generator=generator)
    values = torch.randn(1000, generator=generator, dtype=torch.float64)
    sums = torch.ones(6, dtype=torch.float64)
    add_by_entry(sums, index, values)
    product = membership(index, 6).double() @ values  # what a GPU does
    torch.testing.assert_close(sums, 1 + product)
    torch.testing.assert_close(product[3], values[index == 3].sum())
    assert product[5] == 0


@pytest.mark.parametrize("mode", [(True, True), (True, False), (False, False)])
def test_the_deterministic_mode_comes_back_as_it_was(mode):
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])
        with pytest.raises(KeyError), any_order():
            assert not torch.are_deterministic_algorithms_enabled()
            raise KeyError
        assert torch.are_deterministic_algorithms_enabled() == mode[0]
        assert torch.is_deterministic_algorithms_warn_only_enabled() == mode[1]
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
