"""Where a result comes from: code, settings, data, versions, machine; and who may write it.

The code hash is computed from source text, so that a workflow can ask for it without importing a
deep-learning framework, and it ignores what cannot change a result: comments and docstrings.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import socket
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sws import methods

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent

STAGE_MODULES: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("sws.stages:pretrain",),
    "compress": ("sws.stages:compress",),
}
"""What a stage runs, for :func:`code_hash`, whatever the method: see :func:`stage_modules`."""


def stage_modules(stage: str, method: str | None = None) -> tuple[str, ...]:
    """What a stage runs, for :func:`code_hash`.

    Parameters
    ----------
    method : which of :data:`sws.methods.MODULES` the stage calls, by a name that only shows when it
        runs; without one, no method counts.
    """
    return STAGE_MODULES[stage] + (() if method is None else (methods.MODULES[method],))


# Modules that decide whether and where a stage runs, never what it computes. The values of the
# settings, defaults included, have a fingerprint of their own.
NEUTRAL = frozenset(
    {
        "sws.baselines",
        "sws.config",
        "sws.interruption",
        "sws.methods",  # a table of names; the method that a stage calls is asked for by its module
        "sws.provenance",
        "sws.runs",
        "sws.sections",
        "sws.validation",
    }
)

# What decides a result. Publishing changes results/reference, which must not make a clone "dirty".
SOURCES = ("Snakefile", "config", "requirements.lock", "resources", "sws", "workflow")

PACKAGES = ("torch", "torchvision", "numpy", "numba", "constriction", "safetensors", "snakemake")


class LockedError(RuntimeError):
    """Another process writes to the same folder; the message names it."""


# --- code -----------------------------------------------------------------------------------------


@functools.cache
def code_hash(*modules: str) -> str:
    """SHA-256 over modules and everything of this package that they import, directly or not.

    Docstrings, comments, formatting and :data:`NEUTRAL` modules are left out, and the version of
    Python makes no difference. Nothing is imported.

    Parameters
    ----------
    modules : dotted names, such as ``sws.codec``; or ``module:function``, which counts only that
        function and what it uses of its module, so that two stages in one file do not share a hash.

    Raises
    ------
    ValueError
        If there is no such module or function in this package.
    """
    lines = [f"{name}\n{_text(name)}" for name in sorted(closure(*modules))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def closure(*modules: str) -> frozenset[str]:
    """The modules, and ``module:function`` entries, that :func:`code_hash` covers."""
    found: set[str] = set()
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name in found or (name in NEUTRAL and name not in modules):
            continue
        found.add(name)
        pending += _imports(name)
    return frozenset(found)


@functools.cache
def _path(module: str) -> Path | None:
    """Source file of a module of this package."""
    if module != PACKAGE.name and not module.startswith(f"{PACKAGE.name}."):
        return None
    base = PACKAGE.joinpath(*module.split(".")[1:])
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


@functools.cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    if path is None:
        raise ValueError(f"there is no module {module!r} in {PACKAGE}")
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in node.body if not _is_docstring(s)] or [ast.Pass()]
    return tree


def _is_docstring(statement: ast.stmt) -> bool:
    # A string that stands alone does nothing, wherever it is: under a constant too.
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@functools.cache
def _statements(name: str) -> tuple[ast.stmt, ...]:
    """Statements that an entry covers: of a module all; of ``module:function`` what it uses."""
    module, _, function = name.partition(":")
    body = _tree(module).body
    if not function:
        return tuple(body)
    body = [single for statement in body for single in _singles(statement)]
    owners: dict[str, ast.stmt] = {}
    for statement in body:
        owners |= dict.fromkeys(_bound(statement), statement)
    if function not in owners:
        raise ValueError(f"{module} has no {function!r}")
    used: set[ast.stmt] = set()
    # Statements that bind no name act on import, whichever function is called.
    pending = [owners[function], *(s for s in body if not any(True for _ in _bound(s)))]
    while pending:
        statement = pending.pop()
        if statement in used:
            continue
        used.add(statement)
        names = (n.id for n in ast.walk(statement) if isinstance(n, ast.Name))
        pending += [owners[n] for n in names if n in owners]
    return tuple(statement for statement in body if statement in used)


def _singles(statement: ast.stmt) -> Iterator[ast.stmt]:
    """``from a import b, c`` as two statements: a function may use one and not the other."""
    if isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            yield ast.ImportFrom(statement.module, [alias], statement.level)
    else:
        yield statement


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement defines."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((a.asname or a.name).partition(".")[0] for a in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return  # what is inside binds names there, not here


@functools.cache
def _text(name: str) -> str:
    return _plain(list(_statements(name)))


def _plain(node: Any) -> str:
    """A syntax tree as text that does not depend on the version of Python.

    ``ast.unparse`` quotes otherwise from 3.12 on; nodes gain fields, which are empty in old code;
    some versions see empty strings between the parts of an f-string.
    """
    if isinstance(node, list):
        return f"[{', '.join(map(_plain, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr([v for v in node.values if getattr(v, "value", None) != ""])
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
    return f"{type(node).__name__}({', '.join(f'{n}={_plain(v)}' for n, v in fields)})"


@functools.cache
def _imports(name: str) -> tuple[str, ...]:
    """Modules of this package that an entry imports, anywhere in it."""
    module = name.partition(":")[0]
    path = _path(module)
    package = module if path is not None and path.name == "__init__.py" else _parent(module)
    found: list[str] = []
    for statement in _statements(name):
        for node in _walk_runtime(statement):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*anchor, base] if base else anchor)
                for alias in node.names:
                    child = f"{base}.{alias.name}"
                    found.append(child if _path(child) else base)
    # Importing a.b.c runs a.b's __init__ too. The root package only gathers names for users.
    found += [p for m in list(found) for p in _parents(m) if p != PACKAGE.name]
    return tuple(m for m in dict.fromkeys(found) if _path(m) is not None)


def _walk_runtime(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING:``."""
    pending = [node]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        else:
            yield node
            pending += ast.iter_child_nodes(node)


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _parents(module: str) -> Iterator[str]:
    while module := _parent(module):
        yield module


