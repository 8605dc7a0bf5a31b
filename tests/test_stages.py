"""The stages on a slice of MNIST: killed and resumed, locked, and given the wrong files."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sws.cli.process import Status
from sws.config.experiment import load_experiment
from sws.config.schema import ConfigurationError
from sws.models import registry
from sws.study import stages
from sws.study.locks import RunLock, lock_path
from sws.study.status import is_held, read_lock
from sws.training.checkpoints import Checkpoint

ROOT = Path(__file__).resolve().parents[1]
METHOD = "soft-weight-sharing"
PAIR = "lenet-300-100_mnist-smoke"
PRETRAINED = Path("pretrained") / PAIR / "seed-1"
LONG = 900  # seconds; only a machine that is very busy needs them
RUN = Path("runs") / PAIR / METHOD / "main" / "seed-1"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The smoke experiment with larger batches, so that this takes seconds."""
    values = yaml.safe_load((ROOT / "config" / "experiments" / f"{PAIR}.yaml").read_text())
    values["pretraining"]["batch_size"] = 200
    values[METHOD]["main"]["retraining"]["batch_size"] = 200
    path = tmp_path_factory.mktemp("experiments") / f"{PAIR}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def experiment(file):
    return load_experiment(file)


def start(stage, file, results):
    code = "from sws.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, stage, str(file), "--results", str(results)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process):
    """Exit status and what a process said on standard error."""
    try:
        _, errors = process.communicate(timeout=LONG)
    finally:
        process.kill()
    return process.returncode, errors


def finish(stage, file, results):
    status, errors = outcome(start(stage, file, results))
    assert status == 0, errors
    return errors


def end_within(note, number, stage, file, results):
    """Start a stage, and send it a signal as soon as it reports what begins with ``note``.

    Returns
    -------
    Exit status, and what it said.
    """
    lock = lock_path(results / (PRETRAINED if stage == "pretrain" else RUN))
    process = start(stage, file, results)
    deadline = time.monotonic() + LONG
    while not read_lock(lock)[1].startswith(note):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert is_held(lock)
    process.send_signal(number)
    if number != signal.SIGKILL:
        process.send_signal(number)  # a scheduler and its step manager both do
    return outcome(process)


def run_whole(file, results):
    """Results of runs that nobody kills."""
    finish("pretrain", file, results)
    finish("compress", file, results)
    return results


def run_killed(file, results):
    """Results, messages and exit statuses of runs that are killed or told to stop, thrice."""
    checkpoints = results / ".checkpoints"
    status, messages = end_within("pretrain epoch 1/", signal.SIGKILL, "pretrain", file, results)
    statuses = [status]
    assert not (results / PRETRAINED / "metrics.json").exists()
    messages += finish("pretrain", file, results)
    for stage, number in (("retrain", signal.SIGTERM), ("share", signal.SIGINT)):
        status, said = end_within(f"{stage} epoch 1/", number, "compress", file, results)
        statuses.append(status)
        messages += said
        assert list((checkpoints / RUN).glob("*.partial*")) == []
        assert (checkpoints / RUN / f"{stage}.pt").exists()
        assert not (results / RUN / "metrics.json").exists()
    return results, messages + finish("compress", file, results), statuses


@pytest.fixture(scope="module")
def both(file, tmp_path_factory):
    """Both side by side."""
    folders = [tmp_path_factory.mktemp(name) for name in ("whole", "killed")]
    with ThreadPoolExecutor() as pool:
        running = [
            pool.submit(r, file, f) for r, f in zip((run_whole, run_killed), folders, strict=True)
        ]
        return [r.result() for r in running]


@pytest.fixture(scope="module")
def whole(both):
    return both[0]


@pytest.fixture(scope="module")
def killed(both):
    return both[1]


def test_a_killed_run_ends_with_the_same_bytes(whole, killed):
    results, messages, _ = killed
    assert "set aside" not in messages  # the runs did go on from their checkpoints
    for path in (
        PRETRAINED / "pretrained.safetensors",
        PRETRAINED / "history.csv",
        RUN / "model.sws",
        RUN / "history.csv",
        RUN / "trace.safetensors",
    ):
        assert (results / path).read_bytes() == (whole / path).read_bytes(), path


def test_a_run_that_is_told_to_stop_says_that_it_can_go_on(killed):
    _, messages, statuses = killed
    assert statuses == [-signal.SIGKILL, Status.STOPPED, Status.STOPPED]
    assert messages.splitlines() == [
        f"stopped by {name} after the last checkpoint; run the same command again to go on"
        for name in ("SIGTERM", "SIGINT")
    ]


def test_nothing_is_left_behind(whole, killed):
    for results in (whole, killed[0]):
        assert {p.name for p in (results / PRETRAINED).iterdir()} == {
            "pretrained.safetensors", "metrics.json", "history.csv",
        }  # fmt: skip
        assert {p.name for p in (results / RUN).iterdir()} == {
            "model.sws", "metrics.json", "history.csv", "trace.safetensors",
        }  # fmt: skip
        assert [p for p in (results / ".checkpoints").rglob("*") if p.is_file()] == []


