"""Where a result comes from: code, settings, data, versions, machine."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sws.environment import CHECKOUT, device_description, versions
from sws.study.code_hash import code_hash

# What decides a result. Publishing changes results/reference, which must not make a clone "dirty".
SOURCES = ("Snakefile", "config", "requirements.lock", "resources", "sws", "workflow")


def collect(
    settings: Mapping[str, Any],
    data_digest: str,
    entries: tuple[str, ...],
    device: str,
    threads: int,
) -> dict[str, Any]:
    """The ``provenance`` of metrics.json. Call it before a run, not after: code may change.

    Parameters
    ----------
    settings : the stage's own settings, as plain values; hashed.
    data_digest : :attr:`sws.data.datasets.Dataset.digest`.
    entries : for :func:`sws.study.code_hash.code_hash`.
    device : ``cpu``, ``cuda`` or ``cuda:<n>``.
    threads : that the computation uses.
    """
    return {
        "code": {**_commit(), "hash": code_hash(*entries)},
        "settings": _settings_hash(settings),
        "data": data_digest,
        "versions": versions(),
        "device": device_description(device),
        "threads": threads,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _settings_hash(settings: Mapping[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _commit() -> dict[str, Any]:
    """Commit of the checkout and whether sources differ from it; None outside a clone."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != CHECKOUT:
        return {"commit": None, "dirty": None}
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD")
    present = [name for name in SOURCES if (CHECKOUT / name).exists()]
    changes = _git("status", "--porcelain", "--untracked-files=all", "--", *present)
    return {"commit": commit, "dirty": changes != ""}


def _git(*arguments: str) -> str | None:
    # Inside a hook, git's own variables would point it at another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments],
            capture_output=True,
            timeout=60,
            env=environment,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(done.stdout).strip()
