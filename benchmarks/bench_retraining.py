"""A retraining step of the networks for CIFAR-10, and the prior's share of it, on all threads.

    pytest benchmarks/bench_retraining.py --benchmark-enable

Steps of the training loop itself at the settings of ``main``, on random images; from untrained
weights, since time does not depend on their values. The share is in ``extra_info``.
"""

from pathlib import Path

import pytest
import torch

from sws.compression.process import CompressionTask, Process
from sws.config.experiment import load_experiment
from sws.data.augmentation import Preparation, RandomShift
from sws.data.batches import TensorBatches
from sws.methods.soft_weight_sharing import SoftWeightSharing
from sws.models import registry
from sws.study.stages import set_up
from sws.training.loop import FitSettings, fit

EXPERIMENTS = Path(__file__).resolve().parents[1] / "config" / "experiments"
STEPS = 20  # an epoch: the mixture is updated in every tenth


class Timed(SoftWeightSharing):
    """Notes the prior's seconds at the end of each epoch."""

    def end_epoch(self, epoch, epochs):
        self.spent = [*getattr(self, "spent", [0.0]), self.seconds]


@pytest.mark.parametrize("name", ["wrn-16-4", "vgg-16"])
def test_step_of_retraining(benchmark, name):
    set_up()
    point = load_experiment(EXPERIMENTS / f"{name}_cifar-10.yaml").point(
        "soft-weight-sharing", "main"
    )
    count = STEPS * point.retraining.batch_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    preparation = Preparation((0.5,) * 3, (0.25,) * 3, RandomShift(4, flip=True))
    batches = TensorBatches(images, labels, point.retraining.batch_size, 0, preparation)
    torch.manual_seed(0)
    model = registry.build(name).to(memory_format=torch.channels_last)
    process = Process(CompressionTask(model, batches, count), point.unit)
    prior = Timed(point.prior, point.retraining, 45_000, 0, process.scales, process.scale_free())
    settings = FitSettings(3, point.retraining.learning_rate, bfloat16=point.retraining.bfloat16)
    history = benchmark.pedantic(fit, (model, batches, prior, settings), rounds=1)
    seconds = history.seconds / len(prior.spent[1:]) / STEPS
    share = (prior.spent[-1] - prior.spent[1]) / 2 / STEPS / seconds
    benchmark.extra_info["seconds_a_step"] = round(seconds, 3)
    benchmark.extra_info["share_of_the_prior_pct"] = round(100 * share, 2)
    benchmark.extra_info["threads"] = torch.get_num_threads()
