"""The paper and its tutorial as written: their settings, starts, ladders, and how they may end."""

import json
import math

import numpy as np
import pytest
import torch
import yaml

from sws import codec
from sws.compression.assignment import merge_components
from sws.compression.process import CompressionTask
from sws.config.configuration import Configuration
from sws.config.experiment import load_experiment
from sws.config.schema import ConfigurationError
from sws.config.soft_weight_sharing import SoftWeightSharing
from sws.environment import CHECKOUT
from sws.errors import InputError
from sws.methods import soft_weight_sharing
from sws.models import registry
from sws.network.to_module import build_module
from sws.prior.components import Components, initial_components
from sws.report import table1
from sws.runs.records import Case, discover, read_endings, read_run, read_runs, start_folder
from sws.study import stages
from sws.study.plan import Plan, find_experiment

PAIR = "lenet-300-100_mnist-smoke"
METHOD = "soft-weight-sharing"
EXPERIMENTS = CHECKOUT / "config" / "experiments"
REAL = EXPERIMENTS / "lenet-300-100_mnist.yaml"


# --- settings -------------------------------------------------------------------------------------


def test_means_start_where_they_are_told_to():
    weights = [torch.linspace(-1, 3, 401)]
    starts = {
        means: initial_components(weights, 5, 0.9, 0.25, means).means[1:]
        for means in ("range", "mass", (-0.6, 0.6))
    }
    assert np.allclose(starts["range"], np.linspace(-1, 3, 4), atol=1e-6)
    assert np.allclose(starts["mass"], [-0.5, 0.5, 1.5, 2.5], atol=1e-6)
    assert np.allclose(starts[-0.6, 0.6], [-0.6, -0.2, 0.2, 0.6])


def test_equal_mass_is_counted_in_weights_and_not_in_range():
    skewed = torch.cat([torch.zeros(90), torch.linspace(0.9, 1, 10)])
    means = initial_components([skewed], 11, 0.9, 0.25, "mass").means[1:]
    assert (means == 0).sum() == 9
    assert means[-1] > 0.9


@pytest.mark.parametrize(
    ("width", "variance"),
    [("variance", 0.25 * 0.04 + 0.75 * 0.09), ("precision", 1 / (0.25 / 0.04 + 0.75 / 0.09))],
)
def test_what_is_averaged_when_components_merge(width, variance):
    """Two components beside the zero component, of deviations 0.2 and 0.3 and shares 1 : 3."""
    logs = -np.log([1e-6, 0.04, 0.09])
    before = Components(np.array([0, 1.0, 1.0]), logs, np.log([0.2, 0.2, 0.6]))
    merged = merge_components(before, 1.0, width)
    assert len(merged) == 2
    assert merged.deviations[1] ** 2 == pytest.approx(variance)


def lenet():
    torch.manual_seed(3)
    return registry.build("lenet-300-100", classes=10)


def batches(epoch):
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(3):
        yield torch.rand(16, 1, 28, 28, generator=generator), torch.arange(16) % 10


def compressed(model, **prior):
    settings = SoftWeightSharing(
        prior={"update": "adam", "interval": 1, **prior},
        retraining={"epochs": 1, "tau": 0.003, "final_rate": 1},
    )
    task = CompressionTask(model, batches, 48)
    return soft_weight_sharing.compress(task, settings).network


def test_biases_are_under_the_mixture_and_in_the_file_where_it_covers_all():
    model = lenet()
    with torch.no_grad():
        model.fc1.bias.add_(0.6)
    network = compressed(model, covers="all", means=(-0.6, 0.6), components=16, deviation=0.02)
    assert not network.raw
    assert network.weights == network.parameters == 266_610
    book = set(network.codebooks[0].astype(np.float32))
    bias = next(t for t in network.quantized if t.name == "fc1.bias")
    assert (bias.kind, bias.shape) == ("fc", (300,))
    assert set(network.values(bias)) <= book
    assert (network.values(bias) != 0).any()
    decoded = codec.decode(codec.encode(network))
    assert decoded == network
    assert build_module(decoded, lenet())(torch.zeros(1, 1, 28, 28)).isfinite().all()


def test_biases_stay_out_of_it_by_default():
    network = compressed(lenet(), components=5)
    assert network.weights == 266_200
    assert {t.name for t in network.raw} == {"fc1.bias", "fc2.bias", "fc3.bias"}


def test_vectors_of_a_normalised_network_are_refused():
    task = CompressionTask(registry.build("wrn-16-4", classes=10), batches, 48)
    settings = SoftWeightSharing(prior={"covers": "all"}, retraining={"epochs": 1})
    with pytest.raises(InputError, match="covers: all is for networks without batch norm"):
        soft_weight_sharing.compress(task, settings)


