"""Signals: acted on at once, after what must not be cut in two, or before the next batch."""

import contextlib
import os
import signal

import pytest
import torch
from torch import nn

from sws.training import interruption
from sws.training.checkpoints import Checkpoint
from sws.training.interruption import Interrupted
from sws.training.loop import FitSettings, Hooks, fit


def tell(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_acted_on_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=signal.Signals(number).name), interruption.watched():
        tell(number)
        pytest.fail("went on")
    assert signal.getsignal(number) is before


def test_a_protected_block_is_finished_first():
    done = []
    with pytest.raises(Interrupted), interruption.watched(), interruption.protected():
        tell()
        done.append("written")
    assert done == ["written"]


def test_only_the_first_signal_counts():
    cleaned = []
    with pytest.raises(Interrupted), interruption.watched():
        try:
            tell()
        finally:
            tell()  # as a scheduler does that signals twice
            cleaned.append(True)
    assert cleaned == [True]


def test_a_signal_that_somebody_swallowed_stops_at_the_next_batch():
    seen = []
    with pytest.raises(Interrupted), interruption.watched():
        with contextlib.suppress(Interrupted):  # as a callback from C does
            tell()
        for item in interruption.between(range(3)):
            seen.append(item)
    assert seen == []


def test_signals_are_left_alone_unless_a_program_asks():
    with pytest.raises(KeyboardInterrupt):
        for _ in interruption.between(range(2)):
            tell(signal.SIGINT)


def test_training_stops_between_two_batches_and_keeps_its_last_epoch(tmp_path):
    seen = []

    def batches(epoch):
        for number in range(4):
            seen.append((epoch, number))
            if (epoch, number) == (1, 2):
                tell()
            yield torch.ones(2, 3), torch.zeros(2, dtype=torch.int64)

    checkpoint = Checkpoint(tmp_path / "fit.pt", {})
    with pytest.raises(Interrupted), interruption.watched():
        fit(nn.Linear(3, 2), batches, Hooks(), FitSettings(3, 0.1), checkpoint=checkpoint)
    assert seen[-1] == (1, 2)  # not one batch more
    assert checkpoint.load()["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["fit.pt"]


def test_a_run_that_stops_in_its_first_epoch_has_a_checkpoint(tmp_path):
    def batches(epoch):
        tell()
        yield torch.ones(2, 3), torch.zeros(2, dtype=torch.int64)

    checkpoint = Checkpoint(tmp_path / "fit.pt", {})
    with pytest.raises(Interrupted), interruption.watched():
        fit(nn.Linear(3, 2), batches, Hooks(), FitSettings(3, 0.1), checkpoint=checkpoint)
    assert checkpoint.load()["epoch"] == 0
