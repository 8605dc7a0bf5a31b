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
from sws.report.curves import OperatingPoint, operating_points, pareto
from sws.report.figures import style
from sws.report.figures.subject import Subject
from sws.report.figures.tradeoff import log_x
from sws.runs.published import Published
from sws.runs.records import ResultsError

SIZES = {"FILE": ("s", "a file"), "CODED": ("D", "a coded stream"), "BITS": ("^", "bits counted")}
"""Classes of published ratios that are sizes: marker, and what it is."""
FIRST_HAND = ("original", "authors")
ROOM = 1.6  # factor beyond the measured curves within which published errors are shown


INCHES_A_ROW = 0.155  # of the legend


def draw(subject: Subject) -> Figure:
    """Mean ± standard deviation over seeds of every point of every method, on the test set."""
    points = operating_points(subject.compared)
    if not points:
        raise ResultsError(f"{subject.title}: no finished run of any method; run them first")
    figure = Figure(figsize=(14, 5.6), layout="constrained")
    sizes, counts, legend = figure.subplots(1, 3, width_ratios=(1.35, 1, 0.95))
    legend.set_axis_off()
    for method in dict.fromkeys(p.method for p in points):
        own = sorted((p for p in points if p.method == method), key=lambda p: p.file_bytes)
        _curve(sizes, own, [p.file_bytes / 1000 for p in own], method, spread=True)
        _curve(counts, own, [p.nonzero for p in own], method)
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
    marks = style.NumberedMarks(size=11, fontsize=7)
    entries = _published(sizes, counts, shown, dense, _ceiling(points), marks)
    for axes in (sizes, counts):
        log_x(axes)
        axes.margins(x=0.08, y=0.1)
        axes.set_ylabel("test error after compression, %")
    sizes.set_xlabel("size, kB (ours: the file on disk, 1 kB = 1000 bytes; log scale)")
    counts.set_xlabel("weights / non-zero weights (not a size; log scale)")
    sizes.text(0.015, 0.02, "better ↙", transform=sizes.transAxes, color="#666666")
    counts.text(0.985, 0.02, "better ↘", transform=counts.transAxes, ha="right", color="#666666")
    figure.suptitle(
        f"{subject.title}: methods under one protocol\n"
        f"{_seeds(points)}; one start, one coder for all"
    )
    _legend(legend, points, entries)
    marks.write()
    return figure


def _seeds(points: Sequence[OperatingPoint]) -> str:
    """What the marks are means of."""
    fewest, most = min(p.seeds for p in points), max(p.seeds for p in points)
    if most == 1:
        return "one seed"
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"means over {number} seeds, bars: standard deviation"


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
        if paper.ratio_class in SIZES and (paper.size_kb or paper.ratio):
            axes, x = sizes, paper.size_kb or dense / paper.ratio
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
            "mfc": "white" if hollow else style.THEIRS,
            "mec": style.INK if paper.is_the_paper else style.THEIRS,
            "mew": 2.0 if paper.is_the_paper else 1.2,
            "ls": "",
        }
        number = len(entries) + 1
        marks.add(axes, (x, paper.error_end), number, look)
        name = paper.label if len(paper.label) <= 44 else paper.label[:43] + "…"
        entries.append(Line2D([], [], ms=7, label=f"{number}  {name}", **look))
    top = min(ceiling, max(axes_top(sizes), axes_top(counts)))
    for axes in (sizes, counts):
        axes.set_ylim(top=max(top, axes.get_ylim()[0] + 0.1))
    return entries


def axes_top(axes: Axes) -> float:
    """Upper end of the error axis as the data want it."""
    return axes.get_ylim()[1]


def _legend(axes: Axes, points: Sequence[OperatingPoint], entries: Sequence[Line2D]) -> None:
    handles = []
    for method in dict.fromkeys(p.method for p in points):
        colour, marker, line = methods.spec(method).look
        handles.append(
            Line2D([], [], color=colour, marker=marker, ls=line, mec="white", ms=7, label=method)
        )
    handles.append(
        Line2D([], [], color=style.FAINT, lw=5, label="Pareto frontier of what we measured")
    )
    if entries:
        handles.append(Line2D([], [], ls="", label="\npublished, hollow: second-hand evidence"))
        for marker, meaning in (*SIZES.values(), ("o", "a count of parameters (right panel)")):
            handles.append(Line2D([], [], color=style.THEIRS, marker=marker, ls="", label=meaning))
        handles.append(Line2D([], [], ls="", label=""))
    rows = [*handles, *entries]
    drawn = axes.legend(handles=rows, loc="upper left", fontsize=7.5, labelspacing=0.42,
                        handlelength=2.2, borderaxespad=0)  # fmt: skip
    # As tall as the list, rather than panels that give way to it: two rows have a line break.
    drawn.set_in_layout(False)
    figure = axes.figure
    figure.set_figheight(max(figure.get_figheight(), INCHES_A_ROW * (len(rows) + 2) + 0.9))
