"""Where a result comes from."""

import json
import shutil
import subprocess
import sys

from sws.environment import PACKAGE
from sws.study import provenance
from sws.study.code_hash import code_hash


def test_collect_says_what_made_a_result():
    found = provenance.collect({"tau": 0.005}, "abc", ("sws.training.loop:fit",), "cpu", 1)
    assert json.loads(json.dumps(found)) == found
    assert found["data"] == "abc"
    assert found["threads"] == 1
    assert found["code"]["hash"] == code_hash("sws.training.loop:fit")
    assert found["versions"]["torch"][0].isdigit()
    assert found["device"]["type"] == "cpu"
    other = provenance.collect({"tau": 0.006}, "abc", ("sws.training.loop:fit",), "cpu", 1)
    assert other["settings"] != found["settings"]


def test_commit_and_dirty_are_those_of_the_clone(tmp_path):
    package = tmp_path / "sws"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))

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
    (package / "files.py").write_text("def write_text(path, text): pass\n")
    assert code()["dirty"] is True
