import pytest
import torch

from sws.models import registry


def count(network):
    """Values in weights, biases and batch-norm parameters, told apart by the layers' types."""
    weights = biases = norms = 0
    for layer in network.modules():
        own = list(layer.named_parameters(recurse=False))
        if isinstance(layer, torch.nn.BatchNorm2d):
            norms += sum(p.numel() for _, p in own)
            continue
        weights += sum(p.numel() for name, p in own if name == "weight")
        biases += sum(p.numel() for name, p in own if name == "bias")
    assert weights + biases + norms == sum(p.numel() for p in network.parameters())
    return weights, biases, norms


@pytest.mark.parametrize("name", registry.names())
def test_parameter_counts(name):
    spec = registry.spec(name)
    assert count(registry.build(name)) == (spec.weights, spec.biases, spec.norms)
    assert spec.parameters == spec.weights + spec.biases + spec.norms


def test_totals_of_the_literature():
    assert registry.spec("lenet-300-100").parameters == 266_610
    assert registry.spec("lenet-5-caffe").parameters == 431_080
    assert registry.spec("wrn-16-4").parameters == 2_748_890
    assert round(registry.spec("vgg-16").parameters / 1e6, 2) == 14.99


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("classes", [10, 100])
def test_forward_shape_and_gradients(name, classes):
    network = registry.build(name, classes=classes)
    logits = network(torch.rand(2, *registry.spec(name).input_shape))
    assert logits.shape == (2, classes)
    logits.logsumexp(1).sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("name", registry.names())
def test_initialization_follows_the_seed(name):
    def state(seed):
        torch.manual_seed(seed)
        return registry.build(name).state_dict()

    first, again, other = state(1), state(1), state(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [k for k, value in first.items() if k.endswith("weight") and value.ndim > 1]
    assert not any(torch.equal(first[key], other[key]) for key in weights)
    biases = [k for k in first if k.endswith("bias")]
    assert all((first[key] == 0).all() for key in biases)


@pytest.mark.parametrize("name", registry.names())
def test_initial_signal_neither_dies_nor_explodes(name):
    torch.manual_seed(0)
    spec = registry.spec(name)
    with torch.no_grad():
        logits = registry.build(name)(torch.randn(16, *spec.input_shape))
    assert 0.1 < logits.std() < 10


def test_lenet_5_has_no_relu_after_its_convolutions():
    torch.manual_seed(0)
    network = registry.build("lenet-5-caffe")
    x = torch.randn(3, 1, 28, 28)
    pool, seen = torch.nn.MaxPool2d(2), {}
    network.conv2.register_forward_pre_hook(lambda _, args: seen.update(conv2=args[0]))
    network.fc1.register_forward_pre_hook(lambda _, args: seen.update(fc1=args[0]))
    network.fc2.register_forward_pre_hook(lambda _, args: seen.update(fc2=args[0]))
    network(x)
    assert torch.equal(seen["conv2"], pool(network.conv1(x)))
    assert torch.equal(seen["fc1"], pool(network.conv2(seen["conv2"])).flatten(1))
    assert (seen["conv2"] < 0).any() and (seen["fc1"] < 0).any()
    assert (seen["fc2"] >= 0).all() and (seen["fc2"] == 0).any()


def test_channels_last_gives_the_same_answer():
    for name in ("lenet-5-caffe", "vgg-16", "wrn-16-4"):
        torch.manual_seed(0)
        network = registry.build(name).eval()
        x = torch.randn(2, *registry.spec(name).input_shape)
        with torch.no_grad():
            expected = network(x)
            network.to(memory_format=torch.channels_last)
            found = network(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_wide_resnet_is_an_identity_where_residuals_are_zero():
    network = registry.build("wrn-16-4").eval()
    block = network.group2[1]
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 128, 4, 4)
    assert torch.equal(block(x), x)
    assert network.group2[0].shortcut is not None and block.shortcut is None


@pytest.mark.parametrize("lookup", [registry.build, registry.spec])
@pytest.mark.parametrize("name", ["lenet-301", "", None, ["vgg-16"]])
def test_unknown_model_names_the_known_ones(lookup, name):
    with pytest.raises(ValueError, match="unknown model .*lenet-300-100, lenet-5-caffe"):
        lookup(name)


def test_unknown_setting_names_the_known_ones():
    with pytest.raises(ValueError, match="no setting 'width'; its settings are classes"):
        registry.build("wrn-16-4", width=4)


@pytest.mark.parametrize("classes", [1, 0, -3, 10**9, 10.0, "10", True, None])
def test_number_of_classes_is_checked(classes):
    with pytest.raises(ValueError, match="classes is .* 2 to 10000"):
        registry.build("lenet-300-100", classes=classes)
