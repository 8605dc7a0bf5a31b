"""What runs say about the paper's claims: numbers over seeds, layers of files, trials, sensitivity.

Everything is read from files that runs left, of these results or of the reference in them.
"""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sws import codec
from sws.config.methods import OURS
from sws.report.ladder import Paired, paired
from sws.runs.records import Case, Pair, Run, records_of

LENET_300: Pair = ("lenet-300-100", "mnist")
LENET_5: Pair = ("lenet-5-caffe", "mnist")
RESNET: Pair = ("wrn-16-4", "cifar-10")
VGG: Pair = ("vgg-16", "cifar-10")


@dataclass(frozen=True)
class Evidence:
    """The runs in a results folder, asked by case.

    Attributes
    ----------
    results : Path
        Folder that holds ``runs/``, and perhaps ``reference/``.
    """

    results: Path

    def runs(self, pair: Pair, point: str, method: str = OURS) -> list[Run]:
        """Runs that came to a result, by seed."""
        return [run for run in self._all(pair, point, method) if not run.ending]

    def endings(self, pair: Pair, point: str, method: str = OURS) -> list[str]:
        """How the others ended."""
        return [run.ending for run in self._all(pair, point, method) if run.ending]

    def _all(self, pair: Pair, point: str, method: str) -> list[Run]:
        return _cached(self.results, Case(*pair, method, point))

    def reading(self, pair: Pair, point: str) -> tuple[str, list[Run]]:
        """The point from the plain start if it has run, else from the shared one."""
        for name in (f"{point}-plain", point):
            if self._all(pair, name, OURS):
                return name, self.runs(pair, name)
        return point, []

    def sensitivity(self, curve: str) -> list[dict[str, Any]]:
        """Trials of a curve of the study of rates: name, seed, and what was measured."""
        for folder in (self.results, self.results / "reference"):
            paths = sorted((folder / "sensitivity").glob(f"{curve}-*/seed-*/trial.json"))
            if paths:
                return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        return []

    def trials(self, pair: Pair, name: str, point: str = "paper") -> dict[int, dict[str, str]]:
        """Rows of a trial beside the point as written, by seed."""
        below = Path("tuning") / "_".join(pair) / f"{OURS}.{point}" / "trials.csv"
        for folder in (self.results, self.results / "reference"):
            if (folder / below).is_file():
                with (folder / below).open(newline="", encoding="utf-8") as file:
                    return {int(r["seed"]): r for r in csv.DictReader(file) if r["trial"] == name}
        return {}


@functools.cache
def _cached(results: Path, case: Case) -> list[Run]:
    return records_of(results, case)


def by_seed(runs: Sequence[Run], value: Callable[[Run], float]) -> dict[int, float]:
    """A number of each run, by seed."""
    return {run.seed: float(value(run)) for run in runs}


def rise(runs: Sequence[Run], end: str = "error_end_pct", start: str = "error_start_pct") -> Paired:
    """Mean of an error less another of the same runs, in points, with its standard error."""
    return paired(
        by_seed(runs, lambda run: run.metrics[end]), by_seed(runs, lambda run: run.metrics[start])
    )


def layers(run: Run) -> dict[str, np.ndarray]:
    """Where weights are left: bool by layer, in the layer's shape, from the run's file."""
    network = codec.read(run.folder / "model.sws")
    return {t.name: network.values(t) != 0 for t in network.quantized if t.name.endswith("weight")}


def pruned(runs: Sequence[Run]) -> dict[str, tuple[int, float]]:
    """Layer → its number of weights, and the share in per cent that is 0, a mean over runs."""
    found: dict[str, list[np.ndarray]] = {}
    for run in runs:
        for name, left in layers(run).items():
            found.setdefault(name, []).append(left)
    return {
        name: (masks[0].size, 100 * float(np.mean([1 - mask.mean() for mask in masks])))
        for name, masks in found.items()
    }
