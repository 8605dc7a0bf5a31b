"""What each change between two recipes is worth: table and waterfall figure of a ladder's runs.

Neighbouring rungs ran from the same starts in the same order of batches, seed by seed, so what a
step changes is the mean of paired differences, with their standard error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sws.config.experiment import Experiment
from sws.config.ladder import left_out_name, rung_name
from sws.config.methods import OURS
from sws.report.figures import style
from sws.report.names import pair_title
from sws.report.table import Block, Line, Record, Table, number, signed, write_texts
from sws.runs.records import Case, Run, records_of
from sws.runs.seeds import over_seeds

NAME = "ladder"
COLUMNS = (
    *("model", "dataset", "kind", "step", "title", "point", "status", "seeds"),
    *("error_end_pct", "error_end_sd", "file_bytes", "file_bytes_sd", "nonzero_pct"),
    *("cr_file", "cr_huffman", "change_error", "change_error_se"),
    *("change_bytes_pct", "change_bytes_se_pct", "pairs"),
)


@dataclass(frozen=True)
class Paired:
    """A mean of differences, seed by seed.

    Attributes
    ----------
    mean : float or None
        None if no seed is on both sides.
    error : float or None
        Its standard error; None of fewer than two seeds.
    pairs : int
        Seeds that both sides have.
    """

    mean: float | None
    error: float | None
    pairs: int


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Paired:
    """Mean of ``one`` − ``other`` over the seeds that both have, and its standard error.

    Parameters
    ----------
    one, other : mapping of int to float
        A number by seed.

    Examples
    --------
    >>> paired({1: 2.0, 2: 4.0, 3: 9.0}, {1: 1.0, 2: 1.0})
    Paired(mean=2.0, error=1.0, pairs=2)
    """
    found = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    if not found:
        return Paired(None, None, 0)
    error = stdev(found) / math.sqrt(len(found)) if len(found) > 1 else None
    return Paired(fmean(found), error, len(found))


@dataclass(frozen=True)
class _Rung:
    kind: str
    step: str
    title: str
    point: str
    beside: str | None  # the point that it is set beside


def _rungs(experiment: Experiment) -> list[_Rung]:
    ladder = experiment.ladder
    found = [_Rung("cumulative", "", f"{ladder.base}: where it begins", ladder.base, None)]
    for step_number, step in enumerate(ladder.steps, start=1):
        last = step_number == len(ladder.steps)
        point = ladder.top if last else rung_name(step_number, step)
        found.append(_Rung("cumulative", step.name, step.title, point, found[-1].point))
    for step in ladder.steps:
        found.append(_Rung("without", step.name, step.title, left_out_name(step), ladder.top))
    return found


def rows(results: Path, experiment: Experiment) -> list[Record]:
    """A record for each rung: the cumulative ones, then ``main`` without each step.

    Parameters
    ----------
    results : Path
        Folder that holds ``runs/``, or a reference of them.
    experiment : Experiment
        Of a pair that has a ladder.
    """
    pair = (experiment.model, experiment.dataset)
    rungs = _rungs(experiment)
    points = dict.fromkeys(rung.point for rung in rungs)
    runs = {point: records_of(results, Case(*pair, OURS, point)) for point in points}
    return [_row(pair, rung, runs) for rung in rungs]


def _row(pair: tuple[str, str], rung: _Rung, runs: Mapping[str, Sequence[Run]]) -> Record:
    own = [run for run in runs[rung.point] if not run.ending]
    endings = [f"seed {run.seed} {run.ending}" for run in runs[rung.point] if run.ending]
    row: Record = dict.fromkeys(COLUMNS)
    row |= {"model": pair[0], "dataset": pair[1], "kind": rung.kind, "step": rung.step}
    row |= {"title": rung.title, "point": rung.point, "seeds": len(own)}
    row["status"] = "; ".join(endings) or ("ok" if own else "not run")
    errors, sizes = _by_seed(own, "error"), _by_seed(own, "bytes")
    row["error_end_pct"], row["error_end_sd"], _ = over_seeds(errors.values())
    row["file_bytes"], row["file_bytes_sd"], _ = over_seeds(sizes.values())
    row["nonzero_pct"] = over_seeds(run.metrics["nonzero_pct"] for run in own).mean
    for rate in ("file", "huffman"):
        row[f"cr_{rate}"] = over_seeds(run.metrics["cr"][rate] for run in own).mean
    if rung.beside is not None:
        before = [run for run in runs[rung.beside] if not run.ending]
        change = paired(errors, _by_seed(before, "error"))
        row["change_error"], row["change_error_se"], row["pairs"] = (
            change.mean,
            change.error,
            change.pairs,
        )
        share = paired(_logarithms(sizes), _logarithms(_by_seed(before, "bytes")))
        if share.mean is not None:
            row["change_bytes_pct"] = 100 * math.expm1(share.mean)
        if share.error is not None:
            row["change_bytes_se_pct"] = 100 * math.exp(share.mean) * share.error
    return row


def _logarithms(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: math.log(value) for seed, value in values.items()}


def _by_seed(runs: Sequence[Run], what: str) -> dict[int, float]:
    if what == "error":
        return {run.seed: float(run.metrics["error_end_pct"]) for run in runs}
    return {run.seed: float(run.metrics["bytes"]["file"]) for run in runs}


# --- for people -----------------------------------------------------------------------------------

CAPTION = (
    "From the paper's recipe to ours, one change at a time, and ours without each of them. Look at "
    "the changes: each is the mean of differences between runs of the same seed, with its standard "
    "error. A change of the error below two standard errors cannot be told from none."
)
NOTES = (
    "Steps add up from top to bottom, and what a step changes depends on those before it. The "
    "second block takes one step at a time out of the whole instead, beside which it is set.",
    "CR Huffman counts as Appendix A of the paper does, with Huffman codes on values and indexes; "
    "the coder of our files is what lies between it and CR file.",
)
HEADINGS = (
    *("step", "seeds", "error after, %", "change of error", "file, bytes", "change of bytes, %"),
    *("non-zero, %", "CR Huffman", "CR file"),
)


def table(records: Sequence[Record]) -> Table:
    """The table of records of one or more pairs.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    """
    blocks = []
    for pair in dict.fromkeys((row["model"], row["dataset"]) for row in records):
        for kind, words in (("cumulative", "step by step"), ("without", "ours without a step")):
            own = [r for r in records if (r["model"], r["dataset"]) == pair and r["kind"] == kind]
            lines = [Line(_cells(row), strong=row["point"] == "main") for row in own]
            blocks.append(Block(f"{pair_title(pair)}: {words}", HEADINGS, lines))
    title = "From the paper's recipe to ours"
    return Table(NAME, title, CAPTION, COLUMNS, records, blocks, NOTES)


def _cells(row: Record) -> list[str]:
    title = row["title"] if row["kind"] == "cumulative" else f"without: {row['title']}"
    if not row["seeds"]:
        return [title, row["status"], *["–"] * (len(HEADINGS) - 2)]
    seeds = str(row["seeds"]) + ("" if row["status"] == "ok" else f" ({row['status']})")
    return [
        title,
        seeds,
        number(row["error_end_pct"], row["error_end_sd"], 2),
        _change(row["change_error"], row["change_error_se"], 2),
        number(row["file_bytes"], row["file_bytes_sd"], 0),
        _change(row["change_bytes_pct"], row["change_bytes_se_pct"], 1),
        number(row["nonzero_pct"], None, 2),
        number(row["cr_huffman"]),
        number(row["cr_file"]),
    ]


def _change(mean: float | None, error: float | None, digits: int) -> str:
    if mean is None:
        return "–"
    return signed(mean, digits) + ("" if error is None else f" ± {error:.{digits}f}")


def draw(records: Sequence[Record]) -> Figure:
    """A waterfall of errors and of bytes for one pair: from bar to bar, what each step changes.

    Whiskers are the standard error of the paired difference. A hollow mark is our whole recipe
    without the step.

    Parameters
    ----------
    records : sequence of dict
        Of one pair.
    """
    steps = [row for row in records if row["kind"] == "cumulative"]
    alone = {row["step"]: row for row in records if row["kind"] == "without"}
    figure = Figure(figsize=(11, 1.6 + 0.42 * len(steps)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    _waterfall(panels[0], steps, alone, "error_end_pct", "change_error_se")
    _waterfall(panels[1], steps, alone, "file_bytes", None)
    panels[0].set(xlabel="error after, % (log)", xscale="log")
    panels[1].set(xlabel="file, bytes (log)", xscale="log")
    panels[0].set_yticks(range(len(steps)), [row["title"] for row in steps])
    panels[0].invert_yaxis()
    for axes in panels:
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    pair = (steps[0]["model"], steps[0]["dataset"])
    figure.suptitle(f"From the paper's recipe to ours: {pair_title(pair)}")
    figure.supxlabel(
        "bar: what the step changes, dark if for the better; whiskers: standard error of the "
        "paired difference; hollow: ours without the step",
        fontsize=8.5,
    )
    return figure


def _waterfall(
    axes: Axes,
    steps: Sequence[Record],
    alone: Mapping[str, Record],
    column: str,
    error: str | None,
) -> None:
    before = None
    for place, row in enumerate(steps):
        now = row[column]
        if now is None:
            axes.annotate(
                row["status"], (0.02, place), xycoords=axes.get_yaxis_transform(), va="center",
                fontsize=8, color=style.INK,
            )  # fmt: skip
            before = None
            continue
        if before is not None:
            better = now < before
            axes.barh(
                place, now - before, left=before, height=0.5,
                color=style.OURS if better else style.THEIRS,
            )  # fmt: skip
        spread = row[error] if error else _bytes_error(row)
        axes.errorbar(
            [now], [place], xerr=None if spread is None else [spread], fmt="|", ms=13, mew=2,
            color=style.INK, capsize=3,
        )  # fmt: skip
        without = alone.get(row["step"])
        if without is not None and without[column] is not None:
            axes.plot(without[column], place, "D", mfc="white", mec=style.INK, ms=5)
        before = now
    axes.grid(axis="x", color=style.FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def _bytes_error(row: Record) -> float | None:
    if row["change_bytes_se_pct"] is None or row["change_bytes_pct"] is None:
        return None
    share = row["change_bytes_se_pct"] / (100 + row["change_bytes_pct"])
    return float(share * row["file_bytes"])


def build(results: Path, output: Path, experiments: Sequence[Experiment]) -> list[Path]:
    """Write ``tables/ladder/ladder.*`` and ``figures/ladder/ladder_<pair>.{svg,png}``.

    Parameters
    ----------
    results, output : Path
        Folder that holds ``runs/``; folder to write to.
    experiments : sequence of Experiment
        Of the pairs; those without a ladder are left out.
    """
    chosen = [experiment for experiment in experiments if experiment.ladder is not None]
    records = {experiment.pair: rows(results, experiment) for experiment in chosen}
    every = [row for own in records.values() for row in own]
    written = write_texts(output / "tables" / NAME, table(every).texts())
    folder = output / "figures" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    with style.drawing():
        for pair, own in records.items():
            if any(row["seeds"] for row in own):
                written += style.save(draw(own), folder / f"ladder_{pair}")
    return written