def test_the_recipes_are_those_of_paper_and_tutorial():
    points = find_experiment("lenet-300-100_mnist").as_written
    paper, tutorial = points["paper"], points["tutorial"]
    assert (paper.prior.components, paper.prior.zero_proportion.value) == (17, 0.999)
    assert (paper.retraining.tau, paper.retraining.epochs) == (0.005, 100)
    assert paper.prior.rates == (5e-4, 5e-4, 5e-4)
    assert paper.prior.zero_precision is paper.prior.precision is None
    assert (tutorial.prior.components, tutorial.prior.zero_proportion.value) == (16, 0.99)
    assert (tutorial.prior.zero_precision.alpha, tutorial.prior.precision.alpha) == (5000, 250)
    assert (tutorial.retraining.tau, tutorial.retraining.batch_size) == (0.003, 256)
    for point in points.values():
        assert point.prior.interval == 1
        assert point.retraining.final_rate == 1
        assert point.quantization.sharing_epochs == point.quantization.refinement_epochs == 0
    assert points["paper-plain"] == paper.model_copy(update={"start": "plain"})


# --- starts and ladders in an experiment ----------------------------------------------------------


def altered(tmp_path, change, source=REAL):
    values = yaml.safe_load(source.read_text(encoding="utf-8"))
    change(values)
    path = tmp_path / source.name
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["as-written"]["paper"].update(start="bare"), "no start 'bare'.*main, plain"),
        (lambda v: v["starts"].update(main=v["starts"]["plain"]), "choose another name"),
        (lambda v: v["ladder"]["steps"].pop(), "does not arrive at 'main': .*bias_bits"),
        (lambda v: v["ladder"].update(base="papers"), "no point 'papers'"),
        (
            lambda v: v["ladder"]["steps"][3].update(change={"retraining": {"tua": 0.3}}),
            "ladder, tau: unknown key 'retraining.tua'; did you mean 'tau'",
        ),
        (
            lambda v: v["ladder"]["steps"][3].update(change={"retraining": {"tau": 0.005}}),
            "tau: changes nothing",
        ),
    ],
)
def test_what_a_ladder_or_a_start_gets_wrong_is_named(tmp_path, change, words):
    with pytest.raises(ConfigurationError, match=words):
        load_experiment(altered(tmp_path, change))


def test_a_ladder_changes_one_thing_at_a_time_and_leaves_out_one_thing():
    experiment = find_experiment("lenet-300-100_mnist")
    points = experiment.ladder_points
    steps = experiment.ladder.steps
    assert len(points) == 2 * len(steps) - 1  # the last rung is main itself
    main = experiment.point(METHOD, "main")
    em = points["ladder-03-em"]
    assert (em.prior.update, em.retraining.tau) == ("em", 0.005)
    assert points["ladder-04-tau"].retraining.tau == 0.3
    assert points["ladder-04-tau"].prior == em.prior
    without = points["without-em"]
    assert (without.prior.update, without.prior.interval) == ("adam", 1)
    assert without.model_copy(update={"prior": main.prior}) == main
    # what a later step replaced is not put back with an earlier one
    assert points["without-merging"].quantization.merge == "divergence"
    assert points["without-merging"].quantization.assignment == "rd"
    assert points["without-annealing"].prior.zero_precision.alpha == 5000
    assert points["without-hyper-priors"].prior.zero_precision is None


def test_a_plan_knows_what_a_named_start_needs():
    plan = Plan(Configuration(pairs=("lenet-300-100_mnist",), seeds=(1, 2)))
    pair = ("lenet-300-100", "mnist")
    plain = start_folder("results", pair, "plain", 2)
    assert plain.as_posix() == "results/pretrained/lenet-300-100_mnist/plain/seed-2"
    shared = start_folder("results", pair, "main", 2)
    assert shared.as_posix() == "results/pretrained/lenet-300-100_mnist/seed-2"
    needed = plan.start_files("lenet-300-100_mnist", METHOD, "paper-plain", "2")
    assert needed[0] == f"{plain.as_posix()}/pretrained.safetensors"
    assert plan.start_files("lenet-300-100_mnist", METHOD, "paper", "2")[0].startswith(str(shared))
    starts = plan.starts("paper")
    assert set(starts) == {
        start_folder("results", pair, s, n) for s in ("main", "plain") for n in (1, 2)
    }
    assert plan.starts("mnist") == [start_folder("results", pair, "main", n) for n in (1, 2)]
    identities = [
        plan.identity("pretrain", "lenet-300-100_mnist", start=s) for s in ("main", "plain")
    ]
    assert identities[0]["settings"] != identities[1]["settings"]
    assert identities[0]["code"] == identities[1]["code"]


