"""Checkpoints: whole or not there, resumed by their own run only, never lost."""

import errno
import os
import resource
from contextlib import contextmanager

import pytest
import torch

from sws.training.checkpoints import Checkpoint

IDENTITY = {"settings": "a1", "model": "lenet-300-100", "seed": "1"}


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "deep" / "fit.pt", IDENTITY)


def files(checkpoint):
    return sorted(os.listdir(checkpoint.path.parent))


@contextmanager
def files_no_larger_than(size):
    """Writing beyond ``size`` bytes fails, as on a disk without space."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_there_is_nothing_to_resume_at_first(checkpoint):
    assert checkpoint.load() is None


def test_what_is_saved_comes_back(checkpoint):
    state = {
        "model": {"w": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)},
        "history": [{"epoch": 1, "loss": 0.1 + 0.2, "error_val_pct": None}],
        "epoch": 1,
        "random": torch.get_rng_state(),
    }
    checkpoint.save(state)
    assert files(checkpoint) == ["fit.pt"]
    loaded = checkpoint.load()
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert loaded["model"]["w"].stride() == state["model"]["w"].stride()
    assert torch.equal(loaded["random"], state["random"])
    assert loaded["history"] == state["history"]
    checkpoint.save({"epoch": 2})
    assert checkpoint.load() == {"epoch": 2}
    assert files(checkpoint) == ["fit.pt"]


def test_removing_is_no_error_when_there_is_none(checkpoint):
    checkpoint.save({"epoch": 1})
    checkpoint.remove()
    checkpoint.remove()
    assert files(checkpoint) == []


def test_another_identity_is_set_aside_and_never_deleted(checkpoint, capsys):
    contents = []
    for number, seed in enumerate(("2", "3"), start=1):
        Checkpoint(checkpoint.path, IDENTITY | {"seed": seed}).save({"epoch": 7})
        contents.append(checkpoint.path.read_bytes())
        assert checkpoint.load() is None
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert str(checkpoint.path) in message
        assert "another seed" in message
        assert f"fit.pt.aside-{number}" in message
    assert files(checkpoint) == ["fit.pt.aside-1", "fit.pt.aside-2"]
    for number, content in enumerate(contents, start=1):
        assert checkpoint.path.with_name(f"fit.pt.aside-{number}").read_bytes() == content


def test_every_part_of_the_identity_counts(checkpoint, capsys):
    for key in IDENTITY:
        Checkpoint(checkpoint.path, IDENTITY | {key: "other"}).save({"epoch": 7})
        assert checkpoint.load() is None
        assert f"another {key}:" in capsys.readouterr().err
    lacking = {k: v for k, v in IDENTITY.items() if k != "model"}
    Checkpoint(checkpoint.path, lacking).save({"epoch": 7})
    assert checkpoint.load() is None


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text", "no identity"])
def test_a_damaged_file_is_set_aside(checkpoint, capsys, damage):
    checkpoint.save({"w": torch.arange(1000.0)})
    whole = checkpoint.path.read_bytes()
    if damage == "no identity":
        torch.save({"state": {"epoch": 1}}, checkpoint.path)
    else:
        broken = {
            "empty": b"",
            "truncated": whole[: len(whole) // 2],
            "flipped": whole[:40] + bytes([whole[40] ^ 255]) + b"\0" * 99 + whole[140:],
            "text": b"not a checkpoint\n",
        }[damage]
        checkpoint.path.write_bytes(broken)
    left = checkpoint.path.read_bytes()
    assert checkpoint.load() is None
    assert "cannot be read" in capsys.readouterr().err
    assert files(checkpoint) == ["fit.pt.aside-1"]
    assert checkpoint.path.with_name("fit.pt.aside-1").read_bytes() == left


def test_a_checkpoint_cannot_run_code(checkpoint, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    checkpoint.path.parent.mkdir()
    torch.save({"identity": IDENTITY, "state": Evil()}, checkpoint.path)
    assert checkpoint.load() is None
    assert not (tmp_path / "made").exists()
    assert "set aside" in capsys.readouterr().err


def test_a_full_disk_is_an_os_error_and_keeps_the_old_checkpoint(checkpoint):
    checkpoint.save({"w": torch.zeros(10)})
    before = checkpoint.path.read_bytes()
    with files_no_larger_than(65536), pytest.raises(OSError) as caught:
        checkpoint.save({"w": torch.zeros(1_000_000)})
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert files(checkpoint) == ["fit.pt"]
    assert checkpoint.path.read_bytes() == before
    assert torch.equal(checkpoint.load()["w"], torch.zeros(10))


def test_a_failure_within_a_save_keeps_the_old_checkpoint(checkpoint):
    checkpoint.save({"epoch": 1})
    before = checkpoint.path.read_bytes()
    with pytest.raises(Exception, match="pickle|local object"):
        checkpoint.save({"epoch": lambda: 2})
    assert files(checkpoint) == ["fit.pt"]
    assert checkpoint.path.read_bytes() == before


def test_what_a_killed_save_left_goes_with_the_next_one(checkpoint):
    checkpoint.save({"epoch": 1})
    checkpoint.path.with_name(".fit.partial-99999999.pt").write_bytes(b"half of a checkpo")
    checkpoint.save({"epoch": 2})
    assert files(checkpoint) == ["fit.pt"]
