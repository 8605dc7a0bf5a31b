"""The paper, sentence by sentence: what we ran, the number, and whether it holds.

A claim is an entry of :data:`CLAIMS`: where it stands, what it says in our words, the rule, the
command whose runs it needs, and a function that applies the rule to them. Verdicts are computed,
never typed. Where the paper leaves something open, its plain reading (point ``paper``) and the
kindest one (``paper-kind``) are both asked: a claim *holds* if the plain reading meets it, *holds in
part* if the kind one alone does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sws.codec.relative_index import relative_index
from sws.report.evidence import LENET_5, LENET_300, RESNET, VGG, Evidence, by_seed, pruned, rise
from sws.report.evidence import layers as left_in
from sws.report.ladder import paired
from sws.report.names import pair_title
from sws.report.table import Block, Line, Record, Table, number, signed, write_texts
from sws.report.verdicts import COUNTED_ALIKE
from sws.runs import published
from sws.runs.published import THE_PAPER, Published
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


@dataclass(frozen=True)
class Claim:
    """A checkable sentence of the paper.

    Attributes
    ----------
    section : str
        Where it stands.
    says : str
        The sentence, in our words.
    rule : str
        When it holds.
    command : str
        Whose runs it needs.
    check : callable
        Applies the rule; None where the runs are missing.
    """

    section: str
    says: str
    rule: str
    command: str
    check: Callable[[Evidence], Finding | None]


def _met(met: Sequence[bool]) -> Verdict:
    """All of them, some, or none."""
    return HOLDS if all(met) else PART if any(met) else FAILS


def _by_reading(
    evidence: Evidence, pair: Pair, judge: Callable[[list[Run]], tuple[str, bool]]
) -> Finding | None:
    """Apply a rule to the plain reading and to the kind one."""
    told, met, names = [], [], []
    for point in READINGS:
        name, runs = evidence.reading(pair, point)
        ends = evidence.endings(pair, name)
        if not runs and not ends:
            continue
        text, holds = judge(runs) if runs else (ends[0], False)
        names.append(f"{name} ({len(runs) + len(ends)})")
        told.append(f"{name}: {text}" + (f"; {len(ends)} {ends[0]}" if ends and runs else ""))
        met.append(holds)
    if not told:
        return None
    return Finding(", ".join(names), "; ".join(told), HOLDS if met[0] else _met(met))


# --- Table 1 --------------------------------------------------------------------------------------


def _cell(pair: Pair, column: str, printed: float, words: str) -> Claim:
    """A cell of the paper's table: no worse than printed, beyond the margin."""
    error = column.startswith("error")
    lower_is_better = error or column == "nonzero_pct"
    margin = POINTS if error else SHARE * printed
    limit = printed + margin if lower_is_better else printed - margin

    def value(run: Run) -> float:
        return run.metrics["cr"][column[3:]] if column.startswith("cr_") else run.metrics[column]

    def judge(runs: list[Run]) -> tuple[str, bool]:
        mean, sd, _ = over_seeds(by_seed(runs, value).values())
        return number(mean, sd), mean <= limit if lower_is_better else mean >= limit

    allowed = f"{POINTS:g} points" if error else f"{100 * SHARE:g} %"
    return Claim(
        "Table 1",
        f"{pair_title(pair)}: {words} {printed:g}",
        f"the mean over seeds is no worse than that by more than {allowed}",
        "snakemake --cores all paper",
        lambda evidence: _by_reading(evidence, pair, judge),
    )


def _near(pair: Pair, printed: float) -> Claim:
    def judge(runs: list[Run]) -> tuple[str, bool]:
        mean, sd, _ = over_seeds(by_seed(runs, lambda r: r.metrics["error_start_pct"]).values())
        return number(mean, sd), abs(mean - printed) <= 2 * POINTS

    return Claim(
        "Table 1",
        f"{pair_title(pair)}: error before, % {printed:g}",
        f"the start is within {2 * POINTS:g} points of it",
        "snakemake --cores all paper",
        lambda evidence: _by_reading(evidence, pair, judge),
    )