def test_a_ladder_runs_on_as_many_seeds_as_it_asks_for():
    pair = "lenet-5-caffe_mnist"
    plan = Plan(Configuration(pairs=(pair,), seeds=(1, 2, 3, 4, 5)))
    files = plan.run_files("ladder", "metrics.json")
    assert len(files) == 3 * (2 + len(find_experiment(pair).ladder_points))
    assert not any("seed-4" in file for file in files)
    assert len(plan.run_files("paper", "metrics.json")) == 5 * (
        1 + len(find_experiment(pair).as_written)
    )


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The smoke experiment with a start of its own and points that fail in three ways."""

    def change(values):
        values["pretraining"]["batch_size"] = 200
        values["starts"] = {"plain": {"epochs": 1, "batch_size": 500, "learning_rate": 0.001}}
        adam = {"components": 5, "update": "adam", "interval": 1}
        short = {"epochs": 2, "batch_size": 200, "final_rate": 1}
        values["as-written"] = {
            "plain": {"start": "plain", "prior": adam, "retraining": short},
            "wild": {
                "prior": adam,
                "retraining": {"epochs": 4, "batch_size": 100, "tau": 10, "learning_rate": 0.01},
            },
        }

    folder = tmp_path_factory.mktemp("experiment")
    source = EXPERIMENTS / f"{PAIR}.yaml"
    return load_experiment(altered(folder, change, source))


@pytest.fixture(scope="module")
def results(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for start in ("main", "plain"):
        stages.run_pretraining(experiment, 1, folder, checkpoints=folder / "saved", start=start)
    return folder


def run(experiment, results, point):
    return stages.run_compression(
        experiment, METHOD, point, 1, results, checkpoints=results / "saved"
    )


def test_a_point_begins_with_the_start_it_names(experiment, results):
    metrics = json.loads((run(experiment, results, "plain") / "metrics.json").read_text())
    begun = start_folder(results, ("lenet-300-100", "mnist-smoke"), "plain", 1)
    measured = json.loads((begun / "metrics.json").read_text())
    assert metrics["start"] == "plain"
    assert metrics["error_start_pct"] == measured["error_start_pct"]
    shared = start_folder(results, ("lenet-300-100", "mnist-smoke"), "main", 1)
    assert (
        metrics["error_start_pct"]
        != json.loads((shared / "metrics.json").read_text())["error_start_pct"]
    )


@pytest.mark.parametrize("point", ["wild"])
def test_what_diverges_under_literal_settings_is_a_row_that_says_so(experiment, results, point):
    folder = run(experiment, results, point)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "at step " in metrics["status"] or "left" in metrics["status"]
    assert metrics["message"]
    assert not {"error_end_pct", "cr", "bytes", "nonzero_pct"} & set(metrics)
    assert (folder / "history.csv").read_text().startswith("epoch,")
    assert not list((results / "saved").rglob("*.pt"))
    case = Case("lenet-300-100", "mnist-smoke", METHOD, point)
    assert read_run(results, case, 1) is None
    assert case in discover(results)
    endings = read_endings(results, case, [1, 2])
    assert endings == {1: metrics["status"]}
    row = table1.measured_row(case, read_runs(results, case, [1]), [1, 2], False, endings)
    assert (row["status"], row["seeds_missing"]) == (metrics["status"], "2")
    text = table1.table([row]).to_markdown()
    assert metrics["status"] in text


def test_a_row_of_the_table_that_diverges_is_an_error(experiment, results, monkeypatch):
    def nothing(*arguments):
        raise stages.DivergedError("step 7: gone", "diverged at step 7")

    monkeypatch.setattr(stages, "compress_on", nothing)
    with pytest.raises(stages.DivergedError, match="step 7"):
        run(experiment, results, "main")
    assert not (results / "runs" / PAIR / METHOD / "main").exists() or not list(
        (results / "runs" / PAIR / METHOD / "main").rglob("metrics.json")
    )


def test_a_seed_that_diverged_is_told_beside_those_that_did_not():
    case = Case("lenet-300-100", "mnist", METHOD, "paper")
    row = table1.measured_row(case, [], [1, 2], False, {2: "diverged at step 9"})
    row |= {"status": "ok", "seeds": 1, "error_end_pct": 2.0, "error_start_pct": 1.0}
    shown = table1.table([row]).to_markdown()
    assert "seed 2 diverged at step 9" in shown
    assert not math.isnan(row["error_end_pct"])