def test_the_file_is_measured_as_it_is(whole):
    metrics = json.loads((whole / RUN / "metrics.json").read_text())
    error, parameters = stages.evaluate_file(whole / RUN / "model.sws", "mnist-smoke")
    assert error == pytest.approx(metrics["error_end_pct"])
    assert parameters == metrics["parameters"] == 266_610
    size = os.stat(whole / RUN / "model.sws").st_size
    assert metrics["cr"]["file"] == pytest.approx(4 * 266_610 / size)


def test_a_second_writer_is_told_who_the_first_is(file, tmp_path):
    with RunLock(tmp_path / RUN):
        process = start("compress", file, tmp_path)
        status, errors = outcome(process)
    assert status == 1
    assert errors.count("\n") == 1
    assert f"process {os.getpid()}" in errors
    assert not (tmp_path / RUN).exists()


# --- in this process ------------------------------------------------------------------------------


def pretrain(experiment, results):
    return stages.run_pretraining(experiment, 1, results, checkpoints=results / "c")


def compress(experiment, results):
    return stages.run_compression(experiment, METHOD, "main", 1, results, checkpoints=results / "c")


@pytest.fixture(scope="module")
def short(experiment):
    """One epoch of everything."""
    point = experiment.soft_weight_sharing["main"]
    once = {"sharing_epochs": 1, "refinement_epochs": 1}
    point = point.model_copy(
        update={
            "retraining": point.retraining.model_copy(update={"epochs": 1}),
            "quantization": point.quantization.model_copy(update=once),
        }
    )
    pretraining = experiment.pretraining.model_copy(update={"epochs": 1})
    return experiment.model_copy(
        update={"pretraining": pretraining, "soft_weight_sharing": {"main": point}}
    )


@pytest.fixture(scope="module")
def pretrained(short, tmp_path_factory):
    results = tmp_path_factory.mktemp("short")
    pretrain(short, results)
    return results


def test_two_runs_give_the_same_bytes_and_a_strange_checkpoint_is_set_aside(
    short, pretrained, tmp_path, capsys
):
    path = tmp_path / "c" / PRETRAINED / "pretrain.pt"
    Checkpoint(path, {"model": "lenet-5-caffe"}).save({"epoch": 1})
    strange = path.read_bytes()
    pretrain(short, tmp_path)
    message = capsys.readouterr().err
    assert "pretrain.pt.aside-1" in message
    assert "model" in message
    assert message.count("\n") == 1
    assert path.with_name("pretrain.pt.aside-1").read_bytes() == strange
    for name in ("pretrained.safetensors", "history.csv"):
        first, second = (r / PRETRAINED / name for r in (pretrained, tmp_path))
        assert first.read_bytes() == second.read_bytes(), name


def test_what_is_needed_first_is_named(short, tmp_path):
    with pytest.raises(FileNotFoundError, match="sws pretrain"):
        compress(short, tmp_path)


def replaced(pretrained, tmp_path, change):
    """Results with a pre-trained file that ``change`` makes of the right one's bytes."""
    folder = tmp_path / PRETRAINED
    folder.mkdir(parents=True)
    source = pretrained / PRETRAINED
    (folder / "metrics.json").write_bytes((source / "metrics.json").read_bytes())
    target = folder / "pretrained.safetensors"
    target.write_bytes(change((source / "pretrained.safetensors").read_bytes()))
    return target


def refused(short, tmp_path, target):
    with pytest.raises(ValueError, match="lenet-300-100.*sws pretrain") as caught:
        compress(short, tmp_path)
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / RUN / "metrics.json").exists()


def test_a_pretrained_file_of_another_architecture_is_refused(short, pretrained, tmp_path):
    target = replaced(pretrained, tmp_path, bytes)
    save_file(registry.build("lenet-5-caffe").state_dict(), target)
    refused(short, tmp_path, target)


@pytest.mark.parametrize("length", [0, 5, 1000, 500_000])
def test_a_truncated_pretrained_file_is_refused(short, pretrained, tmp_path, length):
    target = replaced(pretrained, tmp_path, lambda data: data[:length])
    refused(short, tmp_path, target)


def test_a_start_of_another_kind_is_refused_by_name(short, pretrained, tmp_path):
    source = pretrained / PRETRAINED / "pretrained.safetensors"
    state = load_file(source)
    wrong = {
        "another architecture than lenet-300-100: lacks fc1.bias": {"fc1.bias": None},
        "also holds fc9.weight": {"fc9.weight": torch.zeros(1)},
        "lenet-300-100 of 100 classes; mnist-smoke has 10": {
            "fc3.weight": torch.zeros(100, 100),
            "fc3.bias": torch.zeros(100),
        },
        r"fc1.weight is \(300, 10\)": {"fc1.weight": torch.zeros(300, 10)},
        "fc2.weight of this lenet-300-100 is float16": {"fc2.weight": state["fc2.weight"].half()},
        "fc3.bias of this lenet-300-100 holds values that are not": {
            "fc3.bias": torch.full((10,), float("nan"))
        },
    }
    for told, change in wrong.items():
        folder = tmp_path / "given"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source.parent, folder)
        changed = {k: v for k, v in (state | change).items() if v is not None}
        save_file(changed, folder / source.name)
        with pytest.raises(ValueError, match=told) as caught:
            take(short, folder / source.name, tmp_path)
        assert "\n" not in str(caught.value)
        assert not any((tmp_path / PRETRAINED).iterdir())