def _table(paper: Published) -> list[Claim]:
    column = COUNTED_ALIKE[paper.ratio_class]
    return [
        _near(paper.pair, paper.error_start),
        _cell(paper.pair, "error_end_pct", paper.error_end, "error after, %"),
        _cell(paper.pair, "nonzero_pct", paper.nonzero_pct, "weights left, %"),
        _cell(paper.pair, column, paper.ratio, "compression rate"),
    ]


# --- Section 6.1 ----------------------------------------------------------------------------------

PRUNED = {"fc1.weight": 96.0, "fc2.weight": 90.0, "fc3.weight": 18.0}


def _shares(evidence: Evidence) -> Finding | None:
    def judge(runs: list[Run]) -> tuple[str, bool]:
        found = {name: share for name, (_, share) in pruned(runs).items()}
        near = [abs(found[name] - printed) <= 5 for name, printed in PRUNED.items()]
        return " / ".join(f"{found[name]:.0f}" for name in PRUNED) + " %", all(near)

    return _by_reading(evidence, LENET_300, judge)


def _by_size(evidence: Evidence) -> Finding | None:
    def judge(runs: list[Run]) -> tuple[str, bool]:
        found = sorted(pruned(runs).values())
        shares = [share for _, share in found]
        return " < ".join(f"{size:,}: {share:.0f} %" for size, share in found), shares == sorted(
            shares
        )

    return _by_reading(evidence, LENET_5, judge)


def _collapse(evidence: Evidence) -> Finding | None:
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


def _remedy(evidence: Evidence) -> Finding | None:
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


def _improves(evidence: Evidence) -> Finding | None:
    def judge(runs: list[Run]) -> tuple[str, bool]:
        change = rise(runs, "error_retrained_pct")
        error = change.error or 0.0
        text = f"retrained {signed(change.mean)} ± {error:.2f} points"
        return text, change.mean + 2 * error < 0

    return _by_reading(evidence, LENET_300, judge)


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


def _sensitive(evidence: Evidence) -> Finding | None:
    points = _curve(evidence, "free")
    if not points:
        return None
    window = _window(points)
    text = f"within half a point of the best over {window:.1f} of {_span(points):.1f} decades"
    return Finding(f"{len(points)} rates, no hyper-priors", text, HOLDS if window <= 1 else FAILS)


def _span(points: dict[float, tuple[float, float]]) -> float:
    return float(np.log10(max(points) / min(points)))


def _both_ends(evidence: Evidence) -> Finding | None:
    points = _curve(evidence, "free")
    if not points:
        return None
    best = min(points.values())[1]
    ends = points[min(points)][1], points[max(points)][1]
    text = f"file {ends[0] / best:.1f} times as large at the slowest rate, {ends[1] / best:.1f} at"
    return Finding(
        f"{len(points)} rates, no hyper-priors",
        f"{text} the fastest",
        _met([size > 1.25 * best for size in ends]),
    )


# --- trials on validation images ------------------------------------------------------------------


def _trial(name: str) -> Callable[[Evidence], Finding | None]:
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
            _met([error >= -POINTS, size >= -SHARE]),
        )

    return check


# --- the rest -------------------------------------------------------------------------------------


def _components(evidence: Evidence) -> Finding | None:
    def judge(runs: list[Run]) -> tuple[str, bool]:
        mean, sd, _ = over_seeds(by_seed(runs, lambda r: r.metrics["components"]).values())
        return number(mean, sd, 1), 4 <= mean <= 8

    return _by_reading(evidence, LENET_5, judge)


def _peaked(evidence: Evidence) -> Finding | None:
    def judge(runs: list[Run]) -> tuple[str, bool]:
        left = over_seeds(by_seed(runs, lambda r: r.metrics["nonzero_pct"]).values()).mean
        cost = rise(runs, "error_assigned_pct", "error_retrained_pct").mean
        text = f"{left:.1f} % not at 0, assignment costs {signed(cost)} points"
        return text, left <= 10 and cost <= POINTS

    return _by_reading(evidence, LENET_5, judge)


