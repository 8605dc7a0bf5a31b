"""A checkout of the workflow to run in a test."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
MNIST_SMOKE = ("lenet-300-100_mnist-smoke", "lenet-5-caffe_mnist-smoke")
EXPERIMENT = ROOT / "config" / "experiments" / f"{MNIST_SMOKE[0]}.yaml"


class Checkout:
    """The workflow's files in a folder of their own, with the package that is installed."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for name in ("workflow", "config"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "Snakefile", folder)
        # Jobs find `sws` beside their Python; here it may not be installed there.
        tools = folder / "tools"
        tools.mkdir()
        command = tools / "sws"
        command.write_text(f"#!{sys.executable}\nfrom sws.cli import main\n\nmain()\n")
        command.chmod(0o755)
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PATH": os.pathsep.join([os.environ["PATH"], str(tools)]),
            "SWS_CACHE": str(folder / "cache"),
        }
        for name in ("SWS_DATA_ROOT", "SWS_CHECKPOINT_ROOT"):
            self.environment.pop(name, None)

    def start(self, *arguments):
        """Snakemake as a process of its own; what it says comes through a pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def snakemake(self, *arguments):
        """Snakemake, run to its end."""
        process = self.start(*arguments)
        try:
            stdout, _ = process.communicate(timeout=900)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout)

    def planned(self, *arguments):
        """Number of jobs by rule that a run would start."""
        done = self.snakemake("--cores", "2", "--dry-run", *arguments)
        assert done.returncode == 0, done.stdout
        stats = done.stdout.partition("Job stats:")[2].partition("total")[0]
        return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", stats, re.MULTILINE)}

    def write_experiment(self, pair, **changes):
        values = yaml.safe_load(EXPERIMENT.read_text())
        model, _, dataset = pair.partition("_")
        values |= {"model": model, "dataset": dataset, **changes}
        path = self.folder / "config" / "experiments" / f"{pair}.yaml"
        path.write_text(yaml.safe_dump(values))
