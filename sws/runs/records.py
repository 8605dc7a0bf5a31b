"""What a run leaves on disk, and how it is read: ``results/runs/…/seed-<n>/`` and the trials.

Tables, figures, the comparison and publishing all read result files through this module. It needs
NumPy and safetensors only, so that a table takes no deep-learning framework to print.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sws.errors import SwsError

RUN_FILES = ("metrics.json", "model.sws", "history.csv", "trace.safetensors")
Pair = tuple[str, str]
"""(model, data set)"""
MethodPoint = tuple[str, str]
"""(method, point)"""
MAIN: tuple[MethodPoint, ...] = (("soft-weight-sharing", "main"),)
Points = Sequence[MethodPoint] | Mapping[Pair, Sequence[MethodPoint]]

RATES = ("nonzero", "han", "huffman", "file")
REQUIRED = ("error_start_pct", "error_end_pct", "nonzero_pct", "cr", "bytes")


class ResultsError(SwsError, ValueError):
    """A result file is missing, damaged or not what it should be; the message names the fix."""


@dataclass(frozen=True, order=True)
class Case:
    """One row of the table: a method at one point on one pair, over all its seeds."""

    model: str
    dataset: str
    method: str
    point: str

    @property
    def pair(self) -> Pair:
        return self.model, self.dataset

    def __str__(self) -> str:
        return f"{self.model}_{self.dataset}/{self.method}/{self.point}"

    def folder(self, results: Path, seed: int) -> Path:
        return Path(results) / "runs" / str(self) / f"seed-{seed}"


@dataclass(frozen=True)
class Run:
    """A finished run: the folder and its ``metrics.json``."""

    case: Case
    seed: int
    folder: Path
    metrics: Mapping[str, Any]

    def trace(self) -> Trace:
        return read_trace(self.folder / "trace.safetensors")

    @property
    def ending(self) -> str | None:
        """How it ended if it came to no result, such as ``diverged at step 120``."""
        return self.metrics.get("status")

    @property
    def code(self) -> Mapping[str, Any]:
        """``provenance.code``: commit, dirty, hash; empty if the run did not say."""
        code = self.metrics.get("provenance", {}).get("code", {})
        return code if isinstance(code, Mapping) else {}


@dataclass(frozen=True)
class Trace:
    """``trace.safetensors``: arrays by name, and the file's metadata as text."""

    path: Path
    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self.arrays[name]
        except KeyError:
            raise ResultsError(
                f"{self.path}: holds no '{name}'; delete the folder and run it again"
            ) from None


def cases(pairs: Iterable[Pair], points: Points = MAIN) -> list[Case]:
    """Every case to expect, in the order given.

    Parameters
    ----------
    pairs : (model, data set).
    points : (method, point), the same for all pairs, or a list of them by pair.
    """
    found = []
    for model, dataset in pairs:
        listed = points.get((model, dataset), ()) if isinstance(points, Mapping) else points
        found += [Case(model, dataset, method, point) for method, point in listed]
    return list(dict.fromkeys(found))


def read_run(results: Path, case: Case, seed: int) -> Run | None:
    """The run's metrics, or None if it has not finished or came to no result.

    Raises
    ------
    ResultsError
        If ``metrics.json`` is damaged, incomplete, or belongs to another run.
    """
    run = read_record(results, case, seed)
    return None if run is None or run.ending else run


def read_endings(results: Path, case: Case, seeds: Iterable[int]) -> dict[int, str]:
    """How runs ended that came to no result, by seed."""
    found = (read_record(results, case, seed) for seed in seeds)
    return {run.seed: run.ending for run in found if run is not None and run.ending}


def read_record(results: Path, case: Case, seed: int) -> Run | None:
    """What a run left, whether it came to a result or not; None if it has not finished.

    Raises
    ------
    ResultsError
        If ``metrics.json`` is damaged, incomplete, or belongs to another run.
    """
    path = case.folder(results, seed) / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultsError(
            f"{path}: not valid JSON ({error}); delete the folder and run it again"
        ) from None
    known = isinstance(metrics, dict)
    required = ("error_start_pct",) if known and metrics.get("status") else REQUIRED
    missing = [name for name in required if not known or name not in metrics]
    if not missing and required is REQUIRED:
        missing = [f"cr.{rate}" for rate in RATES if rate not in metrics["cr"]]
    if missing:
        raise ResultsError(
            f"{path}: lacks {', '.join(missing)}; delete the folder and run it again"
        )
    told = [metrics.get(k) for k in ("model", "dataset", "method", "point", "seed")]
    if told != [case.model, case.dataset, case.method, case.point, seed]:
        raise ResultsError(f"{path}: says it is {told}; move it back to its own folder")
    return Run(case, seed, path.parent, metrics)


def read_runs(results: Path, case: Case, seeds: Iterable[int]) -> list[Run]:
    """The finished runs of a case among ``seeds``, in that order."""
    found = (read_run(results, case, seed) for seed in seeds)
    return [run for run in found if run is not None]


