"""The code hash changes with what can change a result, and with nothing else.

Each test changes one thing in a copy of the package and compares hashes before and after.
"""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sws.config import methods
from sws.environment import PACKAGE
from sws.study import code_hash as module
from sws.study.code_hash import SOURCES, SourceTree, code_hash, roots

ROOT = PACKAGE.parent
ENTRIES = {
    "pretrain lenet": roots("pretrain", model="lenet-300-100", dataset="mnist"),
    "pretrain wrn": roots("pretrain", model="wrn-16-4", dataset="cifar-10"),
    "profile": ("sws.measure.inference",),
    "prior cost": ("sws.measure.prior_cost",),
    "tables": ("sws.report.tables",),
}
PRETRAINING = {"pretrain lenet", "pretrain wrn"}
COMPRESSION = {"soft-weight-sharing", "no-prior", "post-hoc-mixture"}
for _method in COMPRESSION:
    ENTRIES[_method] = roots("compress", model="lenet-300-100", dataset="mnist", method=_method)


def hashes(package):
    """By name, of the package in a folder."""
    tree = SourceTree(package)
    return {name: tree.hash(*entries) for name, entries in ENTRIES.items()}


@pytest.fixture(scope="module")
def before():
    return hashes(PACKAGE)


@pytest.fixture
def package(tmp_path):
    """A copy of the package."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "sws", ignore=ignored))


def rerun(before, package):
    """What a change makes run again."""
    after = hashes(package)
    return {name for name in before if before[name] != after[name]}


NETWORK = """    ModelSpec(
        name="lenet-7",
        title="LeNet-7",
        builder="sws.models.lenet:LeNet300100",
        input_shape=_MNIST,
        classes=10,
        weights=1,
        biases=1,
        norms=0,
        threads=1,
        memory_mb=3000,
        minutes=60,
    ),
)

