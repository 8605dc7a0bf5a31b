"""What the tests take for granted of their process, and what several of them need."""

import signal

import pytest
from checkout import Checkout

# A shell has what it starts in the background ignore SIGINT, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A checkout in which the smoke target has run; what tests add leaves its results alone."""
    checkout = Checkout(tmp_path_factory.mktemp("smoke"))
    done = checkout.snakemake("--cores", "2", "smoke")
    assert done.returncode == 0, done.stdout
    return checkout
