"""Figure 9: error against the bytes of the file, every method's curve and the literature.

Two panels, because the literature counts two things. Sizes are set beside files; ratios that count
parameters are set beside weights / non-zeros, and never on an axis of bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sws.config import methods
from sws.report.figures import style
from sws.report.figures.subject import SIZES, Subject, size_kb
from sws.report.fixed_error import OperatingPoint, operating_points, pareto
from sws.runs.published import Published
from sws.runs.records import ResultsError

FIRST_HAND = ("original", "authors")
ROOM = 1.6  # factor beyond the measured curves within which published errors are shown
PANELS = (3.5, 2.7)  # inches


def draw(subject: Subject) -> Figure:
    """Mean ± standard deviation over seeds of every point of every method, on the test set."""
    points = operating_points(subject.compared)
    if not points:
        raise ResultsError(f"{subject.title}: no finished run of any method; run them first")
    marks = style.NumberedMarks(size=11, fontsize=style.SMALLEST)
    figure = style.canvas(1.0)
    sizes, counts, legend, below = figure.subplots(4, 1, height_ratios=(1, 1, 1, 1))
    for method in dict.fromkeys(p.method for p in points):
        own = sorted((p for p in points if p.method == method), key=lambda p: p.file_bytes)
        _curve(sizes, own, [p.file_bytes / 1000 for p in own], method, spread=True)
        _curve(counts, own, [p.nonzero for p in own], method)
        marks.avoid(sizes, [(p.file_bytes / 1000, p.error_end_pct) for p in own])
        marks.avoid(counts, [(p.nonzero, p.error_end_pct) for p in own])
    frontier = pareto(points)
    sizes.step(
        [p.file_bytes / 1000 for p in frontier],
        [p.error_end_pct for p in frontier],
        where="post",
        color=style.FAINT,
        lw=5,
        zorder=1,
    )
    shown = [p for p in subject.literature if p.error_end is not None]
    dense = points[0].dense_bytes / 1000
    ceiling = _ceiling(points)
    entries = _published(sizes, counts, shown, dense, ceiling, marks)
    for axes in (sizes, counts):
        style.log_x(axes)
        axes.margins(x=0.08, y=0.1)
        axes.set_ylim(top=min(ceiling, axes.get_ylim()[1]))
        axes.set_ylabel("test error, %")
    sizes.set_xlabel("size, kB (ours: the file on disk, 1 kB = 1000 bytes; log scale)")
    counts.set_xlabel("weights / non-zero weights (not a size; log scale)")
    style.better(sizes, "left")
    style.better(counts, "right")
    ours = _legend(points)
    heights = (*PANELS, style.list_height(ours), style.list_height(entries) + 0.15 * bool(entries))
    sizes.get_gridspec().set_height_ratios(heights)
    figure.set_figheight(sum(heights) + 1.75)
    style.list_below(legend, ours, handlelength=3.0)
    style.list_below(below, entries, "Published (filled: first-hand, hollow: quoted by others)")
    told = (
        "Every method under one protocol: same start, same coder. Above, look at which curve is "
        "furthest down and to the left; the broad grey line joins what nothing else beats. "
        "■ a file, ◆ a coded stream, ▲ bits counted. Below, ● counts of parameters, which are no "
        f"sizes. {_seeds(points)}."
    )
    style.explain(figure, f"{subject.title}: methods compared", told)
    marks.write()
    return figure


def _seeds(points: Sequence[OperatingPoint]) -> str:
    """What the marks are means of."""
    fewest, most = min(p.seeds for p in points), max(p.seeds for p in points)
    if most == 1:
        return "One seed"
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"Means over {number} seeds, bars: standard deviation"


def _curve(
    axes: Axes,
    own: Sequence[OperatingPoint],
    x: Sequence[float],
    method: str,
    spread: bool = False,
) -> None:
    colour, marker, line = methods.spec(method).look
    axes.errorbar(
        x,
        [p.error_end_pct for p in own],
        xerr=[p.file_bytes_sd / 1000 for p in own] if spread else None,
        yerr=[p.error_end_sd for p in own],
        fmt=marker,
        ls=line,
        lw=1.4,
        ms=7,
        color=colour,
        mec="white",
        mew=0.7,
        elinewidth=0.9,
        zorder=5,
    )


def _ceiling(points: Sequence[OperatingPoint]) -> float:
    """The highest error worth showing: a method that breaks down must not flatten the others."""
    errors = sorted(p.error_end_pct for p in points)
    return ROOM * max(errors[len(errors) // 2], errors[0]) + 1.0


def _published(
    sizes: Axes,
    counts: Axes,
    literature: Sequence[Published],
    dense: float,
    ceiling: float,
    marks: style.NumberedMarks,
) -> list[Line2D]:
    """Numbered markers in the panel that their ratio belongs to; hollow where second-hand."""
    entries: list[Line2D] = []
    for paper in literature:
        if paper.ratio_class in SIZES and size_kb(paper, dense):
            axes, x = sizes, size_kb(paper, dense)
            marker = SIZES[paper.ratio_class][0]
        elif paper.ratio_class == "COUNT" and (paper.ratio or paper.nonzero_pct):
            axes, x, marker = counts, paper.ratio or 100 / paper.nonzero_pct, "o"
        else:
            continue
        if paper.error_end > ceiling:
            continue
        hollow = paper.evidence not in FIRST_HAND
        look = {
            "marker": marker,
            "mfc": "white" if hollow else style.INK if paper.is_the_paper else style.THEIRS,
            "mec": style.INK if paper.is_the_paper else style.THEIRS,
            "mew": 2.0 if paper.is_the_paper else 1.2,
            "ls": "",
        }
        number = len(entries) + 1
        marks.add(axes, (x, paper.error_end), number, look)
        label = style.folded(f"{number}  {paper.label}")
        entries.append(Line2D([], [], ms=7, label=label, **look))
    return entries


def _legend(points: Sequence[OperatingPoint]) -> list[Line2D]:
    handles = []
    for method in dict.fromkeys(p.method for p in points):
        spec = methods.spec(method)
        colour, marker, line = spec.look
        look = {"color": colour, "marker": marker, "ls": line, "mec": "white", "ms": 7, "lw": 1.6}
        handles.append(Line2D([], [], label=spec.title, **look))
    return [*handles, Line2D([], [], color=style.FAINT, lw=5, label="nothing measured is better")]
