"""A step of pre-training, and where its time goes, on all threads.

    pytest benchmarks/bench_training.py --benchmark-enable

Steps of the training loop itself at the settings of the experiment, on random images at full size,
from untrained weights: time does not depend on their values. ``extra_info`` has the shares, by the
profiler's own time of each operation; compare the sum of what is not convolution before work on it.
"""

from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sws.config.experiment import load_experiment
from sws.data.augmentation import Preparation, RandomShift
from sws.data.batches import TensorBatches
from sws.models import registry
from sws.study.stages import set_up
from sws.training.loop import FitSettings, Hooks, computes_bfloat16, fit

EXPERIMENTS = Path(__file__).resolve().parents[1] / "config" / "experiments"
STEPS = 2
PARTS = {
    "convolution": ("convolution",),
    "batch_norm": ("batch_norm",),
    "optimiser": ("sgd", "lerp", "adam"),
    "activation_pool_add": ("threshold", "clamp", "relu", "pool", "aten::add", "mean"),
    "data": ("index", "constant_pad", "div", "sub", "randint", "upsample"),
    "copies": ("copy", "fill", "zero"),
}


def shares(events):
    """Part → per cent of the operations' own time; what no part names is ``other``."""
    spent = dict.fromkeys((*PARTS, "other"), 0.0)
    for event in events:
        name = event.key.lower()
        part = next((p for p, words in PARTS.items() if any(w in name for w in words)), "other")
        spent[part] += event.self_cpu_time_total
    return {part: round(100 * v / sum(spent.values()), 2) for part, v in spent.items()}


@pytest.mark.parametrize("name", ["wrn-16-4", "vgg-16"])
def test_step_of_pretraining(benchmark, name):
    set_up()
    settings = load_experiment(EXPERIMENTS / f"{name}_cifar-10.yaml").pretraining
    count = STEPS * settings.batch_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    preparation = Preparation((0.5,) * 3, (0.25,) * 3, RandomShift(4, flip=True))
    batches = TensorBatches(images, labels, settings.batch_size, 0, preparation)
    model = registry.build(name).to(memory_format=torch.channels_last)
    fitting = FitSettings(
        1,
        settings.learning_rate,
        bfloat16=settings.bfloat16,
        optimizer=settings.optimizer,
        average=settings.average,
        label_smoothing=settings.label_smoothing,
    )
    fit(model, batches, Hooks(), fitting)  # kernels are made and memory is taken
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        history = benchmark.pedantic(fit, (model, batches, Hooks(), fitting), rounds=1)
    benchmark.extra_info["seconds_a_step"] = round(history.seconds / STEPS, 3)
    benchmark.extra_info["shares_pct"] = shares(profiler.key_averages())
    benchmark.extra_info["bfloat16"] = computes_bfloat16(torch.device("cpu"))
    benchmark.extra_info["threads"] = torch.get_num_threads()
