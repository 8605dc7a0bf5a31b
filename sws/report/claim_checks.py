"""How the paper's claims are checked: a function each, from the runs to a number and a verdict.

Where the paper leaves something open, its plain reading (point ``paper``) and the kindest one
(``paper-kind``) are both asked: a claim *holds* if the plain reading meets it, *holds in part* if
the kind one alone does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sws.codec.relative_index import relative_index
from sws.report.evidence import LENET_5, LENET_300, VGG, Evidence, by_seed, pruned, rise
from sws.report.evidence import layers as left_in
from sws.report.ladder import paired
from sws.report.table import number, signed
from sws.runs.records import Pair, Run
from sws.runs.seeds import over_seeds

HOLDS, PART, FAILS = "holds", "holds in part", "does not hold"
UNTESTABLE, NOT_RUN = "cannot be tested here", "not run"
Verdict = Literal["holds", "holds in part", "does not hold", "cannot be tested here", "not run"]
POINTS, SHARE = 0.1, 0.05
"""Margins: percentage points of an error, and a share of a ratio or a number of weights."""
READINGS = ("paper", "paper-kind")


@dataclass(frozen=True)
class Finding:
    """What runs say about a claim."""

    ran: str
    number: str
    verdict: Verdict


def graded(met: Sequence[bool]) -> Verdict:
    """All of them, some, or none."""
    return HOLDS if all(met) else PART if any(met) else FAILS


def by_reading(
    evidence: Evidence, pair: Pair, judge: Callable[[list[Run]], tuple[str, bool]]
) -> Finding | None:
    """Apply a rule to the plain reading and to the kind one.

    Parameters
    ----------
    evidence : Evidence
        The runs.
    pair : (model, data set)
        Whose runs.
    judge : callable
        Runs of a reading → the number as text, and whether the rule is met.
    """
    told, holding, names = [], [], []
    for point in READINGS:
        name, runs = evidence.reading(pair, point)
        ends = evidence.endings(pair, name)
        if not runs and not ends:
            continue
        text, holds = judge(runs) if runs else (ends[0], False)
        names.append(f"{name} ({len(runs) + len(ends)})")
        told.append(f"{name}: {text}" + (f"; {len(ends)} {ends[0]}" if ends and runs else ""))
        holding.append(holds)
    if not told:
        return None
    return Finding(", ".join(names), "; ".join(told), HOLDS if holding[0] else graded(holding))


# --- Section 6.1 ----------------------------------------------------------------------------------

PRUNED = {"fc1.weight": 96.0, "fc2.weight": 90.0, "fc3.weight": 18.0}


def shares_pruned(evidence: Evidence) -> Finding | None:
    """How much of each layer is pruned (Sec. 6.1)."""

    def judge(runs: list[Run]) -> tuple[str, bool]:
        found = {name: share for name, (_, share) in pruned(runs).items()}
        near = [abs(found[name] - printed) <= 5 for name, printed in PRUNED.items()]
        return " / ".join(f"{found[name]:.0f}" for name in PRUNED) + " %", all(near)

    return by_reading(evidence, LENET_300, judge)


def pruned_by_size(evidence: Evidence) -> Finding | None:
    """Whether larger layers lose a larger share."""

    def judge(runs: list[Run]) -> tuple[str, bool]:
        found = sorted(pruned(runs).values())
        shares = [share for _, share in found]
        return " < ".join(f"{size:,}: {share:.0f} %" for size, share in found), shares == sorted(
            shares
        )

    return by_reading(evidence, LENET_5, judge)


def collapse(evidence: Evidence) -> Finding | None:
    """Whether optimisation without hyper-priors gets stuck."""
    name, runs = evidence.reading(LENET_300, "paper")
    ends = evidence.endings(LENET_300, name)
    if not runs and not ends:
        return None
    lost = by_seed(runs, lambda r: r.metrics["error_end_pct"] - r.metrics["error_retrained_pct"])
    stuck = sum(loss > 1 for loss in lost.values()) + len(ends)
    text = f"{stuck} of {len(runs) + len(ends)} seeds"
    if lost:
        text += f"; assignment costs {number(*over_seeds(lost.values())[:2])} points"
    return Finding(name, text, HOLDS if 2 * stuck > len(runs) + len(ends) else FAILS)


def remedy(evidence: Evidence) -> Finding | None:
    """What fixed Gammas change of the error, paired by seed."""
    before = evidence.runs(LENET_300, "paper")
    after = evidence.runs(LENET_300, "ladder-01-hyper-priors")
    if not before or not after:
        return None
    change = paired(*(by_seed(r, lambda x: x.metrics["error_end_pct"]) for r in (after, before)))
    if change.mean is None:
        return None
    error = change.error or 0.0
    verdict = HOLDS if change.mean + 2 * error < 0 else FAILS
    return Finding(
        f"paper, ladder-01-hyper-priors ({change.pairs})",
        f"{signed(change.mean)} ± {error:.2f} points",
        verdict,
    )


def improves(evidence: Evidence) -> Finding | None:
    """The error of the retrained network less that of its start."""

    def judge(runs: list[Run]) -> tuple[str, bool]:
        change = rise(runs, "error_retrained_pct")
        error = change.error or 0.0
        text = f"retrained {signed(change.mean)} ± {error:.2f} points"
        return text, change.mean + 2 * error < 0

    return by_reading(evidence, LENET_300, judge)


# --- sensitivity ----------------------------------------------------------------------------------


def _curve(evidence: Evidence, curve: str) -> dict[float, tuple[float, float]]:
    """Rate → error and bytes, means over the seeds that came to a result."""
    found: dict[float, list[tuple[float, float]]] = {}
    for trial in evidence.sensitivity(curve):
        rate = float(re.sub(r"^[a-z]+-", "", trial["trial"]))
        ended = trial.get("error_end_val_pct")
        told = (float(ended), float(trial["file_bytes"])) if ended else (100.0, float("inf"))
        found.setdefault(rate, []).append(told)
    return {
        rate: (float(np.mean([e for e, _ in told])), float(np.mean([b for _, b in told])))
        for rate, told in sorted(found.items())
    }


def _window(points: dict[float, tuple[float, float]]) -> float:
    """Decades of rates whose error is within half a point of the best."""
    best = min(error for error, _ in points.values())
    good = [rate for rate, (error, _) in points.items() if error <= best + 0.5]
    return float(np.log10(max(good) / min(good)))


def sensitive_rates(evidence: Evidence) -> Finding | None:
    """Over how many decades the rate may be chosen without hyper-priors."""
    points = _curve(evidence, "free")
    if not points:
        return None
    window = _window(points)
    text = f"within half a point of the best over {window:.1f} of {_span(points):.1f} decades"
    return Finding(f"{len(points)} rates, no hyper-priors", text, HOLDS if window <= 1 else FAILS)


def _span(points: dict[float, tuple[float, float]]) -> float:
    return float(np.log10(max(points) / min(points)))


def slow_and_fast(evidence: Evidence) -> Finding | None:
    """The file at the slowest and at the fastest rate."""
    points = _curve(evidence, "free")
    if not points:
        return None
    best = min(points.values())[1]
    ends = points[min(points)][1], points[max(points)][1]
    text = f"file {ends[0] / best:.1f} times as large at the slowest rate, {ends[1] / best:.1f} at"
    return Finding(
        f"{len(points)} rates, no hyper-priors",
        f"{text} the fastest",
        graded([size > 1.25 * best for size in ends]),
    )


# --- trials on validation images ------------------------------------------------------------------


def no_better_tried(name: str) -> Callable[[Evidence], Finding | None]:
    """A trial is no better than the point as written: by more than the margin in neither number."""

    def check(evidence: Evidence) -> Finding | None:
        ours, plain = (evidence.trials(LENET_300, trial) for trial in (name, "as-written"))
        both = [s for s in ours if s in plain and ours[s]["file_bytes"] and plain[s]["file_bytes"]]
        if not both:
            return None
        errors = [
            float(ours[s]["error_end_val_pct"]) - float(plain[s]["error_end_val_pct"]) for s in both
        ]
        sizes = [float(ours[s]["file_bytes"]) / float(plain[s]["file_bytes"]) - 1 for s in both]
        error, size = float(np.mean(errors)), float(np.mean(sizes))
        text = f"error {signed(error)} points, file {signed(100 * size, 0)} %"
        return Finding(
            f"trials as-written, {name} ({len(both)})",
            text,
            graded([error >= -POINTS, size >= -SHARE]),
        )

    return check


# --- the rest -------------------------------------------------------------------------------------


def components_left(evidence: Evidence) -> Finding | None:
    """Codebook entries that are used at the end."""

    def judge(runs: list[Run]) -> tuple[str, bool]:
        mean, sd, _ = over_seeds(by_seed(runs, lambda r: r.metrics["components"]).values())
        return number(mean, sd, 1), 4 <= mean <= 8

    return by_reading(evidence, LENET_5, judge)


def peaked(evidence: Evidence) -> Finding | None:
    """Whether weights sit where the prior has its peaks."""

    def judge(runs: list[Run]) -> tuple[str, bool]:
        left = over_seeds(by_seed(runs, lambda r: r.metrics["nonzero_pct"]).values()).mean
        cost = rise(runs, "error_assigned_pct", "error_retrained_pct").mean
        text = f"{left:.1f} % not at 0, assignment costs {signed(cost)} points"
        return text, left <= 10 and cost <= POINTS

    return by_reading(evidence, LENET_5, judge)


def empty_columns(evidence: Evidence) -> Finding | None:
    """The share of the second layer's input maps that hardly any weight reads."""

    def judge(runs: list[Run]) -> tuple[str, bool]:
        shares = []
        for run in runs:
            left = left_in(run)["conv2.weight"]
            inputs = left.mean(axis=(0, 2, 3))  # of the 20 maps that the second layer reads
            shares.append(100 * float((inputs <= 0.02).mean()))
        mean, sd, _ = over_seeds(shares)
        return f"{number(mean, sd, 0)} % of its input maps", mean > 0

    return by_reading(evidence, LENET_5, judge)


