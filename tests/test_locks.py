"""A folder has one writer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sws.study.locks import LockedError, RunLock

ROOT = Path(__file__).resolve().parents[1]


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
