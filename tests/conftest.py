"""What the tests take for granted of their process, and what several of them need."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from checkout import Checkout

import sws

# A shell has what it starts in the background ignore SIGINT, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # a worker has one core


def pytest_collection_modifyitems(items):
    """The smoke run takes longest: the file that needs it begins, in a worker of its own."""
    for item in items:
        if "finished" in item.fixturenames:
            item.add_marker(pytest.mark.slow)
    first = {item.path for item in items if "finished" in item.fixturenames}
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A checkout in which the smoke target has run; what tests add leaves its results alone."""
    checkout = Checkout(tmp_path_factory.mktemp("smoke"))
    done = checkout.snakemake("--cores", "2", "smoke")
    assert done.returncode == 0, done.stdout
    return checkout


@pytest.fixture(autouse=True)
def denormal_numbers():
    """A stage flushes them to zero, which must not reach the next test."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session", autouse=True)
def tensors_that_arrays_are_not_made_of():
    """The package makes no array of a tensor without saying where from: a GPU's would refuse.

    ``np.float32(tensor)`` works on a CPU, which is all that most machines test on.
    """
    package = str(Path(sws.__file__).parent)
    plain = torch.Tensor.__array__

    def strict(tensor, *arguments, **named):
        caller = sys._getframe(1).f_code.co_filename
        assert not caller.startswith(package), (
            f"{caller} makes an array of a tensor: .cpu().numpy()"
        )
        return plain(tensor, *arguments, **named)

    torch.Tensor.__array__ = strict
    yield
    torch.Tensor.__array__ = plain
