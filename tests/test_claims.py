"""The tables about the paper: its claims, the ladder, the mixture's rates; from run files."""

import csv
import json

import numpy as np
import pytest
from fabricated_runs import fabricate

from sws.config.methods import OURS
from sws.config.sensitivity import trial_name
from sws.environment import CHECKOUT
from sws.report import claims, ladder, sensitivity
from sws.report.claim_checks import FAILS, HOLDS, NOT_RUN, PART
from sws.report.evidence import LENET_300, _cached, pruned
from sws.report.ladder import paired
from sws.runs import published
from sws.runs.records import Case, ResultsError, rate_trial_folder, read_run
from sws.study import sensitivity as study_of_rates
from sws.study.plan import find_experiment

PAPER = Case(*LENET_300, OURS, "paper-plain")
STUDY = study_of_rates.load(CHECKOUT / "config" / "sensitivity.yaml")


@pytest.fixture
def results(tmp_path):
    _cached.cache_clear()
    return tmp_path


def change(results, case, seed, **values):
    path = case.folder(results, seed) / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def verdicts(results):
    _cached.cache_clear()
    return {row["claim"]: row for row in claims.rows(results, published.read())}


def of(results, words):
    found = [row for claim, row in verdicts(results).items() if words in claim]
    assert len(found) == 1, words
    return found[0]


def test_a_claim_without_runs_names_the_command_that_makes_them(results):
    rows = verdicts(results)
    assert len(rows) > 25
    missing = [row for row in rows.values() if row["verdict"] == NOT_RUN]
    assert len(missing) == len(rows) - 1  # Appendix A's example needs none
    assert all(row["command"].startswith(("snakemake", "sws", "make")) for row in missing)
    assert all(row["number"] == "" for row in missing)


def test_a_cell_of_table_1_holds_while_it_is_no_worse_than_the_margin(results):
    for seed in (1, 2, 3):
        fabricate(results, *LENET_300, point="paper-plain", seed=seed, scale=10, epochs=4)
    words = "LeNet-300-100 on MNIST: error after, % 1.94"
    for error, expected in ((2.03, HOLDS), (2.05, FAILS)):
        for seed in (1, 2, 3):
            change(results, PAPER, seed, error_end_pct=error)
        assert of(results, words)["verdict"] == expected
        assert f"paper-plain: {error} ± 0.00" in of(results, words)["number"]


def test_what_only_the_kind_reading_meets_holds_in_part(results):
    kind = Case(*LENET_300, OURS, "paper-kind-plain")
    for case, error in ((PAPER, 59.0), (kind, 1.9)):
        fabricate(results, *LENET_300, point=case.point, seed=1, scale=10, epochs=4)
        change(results, case, 1, error_end_pct=error, error_retrained_pct=1.5)
    row = of(results, "LeNet-300-100 on MNIST: error after")
    assert row["verdict"] == PART
    assert "59" in row["number"] and "paper-kind-plain: 1.90" in row["number"]
    assert of(results, "components collapse")["verdict"] == HOLDS


def test_a_run_that_diverged_counts_as_one(results):
    fabricate(results, *LENET_300, point="paper-plain", seed=1, scale=10, epochs=4)
    path = PAPER.folder(results, 1) / "metrics.json"
    metrics = json.loads(path.read_text())
    kept = {k: metrics[k] for k in ("model", "dataset", "method", "point", "seed")}
    kept |= {"error_start_pct": 1.9, "status": "diverged at step 77", "message": "-"}
    path.write_text(json.dumps(kept))
    row = of(results, "LeNet-300-100 on MNIST: error after")
    assert (row["verdict"], row["number"]) == (FAILS, "paper-plain: diverged at step 77")
    assert "1 of 1 seeds" in of(results, "components collapse")["number"]


def test_the_reference_stands_in_for_runs_that_are_not_there(results):
    fabricate(results / "reference", *LENET_300, point="main", seed=1, scale=10, epochs=4)
    change(results / "reference", Case(*LENET_300, OURS, "main"), 1,
           bytes={"dense": 1, "file": 1000, "codebook": 11})  # fmt: skip
    row = of(results, "own description")
    assert (row["verdict"], row["number"]) == (FAILS, "codebook: 1.10 % of the file")


def test_layers_are_counted_in_the_file(results):
    fabricate(results, *LENET_300, point="paper-plain", seed=1, scale=10, epochs=4)
    run = read_run(results, PAPER, 1)
    found = pruned([run])
    total = sum(size for size, _ in found.values())
    left = sum(size * (1 - share / 100) for size, share in found.values())
    assert total == run.metrics["weights"]
    assert 100 * left / total == pytest.approx(run.metrics["nonzero_pct"])


def test_the_worked_example_of_appendix_a(results):
    row = of(results, "worked example")
    assert (row["verdict"], row["number"]) == (HOLDS, "3 of 3 vectors equal")


