"""Figure 2: what compression costs in error, a point for each tuning trial.

Our trials are measured on the validation split, the published points on the test set: the first
plot shows the *increase* of the error for that reason, and the second says which is which. Of the
published results only sizes are shown; counts of parameters are no sizes, and stand in figure 9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sws.report.figures import style
from sws.report.figures.subject import SIZES, Subject, size_kb
from sws.runs.published import Published
from sws.runs.records import ResultsError, Trial
from sws.runs.seeds import over_seeds


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
        increase = over_seeds(t.error_end - t.error_start for t in group)
        error = over_seeds(t.error_end for t in group)
        found.append(
            Mean(
                trial=trial,
                main=any(t.main for t in group),
                seeds=len(group),
                increase=increase.mean,
                increase_sd=increase.sd or 0.0,
                error=error.mean,
                error_sd=error.sd or 0.0,
                start=over_seeds(t.error_start for t in group).mean,
                ratio=over_seeds(t.cr_file for t in group).mean,
                size=over_seeds(t.file_bytes for t in group).mean,
            )
        )
    return found


def draw_ratio(subject: Subject) -> Figure:
    """Increase of the error against the compression ratio, published sizes as reference."""
    runs = [
        (run.metrics["cr"]["file"], run.metrics["error_end_pct"] - run.metrics["error_start_pct"])
        for run in subject.runs
    ]
    literature = [p for p in subject.literature if p.ratio_class in SIZES]
    return _draw(
        subject,
        what="increase",
        place=lambda trial: trial.ratio,
        runs=runs,
        theirs=[(p, p.ratio, p.delta) for p in literature if p.ratio and p.delta is not None],
        corner="right",
        labels=(
            "compression ratio (ours: float32 bytes / bytes of the file; log scale)",
            "rise of the error, percentage points",
        ),
        title="what compression costs",
        caption="Look at how far to the right the trials get before the error rises.",
    )


def draw_bytes(subject: Subject) -> Figure:
    """Error against the bytes of the file."""
    runs = [(r.metrics["bytes"]["file"] / 1000, r.metrics["error_end_pct"]) for r in subject.runs]
    dense = [trial.size * trial.ratio / 1000 for trial in _trials(subject)]
    theirs = [
        (p, size_kb(p, dense[0]), p.error_end)
        for p in subject.literature
        if p.ratio_class in SIZES and p.error_end is not None
    ]
    return _draw(
        subject,
        what="error",
        place=lambda trial: trial.size / 1000,
        runs=runs,
        theirs=[point for point in theirs if point[1]],
        corner="left",
        labels=("size, kB (ours: the file on disk; log scale)", "error, % (ours: validation)"),
        title="error against bytes",
        caption="Look at how far to the left the trials get before the error rises. A paper that "
        "gives a ratio and no bytes stands at the float32 bytes divided by its ratio.",
    )


def _draw(
    subject: Subject,
    what: Literal["increase", "error"],
    place: Callable[[Mean], float],
    runs: Sequence[tuple[float, float]],
    theirs: Sequence[tuple[Published, float, float]],
    corner: Literal["left", "right"],
    labels: tuple[str, str],
    title: str,
    caption: str,
) -> Figure:
    """Trials, the tested main point and the literature in one panel, with lists below.

    Parameters
    ----------
    subject : Subject
        Whose trials are drawn.
    what : str
        The attribute of a :class:`Mean` that goes up.
    place : callable
        What goes across.
    runs : sequence of (across, up)
        The main point on the test set, a seed each.
    theirs : sequence of (published, across, up)
        The literature.
    corner : str
        Where the best results would be, at the bottom.
    labels : (str, str)
        Of the axes.
    title, caption : str
        What the figure is about, and what to look at.
    """
    trials = _trials(subject)
    marks = style.NumberedMarks(size=11, fontsize=style.SMALLEST)
    ours = _our_handles(trials)
    figure = style.canvas(1.0)
    axes, legend, below = figure.subplots(3, 1, height_ratios=(1, 1, 1))
    for trial in trials:
        _mark(axes, trial, place(trial), what)
    entries = _theirs(axes, theirs, marks)
    start = 0.0 if what == "increase" else over_seeds(t.start for t in trials).mean
    ours += _tested(axes, runs)
    ours += _levels(axes, start, what, subject)
    heights = (3.5, style.list_height(ours), style.list_height(entries) + 0.15 * bool(entries))
    axes.get_gridspec().set_height_ratios(heights)
    figure.set_figheight(sum(heights) + 1.15)
    style.log_x(axes)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.margins(x=0.07, y=0.09)
    style.better(axes, corner)
    style.list_below(legend, ours)
    style.list_below(below, entries, "Published sizes, on the test set")
    told = f"Tuning trials of our method on the validation split ({len(trials)} settings); none of "
    told += "them saw the test set. " + caption
    if theirs and not any(published.is_the_paper for published, _, _ in theirs):
        told += " The paper has no size for this network."
    style.explain(figure, f"{subject.title}: {title}", told)
    marks.write()
    return figure


def _levels(axes: Axes, start: float, what: str, subject: Subject) -> list[Line2D]:
    """Lines at the error before, and at that plus what the paper's network lost."""
    axes.axhline(start, color=style.INK, lw=0.8, ls=":")
    label = "no rise" if what == "increase" else "our mean error before"
    lines = [Line2D([], [], color=style.INK, lw=0.8, ls=":", label=label)]
    if subject.paper is not None and subject.paper.delta is not None:
        axes.axhline(start + subject.paper.delta, color=style.INK, lw=0.8, ls="--")
        label = f"the paper's rise ({subject.paper.delta:+.2f})"
        label = label if what == "increase" else f"that plus {label}"
        lines.append(Line2D([], [], color=style.INK, lw=0.8, ls="--", label=label))
    return lines


