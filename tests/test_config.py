"""Configuration: what is wrong is said in one line, before anything runs."""

import ast
import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from sws.config.configuration import load_configuration, schemas
from sws.config.deep_compression import DeepCompression
from sws.config.experiment import load_experiment
from sws.config.schema import ConfigurationError, validated
from sws.config.sections import Precision, Quantization
from sws.config.soft_weight_sharing import SoftWeightSharing

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "config" / "experiments" / "lenet-300-100_mnist-smoke.yaml"
CONFIG = ROOT / "sws" / "config"
EXPERIMENTS = sorted((ROOT / "config" / "experiments").glob("*.yaml"))


def altered(tmp_path, change):
    values = yaml.safe_load(SMOKE.read_text())
    change(values)
    path = tmp_path / SMOKE.name
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", sorted(schemas()))
def test_schemas_are_those_of_the_settings(name):
    stored = (ROOT / "workflow" / "schemas" / name).read_text()
    generated = json.dumps(schemas()[name], indent=2) + "\n"
    assert stored == generated, "run 'make schemas'"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_valid_and_named_after_their_pair(path):
    experiment = load_experiment(path)
    assert experiment.pair == path.stem
    assert "main" in experiment.soft_weight_sharing


def test_the_configuration_is_valid():
    configuration = load_configuration(ROOT / "config" / "config.yaml")
    assert configuration.seeds == (1, 2, 3)


def test_the_reference_overlay_changes_the_seeds_only():
    plain = load_configuration(ROOT / "config" / "config.yaml")
    overlaid = load_configuration(
        ROOT / "config" / "config.yaml", ROOT / "config" / "reference.yaml"
    )
    assert overlaid.seeds == (1, 2, 3, 4, 5)
    assert overlaid.pairs == plain.pairs


def test_a_mistyped_key_gets_a_suggestion(tmp_path):
    path = altered(tmp_path, lambda v: v["pretraining"].update(epoch=3))
    with pytest.raises(ConfigurationError) as caught:
        load_experiment(path)
    message = str(caught.value)
    assert "unknown key 'pretraining.epoch'" in message
    assert "did you mean 'epochs'" in message
    assert "\n" not in message


def test_a_value_out_of_range_is_named_with_its_range(tmp_path):
    def change(values):
        values["soft-weight-sharing"]["main"]["retraining"]["tau"] = -1

    with pytest.raises(ConfigurationError) as caught:
        load_experiment(altered(tmp_path, change))
    message = str(caught.value)
    assert "retraining.tau = -1" in message
    assert "greater than or equal to 0" in message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no such file"):
        load_experiment(tmp_path / "none.yaml")


def test_broken_yaml_is_located(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("model: [a\ndataset: b\n")
    with pytest.raises(ConfigurationError, match="not valid YAML in line"):
        load_experiment(path)


def test_a_fingerprint_knows_values_and_not_their_spelling(tmp_path):
    experiment = load_experiment(SMOKE)
    spelled_out = altered(tmp_path, lambda v: v["pretraining"].update(weight_decay=0.0))
    changed = altered(tmp_path, lambda v: v["pretraining"].update(weight_decay=0.1))
    original = experiment.pretraining.fingerprint()
    assert load_experiment(changed).pretraining.fingerprint() != original
    spelled_out.write_text(SMOKE.read_text().replace("epochs: 2\n", "epochs:   2  # two\n", 1))
    assert load_experiment(spelled_out).pretraining.fingerprint() == original


def test_what_makes_no_sense_is_refused():
    retraining = {"epochs": 1}
    for kind, values, words in (
        (SoftWeightSharing, {"prior": {"components": 2}, "retraining": retraining}, "at least 3"),
        (DeepCompression, {"unit": "tensor", "retraining": retraining}, "leave unit"),
        (Precision, {"pseudo_count": 1, "deviation": [[0.5, 1], [0.2, 2]]}, "must ascend"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            validated(kind, values, "here")


def test_map_needs_components():
    """Merging by rate leaves codebook entries, which have no responsibilities."""
    with pytest.raises(ValidationError, match="use assignment rd or nearest"):
        Quantization(merge="rate")
    assert Quantization(merge="rate", assignment="nearest").assignment == "nearest"
    assert Quantization().assignment == "map"


DOCUMENTED = {"follows", "pair", "methods", "point", "fingerprint", "tuned_as"}
"""What a class in sws/config may have beside fields: names, lookups and a hash of the values."""


def more_than_declared(source):
    """``Class.member`` of all that is no field, no validator and not documented."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        for member in node.body:
            if isinstance(member, ast.AnnAssign | ast.Assign | ast.Expr):  # a field, or a docstring
                continue
            decorators = " ".join(map(ast.unparse, getattr(member, "decorator_list", [])))
            name = getattr(member, "name", ast.unparse(member))
            if "_validator(" not in decorators and name not in DOCUMENTED:
                found.append(f"{node.name}.{name}")
    return found


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.py")), ids=lambda path: path.stem)
def test_settings_hold_declarations_only(path):
    """The code hash leaves sws/config out: what computes a result must lie elsewhere."""
    assert more_than_declared(path.read_text(encoding="utf-8")) == []


def test_what_settings_compute_is_found():
    source = (
        "class A(Settings):\n    x: int\n    @property\n    def batch_size(self):\n        return 1"
    )
    assert more_than_declared(source) == ["A.batch_size"]
