"""The README's example, run on a network that the registry does not know."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sws
from sws import datasets
from sws.augmentation import Preparation
from sws.evaluation import error_pct

README = Path(__file__).resolve().parents[1] / "README.md"


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


def readme_example() -> str:
    """The code block of the README that calls sws.compress."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [b for b in blocks if "sws.compress" in b]
    return block


def test_the_example_of_the_readme(trained, tmp_path, monkeypatch, capsys):
    model, loader, x, y = trained
    before = error_pct(model, x, y)
    monkeypatch.chdir(tmp_path)
    scope = {"model": model, "loader": loader, "MyNetwork": MyNetwork}
    torch.manual_seed(1)
    code = readme_example().replace("tau=0.2", "tau=0.01").replace("epochs=40", "epochs=12")
    exec(compile(code, "README.md", "exec"), scope)
    size = Path("model.sws").stat().st_size
    assert capsys.readouterr().out == f"{size} bytes\n"
    dense = 4 * sum(p.numel() for p in model.parameters())
    assert dense / size > 10
    restored = scope["restored"]
    assert isinstance(restored, MyNetwork)
    after = error_pct(restored, x, y)
    assert after <= before + 5
    network = scope["network"]
    assert network.architecture is None
    assert {t.kind for t in network.quantized} == {"conv", "fc"}


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
            np.testing.assert_array_equal(value.numpy(), state[name])


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
        chosen = sws.settings(epochs=epochs)
        total = chosen.retraining.epochs + chosen.quantization.sharing_epochs
        assert total + chosen.quantization.refinement_epochs <= max(2, epochs)