def test_the_table_counts_its_verdicts(results):
    records = list(verdicts(results).values())
    text = claims.table(records).to_markdown()
    assert f"Of {len(records)} claims: 1 holds, {len(records) - 1} not run." in text.replace(
        "\n", " "
    )


# --- ladder ---------------------------------------------------------------------------------------


def test_differences_are_paired_by_seed():
    """Two recipes whose seeds spread widely and whose difference does not."""
    rng = np.random.default_rng(0)
    starts = dict(enumerate(rng.normal(2, 1, 5)))
    better = {seed: value - 0.1 for seed, value in starts.items()}
    found = paired(better, starts)
    assert found.mean == pytest.approx(-0.1)
    assert found.error == pytest.approx(0, abs=1e-12)
    assert paired({1: 1.0}, {2: 1.0}) == ladder.Paired(None, None, 0)


def test_a_ladder_shows_what_each_step_changes_and_what_has_not_run(results):
    experiment = find_experiment("lenet-300-100_mnist")
    for point, error, seeds in (("paper", 3.0, (1, 2, 3)), ("ladder-01-hyper-priors", 2.0, (2, 3))):
        for seed in seeds:
            fabricate(results, *LENET_300, point=point, seed=seed, scale=10, epochs=4)
            case = Case(*LENET_300, OURS, point)
            change(results, case, seed, error_end_pct=error + 0.1 * seed)
    records = ladder.rows(results, experiment)
    assert len(records) == 1 + 2 * len(experiment.ladder.steps)
    first, second, third = records[:3]
    assert (first["change_error"], second["pairs"]) == (None, 2)
    assert second["change_error"] == pytest.approx(-1.0)
    assert second["change_error_se"] == pytest.approx(0, abs=1e-9)
    assert third["status"] == "not run"
    written = {path.name for path in ladder.build(results, results, [experiment])}
    assert {"ladder.csv", "ladder_lenet-300-100_mnist.svg"} <= written


# --- rates ----------------------------------------------------------------------------------------


def try_out(results, curve, told):
    """Write trials of a curve: value → (error, bytes), or how it ended."""
    for value, outcome in told.items():
        for seed in STUDY.seeds:
            name = trial_name(curve, value)
            row = {"trial": name, "seed": seed, "settings": {}, "error_start_val_pct": 1.7}
            if isinstance(outcome, str):
                row["note"] = outcome
            else:
                row |= {"error_end_val_pct": f"{outcome[0]:.2f}", "file_bytes": str(outcome[1])}
                row |= {"error_retrained_val_pct": "1.70", "nonzero_pct": "5.0"}
            folder = rate_trial_folder(results, name, seed)
            folder.mkdir(parents=True)
            (folder / "trial.json").write_text(json.dumps(row))


def test_every_value_of_a_curve_is_a_trial_with_that_rate():
    trials = study_of_rates.trials(STUDY, find_experiment(STUDY.pair))
    assert len(trials) == sum(len(curve.values) for curve in STUDY.curves) == 64
    assert trials["fixed-3e-03"].prior.rates == (3e-3, 3e-3, 3e-3)
    assert trials["means-1e-01"].prior.rates == (1e-1, 5e-4, 5e-4)
    assert trials["fixed-3e-03"].prior.precision.alpha == 250
    assert trials["free-1e-05"].prior.precision is None
    assert (trials["interval-30"].prior.interval, trials["interval-30"].prior.update) == (30, "em")
    assert {trial.retraining.epochs for trial in trials.values()} == {40}


@pytest.mark.parametrize(("good", "expected"), [((1e-4, 3e-4), HOLDS), ((1e-5, 1e-1), FAILS)])
def test_a_rate_is_sensitive_if_few_decades_are_good(results, good, expected):
    free = STUDY.curves[0]
    told = {v: (1.9, 9000) if good[0] <= v <= good[1] else (30.0, 12_000) for v in free.values}
    try_out(results, free, told)
    assert of(results, "very sensitive")["verdict"] == expected
    assert of(results, "too fast leaves")["verdict"] == (HOLDS if expected == HOLDS else FAILS)


def test_rates_that_diverged_are_in_table_and_figure(results):
    free = STUDY.curves[0]
    told = {value: (2.0, 9000) for value in free.values[:-1]}
    try_out(results, free, told | {free.values[-1]: "diverged at step 12"})
    written = sensitivity.build(results, results, STUDY)
    table = next(path for path in written if path.suffix == ".csv")
    rows = [row for row in csv.DictReader(table.open()) if row["curve"] == "free"]
    assert rows[-1]["ended"] == "seed 1 diverged at step 12; seed 2 diverged at step 12"
    assert rows[-1]["error_end_val_pct"] == ""
    assert rows[0]["error_end_val_pct"] == "2"


def test_without_trials_there_is_nothing_to_draw(results):
    with pytest.raises(ResultsError, match="run 'snakemake sensitivity'"):
        sensitivity.build(results, results, STUDY)
