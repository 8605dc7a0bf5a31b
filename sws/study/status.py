"""What has run, what is running and how far, what failed: read from what runs leave on disk.

Nothing here asks a scheduler. A run holds a lock as long as its process lives, and keeps its last
line in the lock file (:class:`sws.study.RunLock`); ``metrics.json`` appears when it is done; a
rule's log ends with the error that stopped it. That is the same on a laptop and on a cluster whose
nodes share the folder.
"""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sws.study.locks import lock_path

if TYPE_CHECKING:
    from sws.study.plan import Plan

PROOF = "metrics.json"
STATES = ("running", "failed", "stopped", "done", "to do")


@dataclass(frozen=True)
class Job:
    """One result to come.

    Attributes
    ----------
    stage : ``data``, ``pretrain``, ``compress``, ``tune``, ``profile``, ``tables``, ``figures``,
        ``costs`` or ``coders``.
    name : of what it is made for, such as ``lenet-300-100_mnist``.
    seed : None for a stage that has none.
    proof : the file that exists once it is done.
    log : of the workflow's rule.
    checkpoints : folder of its checkpoints.
    """

    stage: str
    name: str
    seed: int | None
    proof: Path
    log: Path
    checkpoints: Path | None = None


@dataclass(frozen=True)
class State:
    """Where a job stands: one of :data:`STATES`, and a line on it."""

    job: Job
    state: str
    detail: str = ""


def jobs(
    plan: Plan, target: str, results: Path, logs: Path, checkpoints: Path | None = None
) -> list[Job]:
    """Everything that a target is made of, in the order of the workflow.

    Parameters
    ----------
    checkpoints : their folder; by default the configured one.
    """
    chosen = plan.target(target)
    roots = results, logs, checkpoints or plan.checkpoint_root
    configured = plan.configuration.results
    runs = [results / Path(p).relative_to(configured) for p in plan.run_files(target, PROOF)]
    starts = [results / path.relative_to(configured) / PROOF for path in plan.starts(target)]
    sets = dict.fromkeys(pair.partition("_")[2] for pair in chosen.runnable)
    found = [
        Job("data", name, None, results / "data" / f"{name}.json", logs / "data" / f"{name}.log")
        for name in sets
    ]
    found += [of_run(path, *roots) for path in (*starts, *runs)]
    found += _known(found, *roots)
    if chosen.problem is not None:
        return found
    profiles = [results / Path(p).relative_to(configured) for p in plan.profile_files(target)]
    found += [_of_profile(path, results, logs) for path in profiles]
    made = {"tables": f"tables/{target}/table1.csv"}
    if pictures := plan.figure_files(target):
        made["figures"] = f"figures/{target}/{Path(pictures[0].path).name}"
    if chosen.compares:
        made |= {name: f"tables/{target}/{name}.csv" for name in ("costs", "coders")}
    return found + [
        Job(stage, target, None, results / proof, logs / stage / f"{target}.log")
        for stage, proof in made.items()
    ]


def _of_profile(path: Path, results: Path, logs: Path) -> Job:
    *name, file = path.relative_to(results / "profiles").parts
    log = logs.joinpath("profile", *name, file).with_suffix(".log")
    return Job("profile", "/".join(name), int(path.stem.removeprefix("seed-")), path, log)


def _known(listed: Iterable[Job], *roots: Path) -> list[Job]:
    """Other runs that hold a lock now: of another target, another seed, or started by hand."""
    known = {job.proof for job in listed}
    found = []
    for kind in ("pretrained", "runs"):
        for lock in sorted((roots[0] / kind).rglob(".seed-*.lock")):
            proof = lock.parent / lock.name[1:].removesuffix(".lock") / PROOF
            if proof not in known and is_held(lock):
                found.append(of_run(proof, *roots))
    for lock in sorted((roots[0] / "tuning").glob("*/.*.lock")):
        proof = lock.parent / lock.name[1:].removesuffix(".lock") / "trials.csv"
        if is_held(lock):
            name = "/".join(proof.parts[-3:-1])
            below = roots[2] / proof.parent.relative_to(roots[0])
            found.append(Job("tune", name, None, proof, roots[1] / "tune.log", below))
    return found


