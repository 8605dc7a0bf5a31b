"""Configuration: what is wrong is said in one line, before anything runs."""

import ast
import json
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from sws.config.configuration import load_configuration, schemas, validate_configuration
from sws.config.deep_compression import DeepCompression
from sws.config.experiment import load_experiment
from sws.config.schema import ConfigurationError, validated
from sws.config.sections import Precision, Quantization
from sws.config.seeds import MAX_SEED
from sws.config.soft_weight_sharing import SoftWeightSharing
from sws.data.batches import TensorBatches

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


def test_a_file_in_another_encoding_is_called_that(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("pairs: []  # größer".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not in UTF-8"):
        load_configuration(path)


@pytest.mark.parametrize("value", ["9" * 5000, "2001-99-99"])
def test_a_number_or_date_that_is_none_is_not_valid_yaml(tmp_path, value):
    path = tmp_path / "config.yaml"
    path.write_text(f"pairs: []\nseeds: [{value}]\n")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        load_configuration(path)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 2**64 - 1, 10**20])
def test_seeds_have_bounds(seed):
    with pytest.raises(ConfigurationError, match=r"seeds\.0 = .*: input should be"):
        validate_configuration({"pairs": [], "seeds": [seed]}, "here")
    assert validate_configuration({"pairs": [], "seeds": [MAX_SEED]}, "here").seeds == (MAX_SEED,)


def test_every_seed_can_order_batches():
    batches = TensorBatches(torch.zeros(4, 1), torch.zeros(4), 2, seed=MAX_SEED)
    assert len(list(batches(10_000))) == 2


def test_places_know_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    places = ("results", "data_root", "checkpoint_root", "nncodec")
    found = validate_configuration({"pairs": []} | dict.fromkeys(places, "~/x"), "here")
    assert {getattr(found, place) for place in places} == {tmp_path / "x"}


@pytest.mark.parametrize("name", ["a{seed}", "a}", "a\nb"])
def test_results_lie_in_no_pattern(name):
    with pytest.raises(ConfigurationError, match="without braces and line ends"):
        validate_configuration({"pairs": [], "results": name}, "here")


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
DOCUMENTED |= {"start", "every_point", "ladder_points"}  # points, which have fingerprints
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
