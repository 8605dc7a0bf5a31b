"""The code hash follows what a stage runs; a folder has one writer."""

import ast
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sws.config import methods
from sws.study import provenance
from sws.study.code_hash import code_hash
from sws.study.locks import LockedError, RunLock

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def package(tmp_path):
    """A copy of sws/study/provenance.py in a small package of its own."""
    folder = tmp_path / "sws"
    (folder / "models").mkdir(parents=True)
    shutil.copy(provenance.__file__, folder / "provenance.py")
    files = {
        "__init__.py": "from sws.extra import nothing\n",
        "extra.py": "nothing = 1\n",
        "config.py": "limit = 1\n",
        "models/__init__.py": "from .lenet import size\n",
        "models/lenet.py": "size = 300\n",
        "codec.py": "def encode(x):\n    '''Say it.'''\n    return x  # as it is\n",
        "stages.py": """
            from sws import codec
            from sws.models import registry
            from sws.config.experiment import limit

            WIDTH = 7

            def helper():
                return WIDTH

            def pretrain():
                return models.size + helper() + limit

            def compress():
                from sws import numbers_only
                return codec.encode(3)
            """,
        "numbers_only.py": "three = 3\n",
    }
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text))
    return folder


def hashes(package):
    """Hashes of both stages, computed by a fresh interpreter."""
    code = (
        "import json; from sws.study import provenance as p; "
        "print(json.dumps([p.code_hash(f'sws.study.stages:{s}') for s in ('pretrain', 'compress')]))"
    )
    # The package's own __init__ must not matter, nor need what it imports.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=package.parent, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def changed(package, name, old, new):
    """Whether a change of a file changes the hashes of (pretrain, compress)."""
    before = hashes(package)
    path = package / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return tuple(a != b for a, b in zip(before, hashes(package), strict=True))


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("codec.py", "return x ", "return -x ", (False, True)),
        ("codec.py", "# as it is", "# unchanged", (False, False)),
        ("codec.py", "'''Say it.'''", "'''Say it again.'''", (False, False)),
        ("codec.py", "def encode(x):", "\n\ndef encode( x ):", (False, False)),
        ("models/lenet.py", "300", "301", (True, False)),
        ("stages.py", "WIDTH = 7", "WIDTH = 8", (True, False)),
        ("stages.py", "encode(3)", "encode(4)", (False, True)),
        ("numbers_only.py", "3", "4", (False, True)),
        ("config.py", "1", "2", (False, False)),
        ("extra.py", "1", "2", (False, False)),
    ],
)
def test_the_hash_follows_what_a_stage_uses(package, name, old, new, expected):
    assert changed(package, name, old, new) == expected


def test_unknown_modules_and_functions_are_errors():
    with pytest.raises(ValueError, match=r"no module 'sws\.nothing'"):
        code_hash("sws.nothing")
    with pytest.raises(ValueError, match="no 'nothing'"):
        code_hash("sws.study.provenance:nothing")


def test_the_hashed_text_is_the_same_in_all_versions_of_python():
    # as 3.11, 3.12 and 3.13 give it; ast.unparse and ast.dump differ among them
    code = """def f(*, y=None): return f"{y!r:>{y}} 'a'" f"{y['k']}" if y else {**y, "n": -0.5}"""
    assert provenance._plain(ast.parse(code).body) == (
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


def test_stages_reach_what_decides_their_results():
    pretrain = provenance.closure(*provenance.STAGE_MODULES["pretrain"])
    compress = provenance.closure(*provenance.stage_modules("compress", "soft-weight-sharing"))
    assert {"sws.training.loop", "sws.models.lenet", "sws.data.datasets"} <= pretrain
    assert {
        "sws.training.loop",
        "sws.prior.mixture",
        "sws.compression.assignment",
        "sws.codec",
    } <= compress
    assert not {"sws.prior.mixture", "sws.compression.assignment", "sws.codec"} & pretrain
    for found in (pretrain, compress):
        assert not any("figures" in name or "tables" in name or "cli" in name for name in found)


def test_a_run_follows_the_code_of_its_own_method_only():
    for method, module in methods.MODULES.items():
        others = set(methods.MODULES.values()) - {module, "sws.methods.soft_weight_sharing"}
        found = provenance.closure(*provenance.stage_modules("compress", method))
        assert module in found
        assert not others & found, method


def test_the_hash_needs_no_deep_learning_framework():
    code = (
        "import sys; from sws.study import provenance as p; "
        "[p.code_hash(*m) for m in map(p.stage_modules, p.STAGE_MODULES)]; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_collect_says_what_made_a_result():
    found = provenance.collect({"tau": 0.005}, "abc", ("sws.training.loop",), "cpu", 1)
    assert json.loads(json.dumps(found)) == found
    assert found["data"] == "abc"
    assert found["threads"] == 1
    assert found["code"]["hash"] == code_hash("sws.training.loop")
    assert found["versions"]["torch"][0].isdigit()
    assert found["device"]["type"] == "cpu"
    other = provenance.collect({"tau": 0.006}, "abc", ("sws.training.loop",), "cpu", 1)
    assert other["settings"] != found["settings"]


def test_commit_and_dirty_are_those_of_the_clone(package):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
        subprocess.run(["git", *identity, *arguments], cwd=package.parent, check=True)

    def code():
        text = "from sws.study import provenance as p; import json; print(json.dumps(p._commit()))"
        done = subprocess.run(
            [sys.executable, "-c", text],
            cwd=package.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    assert code() == {"commit": None, "dirty": None}
    git("init", "--quiet")
    (package.parent / ".gitignore").write_text("__pycache__\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "all")
    found = code()
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    reference = package.parent / "results" / "reference"
    reference.mkdir(parents=True)
    (reference / "table1.csv").write_text("published")
    assert code()["dirty"] is False
    (package / "codec.py").write_text("def encode(x): return 0\n")
    assert code()["dirty"] is True


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    folder = tmp_path / "runs" / "seed-1"
    code = (
        "import sys; from pathlib import Path; from sws.study.locks import RunLock\n"
        "with RunLock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(LockedError, match=f"process {holder.pid} is writing"),
            RunLock(folder),
        ):
            pass
        holder.kill()
        holder.wait()
        with RunLock(folder) as lock:  # a killed holder leaves nothing behind
            assert lock.path.read_text().split()[0] == str(os.getpid())
    finally:
        holder.kill()
        holder.communicate()
