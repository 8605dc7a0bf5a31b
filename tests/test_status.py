"""sws status: from real locks, logs and result files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sws import cli
from sws.config.configuration import validate_configuration
from sws.study import status
from sws.study.locks import RunLock, lock_path
from sws.study.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
PAIR = "lenet-300-100_mnist-smoke"
HOLDER = """
import logging, sys
from pathlib import Path
from sws.study.locks import RunLock
with RunLock(Path(sys.argv[1])):
    logging.getLogger("sws.training.loop").info("retrain epoch 7/40: loss 0.1")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.delenv("SWS_CHECKPOINT_ROOT", raising=False)
    values = {"pairs": [PAIR], "seeds": [1, 2, 3]}
    return Plan(validate_configuration(values, "test"), ROOT / "config" / "experiments")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path("results")


def shown(plan):
    jobs = status.jobs(plan, "all", Path("results"), Path("logs"))
    return status.report(map(status.state, jobs), plan.target("all").missing)


def run(kind, seed):
    place = {"pretrained": PAIR, "runs": f"{PAIR}/soft-weight-sharing/main"}[kind]
    return Path("results") / kind / place / f"seed-{seed}"


def holder(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_at_first_everything_is_to_do(plan, folder):
    assert shown(plan).splitlines() == [
        "9 to do",
        "to do    data mnist-smoke",
        f"to do    pretrain {PAIR} seeds 1, 2, 3",
        f"to do    compress {PAIR}/soft-weight-sharing/main seeds 1, 2, 3",
        "to do    tables all",
        "to do    figures all",
    ]


def test_what_runs_is_shown_with_its_epoch_and_what_was_killed_as_stopped(plan, folder):
    process = holder(run("runs", 2))
    try:
        text = shown(plan)
        (line,) = [line for line in text.splitlines() if line.startswith("running")]
        assert f"compress {PAIR}/soft-weight-sharing/main seed 2: retrain epoch 7/40" in line
        assert f"process {process.pid}" in line
        # asking does not hold it
        assert "running" in shown(plan)
    finally:
        process.kill()
        process.communicate()
    text = shown(plan)
    assert "running" not in text
    assert "stopped  compress" in text
    assert "retrain epoch 7/40: loss 0.1; starts afresh" in text
    checkpoints = Path("results/.checkpoints") / run("runs", 2).relative_to("results")
    checkpoints.mkdir(parents=True)
    (checkpoints / "retrain.pt").touch()
    assert "retrain epoch 7/40: loss 0.1; can go on" in shown(plan)


def test_a_run_outside_the_target_is_shown_while_it_runs(plan, folder):
    process = holder(run("pretrained", 9))
    try:
        assert f"running  pretrain {PAIR} seed 9: retrain epoch 7/40" in shown(plan)
    finally:
        process.kill()
        process.communicate()


def test_what_failed_is_shown_with_its_error_and_its_log(plan, folder):
    log = Path("logs/compress") / PAIR / "soft-weight-sharing/main/seed-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("retrain epoch 1/3: loss 0.2\nerror: no space left on the disk; free some\n")
    with pytest.raises(ValueError), RunLock(run("pretrained", 3)):
        raise ValueError("damaged; delete\nthe folder")
    lines = shown(plan).splitlines()
    assert lines[0] == "2 failed, 7 to do"
    assert lines[1] == f"failed   pretrain {PAIR} seed 3: damaged; delete the folder"
    assert lines[2].endswith("main seed 1: no space left on the disk; free some")
    assert lines[3].strip() == f"log: {log}"


def test_what_is_done_is_gathered(plan, folder):
    for seed in (1, 3):
        with RunLock(run("pretrained", seed)):
            run("pretrained", seed).mkdir()
            (run("pretrained", seed) / "metrics.json").write_text("{}")
    text = shown(plan)
    assert text.startswith("2 done, 7 to do\n")
    assert f"done     pretrain {PAIR} seeds 1, 3" in text
    assert f"to do    pretrain {PAIR} seed 2" in text


def test_asking_never_turns_a_run_away(tmp_path):
    folder = tmp_path / "seed-1"
    with RunLock(folder):
        pass
    code = (
        "import sys\nfrom pathlib import Path\nfrom sws.study import status\n"
        "print('asks', flush=True)\n"
        "while True: status.is_held(Path(sys.argv[1]))"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", code, lock_path(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asking.stdout.readline() == "asks\n"
    deadline = time.monotonic() + 1
    try:
        while time.monotonic() < deadline:
            with RunLock(folder):
                pass
        assert asking.poll() is None
    finally:
        asking.kill()
        asking.communicate()


def test_the_command(folder, capsys):
    arguments = ["status", "smoke", "--config", str(ROOT / "config" / "config.yaml")]
    assert cli.run(arguments) == 0
    assert "to do    tables smoke" in capsys.readouterr().out
    assert cli.run(["status", "imagenet"]) == 2


def test_a_line_that_is_no_text_is_kept_legible(tmp_path):
    with pytest.raises(OSError), RunLock(tmp_path / "seed-1"):
        raise OSError("b\udcff: damaged")
    _, note = status.read_lock(lock_path(tmp_path / "seed-1"))
    assert note == "failed: b\\udcff: damaged"