def of_run(metrics: Path, results: Path, logs: Path, checkpoints: Path) -> Job:
    """The job behind a ``metrics.json`` below ``pretrained`` or ``runs``."""
    below = metrics.parent.relative_to(results)
    kind, *name, seed = below.parts
    stage = {"pretrained": "pretrain", "runs": "compress"}[kind]
    log = logs.joinpath(stage, *name, f"{seed}.log")
    number = int(seed.removeprefix("seed-"))
    return Job(stage, "/".join(name), number, metrics, log, checkpoints / below)


def state(job: Job) -> State:
    """Where a job stands now."""
    lock = lock_path(job.proof.parent) if job.checkpoints else None
    if lock is not None and is_held(lock):
        return State(job, "running", _running(lock))
    if job.proof.is_file():
        return State(job, "done")
    if (error := _error(job.log)) is not None:
        return State(job, "failed", error)
    _, note = read_lock(lock) if lock is not None else ("", "")
    if note.startswith("failed: "):
        return State(job, "failed", note.removeprefix("failed: "))
    if note and note != "finished":
        has = any(job.checkpoints.glob("*.pt"))
        return State(job, "stopped", f"{note}; {'can go on' if has else 'starts afresh'}")
    return State(job, "to do")


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock, on any machine that shares the file."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)  # and with it a lock that was only there to ask
    return False


def read_lock(lock: Path) -> tuple[str, str]:
    """The process that holds a lock, or held it last, and its last line; empty if there is none."""
    try:
        first, _, note = lock.read_text(encoding="utf-8", errors="replace").partition("\n")
    except OSError:
        return "", ""
    pid, _, host = first.partition(" ")
    return f"process {pid}" + (f" on {host}" if host != socket.gethostname() else ""), note.strip()


def _running(lock: Path) -> str:
    process, note = read_lock(lock)
    age = datetime.datetime.now().timestamp() - lock.stat().st_mtime
    return f"{note} ({_duration(age)} ago, {process})"


def _duration(seconds: float) -> str:
    """A time span in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _error(log: Path) -> str | None:
    """The error that a log ends with."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return None
    if lines and lines[-1].startswith("error: "):
        return lines[-1].removeprefix("error: ")
    return None


# --- in words -------------------------------------------------------------------------------------


def report(states: Iterable[State], missing: dict[str, str]) -> str:
    """A heading with counts, then what runs, failed or stopped, one by one, and the rest by seeds.

    Parameters
    ----------
    missing : pair → how to supply its data.
    """
    found = list(states)
    counts = {name: sum(s.state == name for s in found) for name in STATES}
    parts = [f"{number} {name}" for name, number in counts.items() if number]
    lines = [", ".join(parts) or "nothing to do"]
    for name in ("running", "failed", "stopped"):
        for one in (s for s in found if s.state == name):
            lines.append(f"{name:8} {_title(one.job)}: {one.detail}")
            if one.job.log.is_file():
                lines.append(f"{'':8} log: {one.job.log}")
    for name in ("done", "to do"):
        lines += [f"{name:8} {text}" for text in _gathered(s.job for s in found if s.state == name)]
    lines += [f"{'no data':8} {pair}: {fix}" for pair, fix in missing.items()]
    return "\n".join(lines) + "\n"


def _title(job: Job) -> str:
    return f"{job.stage} {job.name}" + ("" if job.seed is None else f" seed {job.seed}")


def _gathered(jobs: Iterable[Job]) -> Iterator[str]:
    """Jobs that differ in their seed only, in one line."""
    seeds: dict[str, list[int]] = {}
    for job in jobs:
        seeds.setdefault(f"{job.stage} {job.name}", []).extend(
            [] if job.seed is None else [job.seed]
        )
    for name, numbers in seeds.items():
        listed = ", ".join(map(str, sorted(numbers)))
        yield name + (f" seed{'s' if len(numbers) > 1 else ''} {listed}" if numbers else "")
