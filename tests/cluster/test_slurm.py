"""The study on a real Slurm: the same bytes as on this machine, killed or not."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
import yaml
from checkout import EXPERIMENT, MNIST_SMOKE, Checkout

from sws.study.status import read_lock

pytestmark = pytest.mark.workflow

# The node runs nothing else: no need to be polite to it.
PROFILE = [
    *("--workflow-profile", "workflow/profiles/slurm"),
    *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"),
    # left to itself, the plugin asks sacct, which knows nothing without accounting
    *("--slurm-status-command", "squeue"),
    "--slurm-no-account",
]
SECONDS = ("seconds", "peak_memory_mb", "provenance")
DRAWN = (".png", ".svg", ".gif", ".csv", ".md", ".tex", ".html")  # show times, or are dated


def same(first, second):
    """Compare what two runs of a target left, as far as it must be equal."""
    files = sorted(
        path.relative_to(first)
        for part in ("data", "pretrained", "runs", "profiles", "tables/smoke", "figures/smoke")
        for path in (first / "results" / part).rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )
    assert len(files) > 40
    for name in files:
        if name.name == "metrics.json":
            one, other = (json.loads((f / name).read_text()) for f in (first, second))
            for key in SECONDS:
                one.pop(key), other.pop(key)
            assert one == other, name
        elif name.name == "history.csv" or not (name.suffix in DRAWN or "profiles" in name.parts):
            assert (first / name).read_bytes() == (second / name).read_bytes(), name
        else:
            assert (second / name).stat().st_size > 0, name


@pytest.fixture(scope="module")
def suite(slurm, tmp_path_factory):
    """The smoke target on Slurm, with a GPU for one of the two stages, and how long it took."""
    checkout = Checkout(tmp_path_factory.mktemp("slurm"))
    profile = checkout.folder / "workflow" / "profiles" / "slurm" / "config.yaml"
    values = yaml.safe_load(profile.read_text())
    values["set-resources"]["pretrain"] = {"gpu": 1}
    profile.write_text(yaml.safe_dump(values))
    start = time.monotonic()
    done = checkout.snakemake(*PROFILE, "--", "smoke")
    assert done.returncode == 0, done.stdout + slurm.said()
    return checkout, done.stdout, time.monotonic() - start


def test_the_smoke_suite_ends_with_the_same_bytes_as_on_one_machine(suite, finished):
    checkout, _, _ = suite
    same(finished.folder, checkout.folder)
    same(checkout.folder, finished.folder)


def test_only_what_takes_long_goes_to_slurm(suite):
    _, said, seconds = suite
    print(f"the smoke suite took {seconds:.0f} s on Slurm")
    submitted = re.findall(r"Job \d+ has been submitted with SLURM jobid (\d+)", said)
    assert len(submitted) == 15
    for rule in ("data", "tables_smoke", "figures_smoke", "costs_smoke", "coders_smoke"):
        assert re.search(rf"localrule {rule}:", said), said


def test_jobs_ask_for_what_the_rules_say(slurm, suite):
    _, said, _ = suite
    asked = {  # CPUs, time, memory
        "pretrain": {("1", "01:00:00", "3000M"), ("1", "02:00:00", "3000M")},
        "compress": {("1", "01:00:00", "3000M"), ("1", "02:00:00", "3000M")},
        # the whole node
        "profile": {(str(max(2, os.cpu_count())), "00:10:00", "2000M")},
    }
    for number in re.findall(r"SLURM jobid (\d+)", said):
        job = slurm.output("scontrol", "show", "job", number)
        rule = re.search(r"Comment=rule_([a-z]+)_", job)[1]
        values = (r"NumCPUs=(\d+)", r"TimeLimit=(\S+)", r"mem=(\w+)")
        assert tuple(re.search(value, job)[1] for value in values) in asked[rule], job
        assert ("gpu=1" in job or "gpu:1" in job) == (rule == "pretrain"), job


def test_a_job_that_is_cancelled_half_way_goes_on_and_ends_with_the_same_bytes(slurm, tmp_path):
    values = yaml.safe_load(EXPERIMENT.read_text())
    values["pretraining"] |= {"epochs": 40, "batch_size": 20}
    checkout, whole = Checkout(tmp_path / "cancelled"), Checkout(tmp_path / "whole")
    for one in (checkout, whole):
        one.write_experiment(MNIST_SMOKE[0], pretraining=values["pretraining"])
    folder = f"results/pretrained/{MNIST_SMOKE[0]}/seed-1"
    arguments = [*PROFILE, "--retries", "0", "--", f"{folder}/metrics.json"]
    lock = checkout.folder / folder.replace("seed-1", ".seed-1.lock")

    running = checkout.start(*arguments)
    deadline = time.monotonic() + 300
    while not re.match(r"pretrain epoch ([5-9]|\d\d)/40", read_lock(lock)[1]):
        assert running.poll() is None, running.stdout.read()
        assert time.monotonic() < deadline, slurm.said()
        time.sleep(0.05)
    (job,) = slurm.jobs("R")
    subprocess.run(["scancel", job], check=True)
    said, _ = running.communicate(timeout=200)
    assert running.returncode != 0, said
    assert not (checkout.folder / folder / "metrics.json").exists()
    log = checkout.folder / "logs" / "pretrain" / MNIST_SMOKE[0] / "seed-1.log"
    stopped = log.read_text().splitlines()
    assert stopped[-1].startswith("stopped by SIG"), stopped
    last = re.match(r"pretrain epoch (\d+)/40", stopped[-2])[1]
    assert int(last) < 40

    done = checkout.snakemake(*arguments)
    assert done.returncode == 0, done.stdout
    assert log.read_text().startswith(f"pretrain epoch {last}/40: going on from here\n")
    command = [sys.executable, "-c", "from sws.cli import main; main()", "pretrain"]
    subprocess.run(
        [*command, MNIST_SMOKE[0], "--seed", "1"],
        cwd=whole.folder,
        env=whole.environment | {"OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for name in ("pretrained.safetensors", "history.csv"):
        first, second = (one.folder / folder / name for one in (checkout, whole))
        assert first.read_bytes() == second.read_bytes(), name