NETWORKS = """


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        # what decides nothing
        ("models/registry.py", ")\n\nNETWORKS = ", NETWORK, set()),
        ("models/registry.py", "memory_mb=3000,", "memory_mb=4000,", set()),
        ("data/datasets.py", "DOWNLOAD_TIMEOUT_S = 20.0", "DOWNLOAD_TIMEOUT_S = 30.0", set()),
        ("data/readers.py", "SPLITS = ", "SEEN = 1\nSPLITS = ", set()),
        ("training/loop.py", "CHECK_EVERY = 20  #", "CHECK_EVERY = 20  # indeed,", set()),
        ("runs/records.py", "RATES = ", "SEEN = 1\nRATES = ", set()),
        ("files.py", "file.flush()", "file.flush(); file.flush()", set()),
        ("config/no_prior.py", '"whole trainings, at most"', '"at most so many trainings"', set()),
        # what decides one thing
        ("report/table1.py", '"Measured rows: mean', '"Measured: mean', {"tables"}),
        ("models/lenet.py", "(784, 300)", "(784, 301)", {"pretrain lenet", *COMPRESSION}),
        ("models/wide_resnet.py", "bias=False", "bias=True", {"pretrain wrn"}),
        ("data/catalogue.py", "(0.4914, 0.4822", "(0.4915, 0.4822", {"pretrain wrn"}),
        ("methods/no_prior.py", '"nonzero_pct": float(', '"nonzero_pct": 2 * float(', {"no-prior"}),
        ("methods/spike_slab.py", "def compress(", "def compress(  # noqa\n", set()),
        # what decides much
        ("training/loop.py", "momentum=0.9", "momentum=0.8", PRETRAINING | COMPRESSION),
        ("compression/sharing.py", "counts.double() + 0.5", "counts.double() + 0.6", COMPRESSION),
    ],
)  # fmt: skip
def test_a_change_reruns_what_it_can_change(before, package, name, old, new, expected):
    path = package / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert rerun(before, package) == expected


def test_a_new_data_set_reruns_nothing(before, package):
    path = package / "data" / "catalogue.py"
    text = path.read_text()
    entry = re.search(r"(?ms)^SYNTHETIC_100 = .*?^\)\n", text)[0]
    other = entry.replace("SYNTHETIC_100", "OTHER").replace("synthetic-100", "other")
    text = text.replace(entry, entry + other).replace("SYNTHETIC_100)", "SYNTHETIC_100, OTHER)")
    path.write_text(text)
    assert "OTHER)" in text
    assert not rerun(before, package)


def test_a_module_that_is_moved_and_renamed_reruns_nothing(before, package):
    (package / "prior" / "mixture.py").rename(package / "training" / "blend.py")
    for path in package.rglob("*.py"):
        text = path.read_text()
        text = text.replace(
            "from sws.prior import mixture", "from sws.training import blend as mixture"
        )
        path.write_text(text.replace("sws.prior.mixture", "sws.training.blend"))
    assert not rerun(before, package)


def test_an_import_that_points_elsewhere_shows(before, package):
    """Although both texts were hashed before."""
    path = package / "compression" / "process.py"
    text = path.read_text()
    assert "import check_compressible, compressible\n" in text
    path.write_text(
        text.replace("compressible, compressible\n", "compressible, gradients as compressible\n")
    )
    assert rerun(before, package) >= COMPRESSION


def test_code_that_acts_on_import_counts(before, package):
    path = package / "training" / "loop.py"
    path.write_text(path.read_text() + "\n\ntorch.set_num_threads(1)\n")
    assert rerun(before, package) >= PRETRAINING | COMPRESSION
    path.write_text(
        path.read_text().replace(
            "torch.set_num_threads(1)", "if __name__ == '__main__':\n    print(1)"
        )
    )
    assert not rerun(before, package)


def test_unknown_modules_and_names_are_errors():
    with pytest.raises(ValueError, match=r"no module 'sws\.nothing'"):
        code_hash("sws.nothing")
    with pytest.raises(ValueError, match="no 'nothing'"):
        code_hash("sws.study.provenance:nothing")


def test_every_root_exists():
    """Data sets and networks are found by their names."""
    from sws.data import catalogue
    from sws.models import registry

    for model in registry.names():
        for dataset in catalogue.names():
            assert code_hash(*roots("pretrain", model=model, dataset=dataset))
    for method in methods.names():
        assert code_hash(*roots("compress", model=model, dataset=dataset, method=method))


def test_a_run_follows_the_code_of_its_own_method_only():
    modules = {method.module for method in methods.METHODS}
    shared = {methods.spec(methods.OURS).module}
    for method in methods.METHODS:
        found = {d.module for d in SOURCES.closure(*roots("compress", method=method.name))}
        assert method.module in found
        assert not (modules - shared - {method.module}) & found, method.name


def test_stages_reach_no_report_and_no_command():
    for method in (None, *methods.names()):
        found = {str(d) for d in SOURCES.closure(*roots("compress", method=method))}
        assert not [d for d in found if d.startswith(("sws.report", "sws.cli", "sws.runs"))]


def test_the_hashed_text_is_the_same_in_all_versions_of_python():
    # as 3.11, 3.12 and 3.13 give it; ast.unparse and ast.dump differ among them
    code = """def f(*, y=None): return f"{y!r:>{y}} 'a'" f"{y['k']}" if y else {**y, "n": -0.5}"""
    assert module._plain(ast.parse(code).body) == (
        "[FunctionDef(name='f', args=arguments(kwonlyargs=[arg(arg='y')], "
        "kw_defaults=[Constant()]), body=[Return(value=IfExp(test=Name(id='y', ctx=Load()), "
        "body=JoinedStr(values=[FormattedValue(value=Name(id='y', ctx=Load()), conversion=114, "
        "format_spec=JoinedStr(values=[Constant(value='>'), FormattedValue(value=Name(id='y', "
        "ctx=Load()), conversion=-1)])), "
        """Constant(value=" 'a'"), FormattedValue("""
        "value=Subscript(value=Name(id='y', ctx=Load()), slice=Constant(value='k'), ctx=Load()), "
        "conversion=-1)]), orelse=Dict(keys=[None, Constant(value='n')], values=[Name(id='y', "
        "ctx=Load()), UnaryOp(op=USub(), operand=Constant(value=0.5))])))])]"
    )


def test_the_hash_needs_no_deep_learning_framework():
    code = "import sys; from sws.study.code_hash import code_hash; code_hash('sws.study.stages')"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "False", done.stderr