def _empty_columns(evidence: Evidence) -> Finding | None:
    def judge(runs: list[Run]) -> tuple[str, bool]:
        shares = []
        for run in runs:
            left = left_in(run)["conv2.weight"]
            inputs = left.mean(axis=(0, 2, 3))  # of the 20 maps that the second layer reads
            shares.append(100 * float((inputs <= 0.02).mean()))
        mean, sd, _ = over_seeds(shares)
        return f"{number(mean, sd, 0)} % of its input maps", mean > 0

    return _by_reading(evidence, LENET_5, judge)


def _description(evidence: Evidence) -> Finding | None:
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


def _appendix_a(_: Evidence) -> Finding:
    matrix = np.array([[0, 0, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0], [2, 5, 0, 0], [0, 0, 0, 1]])
    found = relative_index(matrix.astype(np.uint8), 5)
    met = [
        found.values.tolist() == [1, 2, 2, 5, 1],
        found.pointers.tolist() == [0, 1, 2, 2, 4, 5],
        found.differences.tolist() == [3, 1, 0, 1, 3],
    ]
    return Finding("our coder", f"{sum(met)} of 3 vectors equal", _met(met))


def _appendix_c(evidence: Evidence) -> Finding | None:
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
        _met([error <= POINTS, size <= SHARE]),
    )


def _vgg(evidence: Evidence) -> Finding | None:
    runs = evidence.runs(VGG, "main")
    if not runs:
        return None
    left = over_seeds(by_seed(runs, lambda r: r.metrics["nonzero_pct"]).values()).mean
    loss = rise(runs, "error_retrained_pct").mean
    cost = rise(runs, "error_assigned_pct", "error_retrained_pct").mean
    return Finding(
        f"main ({len(runs)})",
        f"{left:.1f} % left, retrained {signed(loss)}, assignment {signed(cost)} points",
        _met([left <= 10, loss <= POINTS, cost > POINTS]),
    )


def _efficiency(evidence: Evidence) -> Finding | None:
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


PAPER, LADDER = "snakemake --cores all paper", "snakemake --cores all ladder"
BASELINES = "snakemake --cores all baselines"
SENSITIVITY = "snakemake --cores all sensitivity"
TRIALS = (
    "sws tune lenet-300-100_mnist "
    "config/tuning/lenet-300-100_mnist.soft-weight-sharing.paper.yaml --point paper --seeds 1,2"
)
CLAIMS = (
    Claim("6.1", "96, 90 and 18 % of the layers of LeNet-300-100 are pruned",
          "each within 5 points", PAPER, _shares),
    Claim("6.1", "how much of a layer is pruned follows its size, not its kind or place",
          "LeNet-5's layers have the same order by size and by share pruned", PAPER, _by_size),
    Claim("4.2", "without hyper-priors components collapse and optimisation gets stuck",
          "most seeds diverge, or lose over a point by assignment", PAPER, _collapse),
    Claim("4.2", "the hyper-prior on variances is a remedy",
          "fixed Gammas lower the error by more than two standard errors", LADDER, _remedy),
    Claim("4.2", "the mixture's learning rate is very sensitive",
          "rates within half a point of the best error span a decade at most", SENSITIVITY,
          _sensitive),
    Claim("4.2", "too fast leaves weights behind, too slow converges late",
          "the files at both ends are over 25 % larger than at the best rate", SENSITIVITY,
          _both_ends),
    Claim("4.1", "means of equal probability mass are no better than evenly spaced ones",
          "on validation images neither error nor file is better beyond the margin", TRIALS,
          _trial("means-by-mass")),
    Claim("4.1", "π₀ may be fixed, or learned under a Beta hyper-prior",
          "learned, neither error nor file is better beyond the margin", TRIALS,
          _trial("proportion-learned")),
    Claim("6.1", "of 17 components about 6 are left", "4 to 8 on average, LeNet-5", PAPER,
          _components),
    Claim("6.1", "the final weights are peaked and match the prior",
          "at most 10 % off zero, and assignment costs at most 0.1 points, LeNet-5", PAPER,
          _peaked),
    Claim("6.1", "the second layer's filters have columns that are nearly empty",
          "of at least one input map at most 2 % of the weights are left, LeNet-5", PAPER,
          _empty_columns),
    Claim("6.1", "where nothing else regularises, the prior improves accuracy",
          "retrained, LeNet-300-100 is better by over two standard errors", PAPER, _improves),
    Claim("2", "the prior's own description costs next to nothing",
          "the codebook takes at most 1 % of the file", "make mnist", _description),
    Claim("App. A", "the worked example of the sparse format", "all three vectors are equal",
          "none", _appendix_a),
    Claim("App. C", "the subsampled prior gradient serves as well",
          "error and file are no worse beyond the margin", BASELINES, _appendix_c),
    Claim("Rebuttal", "nine tenths of VGG are pruned at no loss, and quantisation costs",
          "at most 10 % left, at most 0.1 points lost before, over 0.1 by assignment",
          "snakemake --cores all cifar10", _vgg),
    Claim("Review", "asked: is it as efficient as Han et al.?",
          "training takes at most half as long again as Deep Compression's", BASELINES,
          _efficiency),
)  # fmt: skip
"""Beside the cells of Table 1, which :func:`claims` takes from the literature."""


