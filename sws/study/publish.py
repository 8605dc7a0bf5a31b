"""Publish complete runs: copy them into ``results/reference`` so that they can be committed.

The reference folder has the layout of ``results`` itself, so that tables, figures and the
comparison read it unchanged. What is published takes the place of what the folder held of the same
cases and targets; the rest stays. The new folder is built beside the old one and renamed there: a
reader finds one or the other, never half of both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sws.config import methods
from sws.report import table1
from sws.report.table import to_csv
from sws.runs import published
from sws.runs.records import (
    MAIN,
    RUN_FILES,
    Case,
    Pair,
    Points,
    ResultsError,
    Run,
    cases,
    profile_path,
    read_record,
    trials_path,
)
from sws.study.plan import LADDER, METHOD, POINT

MANIFEST = "manifest.json"
README = "README.md"
WEIGHTS = "pretrained.safetensors"
START_FILES = (WEIGHTS, "metrics.json", "history.csv")
LARGEST_START = 16 * 2**20
"""Bytes of a start that a repository still holds as a file."""

SENSITIVITY, CLAIMS = "sensitivity", "claims"
STUDIES = ("studies", SENSITIVITY, CLAIMS)  # targets that have tables, and no runs of a method
WITHOUT_TABLE_1 = (*STUDIES, LADDER)


def publish(
    results: Path,
    reference: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    points: Points = MAIN,
    targets: Sequence[str] = ("mnist",),
    partial: bool = False,
    replace: bool = False,
    starts: bool = False,
) -> tuple[Path, list[Case]]:
    """Copy runs, tables, figures and tuning trials into ``reference``.

    Parameters
    ----------
    results : folder that holds ``runs/``, ``tables/<target>/``, ``figures/<target>/``, ``tuning/``.
    reference : folder to update, ``results/reference``.
    pairs, seeds, points : the cases to publish, each with all of these seeds.
    targets : which tables and figures belong to them; ``studies`` has no cases.
    partial : publish the seeds of a case that have run, rather than refuse if one has not.
    replace : drop whatever else the present reference holds.
    starts : publish the networks that the runs began with too, as files of up to
        :data:`LARGEST_START` bytes and of larger ones the SHA-256.

    Returns
    -------
    The reference folder, and the cases left out because no seed has run.

    Raises
    ------
    ResultsError
        If a run, table, figure or trial is missing, a run comes from uncommitted changes or from
        another commit than the other seeds of its case, the tables were made from other runs, or
        the reference keeps another start than that of the runs and ``starts`` is not set.
        Nothing has changed then.
    """
    results, reference = Path(results), Path(reference)
    wanted = cases(pairs, points)
    if not targets or (not set(targets) <= set(STUDIES) and not (wanted and seeds)):
        raise ResultsError("nothing to publish; name pairs, seeds and targets")
    ready = {
        case: [seed for seed in seeds if not partial or read_record(results, case, seed)]
        for case in wanted
    }
    left_out = [case for case in wanted if not ready[case]]
    wanted = [case for case in wanted if ready[case]]
    runs = [_complete(results, case, seed) for case in wanted for seed in ready[case]]
    commits = _clean_commits(runs)
    folders = _target_folders(results, targets)
    trials = _tuning(results, wanted)
    _match(results, [target for target in targets if target not in WITHOUT_TABLE_1], wanted, seeds)
    files = [run.folder / name for run in runs for name in _files(run)]
    profiles = (profile_path(results, run.case, run.seed) for run in runs)
    files += [path for path in profiles if path.is_file()]
    files += [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    if SENSITIVITY in targets:
        files += sorted((results / SENSITIVITY).glob("*/seed-*/[a-z]*"))
    sources = {path.relative_to(results): path for path in files} | trials
    pairs_seeds = sorted({(case.pair, seed) for case in wanted for seed in ready[case]})
    begun = [Path("pretrained", "_".join(pair), f"seed-{seed}") for pair, seed in pairs_seeds]
    hashes = {}
    if starts:
        for place in begun:
            copied, hashed = _start(results, place)
            sources, hashes = sources | copied, hashes | hashed
    else:
        _same_starts(results, reference, begun)
    superseded = [folder.relative_to(results) for folder in folders]
    superseded += [Path(kind, str(case)) for case in wanted for kind in ("runs", "profiles")]
    superseded += begun if starts else []
    kept = _kept(reference, superseded, everything=not replace)
    sources = {path.relative_to(reference): path for path in kept} | sources
    found = {
        str(case): {"commit": commit, "seeds": ready[case]} for case, commit in commits.items()
    }
    if not replace:
        found = _present(reference) | found
    _swap(reference, sources, hashes, found)
    return reference, left_out


def _files(run: Run) -> list[str]:
    """Files of a run to copy. Traces are megabytes, and figures draw those of one case a pair."""
    if run.ending:
        return ["metrics.json", "history.csv"]
    drawn = (run.case.method, run.case.point) == (METHOD, POINT)
    return [name for name in RUN_FILES if drawn or name != "trace.safetensors"]


def _complete(results: Path, case: Case, seed: int) -> Run:
    """A run that has all of the files to copy; a copy of a reference does."""
    run = read_record(results, case, seed)
    if run is None:
        raise ResultsError(f"{case} seed {seed} has not run; run it, or publish without it")
    if run.ending:
        return run
    for name in _files(run):
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
    return run


def _clean_commits(runs: Sequence[Run]) -> dict[Case, str]:
    """Case → the commit that all of its seeds come from."""
    commits: dict[Case, str] = {}
    for run in runs:
        if not run.code.get("commit") or "dirty" not in run.code:
            raise ResultsError(f"{run.folder}: does not say its commit; run it inside a git clone")
        if run.code["dirty"]:
            raise ResultsError(
                f"{run.folder}: made from uncommitted changes; commit them and run it again"
            )
        first = commits.setdefault(run.case, run.code["commit"])
        if run.code["commit"] != first:
            raise ResultsError(
                f"{run.folder} is of commit {run.code['commit'][:10]}, another seed of {run.case} "
                f"of {first[:10]}; run all of them from one commit"
            )
    return commits


def _target_folders(results: Path, targets: Sequence[str]) -> list[Path]:
    folders = [
        results / kind / target
        for target in targets
        for kind in ("tables", "figures")
        if (kind, target) != ("figures", CLAIMS)
    ]
    for folder in folders:
        if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
            raise ResultsError(
                f"{folder} is missing; run 'snakemake --cores all {folder.name}' first"
            )
    return folders


def _tuning(results: Path, wanted: Sequence[Case]) -> dict[Path, Path]:
    """Place in the reference → the trials there are, which may be those of the reference."""
    found = {}
    for pair, method in dict.fromkeys((c.pair, methods.spec(c.method).tuned_as) for c in wanted):
        path = trials_path(results, pair, method)
        if not path.is_file():
            raise ResultsError(f"{path} is missing; tune first, or put the trials file there")
        found[Path("tuning", "_".join(pair), method, path.name)] = path
    return found


def _match(
    results: Path, targets: Sequence[str], wanted: Sequence[Case], seeds: Sequence[int]
) -> None:
    """Published tables must be made of the published runs, and show each of them."""
    literature = published.read()
    expected: dict[str, Case] = {}
    for case in wanted:
        rows = table1.rows(results, [case.pair], seeds, [(case.method, case.point)], (), literature)
        own = [row for row in rows if row["source"] == "measured"]
        expected |= dict.fromkeys(to_csv(own, table1.COLUMNS).splitlines()[1:], case)
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
                raise ResultsError(_stale(path, case, target, seeds))
        shown |= measured
    for line, case in expected.items():
        if line not in shown:
            tried = results / "tables" / targets[-1] / "table1.csv"
            raise ResultsError(_stale(tried, case, targets[-1], seeds))


def _stale(path: Path, case: Case, target: str, seeds: Sequence[int]) -> str:
    numbers = ",".join(map(str, seeds))
    return (
        f"{path} does not show the runs of {case}; make it again: "
        f"'sws tables {target} --seeds {numbers}'"
    )


def _present(reference: Path) -> dict[str, Any]:
    """The cases of the present reference: commit and seeds."""
    manifest = reference / MANIFEST
    if not manifest.is_file():
        return {}
    return json.loads(manifest.read_text(encoding="utf-8")).get("cases", {})


def _start(results: Path, place: Path) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Files to copy of a start, and the line of its SHA-256 where the network is too large.

    Returns
    -------
    place → file, and place → text in the form that ``sha256sum --check`` reads.
    """
    for name in START_FILES:
        if not (results / place / name).is_file():
            raise ResultsError(f"{results / place / name} is missing; pre-train it again")
    metrics = json.loads((results / place / "metrics.json").read_text(encoding="utf-8"))
    if metrics["provenance"]["code"].get("dirty") is not False:
        raise ResultsError(
            f"{results / place}: made from uncommitted changes, or outside a git clone; commit "
            "them and pre-train it again"
        )
    sources = {place / name: results / place / name for name in START_FILES}
    weights = sources[place / WEIGHTS]
    if weights.stat().st_size <= LARGEST_START:
        return sources, {}
    del sources[place / WEIGHTS]
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return sources, {place / f"{WEIGHTS}.sha256": f"{digest}  {WEIGHTS}\n"}