def _trials(subject: Subject) -> list[Mean]:
    found = means(subject.trials)
    if not found:
        raise ResultsError(f"{subject.title}: no finished tuning trial; run 'sws tune' first")
    return found


def _mark(axes: Axes, trial: Mean, x: float, what: str) -> None:
    axes.errorbar(
        x,
        getattr(trial, what),
        yerr=getattr(trial, f"{what}_sd") or None,
        fmt="*" if trial.main else "o",
        ms=16 if trial.main else 6,
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
    x, y = (over_seeds(values).mean for values in zip(*points, strict=True))
    look = {"marker": "P", "color": style.INK, "mec": "white", "mew": 0.8, "ls": ""}
    axes.plot(x, y, ms=11, zorder=6, **look)
    plural = "seed" if len(points) == 1 else "seeds"
    label = f"main on the test set, mean of {len(points)} {plural}"
    return [Line2D([], [], ms=8, label=label, **look)]


def _theirs(
    axes: Axes, points: Sequence[tuple[Published, float, float]], marks: style.NumberedMarks
) -> list[Line2D]:
    """Numbered markers, of a form for each kind of size."""
    entries = []
    for number, (published, x, y) in enumerate(points, start=1):
        look = {
            "marker": SIZES[published.ratio_class][0],
            "mfc": style.INK if published.is_the_paper else style.THEIRS,
            "mec": style.INK if published.is_the_paper else style.THEIRS,
            "ls": "",
        }
        marks.add(axes, (x, y), number, look)
        label = style.folded(f"{number}  {published.label} [{published.ratio_class}]")
        entries.append(Line2D([], [], ms=7, label=label, **look))
    return entries


def _our_handles(trials: Sequence[Mean]) -> list[Line2D]:
    fewest, most = min(t.seeds for t in trials), max(t.seeds for t in trials)
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    plural = "seed" if most == 1 else "seeds"
    label = f"our trial, mean ± sd of {seeds} {plural}"
    ours = [
        Line2D([], [], color=style.MIDDLE, marker="o", mec=style.OURS, ls="", ms=6, label=label)
    ]
    if any(t.main for t in trials):
        look = {"color": style.OURS, "marker": "*", "ls": "", "ms": 12}
        ours.append(Line2D([], [], label="chosen as main, on validation", **look))
    return ours