def take(experiment, given, results, seed=1):
    return stages.run_pretraining(experiment, seed, results, checkpoints=results / "c", given=given)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "lenet-5-caffe"}, "another network, lenet-5-caffe; wanted is lenet-300-100"),
        ({"dataset": "mnist"}, "another data set, mnist; wanted is mnist-smoke"),
        ({"seed": 2}, "another seed, 2; wanted is 1"),
        ({"n_train": 60_000}, "another number of training images, 60000"),
        ({"provenance": {"data": "0" * 64}}, "trained on other data, of SHA-256 0000"),
        ({"provenance": None}, "not the metrics of a pre-training"),
        ({"seconds": {}}, "not the metrics of a pre-training"),
    ],
)
def test_a_start_of_other_data_is_refused_by_name(short, pretrained, tmp_path, change, told):
    folder = tmp_path / "given"
    shutil.copytree(pretrained / PRETRAINED, folder)
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=told):
        take(short, folder / "pretrained.safetensors", tmp_path)
    assert not any((tmp_path / PRETRAINED).iterdir())


def test_a_given_start_is_as_good_as_our_own(short, pretrained, tmp_path):
    source = pretrained / PRETRAINED
    found = take(short, source / "pretrained.safetensors", tmp_path)
    assert found == tmp_path / PRETRAINED
    names = {"pretrained.safetensors", "history.csv", "metrics.json"}
    assert {path.name for path in found.iterdir()} == names
    for name in names:
        assert (found / name).read_bytes() == (source / name).read_bytes(), name
    with pytest.raises(FileNotFoundError, match="no such start"):
        take(short, tmp_path / "nowhere.safetensors", tmp_path)
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((source / "pretrained.safetensors").read_bytes())
    with pytest.raises(FileNotFoundError, match="beside the start"):
        take(short, bare, tmp_path)


def test_a_network_that_takes_one_size_refuses_others(short, tmp_path):
    pretraining = short.pretraining.model_copy(update={"image_sides": ((0.0, 14), (0.5, 28))})
    wrong = short.model_copy(update={"pretraining": pretraining})
    with pytest.raises(ConfigurationError, match="image_sides: .*lenet-300-100.*14 × 14"):
        pretrain(wrong, tmp_path)


def test_missing_metrics_are_noticed_before_the_work(short, pretrained, tmp_path, monkeypatch):
    target = replaced(pretrained, tmp_path, bytes)
    target.with_name("metrics.json").unlink()
    steps = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: steps.append(1))
    with pytest.raises(FileNotFoundError) as caught:
        compress(short, tmp_path)
    assert "metrics.json: no pre-trained network" in str(caught.value)
    assert steps == []


def test_a_disk_that_is_full_leaves_no_half_written_output(short, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError):
            pretrain(short, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    pretrain(short, tmp_path)
    assert (tmp_path / PRETRAINED / "metrics.json").exists()


def test_images_held_out_of_a_final_run_are_what_its_curve_shows(file, tmp_path):
    values = yaml.safe_load(file.read_text())
    values["hold_out"] = True
    path = tmp_path / file.name
    path.write_text(yaml.safe_dump(values))
    held = load_experiment(path)
    options = {"results": tmp_path, "checkpoints": tmp_path / "saved"}
    folders = [
        stages.run_pretraining(held, 1, **options),
        stages.run_compression(held, METHOD, "main", 1, **options),
    ]
    for folder in folders:
        columns, *rows = (folder / "history.csv").read_text().splitlines()
        place = columns.split(",").index("error_val_pct")
        errors = [float(row.split(",")[place]) for row in rows]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert 0 < metrics["error_val_pct"] <= max(errors)
        assert metrics["n_train"] < 2000
    assert metrics["error_val_pct"] != metrics["error_end_pct"]


def test_a_network_without_weights_is_no_result(experiment, tmp_path, monkeypatch):
    from sws.methods import soft_weight_sharing

    real = soft_weight_sharing.quantize

    def nothing(*arguments):
        codebook, index = real(*arguments)
        return codebook, 0 * index

    options = {"results": tmp_path, "checkpoints": tmp_path / "saved"}
    stages.run_pretraining(experiment, 1, **options)
    monkeypatch.setattr(soft_weight_sharing, "quantize", nothing)
    with pytest.raises(stages.DivergedError, match="every weight of the network in the file is 0"):
        stages.run_compression(experiment, METHOD, "main", 1, **options)
    assert not (tmp_path / RUN / "metrics.json").exists()
