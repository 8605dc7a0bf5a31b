"""Nothing that is read can run code: no pickle on any path, found by reading the source."""

import ast
from pathlib import Path

import numpy as np
import pytest

from sws import codec
from sws.data import readers
from sws.runs import records

ROOT = Path(__file__).resolve().parents[1]
RAW_DATA = ROOT / "sws" / "data" / "readers.py"
SOURCES = sorted(
    path
    for folder in ("sws", "benchmarks", "workflow")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
# Modules whose very import says that something is pickled or run, and functions that run text.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BUILTINS = {"eval", "exec", "compile"}
UNSAFE_YAML = {"load", "load_all", "full_load", "unsafe_load", "full_load_all", "unsafe_load_all"}


def dangers(source):
    """Lines of a source text that could execute what they read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").partition(".")[0]]
        else:
            names = []
        if MODULES & set(names):
            yield f"{node.lineno}: imports {names}"
        if isinstance(node, ast.Call):
            yield from _call(node)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is(node, False):
            yield f"{node.value.lineno}: allows pickle"


def _is(keyword, value):
    return isinstance(keyword.value, ast.Constant) and keyword.value.value is value


def _call(node):
    given = {k.arg: k for k in node.keywords}
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    if name in BUILTINS:
        yield f"{node.lineno}: {name}"
    if name == "torch.load" and not ("weights_only" in given and _is(given["weights_only"], True)):
        yield f"{node.lineno}: torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and "allow_pickle" not in given:
        yield f"{node.lineno}: np.load without allow_pickle=False"
    if name.startswith("yaml.") and last in UNSAFE_YAML:
        yield f"{node.lineno}: {name}; use yaml.safe_load"
    if name in ("pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.hub.load"):
        yield f"{node.lineno}: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_unpickles_or_runs_what_it_reads(path):
    found = list(dangers(path.read_text(encoding="utf-8")))
    if path == RAW_DATA:
        found = [danger for danger in found if not danger.endswith("imports ['pickle']")]
    assert found == []


def test_the_one_unpickler_knows_an_allow_list_and_nothing_else():
    """CIFAR is published as pickles. They are the raw data of others, and go through this alone."""
    tree = ast.parse(RAW_DATA.read_text(encoding="utf-8"))
    used = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    ]
    assert {node.attr for node in used} == {"Unpickler", "UnpicklingError"}
    bases = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.bases]
    (reader,) = [n for n in bases if "pickle.Unpickler" in map(ast.unparse, n.bases)]
    assert sum(node.attr == "Unpickler" for node in used) == 1  # never used as it is
    (find,) = [n for n in reader.body if isinstance(n, ast.FunctionDef)]
    assert find.name == "find_class"
    assert "super()" not in ast.unparse(find)
    assert {module for module, _ in readers._BatchUnpickler._allowed} == {
        "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs",
    }  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.fromregex(f, r, d, allow_pickle=flag)",
        "yaml.load(text, Loader)",
        "eval(text)",
        "pd.read_pickle(path)",
    ],
)
def test_the_search_finds_what_it_is_for(line):
    assert len(list(dangers(line))) == 1


def test_safe_calls_are_not_reported():
    for line in ("torch.load(p, weights_only=True)", "np.load(p, allow_pickle=False)",
                 "yaml.safe_load(t)", "json.loads(t)", "model.eval()"):  # fmt: skip
        assert list(dangers(line)) == []


def test_a_pickle_in_the_place_of_a_result_is_refused(tmp_path):
    path = tmp_path / "evil"
    made = tmp_path / "made"
    # protocol 0 of a call to os.mkdir, written by hand
    path.write_bytes(b"cos\nmkdir\n(V" + str(made).encode() + b"\ntR.")
    with pytest.raises(codec.CorruptFileError):
        codec.read(path)
    with pytest.raises(records.ResultsError):
        records.read_trace(path)
    with pytest.raises((ValueError, OSError)):
        np.load(path, allow_pickle=False)
    assert not made.exists()