# --- circumstances --------------------------------------------------------------------------------


def collect(
    settings: Mapping[str, Any],
    data_digest: str,
    modules: tuple[str, ...],
    device: str,
    threads: int,
) -> dict[str, Any]:
    """The ``provenance`` of metrics.json. Call it before a run, not after: code may change.

    Parameters
    ----------
    settings : the stage's own settings, as plain values; hashed.
    data_digest : :attr:`sws.datasets.Dataset.digest`.
    modules : for :func:`code_hash`, one of :data:`STAGE_MODULES`.
    device : ``cpu``, ``cuda`` or ``cuda:<n>``.
    threads : that the computation uses.
    """
    return {
        "code": {**_commit(), "hash": code_hash(*modules)},
        "settings": _settings_hash(settings),
        "data": data_digest,
        "versions": versions(),
        "device": _device(device),
        "threads": threads,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _settings_hash(settings: Mapping[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, this package and those that a result depends on; imports none of them."""
    found = {"python": platform.python_version(), "sws": version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def version() -> str:
    """Version of this package, installed or run from its checkout."""
    project = CHECKOUT / "pyproject.toml"
    if project.is_file():
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    return importlib.metadata.version(PACKAGE.name)


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
            text=True,
            timeout=60,
            env=environment,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _device(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": device.partition(":")[0], "cpu": _cpu_model()}
    found |= {"cores": os.cpu_count(), "system": platform.system(), "machine": platform.machine()}
    if found["type"] == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# --- one writer -----------------------------------------------------------------------------------


class RunLock:
    """Held while a run writes to ``folder``; a second writer fails at once, naming the first.

    The kernel drops the lock with the process, however that ends: nothing is left to clean up. The
    lock file stands beside the folder and stays. Its first line names the process that holds it,
    or held it last; its second line is the last thing that this package's logger reported, such as
    the epoch, or how the run ended. :mod:`sws.status` reads it.

    Raises
    ------
    LockedError
        On entering, if another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        self.folder = Path(folder)
        self.path = lock_path(self.folder)
        self._lock = FileLock(self.path)
        self._handler = _Notes(self)

    def __enter__(self) -> RunLock:
        from filelock import Timeout

        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # whoever asks whether it is held (sws status) holds it for a moment
            self._lock.acquire(timeout=0.5, poll_interval=0.1)
        except Timeout:
            raise LockedError(
                f"{self.folder}: {self._holder()} is writing there; wait until it ends, or stop it"
            ) from None
        self.note("started")
        logger = logging.getLogger(PACKAGE.name)
        logger.addHandler(self._handler)
        if not logger.isEnabledFor(logging.INFO):
            logger.setLevel(logging.INFO)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        logging.getLogger(PACKAGE.name).removeHandler(self._handler)
        if error is None:
            self.note("finished")
        elif isinstance(error, Exception):  # a run that is told to stop keeps its last line
            self.note(f"failed: {' '.join(str(error).split()) or kind.__name__}")
        self._lock.release()

    def note(self, text: str) -> None:
        """Leave a line for those who ask what this run is doing; never a reason to fail."""
        with contextlib.suppress(OSError):
            self.path.write_text(f"{os.getpid()} {socket.gethostname()}\n{text}\n")

    def _holder(self) -> str:
        try:
            pid, host = self.path.read_text().splitlines()[0].split()
        except (OSError, ValueError, IndexError):
            return "another process"
        return f"process {pid}" + ("" if host == socket.gethostname() else f" on {host}")


def lock_path(folder: Path) -> Path:
    """The lock file of a result folder."""
    return folder.with_name(f".{folder.name}.lock")


class _Notes(logging.Handler):
    """Keeps the last message in the lock file."""

    def __init__(self, run: RunLock) -> None:
        super().__init__(logging.INFO)
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        self._run.note(record.getMessage())
