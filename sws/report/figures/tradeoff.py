"""Figure 2: what compression costs in error, a point for each tuning trial.

Our trials are measured on the validation split, the published points on the test set: the axes
show the *increase* of the error for that reason, and the second plot says which is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sws.report.figures import style
from sws.report.figures.subject import Subject
from sws.runs.published import Published
from sws.runs.records import ResultsError, Trial


@dataclass(frozen=True)
class Mean:
    """A trial averaged over its seeds."""

    trial: str
    main: bool
    seeds: int
    increase: float
    increase_sd: float
    error: float
    error_sd: float
    start: float
    ratio: float
    size: float


def means(trials: Sequence[Trial]) -> list[Mean]:
    """Trials averaged over seeds, each error against its own start; ratios are averaged."""
    found = []
    for trial in dict.fromkeys(t.trial for t in trials):
        group = [t for t in trials if t.trial == trial]
        increases = [t.error_end - t.error_start for t in group]
        errors = [t.error_end for t in group]
        found.append(
            Mean(
                trial=trial,
                main=any(t.main for t in group),
                seeds=len(group),
                increase=fmean(increases),
                increase_sd=stdev(increases) if len(group) > 1 else 0.0,
                error=fmean(errors),
                error_sd=stdev(errors) if len(group) > 1 else 0.0,
                start=fmean(t.error_start for t in group),
                ratio=fmean(t.cr_file for t in group),
                size=fmean(t.file_bytes for t in group),
            )
        )
    return found


def draw_ratio(subject: Subject) -> Figure:
    """Increase of the error against the compression ratio, published results as reference."""
    trials = _trials(subject)
    figure, axes, legend = _canvas()
    _ours(axes, trials, [t.ratio for t in trials], "increase")
    runs = [
        (run.metrics["cr"]["file"], run.metrics["error_end_pct"] - run.metrics["error_start_pct"])
        for run in subject.runs
    ]
    tested = _tested(axes, runs)
    shown = [p for p in subject.literature if p.delta is not None and p.ratio is not None]
    marks = style.NumberedMarks(size=11, fontsize=7.5)
    entries = _theirs(axes, [(p, p.ratio, p.delta) for p in shown], marks)
    lines = _levels(axes, 0.0, "no increase", subject)
    log_x(axes)
    axes.set_xlabel("compression ratio (ours: float32 bytes / bytes of the file; log scale)")
    axes.set_ylabel("error after − error before, percentage points")
    figure.suptitle(
        f"{subject.title}: what compression costs\n"
        f"{len(trials)} tuning trials on the validation split; published results on the test set"
    )
    _legend(legend, trials, entries, [*tested, *lines])
    _room(axes, "better ↘", (0.985, 0.02))
    marks.write()
    return figure


def draw_bytes(subject: Subject) -> Figure:
    """Error against the bytes of the file."""
    trials = _trials(subject)
    figure, axes, legend = _canvas()
    _ours(axes, trials, [t.size / 1000 for t in trials], "error")
    runs = [(r.metrics["bytes"]["file"] / 1000, r.metrics["error_end_pct"]) for r in subject.runs]
    tested = _tested(axes, runs)
    shown = [p for p in subject.literature if p.size_kb and p.error_end is not None]
    marks = style.NumberedMarks(size=11, fontsize=7.5)
    entries = _theirs(axes, [(p, p.size_kb, p.error_end) for p in shown], marks)
    start = fmean(t.start for t in trials)
    lines = _levels(axes, start, "our mean error before", subject)
    log_x(axes)
    axes.set_xlabel("size, kB (ours: the file on disk, 1 kB = 1000 bytes; log scale)")
    axes.set_ylabel("error, % (ours: validation; published: test)")
    figure.suptitle(
        f"{subject.title}: error against bytes\n"
        f"{len(trials)} tuning trials on the validation split; published results on the test set"
    )
    _legend(legend, trials, entries, [*tested, *lines])
    _room(axes, "better ↙", (0.015, 0.02))
    marks.write()
    return figure


def _levels(axes: Axes, start: float, label: str, subject: Subject) -> list[Line2D]:
    """Lines at the error before, and at that plus what the paper's network lost."""
    axes.axhline(start, color=style.INK, lw=0.8, ls=":")
    lines = [Line2D([], [], color=style.INK, lw=0.8, ls=":", label=label)]
    if subject.paper is not None and subject.paper.delta is not None:
        axes.axhline(start + subject.paper.delta, color=style.INK, lw=0.8, ls="--")
        label = f"the paper's increase ({subject.paper.delta:+.2f})"
        label = f"that plus {label}" if start else label
        lines.append(Line2D([], [], color=style.INK, lw=0.8, ls="--", label=label))
    return lines


