import hashlib
import json
import shutil

import pytest
from fabricated_runs import CODE, fabricate, fabricate_trials

from sws.report import figures, reproduction, tables
from sws.runs.records import Case, ResultsError, profile_path
from sws.study import publish

LENET = ("lenet-300-100", "mnist")
CASE = Case(*LENET, "soft-weight-sharing", "main")
SEEDS = [0, 1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "results"
    for seed in SEEDS:
        run = fabricate(folder, *LENET, seed=seed, scale=10, epochs=4)
        (run / "retrained.safetensors").write_bytes(b"a checkpoint")
    fabricate_trials(folder, *LENET)
    tables.build(folder, folder / "tables/mnist", [LENET], SEEDS)
    figures.build(folder, folder / "figures/mnist", [LENET], SEEDS, only=["fig4_relative_indexing"])
    return folder


@pytest.fixture
def results(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "results")
    return tmp_path / "results"


def go(results, **settings):
    settings = {"pairs": [LENET], "seeds": SEEDS} | settings
    reference, left_out = publish.publish(results, results / "reference", **settings)
    assert left_out == []
    return reference


def manifest(reference):
    return json.loads((reference / "manifest.json").read_text())


def edit(results, seed, **values):
    path = CASE.folder(results, seed) / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refuses(results, told, **settings):
    before = sorted(results.parent.rglob("*"))
    with pytest.raises(ResultsError, match=told) as caught:
        go(results, **settings)
    assert "\n" not in str(caught.value)
    assert sorted(results.parent.rglob("*")) == before, "something changed"


def test_publishes_what_is_needed_and_no_checkpoint(results):
    reference = go(results)
    files = {
        path.relative_to(reference).as_posix() for path in reference.rglob("*") if path.is_file()
    }
    run = f"runs/{CASE}/seed-1"
    for name in ("metrics.json", "model.sws", "history.csv", "trace.safetensors"):
        assert f"{run}/{name}" in files
    assert {"tables/mnist/table1.csv", "figures/mnist/fig4_relative_indexing.svg"} < files
    assert "tuning/lenet-300-100_mnist/soft-weight-sharing/trials.csv" in files
    assert not any("retrained" in name for name in files)
    assert manifest(reference)["cases"] == {str(CASE): {"commit": CODE["commit"], "seeds": SEEDS}}
    assert set(manifest(reference)["sha256"]) == files - {"manifest.json"}
    assert reproduction.build(results, reference).reproduces


def test_a_case_need_only_be_in_the_table_that_is_about_it(results):
    """A target that compares methods beside one that does not; a stale row in either is noticed."""
    for seed in SEEDS:
        fabricate(results, *LENET, "deep-compression", seed=seed, scale=10, epochs=4)
    profile = profile_path(results, CASE, SEEDS[0])
    profile.parent.mkdir(parents=True)
    profile.write_text("{}")
    points = [("soft-weight-sharing", "main"), ("deep-compression", "main")]
    both = {"points": points, "targets": ["mnist", "baselines"]}
    (results / "figures/baselines").mkdir()
    (results / "figures/baselines/fig9.svg").write_text("<svg/>")
    fabricate_trials(results, *LENET, "deep-compression")
    tables.build(results, results / "tables/baselines", [LENET], SEEDS, points[:1], compare=True)
    refuses(results, "does not show the runs of .*deep-compression", **both)
    tables.build(results, results / "tables/baselines", [LENET], SEEDS, points, compare=True)
    reference = go(results, **both)
    assert (reference / profile.relative_to(results)).is_file()
    assert (reference / "tables/baselines/fixed.csv").is_file()
    compared = reference / "runs" / str(CASE).replace("soft-weight-sharing", "deep-compression")
    assert (compared / "seed-0/model.sws").is_file()
    assert not (compared / "seed-0/trace.safetensors").exists()
    mnist = results / "tables/mnist/table1.csv"
    mnist.write_text(mnist.read_text().replace("sharing,main,ok,2", "sharing,main,ok,1"))
    shutil.rmtree(reference)
    refuses(results, "mnist.* does not show the runs of .*soft-weight-sharing", **both)


def test_publishing_again_replaces_what_is_published_and_keeps_the_rest(results):
    reference = go(results)
    other = manifest(reference)
    other["cases"]["vgg-16_cifar-10/soft-weight-sharing/main"] = {"commit": "1", "seeds": [1]}
    (reference / "manifest.json").write_text(json.dumps(other))
    own = [f"runs/{CASE}/seed-7/model.sws", "tables/mnist/stale.csv"]
    others = [
        "runs/vgg-16_cifar-10/soft-weight-sharing/main/seed-1/model.sws",
        "tables/cifar10/table1.csv",
        "README.md",
    ]
    for name in (*own, *others):
        (reference / name).parent.mkdir(parents=True, exist_ok=True)
        (reference / name).write_text(name)
    go(results)
    assert not any((reference / name).exists() for name in own)
    assert all((reference / name).read_text() == name for name in others)
    assert set(manifest(reference)["cases"]) == set(other["cases"])
    assert others[0] in manifest(reference)["sha256"]
    assert [path.name for path in results.glob(".*")] == []
    go(results, replace=True)
    assert not any((reference / name).exists() for name in (*own, *others[:2]))
    assert (reference / others[2]).exists()  # people write it
    assert set(manifest(reference)["cases"]) == {str(CASE)}


def test_a_study_has_no_runs(results):
    for kind in ("tables", "figures"):
        (results / kind / "studies").mkdir(parents=True)
        (results / kind / "studies/prior.svg").write_text(kind)
    reference = go(results, pairs=[], seeds=(), targets=["studies"])
    assert (reference / "figures/studies/prior.svg").read_text() == "figures"
    assert manifest(reference)["cases"] == {}


def test_partial_publishing_takes_what_has_run(results):
    points = [("soft-weight-sharing", "main"), ("soft-weight-sharing", "small")]
    shutil.rmtree(CASE.folder(results, 1))
    refuses(results, "main seed 1 has not run", points=points)
    tables.build(results, results / "tables/mnist", [LENET], SEEDS)
    reference, left_out = publish.publish(
        results, results / "reference", [LENET], SEEDS, points, partial=True
    )
    assert [str(case) for case in left_out] == [str(CASE).replace("main", "small")]
    assert {c: v["seeds"] for c, v in manifest(reference)["cases"].items()} == {str(CASE): [0]}


def test_a_variant_is_published_with_the_trials_of_what_it_varies(results):
    method = "soft-weight-sharing-subsampled"
    for seed in SEEDS:
        fabricate(results, *LENET, method, seed=seed, scale=10, epochs=4)
    points = [("soft-weight-sharing", "main"), (method, "main")]
    tables.build(results, results / "tables/mnist", [LENET], SEEDS, points)
    reference = go(results, points=points)
    assert (reference / "tuning/lenet-300-100_mnist/soft-weight-sharing/trials.csv").is_file()
    assert not (reference / f"tuning/lenet-300-100_mnist/{method}").exists()


def test_refuses_a_missing_run(results):
    shutil.rmtree(CASE.folder(results, 1))
    refuses(results, "seed 1 has not run")


@pytest.mark.parametrize("name", ["model.sws", "history.csv", "trace.safetensors"])
def test_refuses_a_missing_file(results, name):
    (CASE.folder(results, 0) / name).unlink()
    refuses(results, name)


def test_refuses_uncommitted_changes(results):
    edit(results, 1, provenance={"code": CODE | {"dirty": True}})
    refuses(results, "uncommitted")


def test_refuses_two_commits_in_one_case(results):
    edit(results, 1, provenance={"code": CODE | {"commit": "1" * 40}})
    refuses(results, "run all of them from one commit")


def test_refuses_an_unknown_commit(results):
    edit(results, 0, provenance={"code": {"commit": None, "dirty": False}})
    refuses(results, "does not say its commit")


def test_refuses_tables_of_other_runs(results):
    edit(results, 0, error_end_pct=9.9)
    refuses(results, "make it again: 'sws tables mnist --seeds 0,1'")


def test_refuses_a_file_of_another_size(results):
    path = CASE.folder(results, 0) / "model.sws"
    path.write_bytes(path.read_bytes() + b"x")
    refuses(results, "metrics.json says")


@pytest.mark.parametrize("folder", ["tables/mnist", "figures/mnist", "tuning"])
def test_refuses_without_tables_figures_or_trials(results, folder):
    shutil.rmtree(results / folder)
    refuses(results, folder.split("/")[0])


def test_a_failing_copy_leaves_the_old_reference(results, monkeypatch):
    reference = go(results)
    before = (reference / "manifest.json").read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    refuses(results, "No space left")
    assert (reference / "manifest.json").read_text() == before


def test_trials_that_the_reference_alone_has_stay_in_their_place(results):
    reference = go(results)
    trials = "tuning/lenet-300-100_mnist/soft-weight-sharing/trials.csv"
    before = (reference / trials).read_bytes()
    (reference / "README.md").write_text("by hand\n")
    shutil.rmtree(results / "tuning")
    for more in ({}, {"replace": True}):
        go(results, **more)
        assert (reference / trials).read_bytes() == before
        assert not (reference / "reference").exists()
        assert (reference / "README.md").read_text() == "by hand\n"
        assert "README.md" not in manifest(reference)["sha256"]


# --- start networks -------------------------------------------------------------------------------


def begin(results, seed, size=1000, dirty=False):
    """A start's folder, as pre-training leaves it."""
    folder = results / "pretrained" / "_".join(LENET) / f"seed-{seed}"
    folder.mkdir(parents=True)
    (folder / "pretrained.safetensors").write_bytes(bytes([seed]) * size)
    (folder / "history.csv").write_text("epoch\n1\n")
    code = CODE | {"dirty": dirty}
    (folder / "metrics.json").write_text(json.dumps({"provenance": {"code": code}, "seed": seed}))
    return folder


def test_starts_are_published_when_asked_for(results, monkeypatch):
    small, large = begin(results, 0), begin(results, 1, size=2001)
    assert not (go(results) / "pretrained").exists()
    monkeypatch.setattr(publish, "LARGEST_START", 2000)
    reference = go(results, starts=True)
    kept = reference / small.relative_to(results)
    assert {path.name for path in kept.iterdir()} == set(publish.START_FILES)
    assert (kept / publish.WEIGHTS).read_bytes() == (small / publish.WEIGHTS).read_bytes()
    stood_for = reference / large.relative_to(results)
    assert not (stood_for / publish.WEIGHTS).exists()
    line = (stood_for / "pretrained.safetensors.sha256").read_text()
    expected = hashlib.sha256((large / publish.WEIGHTS).read_bytes()).hexdigest()
    assert line == f"{expected}  pretrained.safetensors\n"
    for path in (*kept.iterdir(), *stood_for.iterdir()):
        name = path.relative_to(reference).as_posix()
        assert manifest(reference)["sha256"][name] == hashlib.sha256(path.read_bytes()).hexdigest()
    go(results)  # what was published stays
    assert (kept / publish.WEIGHTS).exists() and not (stood_for / publish.WEIGHTS).exists()


def test_runs_are_not_published_beside_another_start(results):
    for seed in SEEDS:
        begin(results, seed)
    go(results, starts=True)
    path = results / "pretrained" / "_".join(LENET) / "seed-1" / "metrics.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 1, "error": 2'))
    refuses(results, "another start .*--starts")
    assert (go(results, starts=True) / path.relative_to(results)).read_text() == path.read_text()


def test_refuses_a_start_that_is_missing_or_uncommitted(results):
    begin(results, 0)
    refuses(results, "seed-1/pretrained.safetensors is missing", starts=True)
    begin(results, 1, dirty=True)
    refuses(results, "seed-1: made from uncommitted changes", starts=True)