def records_of(results: Path, case: Case) -> list[Run]:
    """All that was run of a case, by seed: of these results, else of the reference in them.

    Runs that came to no result are among them; their ``ending`` says how.

    Parameters
    ----------
    results : Path
        Folder that holds ``runs/``, and perhaps ``reference/runs/``.
    case : Case
        What was run.
    """
    for folder in (Path(results), Path(results) / "reference"):
        seeds = sorted(
            int(path.parent.name.removeprefix("seed-"))
            for path in (folder / "runs" / str(case)).glob("seed-*/metrics.json")
            if path.parent.name.removeprefix("seed-").isdigit()
        )
        found = (read_record(folder, case, seed) for seed in seeds)
        if runs := [run for run in found if run is not None]:
            return runs
    return []


def discover(results: Path) -> dict[Case, list[int]]:
    """Every case below ``results/runs`` that has a ``metrics.json``, with its seeds, sorted."""
    found: dict[Case, list[int]] = {}
    for path in sorted(Path(results).glob("runs/*/*/*/seed-*/metrics.json")):
        pair, method, point, seed = path.parts[-5:-1]
        model, _, dataset = pair.partition("_")
        if seed.removeprefix("seed-").isdigit():
            found.setdefault(Case(model, dataset, method, point), []).append(
                int(seed.removeprefix("seed-"))
            )
    return {case: sorted(seeds) for case, seeds in sorted(found.items())}


def read_trace(path: Path) -> Trace:
    """Read a run's trace.

    Raises
    ------
    ResultsError
        If the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Trace(Path(path), arrays, dict(file.metadata() or {}))
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such trace; run the compression first") from None
    except (SafetensorError, OSError) as error:
        raise ResultsError(
            f"{path}: damaged ({error}); delete the folder and run it again"
        ) from None


@dataclass(frozen=True)
class Trial:
    """A tuning trial on one seed, measured on the validation split."""

    trial: str
    seed: int
    error_start: float
    error_end: float
    file_bytes: float
    cr_file: float
    main: bool


def checkpoint_root(results: Path, chosen: Path | None = None) -> Path:
    """Where checkpoints go: chosen, ``$SWS_CHECKPOINT_ROOT``, or below the results.

    Parameters
    ----------
    results : Path
        Folder of the results.
    chosen : Path, optional
        What a configuration or a command says.
    """
    place = chosen or os.environ.get("SWS_CHECKPOINT_ROOT")
    return Path(place).expanduser() if place else Path(results) / ".checkpoints"


def start_folder(results: Path, pair: Pair, start: str, seed: int) -> Path:
    """Where a pre-trained network lies; that which methods share has no name in its path.

    Parameters
    ----------
    results : Path
        Folder of the results.
    pair : (model, data set)
        What was trained.
    start : str
        Name of the start; ``main`` is the shared one.
    seed : int
        Of the training.
    """
    folder = Path(results) / "pretrained" / "_".join(pair)
    return (folder if start == "main" else folder / start) / f"seed-{seed}"


def trials_start_folder(results: Path, pair: Pair, start: str, seed: int) -> Path:
    """Where the start of a pair's trials lies, which was trained without the validation images."""
    folder = Path(results) / "tuning" / "_".join(pair) / "pretrained"
    return (folder if start == "main" else folder / start) / f"seed-{seed}"


def rate_trial_folder(results: Path, name: str, seed: int) -> Path:
    """Where a trial of the mixture's rates leaves ``trial.json`` and ``history.csv``."""
    return Path(results) / "sensitivity" / name / f"seed-{seed}"


def profile_path(results: Path, case: Case, seed: int) -> Path:
    """Where it is written what inference with a run's file costs."""
    return Path(results) / "profiles" / str(case) / f"seed-{seed}.json"


def trials_path(results: Path, pair: Pair, method: str) -> Path:
    """Where the trials of a pair are: in these results, else in the reference beside them."""
    below = Path("tuning") / "_".join(pair) / method / "trials.csv"
    own, reference = Path(results) / below, Path(results) / "reference" / below
    return reference if reference.exists() and not own.exists() else own


def read_trials(results: Path, pair: Pair, method: str = "soft-weight-sharing") -> list[Trial]:
    """The tuning trials of a pair that finished, in file order; empty if there was no tuning.

    Raises
    ------
    ResultsError
        If a column is missing or a number cannot be read.
    """
    path = trials_path(results, pair, method)
    if not path.exists():
        return []
    found = []
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                if not row["error_end_val_pct"] or not row["file_bytes"]:
                    continue  # a trial without a result, which somebody noted down
                found.append(
                    Trial(
                        trial=row["trial"],
                        seed=int(row["seed"]),
                        error_start=float(row["error_start_val_pct"]),
                        error_end=float(row["error_end_val_pct"]),
                        file_bytes=float(row["file_bytes"]),
                        cr_file=float(row["cr_file"]),
                        main=row["main"].strip().lower() in ("1", "true"),
                    )
                )
            except (KeyError, TypeError, ValueError) as error:
                raise ResultsError(
                    f"{path}:{line}: unreadable ({error!r}); correct or remove the line"
                ) from None
    return found
