"""Trials on a validation split: run once, told apart, and the one that the table takes."""

import csv
import json
from pathlib import Path

import pytest

from sws.config.experiment import load_experiment
from sws.config.schema import ConfigurationError
from sws.study import tuning
from sws.study.stages import method_module
from sws.study.tuning import mark_main, tune

ROOT = Path(__file__).resolve().parents[1]
PAIR = "lenet-300-100_mnist-smoke"
OURS = "soft-weight-sharing"


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def experiment():
    return load_experiment(ROOT / "config" / "experiments" / f"{PAIR}.yaml")


@pytest.fixture(scope="module")
def try_out(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning")

    def run(text, method=OURS, seeds=(1,)):
        candidates = folder / f"{method}.yaml"
        candidates.write_text(text, encoding="utf-8")
        return tune(experiment, method, candidates, seeds, folder, checkpoints=folder / "saved")

    return run


FEW = "quantization: {sharing_epochs: 0, refinement_epochs: 0}"
TEXT = f"""
weak: {{retraining: {{tau: 0.001, epochs: 1}}, {FEW}}}
strong: {{retraining: {{tau: 0.02, epochs: 1}}, {FEW}}}
"""


@pytest.fixture(scope="module")
def table(try_out):
    return try_out(TEXT)


def test_trials_share_a_start_and_one_of_them_is_main_at_most(table):
    rows = rows_of(table)
    assert [r["trial"] for r in rows] == ["weak", "strong"]
    assert int(rows[0]["file_bytes"]) > int(rows[1]["file_bytes"])
    assert rows[0]["error_start_val_pct"] == rows[1]["error_start_val_pct"]
    assert json.loads(rows[0]["settings"])["retraining"]["tau"] == 0.001
    assert sum(r["main"] == "1" for r in rows) <= 1


def test_a_trial_runs_once_and_its_name_stands_for_one_setting(table, try_out, capsys):
    before = table.read_bytes()
    assert try_out(TEXT).read_bytes() == before
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigurationError, match="trial 'weak' of seed 1 ran with other settings"):
        try_out(TEXT.replace("0.001", "0.002"))
    assert table.read_bytes() == before


def test_a_control_matches_the_trial_that_it_follows(table, try_out):
    def control(point):
        match = f"match: {{point: {point}, tries: 1}}"
        few = "retraining: {epochs: 1}, quantization: {sharing_epochs: 0}"
        return try_out(f"{point}: {{{match}, {few}}}", method="no-prior")

    (row,) = rows_of(control("weak"))
    matched = json.loads(row["settings"])["match"]
    assert str(matched["bytes"]) == rows_of(table)[0]["file_bytes"]
    assert row["main"] == "1"  # of one size, the best is kept however large its error
    with pytest.raises(ConfigurationError, match="no trial 'absent' of seed 1 to follow"):
        control("absent")


def test_trials_begin_with_the_start_of_a_study_that_holds_the_same_images_out(
    experiment, tmp_path
):
    folder = tmp_path / "tuning" / experiment.pair / OURS
    own = tmp_path / "pretrained" / experiment.pair / "seed-1"
    held = experiment.model_copy(update={"hold_out": True})
    apart = folder.parent / "pretrained" / "seed-1"
    assert tuning.validation_start(held, folder, "main", 1) == apart  # nobody has trained it
    own.mkdir(parents=True)
    (own / "metrics.json").write_text("{}")
    assert tuning.validation_start(held, folder, "main", 1) == own
    assert (
        tuning.validation_start(experiment, folder, "main", 1) == apart
    )  # that one has seen the images
    assert (
        tuning.validation_start(held, folder, "main", 2) == folder.parent / "pretrained" / "seed-2"
    )


def trial(name, seed, end, size):
    return {
        "trial": name, "seed": seed, "error_start_val_pct": "1.0", "error_end_val_pct": end,
        "file_bytes": size, "main": "0",
    }  # fmt: skip


def chosen(rows):
    return {r["trial"] for r in rows if r["main"] == "1"}


def test_main_is_the_smallest_file_within_the_rise_that_is_allowed():
    rows = [trial("a", "1", "1.04", "900"), trial("b", "1", "1.05", "800")]
    rows += [trial("c", "1", "1.06", "700")]
    assert chosen(mark_main(rows, 0.05)) == {"b"}
    rows += [trial("a", "2", "1.0", "900")]  # the others have not run on every seed
    assert chosen(mark_main(rows, 0.05)) == {"a"}
    assert chosen(mark_main([trial("c", "1", "1.2", "700")], 0.05)) == set()


def test_of_trials_of_one_size_the_error_decides():
    rows = [trial("a", "1", "1.80", "7047"), trial("b", "1", "1.60", "7064")]
    assert chosen(mark_main(rows, 0.05, matched=True)) == {"b"}


def test_every_published_trial_has_the_settings_of_its_candidate():
    """A candidate names all that it varies, so that it means the same when ``main`` has moved."""
    seen = 0
    for table in sorted((ROOT / "results" / "reference" / "tuning").glob("*_mnist/*/trials.csv")):
        pair, method = table.parts[-3:-1]
        name = pair if method == OURS else f"{pair}.{method}"
        method, _, point = method.partition(".")
        of_pair = load_experiment(ROOT / "config" / "experiments" / f"{pair}.yaml")
        candidates = tuning._read_candidates(
            ROOT / "config" / "tuning" / f"{name}.yaml", of_pair.point(method, point or "main")
        )
        for row in rows_of(table):
            settings, then = candidates[row["trial"]], json.loads(row["settings"])
            if settings.follows is not None:
                given = then["match"]
                settings = method_module(method).following(
                    settings,
                    {"bytes": {"file": given["bytes"]}, "nonzero_pct": given["nonzero_pct"]},
                )
            assert tuning._agree(then, settings.model_dump(mode="json")), (table, row["trial"])
            seen += 1
    assert seen > 30