def description(evidence: Evidence) -> Finding | None:
    """What the mixture itself takes of the file."""
    runs = evidence.runs(LENET_300, "main")
    if not runs:
        return None
    share = over_seeds(
        100 * r.metrics["bytes"]["codebook"] / r.metrics["bytes"]["file"] for r in runs
    )
    return Finding(
        f"main ({share.n})",
        f"codebook: {number(share.mean, share.sd, 2)} % of the file",
        HOLDS if share.mean <= 1 else FAILS,
    )


def appendix_a(_: Evidence) -> Finding:
    """The worked example, by our coder."""
    matrix = np.array([[0, 0, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0], [2, 5, 0, 0], [0, 0, 0, 1]])
    found = relative_index(matrix.astype(np.uint8), 5)
    met = [
        found.values.tolist() == [1, 2, 2, 5, 1],
        found.pointers.tolist() == [0, 1, 2, 2, 4, 5],
        found.differences.tolist() == [3, 1, 0, 1, 3],
    ]
    return Finding("our coder", f"{sum(met)} of 3 vectors equal", graded(met))


def appendix_c(evidence: Evidence) -> Finding | None:
    """Subsampling beside the whole sum, paired by seed."""
    sampled = evidence.runs(LENET_300, "main", "soft-weight-sharing-subsampled")
    whole = evidence.runs(LENET_300, "main")
    sides = [by_seed(runs, lambda r: r.metrics["error_end_pct"]) for runs in (sampled, whole)]
    sizes = [by_seed(runs, lambda r: r.metrics["bytes"]["file"]) for runs in (sampled, whole)]
    error = paired(*sides).mean
    if error is None:
        return None
    both = sides[0].keys() & sides[1].keys()
    size = float(np.mean([sizes[0][seed] / sizes[1][seed] - 1 for seed in both]))
    return Finding(
        f"soft-weight-sharing-subsampled, main ({len(both)})",
        f"error {signed(error)} points, file {signed(100 * size, 0)} %",
        graded([error <= POINTS, size <= SHARE]),
    )


