"""The control without a prior: gradual magnitude pruning instead, and everything else the same.

Sparsity rises as 1 − (1 − t)³ towards its final value while the network trains (Zhu & Gupta 2018),
by one threshold for the whole network, on the weights as they are whatever the unit. k-means takes
the place of the mixture's means. The final sparsity is searched for until the file is as large as
that of soft weight-sharing, so that the two differ in error alone. Every try is a training of its
own from the same start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sws import codec
from sws.compression.clustering import cluster_nonzeros
from sws.compression.masking import MaskedWeights, threshold_of
from sws.compression.process import Compressed, CompressionTask, Process
from sws.config.no_prior import GradualPruning, NoPrior
from sws.errors import InputError
from sws.network.weights import compressible


class GloballyPruned(MaskedWeights):
    """Keep the largest weights of the network, fewer and fewer of them.

    Parameters
    ----------
    settings : GradualPruning
        When and how often to prune.
    nonzeros : int
        Weights left in the end.
    steps : int
        Of the whole training.
    """

    def __init__(self, settings: GradualPruning, nonzeros: int, steps: int):
        super().__init__(settings.weight_decay)
        self.settings = settings
        self.nonzeros = nonzeros
        self.steps = steps

    def after_step(self) -> None:
        self.step += 1
        first, last = (int(f * self.steps) for f in (self.settings.begin, self.settings.until))
        due = self.step >= last or (self.step - first) % self.settings.interval == 0
        if first < self.step <= last and due:
            self._prune((self.step - first) / (last - first))
        self.apply()

    def _prune(self, progress: float) -> None:
        count = sum(weight.numel() for weight in self.weights.values())
        sparsity = (1 - self.nonzeros / count) * (1 - (1 - progress) ** 3)
        threshold = threshold_of(self.weights, count - round(sparsity * count))
        for name, weight in self.weights.items():
            self.masks[name] &= weight.detach().abs() > threshold


def compress(task: CompressionTask, settings: NoPrior) -> Compressed:
    """Prune, cluster and refine until the file has the size wanted.

    Parameters
    ----------
    task : CompressionTask
        What to compress. Checkpoints are asked for by phase and try, and a finished try resumes
        from its own.
    settings : sws.config.no_prior.NoPrior
        The operating point.

    Raises
    ------
    InputError
        If the settings do not say how large the file should be.
    """
    match = settings.match
    if match.bytes is None:
        raise InputError("no-prior needs match.bytes, or the metrics of the run that it follows")
    start = {name: value.detach().clone() for name, value in task.model.state_dict().items()}
    weights = sum(w.numel() for w in compressible(task.model).values())
    tries: list[tuple[int, Compressed]] = []

    def attempt(nonzeros: int) -> int:
        number = len(tries) + 1
        task.model.load_state_dict(start)
        own = replace(task, checkpoint=lambda phase: task.checkpoint(f"{phase}-{number}"))
        done = prune_and_share(own, settings, nonzeros)
        size = len(codec.encode(done.network))
        print(f"try {number}: {nonzeros} weights, {size} bytes, wanted {match.bytes}")
        tries.append((size, done))
        return size

    first = max(1, round(match.nonzero_pct / 100 * weights))
    search(attempt, first, weights, match.bytes, match.tolerance_pct / 100, match.tries)
    _, best = min(tries, key=lambda one: abs(math.log(one[0] / match.bytes)))
    spent = sum(done.seconds["retrain"] + done.seconds["quantize"] for _, done in tries)
    best.seconds["search"] = spent - best.seconds["retrain"] - best.seconds["quantize"]
    best.measures.update(tries=len(tries), matched_bytes=match.bytes)
    return best


def following(settings: NoPrior, metrics: Mapping[str, Any]) -> NoPrior:
    """These settings with the size to match filled in, from the run that it follows.

    Parameters
    ----------
    settings : NoPrior
        The operating point.
    metrics : mapping
        That run's ``metrics.json``; its share of non-zeros is the first guess.
    """
    match = settings.match.model_copy(
        update={
            "bytes": int(metrics["bytes"]["file"]),
            "nonzero_pct": float(metrics["nonzero_pct"]),
        }
    )
    return settings.model_copy(update={"match": match})


def search(
    size_of: Callable[[int], int], first: int, most: int, wanted: int, tolerance: float, tries: int
) -> int:
    """The number of non-zeros whose file has the size wanted.

    False position on logarithms, halving where that would leave the bracket or hardly move. Until
    there is a bracket, size is taken to be proportional to the number.

    Parameters
    ----------
    size_of : callable
        Bytes of the file with so many non-zeros left; rises, up to noise.
    first : int
        Where to begin.
    most : int
        The largest number.
    wanted : int
        Bytes that the file should have.
    tolerance : float
        Relative, of the size.
    tries : int
        Calls of ``size_of``, at most.

    Returns
    -------
    The last number tried: within the tolerance, unless the tries ran out.
    """
    known: dict[int, int] = {}
    number = min(max(1, first), most)
    for _ in range(tries):
        known[number] = size_of(number)
        if abs(known[number] / wanted - 1) <= tolerance:
            break
        small = max((n for n, size in known.items() if size < wanted), default=None)
        large = min((n for n, size in known.items() if size > wanted), default=None)
        if small is not None and large is not None and small < large:
            following = _between(small, large, known, wanted)
        else:
            following = round(number * wanted / known[number])
        following = min(max(1, following), most)
        if following in known:
            break
        number = following
    return number


def _between(small: int, large: int, known: dict[int, int], wanted: int) -> int:
    low, high = math.log(known[small]), math.log(known[large])
    share = (math.log(wanted) - low) / (high - low)
    share = min(max(share, 0.1), 0.9)  # one far end must not hold the other where it is
    return round(math.exp(math.log(small) + share * (math.log(large) - math.log(small))))


def prune_and_share(task: CompressionTask, settings: NoPrior, nonzeros: int) -> Compressed:
    """One try: everything but the search.

    Parameters
    ----------
    task : CompressionTask
        What to compress.
    settings : sws.config.no_prior.NoPrior
        The operating point; the size to match is not looked at.
    nonzeros : int
        Weights left in the end.
    """
    retraining, quantization = settings.retraining, settings.quantization
    process = Process(task, settings.unit)
    pruning = GloballyPruned(retraining, nonzeros, task.steps(retraining))
    process.retrain(pruning, retraining)
    codebook, index = cluster_nonzeros(process.flat_weights(), quantization.clusters)
    return process.finish(index, codebook, quantization, nonzero_retrained_pct=pruning.nonzero_pct)
