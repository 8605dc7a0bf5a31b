"""Runs that end badly, as real processes: what is left, what to type, and the same bytes after it.

The README's table "When a run stops" says what to type; these tests type it.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import yaml
from checkout import EXPERIMENT, MNIST_SMOKE, Checkout

from sws.study.status import is_held, read_lock

pytestmark = pytest.mark.workflow

PAIR = MNIST_SMOKE[0]
EPOCHS = 24
FOLDER = f"results/pretrained/{PAIR}"
TARGET = f"{FOLDER}/seed-1/metrics.json"
BYTES = ("pretrained.safetensors", "history.csv")
LONG = 400


def checkout_in(folder):
    checkout = Checkout(folder)
    values = yaml.safe_load(EXPERIMENT.read_text())["pretraining"]
    checkout.write_experiment(PAIR, pretraining=values | {"epochs": EPOCHS, "batch_size": 25})
    return checkout


def sws(checkout, *arguments):
    command = [sys.executable, "-c", "from sws.cli import main; main()", *arguments]
    environment = checkout.environment | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=checkout.folder, env=environment, capture_output=True, text=True, timeout=LONG
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Pre-training that nobody disturbs, by hand: the bytes to reach."""
    checkout = checkout_in(tmp_path_factory.mktemp("whole"))
    done = sws(checkout, "pretrain", PAIR)
    assert done.returncode == 0, done.stderr
    return {name: (checkout.folder / FOLDER / "seed-1" / name).read_bytes() for name in BYTES}


def lock_of(checkout):
    return checkout.folder / FOLDER / ".seed-1.lock"


def process_of(checkout):
    """Number of the process that trains."""
    return int(read_lock(lock_of(checkout))[0].split()[1])


def wait_for_epoch(checkout, number, snakemake):
    """Wait until training has finished so many epochs."""
    deadline = time.monotonic() + LONG
    while not read_lock(lock_of(checkout))[1].startswith(f"pretrain epoch {number}/"):
        assert snakemake.poll() is None, snakemake.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def result_files(checkout):
    folder = checkout.folder / FOLDER
    return [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"]


def log_of(checkout):
    return (checkout.folder / "logs" / "pretrain" / PAIR / "seed-1.log").read_text()


def test_killed_at_every_level_the_run_goes_on_and_ends_with_the_same_bytes(whole, tmp_path):
    checkout = checkout_in(tmp_path)
    run = ("--cores", "1", "--", TARGET)

    # SIGKILL of the process that trains: Snakemake fails; the same command goes on.
    snakemake = checkout.start(*run)
    wait_for_epoch(checkout, 2, snakemake)
    os.kill(process_of(checkout), signal.SIGKILL)
    said, _ = snakemake.communicate(timeout=LONG)
    assert snakemake.returncode == 1, said
    assert result_files(checkout) == []

    # A second Snakemake beside the first is turned away, and harms nothing. Training is held at
    # its place meanwhile: on a busy machine it might be over before the second one has started.
    snakemake = checkout.start(*run)
    wait_for_epoch(checkout, 4, snakemake)
    trainer = process_of(checkout)
    os.kill(trainer, signal.SIGSTOP)
    assert log_of(checkout).startswith("pretrain epoch 2/24: going on from here\n")
    second = checkout.snakemake(*run)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stdout

    # SIGKILL of Snakemake: the process that trains lives on.
    os.kill(snakemake.pid, signal.SIGKILL)
    snakemake.wait(LONG)
    assert is_held(lock_of(checkout))
    assert result_files(checkout) == []
    again = checkout.snakemake(*run)
    assert again.returncode == 1 and "--unlock" in again.stdout
    assert checkout.snakemake("--cores", "1", "--unlock").returncode == 0
    again = checkout.snakemake(*run)
    assert f"process {trainer} is writing there; wait until it ends, or stop it" in again.stdout
    os.kill(trainer, signal.SIGTERM)
    os.kill(trainer, signal.SIGCONT)
    deadline = time.monotonic() + LONG
    while is_held(lock_of(checkout)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert result_files(checkout) == []

    done = checkout.snakemake("--rerun-incomplete", *run)
    assert done.returncode == 0, done.stdout
    assert ": going on from here\n" in log_of(checkout)
    for name, content in whole.items():
        assert (checkout.folder / FOLDER / "seed-1" / name).read_bytes() == content, name
    shown = sws(checkout, "status", "smoke")
    assert f"done     pretrain {PAIR} seed 1" in shown.stdout, shown.stderr


@contextmanager
def small_disk(folder, megabytes):
    """A file system of its own, of that size; yields a function that changes the size."""
    folder.mkdir()

    def mount(size, *more):
        options = ",".join([f"size={size}m", *more])
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        return subprocess.run(command, capture_output=True, text=True)

    if os.geteuid() != 0 or (done := mount(megabytes)).returncode != 0:
        pytest.skip("needs root and leave to mount a tmpfs")
    assert done.stderr == ""
    try:
        yield lambda size: mount(size, "remount")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_runs_full_loses_nothing_but_the_epoch(whole, tmp_path):
    checkout = checkout_in(tmp_path / "checkout")
    # room for one checkpoint of 3.2 MB and the start of another
    with small_disk(checkout.folder / "results", 5) as resize:
        done = sws(checkout, "pretrain", PAIR)
        assert done.returncode == 1
        assert "no space left on the disk" in done.stderr
        assert done.stderr.rstrip().endswith("free some and run the same command again")
        assert result_files(checkout) == []
        assert [p.name for p in (checkout.folder / "results/.checkpoints").rglob("*.pt*")] == [
            "pretrain.pt"
        ]
        assert resize(50).returncode == 0
        done = sws(checkout, "pretrain", PAIR)
        assert done.returncode == 0, done.stderr
        assert "pretrain epoch 1/24: going on from here" in done.stdout
        for name, content in whole.items():
            assert (checkout.folder / FOLDER / "seed-1" / name).read_bytes() == content, name
