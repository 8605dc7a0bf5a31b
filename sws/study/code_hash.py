"""A hash of the code that can change a result, and of nothing else.

Followed is what a function *uses*, name by name: from a root such as
``sws.study.stages:run_pretraining`` to the functions, classes and constants that it names, in its
own module and in the modules that it imports them from, and on from there. Comments, docstrings,
formatting, import lines and the names of modules are no part of the hash: a module may be moved or
renamed, and a function beside the one that is used may change.

What a run takes by a *name* that only shows when it runs (a method, a network, a data set) is a
root of its own: see :func:`roots`. Computed from source text; nothing is imported, so that a
workflow can ask for it without loading a deep-learning framework.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sws.config import methods
from sws.environment import PACKAGE
from sws.models import registry

STAGES = {
    "pretrain": "sws.study.stages:run_pretraining",
    "compress": "sws.study.stages:run_compression",
}
"""Stage → the function that it runs."""

NEUTRAL = frozenset(
    {
        "sws.config",  # declarations; the values of the settings have a fingerprint of their own
        "sws.data.catalogue:SPECS",  # tables of names: what a stage takes of them is a root
        "sws.data.datasets:load",  # its result is checked by a hash of its own
        "sws.data.readers",  # where raw images lie; their content is checked by its own hash
        "sws.environment",
        "sws.errors",
        "sws.files",
        "sws.models.registry:NETWORKS",
        "sws.runs",
        "sws.study.code_hash",
        "sws.study.locks",
        "sws.study.provenance",
        "sws.training.interruption",
    }
)
"""Packages, modules and ``module:name`` that decide whether and where a stage runs, or what it may
be told, never what it computes."""


def roots(
    stage: str, *, model: str | None = None, dataset: str | None = None, method: str | None = None
) -> tuple[str, ...]:
    """The roots of a stage for :func:`code_hash`.

    Parameters
    ----------
    stage : one of :data:`STAGES`.
    model, dataset, method : registry names that the stage is called with.
    """
    found = [STAGES[stage]]
    if model is not None:
        found.append(registry.spec(model).builder)
    if dataset is not None:
        found.append(f"sws.data.catalogue:{dataset.upper().replace('-', '_')}")
    if method is not None:
        found.append(f"{methods.spec(method).module}:compress")
    return tuple(found)


def code_hash(*entries: str) -> str:
    """SHA-256 over what the entries use, directly or not.

    Parameters
    ----------
    entries : str
        ``module:name``; or a dotted module, of which every statement counts.

    Raises
    ------
    ValueError
        If there is no such module or name in this package.
    """
    return SOURCES.hash(*entries)


@dataclass(frozen=True, order=True)
class Definition:
    """A top-level statement: the number of it in its module, and the names that it binds."""

    module: str
    number: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.module}:{','.join(self.names) or self.number}"


class SourceTree:
    """The source files of this package, read once; a process has one tree, which lives as long.

    Parameters
    ----------
    package : Path
        Folder of the package; its modules are called as those of this one.
    """

    def __init__(self, package: Path) -> None:
        self.package = package

    @functools.cache  # noqa: B019
    def hash(self, *entries: str) -> str:
        """As :func:`code_hash`."""
        texts = sorted(self._text(definition) for definition in self.closure(*entries))
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    @functools.cache  # noqa: B019
    def closure(self, *entries: str) -> frozenset[Definition]:
        """All definitions that the hash of some entries covers."""
        pending = [d for entry in entries for d in self._entry(entry)]
        found: set[Definition] = set()
        while pending:
            definition = pending.pop()
            if definition in found:
                continue
            found.add(definition)
            pending += (target for _, target in self._uses(definition))
            # statements that bind no name act on import, whatever is used of the module
            pending += self._acting(definition.module)
        return frozenset(found)

    def _entry(self, entry: str) -> list[Definition]:
        module, _, name = entry.partition(":")
        if not name:
            return list(self._definitions(module))
        found = self._resolve(module, name)
        if not isinstance(found, Definition):
            raise ValueError(f"{module} has no {name!r}")
        return [found]

    # --- modules ----------------------------------------------------------------------------------

    @functools.cache  # noqa: B019
    def _path(self, module: str) -> Path | None:
        """Source file of a module of this package."""
        if module != PACKAGE.name and not module.startswith(f"{PACKAGE.name}."):
            return None
        base = self.package.joinpath(*module.split(".")[1:])
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
        return None

    @functools.cache  # noqa: B019
    def _body(self, module: str) -> tuple[ast.stmt, ...]:
        """Top-level statements without docstrings; blocks under TYPE_CHECKING are left out."""
        path = self._path(module)
        if path is None:
            raise ValueError(f"there is no module {module!r} in {self.package}")
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | _SCOPES):
                kept = [s for s in node.body if not _is_docstring(s) and not _is_for_types(s)]
                node.body = kept or [ast.Pass()]
        return tuple(tree.body)

    @functools.cache  # noqa: B019
    def _definitions(self, module: str) -> tuple[Definition, ...]:
        """The statements of a module that are no imports."""
        body = enumerate(self._body(module))
        return tuple(Definition(module, k, _bound(s)) for k, s in body if not _is_import(s))

    def _statement(self, definition: Definition) -> ast.stmt:
        return self._body(definition.module)[definition.number]

    @functools.cache  # noqa: B019
    def _plain(self, definition: Definition) -> str:
        return _plain(self._statement(definition))

    @functools.cache  # noqa: B019
    def _names(self, definition: Definition) -> frozenset[str]:
        return frozenset(_names(self._statement(definition)))

    @functools.cache  # noqa: B019
    def _owners(self, module: str) -> dict[str, Definition]:
        """Name → the statement that binds it last."""
        return {name: d for d in self._definitions(module) for name in d.names}

    @functools.cache  # noqa: B019
    def _acting(self, module: str) -> tuple[Definition, ...]:
        if _neutral(module):
            return ()
        nameless = (d for d in self._definitions(module) if not d.names)
        return tuple(d for d in nameless if not _is_main(self._statement(d)))

    @functools.cache  # noqa: B019
    def _imports(self, module: str) -> dict[str, tuple[str, str]]:
        """Name → (module, attribute or "") of the imports at the top level, conditional too."""
        return self._imported(module, (s for s in self._body(module) if not isinstance(s, _SCOPES)))

    def _imported(self, module: str, nodes: Iterable[ast.AST]) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for node in (inner for outer in nodes for inner in ast.walk(outer)):
            if isinstance(node, ast.Import):
                for a in node.names:
                    first = a.name.partition(".")[0]
                    found[a.asname or first] = (a.name if a.asname else first, "")
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(module, node)
                found |= {a.asname or a.name: (base, a.name) for a in node.names}
        return found

    def _absolute(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        path = self._path(module)
        parts = module.split(".")
        drop = node.level - (1 if path is not None and path.name == "__init__.py" else 0)
        return ".".join([*parts[: len(parts) - drop], *([node.module] if node.module else [])])

    # --- what a definition uses -------------------------------------------------------------------

    def _resolve(self, module: str, name: str) -> Definition | str | None:
        """What a name of a module stands for.

        Returns
        -------
        Definition, str or None
            A definition; a module of this package, as its dotted name; None for anything else.
        """
        if name in self._owners(module):
            return self._owners(module)[name]
        if name in self._imports(module):
            return self._target(*self._imports(module)[name])
        child = f"{module}.{name}"
        return child if self._path(child) else None

    def _target(self, module: str, name: str) -> Definition | str | None:
        """What ``from module import name`` stands for; without a name, ``import module``."""
        if self._path(module) is None:
            return None
        return self._resolve(module, name) if name else module

    @functools.cache  # noqa: B019
    def _uses(self, definition: Definition) -> tuple[tuple[str, Definition], ...]:
        """(name as written, what it stands for) of all that a definition uses of this package."""
        module, statement = definition.module, self._statement(definition)
        inner = self._imported(module, [statement])
        found: dict[str, Definition] = {}
        for written in sorted(self._names(definition)):
            head, *rest = written.split(".")
            target = self._target(*inner[head]) if head in inner else self._resolve(module, head)
            spelled = head
            while isinstance(target, str) and rest:  # a module: what is used of it?
                spelled = f"{spelled}.{rest[0]}"
                target = self._resolve(target, rest.pop(0))
            if isinstance(target, str) and not _neutral(target):  # a module used as a whole
                found |= {f"{spelled}:{d}": d for d in self._entry(target)}
            elif isinstance(target, Definition) and not _is_neutral(target):
                found[spelled] = target
        found = {name: target for name, target in found.items() if target != definition}
        return tuple(sorted(found.items()))

    # --- text -------------------------------------------------------------------------------------

    @functools.cache  # noqa: B019
    def _text(self, definition: Definition) -> str:
        """A definition as text, and what its names stand for.

        A name of this package stands for the text of its definition, any other for where it comes
        from, so that an import that points elsewhere shows.
        """
        statement = self._statement(definition)
        lines = []
        for name, target in self._uses(definition):
            digest = hashlib.sha256(self._plain(target).encode()).hexdigest()
            lines.append(f"{name.partition(':')[0]} = {digest}")
        outer = self._imports(definition.module) | self._imported(definition.module, [statement])
        for name in {name.partition(".")[0] for name in self._names(definition)} & set(outer):
            module, attribute = outer[name]
            if self._path(module) is None:
                lines.append(f"{name} = {module}.{attribute}")
        return "\n".join([self._plain(definition), *sorted(lines)])


SOURCES = SourceTree(PACKAGE)


def _neutral(module: str, name: str = "") -> bool:
    parts = module.split(".")
    above = {".".join(parts[: k + 1]) for k in range(len(parts))}
    return bool(above & NEUTRAL) or f"{module}:{name}" in NEUTRAL


def _is_neutral(definition: Definition) -> bool:
    return any(_neutral(definition.module, name) for name in definition.names)


# --- syntax ---------------------------------------------------------------------------------------

_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Lambda


def _is_docstring(statement: ast.stmt) -> bool:
    # a string that stands alone does nothing, wherever it is: under a constant too
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_for_types(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test)


def _is_main(statement: ast.stmt) -> bool:
    """Whether it runs only where the module is a script."""
    return isinstance(statement, ast.If) and "'__main__'" in ast.dump(statement.test)


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _bound(statement: ast.stmt) -> tuple[str, ...]:
    """Names that a top-level statement defines, imports left out."""
    nodes = list(_own_scope(statement))
    names = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return (*names, *(n.name for n in nodes if isinstance(n, _SCOPES)))


def _own_scope(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement whose names belong to the module."""
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _SCOPES | _COMPREHENSIONS):
            pending += ast.iter_child_nodes(node)


def _names(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement reads, with the attributes taken of them: ``a``, ``a.b.c``."""
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        chain: list[str] = []
        while isinstance(node, ast.Attribute):
            chain.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield ".".join([node.id, *reversed(chain)])
        else:
            pending += ast.iter_child_nodes(node)


def _plain(node: Any) -> str:
    """A syntax tree as text that does not depend on the version of Python; imports are left out.

    ``ast.unparse`` quotes otherwise from 3.12 on; nodes gain fields, which are empty in old code;
    some versions see empty strings between the parts of an f-string.
    """
    if isinstance(node, list):
        return f"[{', '.join(_plain(n) for n in node if not _is_import(n))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr([v for v in node.values if getattr(v, "value", None) != ""])
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
    return f"{type(node).__name__}({', '.join(f'{n}={_plain(v)}' for n, v in fields)})"
