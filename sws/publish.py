"""Publish a complete run: copy it into ``results/reference`` so that it can be committed.

The reference folder has the layout of ``results`` itself, so that tables, figures and the
comparison read it unchanged. It is built beside its place and renamed there: it is either the old
reference or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from sws import published, tables
from sws.runs import (
    MAIN,
    RUN_FILES,
    Case,
    Pair,
    Points,
    ResultsError,
    Run,
    cases,
    profile_path,
    read_run,
    trials_path,
)

MANIFEST = "manifest.json"


def publish(
    results: Path,
    reference: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    points: Points = MAIN,
    targets: Sequence[str] = ("mnist",),
    replace: bool = False,
) -> Path:
    """Copy runs, tables, figures and tuning trials into ``reference``.

    Parameters
    ----------
    results : folder that holds ``runs/``, ``tables/<target>/``, ``figures/<target>/``, ``tuning/``.
    reference : folder to (re)place, ``results/reference``.
    pairs, seeds, points : what must be complete; it and nothing else is published.
    targets : which tables and figures belong to it.
    replace : allow that cases of the present reference vanish.

    Returns
    -------
    The reference folder.

    Raises
    ------
    ResultsError
        If a run, table, figure or trial is missing, a run comes from uncommitted changes or from
        another commit than the rest, the tables were made from other runs, or the present reference
        holds a case that the new one would not. Nothing has changed then.
    """
    results, reference = Path(results), Path(reference)
    wanted = cases(pairs, points)
    if not wanted or not seeds or not targets:
        raise ResultsError("nothing to publish; name pairs, seeds and targets")
    runs = _complete(results, wanted, seeds)
    commit = _one_clean_commit(runs)
    folders = _target_folders(results, targets)
    trials = _tuning(results, wanted)
    _match(results, targets, wanted, seeds)
    if not replace:
        _loses_nothing(reference, wanted)
    files = [run.folder / name for run in runs for name in RUN_FILES]
    profiles = (profile_path(results, run.case, run.seed) for run in runs)
    files += [path for path in profiles if path.is_file()]
    files += [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    _swap(results, reference, [*files, *trials], commit, seeds)
    return reference


def _complete(results: Path, wanted: Sequence[Case], seeds: Sequence[int]) -> list[Run]:
    runs = []
    for case in wanted:
        for seed in seeds:
            run = read_run(results, case, seed)
            if run is None:
                raise ResultsError(f"{case} seed {seed} has not run; run it, or publish without it")
            for name in RUN_FILES:
                if not (run.folder / name).is_file():
                    raise ResultsError(
                        f"{run.folder / name} is missing; delete the folder and run it again"
                    )
            size = (run.folder / "model.sws").stat().st_size
            if size != run.metrics["bytes"]["file"]:
                raise ResultsError(
                    f"{run.folder / 'model.sws'} has {size} bytes, metrics.json says "
                    f"{run.metrics['bytes']['file']}; delete the folder and run it again"
                )
            runs.append(run)
    return runs


def _one_clean_commit(runs: Sequence[Run]) -> str:
    for run in runs:
        if not run.code.get("commit") or "dirty" not in run.code:
            raise ResultsError(f"{run.folder}: does not say its commit; run it inside a git clone")
        if run.code["dirty"]:
            raise ResultsError(
                f"{run.folder}: made from uncommitted changes; commit them and run it again"
            )
    first = runs[0]
    for run in runs:
        if run.code["commit"] != first.code["commit"]:
            raise ResultsError(
                f"{run.folder} is of commit {run.code['commit'][:10]}, {first.folder} of "
                f"{first.code['commit'][:10]}; run all of them from one commit"
            )
    return first.code["commit"]


def _target_folders(results: Path, targets: Sequence[str]) -> list[Path]:
    folders = [results / kind / target for target in targets for kind in ("tables", "figures")]
    for folder in folders:
        if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
            raise ResultsError(f"{folder} is missing; run 'snakemake {folder.name}' first")
    return folders


def _tuning(results: Path, wanted: Sequence[Case]) -> list[Path]:
    paths = [
        trials_path(results, pair, method)
        for pair, method in dict.fromkeys((case.pair, case.method) for case in wanted)
    ]
    for path in paths:
        if not path.is_file():
            raise ResultsError(f"{path} is missing; tune first, or put the trials file there")
    return paths


def _match(
    results: Path, targets: Sequence[str], wanted: Sequence[Case], seeds: Sequence[int]
) -> None:
    """Published tables must be made of the published runs, and show each of them."""
    literature = published.read()
    expected: dict[str, Case] = {}
    for case in wanted:
        rows = tables.table1(
            results, [case.pair], seeds, [(case.method, case.point)], (), literature
        )
        own = [row for row in rows if row["source"] == "measured"]
        expected |= dict.fromkeys(tables.to_csv(own, tables.COLUMNS).splitlines()[1:], case)
    shown: set[str] = set()
    for target in targets:
        path = results / "tables" / target / "table1.csv"
        if not path.is_file():
            raise ResultsError(f"{path} is missing; make the tables first")
        lines = path.read_text(encoding="utf-8").splitlines()
        measured = {line for line in lines if line.startswith("measured,")}
        for case in wanted:
            key = ",".join(("measured", case.model, case.dataset, case.method, case.point))
            if any(line.startswith(key + ",") and line not in expected for line in measured):
                raise ResultsError(
                    f"{path} does not show the runs of {case}; make the tables again"
                )
        shown |= measured
    for line, case in expected.items():
        if line not in shown:
            tried = results / "tables" / targets[-1] / "table1.csv"
            raise ResultsError(f"{tried} does not show the runs of {case}; make the tables again")


def _loses_nothing(reference: Path, wanted: Sequence[Case]) -> None:
    manifest = reference / MANIFEST
    if not manifest.is_file():
        return
    kept = {str(case) for case in wanted}
    for case in json.loads(manifest.read_text(encoding="utf-8")).get("cases", []):
        if case not in kept:
            raise ResultsError(
                f"{reference} holds {case}, which would vanish; publish it too, or allow --replace"
            )


def _swap(
    results: Path, reference: Path, files: Sequence[Path], commit: str, seeds: Sequence[int]
) -> None:
    beside = reference.with_name(f".{reference.name}.new-{os.getpid()}")
    old = reference.with_name(f".{reference.name}.old-{os.getpid()}")
    hashes, found = {}, set()
    try:
        for path in files:
            relative = path.relative_to(results)
            target = beside / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            hashes[relative.as_posix()] = hashlib.sha256(target.read_bytes()).hexdigest()
            if relative.parts[0] == "runs":
                found.add("/".join(relative.parts[1:4]))
        manifest = {"commit": commit, "seeds": list(seeds), "cases": sorted(found)}
        manifest["sha256"] = dict(sorted(hashes.items()))
        text = json.dumps(manifest, indent=1) + "\n"
        (beside / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
        if reference.exists():
            reference.rename(old)
        try:
            beside.rename(reference)
        except OSError:
            if old.exists():
                old.rename(reference)
            raise
    except OSError as error:
        raise ResultsError(f"{reference}: cannot be written ({error}); nothing changed") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if reference.exists():
            shutil.rmtree(old, ignore_errors=True)