def claims(literature: Sequence[Published]) -> list[Claim]:
    """All claims: the cells of the paper's table, then :data:`CLAIMS`."""
    rows = [published.counterpart(literature, p, THE_PAPER) for p in (LENET_300, LENET_5, RESNET)]
    return [claim for row in rows if row is not None for claim in _table(row)] + list(CLAIMS)


COLUMNS = ("section", "claim", "ran", "number", "verdict", "rule", "command")
CAPTION = (
    "The paper's claims, one by one. Look at the verdict, then at the rule that gave it: both are "
    "computed from run files. The recipe as written is run in two readings: 'paper' is the plain "
    "one, 'paper-kind' changes only what the paper leaves open; '-plain' is the start that the "
    "authors' tutorial trains, which is nearest to theirs."
)
NOTE = (
    "Holds: the plain reading meets the rule. Holds in part: the kind reading alone, or one of two "
    "conditions. Numbers in brackets count seeds. Not run: the command makes the runs."
)


def rows(results: Path, literature: Sequence[Published]) -> list[Record]:
    """A record for each claim.

    Parameters
    ----------
    results : Path
        Folder that holds ``runs/``, or a reference of them.
    literature : sequence of Published
        Where the paper's numbers come from.
    """
    evidence = Evidence(Path(results))
    found = []
    for claim in claims(literature):
        finding = claim.check(evidence) or Finding("", "", NOT_RUN)
        row: Record = {"section": claim.section, "claim": claim.says, "ran": finding.ran}
        row |= {"number": finding.number, "verdict": finding.verdict}
        found.append(row | {"rule": claim.rule, "command": claim.command})
    return found


def table(records: Sequence[Record]) -> Table:
    """The table of records, with how many claims have which verdict.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    """
    kinds = (HOLDS, PART, FAILS, UNTESTABLE, NOT_RUN)
    counts = {kind: sum(row["verdict"] == kind for row in records) for kind in kinds}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    heads = ("section", "claim", "what we ran", "number", "verdict", "rule")
    lines = [
        Line([
            row["section"], row["claim"], row["ran"] or f"`{row['command']}`",
            row["number"] or "–", row["verdict"], row["rule"],
        ])
        for row in records
    ]  # fmt: skip
    block = Block("", heads, lines, frozenset(heads), verdict=f"Of {len(records)} claims: {told}.")
    return Table("claims", "The paper's claims", CAPTION, COLUMNS, records, [block], [NOTE])


def build(results: Path, output: Path, published_path: Path | None = None) -> list[Path]:
    """Write ``claims.{csv,md,html}``.

    Parameters
    ----------
    results, output : Path
        Folder that holds ``runs/``; folder to write to.
    published_path : Path, optional
        The literature, by default ``resources/published.csv``.
    """
    literature = published.read(published_path)
    return write_texts(output, table(rows(results, literature)).texts())