def _trials(subject: Subject) -> list[Mean]:
    found = means(subject.trials)
    if not found:
        raise ResultsError(f"{subject.title}: no finished tuning trial; run 'sws tune' first")
    return found


def _canvas() -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes, legend = figure.subplots(1, 2, width_ratios=(2.1, 1))
    legend.set_axis_off()
    return figure, axes, legend


def _ours(axes: Axes, trials: Sequence[Mean], x: Sequence[float], what: str) -> None:
    for trial, place in zip(trials, x, strict=True):
        axes.errorbar(
            place,
            getattr(trial, what),
            yerr=getattr(trial, f"{what}_sd") or None,
            fmt="*" if trial.main else "o",
            ms=17 if trial.main else 6,
            color=style.OURS if trial.main else style.MIDDLE,
            mec="white" if trial.main else style.OURS,
            mew=0.8,
            ecolor=style.FAINT,
            elinewidth=1.2,
            zorder=5 if trial.main else 3,
        )


def _tested(axes: Axes, points: Sequence[tuple[float, float]]) -> list[Line2D]:
    """The main point measured on the test set: mean over the runs of all seeds."""
    if not points:
        return []
    x, y = (fmean(values) for values in zip(*points, strict=True))
    look = {"marker": "P", "color": style.INK, "mec": "white", "mew": 0.8, "ls": ""}
    axes.plot(x, y, ms=12, zorder=6, **look)
    plural = "seed" if len(points) == 1 else "seeds"
    label = f"main on the test set, {len(points)} {plural}"
    return [Line2D([], [], ms=10, label=label, **look)]


def _theirs(
    axes: Axes, points: Sequence[tuple[Published, float, float]], marks: style.NumberedMarks
) -> list[Line2D]:
    """Numbered markers; squares for bits or bytes, hollow diamonds for what is not a size."""
    entries = []
    for number, (published, x, y) in enumerate(points, start=1):
        counts = published.ratio_class in ("COUNT", "VALUES")
        look = {
            "marker": "D" if counts else "s",
            "mfc": "white" if counts else style.THEIRS,
            "mec": style.INK if published.is_the_paper else style.THEIRS,
            "mew": 2.2 if published.is_the_paper else 1.2,
            "ls": "",
        }
        marks.add(axes, (x, y), number, look)
        label = f"{number}  {_short(published)}"
        entries.append(Line2D([], [], ms=8, label=label, **look))
    return entries


def _short(published: Published) -> str:
    name = published.label if len(published.label) <= 42 else published.label[:41] + "…"
    return f"{name} [{published.ratio_class or '?'}]"


def log_x(axes: Axes) -> None:
    """A logarithmic axis with plain numbers on it."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)


def _room(axes: Axes, better: str, corner: tuple[float, float]) -> None:
    axes.margins(x=0.07, y=0.09)
    side = "right" if corner[0] > 0.5 else "left"
    axes.text(*corner, better, transform=axes.transAxes, ha=side, va="bottom", color="#666666")


def _legend(
    axes: Axes,
    trials: Sequence[Mean],
    entries: Sequence[Line2D],
    lines: Sequence[Line2D],
) -> None:
    fewest, most = min(t.seeds for t in trials), max(t.seeds for t in trials)
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    plural = "seed" if most == 1 else "seeds"
    ours = [
        Line2D([], [], color=style.MIDDLE, marker="o", mec=style.OURS, ls="", ms=6,
               label=f"our trial, mean ± sd of {seeds} {plural}"),
    ]  # fmt: skip
    if any(t.main for t in trials):
        ours.append(
            Line2D([], [], color=style.OURS, marker="*", ls="", ms=13, label="chosen as main")
        )
    heading = Line2D([], [], ls="", label="\npublished (■ a size, ◇ a count of parameters)")
    handles = [*ours, *lines, *([heading, *entries] if entries else [])]
    axes.legend(handles=handles, loc="upper left", fontsize=8, labelspacing=0.55, handlelength=1.6,
                borderaxespad=0)  # fmt: skip