def vgg_rebuttal(evidence: Evidence) -> Finding | None:
    """What of VGG is left, and what retraining and assignment cost."""
    runs = evidence.runs(VGG, "main")
    if not runs:
        return None
    left = over_seeds(by_seed(runs, lambda r: r.metrics["nonzero_pct"]).values()).mean
    loss = rise(runs, "error_retrained_pct").mean
    cost = rise(runs, "error_assigned_pct", "error_retrained_pct").mean
    return Finding(
        f"main ({len(runs)})",
        f"{left:.1f} % left, retrained {signed(loss)}, assignment {signed(cost)} points",
        graded([left <= 10, loss <= POINTS, cost > POINTS]),
    )


def efficiency(evidence: Evidence) -> Finding | None:
    """Seconds of training beside Deep Compression's."""

    def seconds(run: Run) -> float:
        return run.metrics["seconds"]["retrain"] + run.metrics["seconds"]["quantize"]

    ours, theirs = (
        evidence.runs(LENET_300, "main"),
        evidence.runs(LENET_300, "main", "deep-compression"),
    )
    if not ours or not theirs:
        return None
    means = [over_seeds(by_seed(runs, seconds).values()).mean for runs in (ours, theirs)]
    factor = means[0] / means[1]
    return Finding(
        f"main of both methods ({len(ours)}, {len(theirs)})",
        f"{means[0]:,.0f} s against {means[1]:,.0f} s: a factor of {factor:.1f}",
        HOLDS if factor <= 1.5 else FAILS,
    )