def _same_starts(results: Path, reference: Path, places: Sequence[Path]) -> None:
    """Runs must not stand in a reference beside a start that they did not begin with."""
    for place in places:
        kept, own = reference / place / "metrics.json", results / place / "metrics.json"
        if kept.is_file() and own.is_file() and kept.read_bytes() != own.read_bytes():
            raise ResultsError(
                f"{kept.parent} is another start than {own.parent}; publish with --starts"
            )


def _kept(reference: Path, superseded: Sequence[Path], everything: bool) -> list[Path]:
    """Files of the present reference that stay, or its README only."""
    return [
        path
        for path in sorted(reference.rglob("*"))
        if path.is_file()
        and path.name != MANIFEST
        and (everything or path == reference / README)
        and not any(path.relative_to(reference).is_relative_to(old) for old in superseded)
    ]


def _swap(
    reference: Path,
    sources: Mapping[Path, Path],
    texts: Mapping[Path, str],
    found: Mapping[str, Any],
) -> None:
    """Put everything (place → from where, or text) beside the reference, and in its place."""
    beside = reference.with_name(f".{reference.name}.new-{os.getpid()}")
    old = reference.with_name(f".{reference.name}.old-{os.getpid()}")
    hashes = {}
    try:
        for relative, path in sources.items():
            target = beside / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if relative != Path(README):  # people write it
                hashes[relative.as_posix()] = hashlib.sha256(target.read_bytes()).hexdigest()
        for relative, text in texts.items():
            (beside / relative).write_text(text, encoding="utf-8", newline="\n")
            hashes[relative.as_posix()] = hashlib.sha256(text.encode()).hexdigest()
        manifest = {"cases": dict(sorted(found.items())), "sha256": dict(sorted(hashes.items()))}
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
