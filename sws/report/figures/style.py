"""One look for all figures: sizes, colours that stay apart in grey, repeatable files.

Every figure is :data:`WIDTH` wide and no text in it is below :data:`SMALLEST`, so that it can be
read where a page shows it 600 pixels wide. What to see in it is written below it, since a picture
travels without the page that it was made for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.cluster.hierarchy import fcluster, linkage

from sws.files import replacing

INK = "#1a1a1a"
OURS = "#0b3c6f"  # Relative luminance rises from INK to FAINT, so the order survives grey printing.
THEIRS = "#c8641e"
MIDDLE = "#7a9cc0"
FAINT = "#c9ced6"
RAMP = "Blues"
WIDTH = 6.8  # inches
SMALLEST = 7.5  # points: 9 pixels, shown 600 wide
LINE = 100  # characters of a caption
ENTRY = 46  # characters of an entry in a list below a figure
INCHES_A_ROW = 0.165  # of such a list

SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "hatch.linewidth": 0.6,
    "image.cmap": RAMP,
    "svg.hashsalt": "sws",
    "svg.fonttype": "path",
    "path.simplify": True,
    "text.usetex": False,
    "axes.unicode_minus": True,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's defaults with our settings on top, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``, each by rename; the same input gives the same bytes."""
    paths = []
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        path = stem.with_name(f"{stem.name}.{kind}")
        with replacing(path) as beside:
            figure.savefig(beside, metadata=metadata, facecolor="white")
        paths.append(path)
    return paths


def canvas(height: float) -> Figure:
    """An empty figure of the common width, in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def explain(figure: Figure, title: str, caption: str) -> None:
    """Write a title above a figure, and below it what to see.

    Parameters
    ----------
    figure : Figure
        As :func:`canvas` makes it: its layout leaves room for both.
    title : str
        One line.
    caption : str
        A few sentences; they are wrapped.
    """
    figure.suptitle(title, x=0.012, ha="left")
    text = textwrap.fill(caption, LINE)
    figure.supxlabel(text, x=0.012, ha="left", fontsize=8.5, color="#333333", linespacing=1.3)


def log_x(axes: Axes) -> None:
    """A logarithmic axis with plain numbers on it."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)


def better(axes: Axes, where: str) -> None:
    """An arrow to the corner of what is small and right: ``left`` or ``right``."""
    x, arrow = (0.015, "better ↙") if where == "left" else (0.985, "better ↘")
    axes.text(x, 0.02, arrow, transform=axes.transAxes, ha=where, color="#555555", fontsize=9)


def folded(name: str) -> str:
    """A name on as many lines as it takes in a list below a figure."""
    return textwrap.fill(name, ENTRY)


def list_height(handles: Sequence[Artist]) -> float:
    """Inches that :func:`list_below` takes for these."""
    rows = [1 + str(handle.get_label()).count("\n") for handle in handles]
    half = -(-len(rows) // 2)
    return INCHES_A_ROW * (max(sum(rows[:half]), sum(rows[half:])) + 1) if rows else 0.05


def list_below(
    axes: Axes, handles: Sequence[Artist], title: str = "", handlelength: float = 1.2
) -> None:
    """A legend of two columns in axes of its own.

    Parameters
    ----------
    axes : Axes
        For the list alone.
    handles : sequence of Artist
        Its entries.
    title : str
        Above them.
    handlelength : float
        Room for a line, in units of the letters' size.
    """
    axes.set_axis_off()
    if handles:
        drawn = axes.legend(
            handles=handles,
            loc="upper left",
            ncols=2,
            fontsize=SMALLEST,
            labelspacing=0.5,
            handlelength=handlelength,
            columnspacing=1.0,
            title=title,
            title_fontsize=8.5,
            alignment="left",
            borderaxespad=0,
        )
        drawn.set_in_layout(False)  # else the panels give way to it


def ramp(values: np.ndarray) -> np.ndarray:
    """Colours (n, 4) from light to dark for values in [0, 1], none too light to see on white."""
    return matplotlib.colormaps[RAMP](0.3 + 0.7 * np.clip(values, 0, 1))


def thousands(value: float) -> str:
    return f"{value:,.0f}"


_Mark = tuple[tuple[float, float], int, Mapping[str, Any]]
"""Place, number, look."""


class NumberedMarks:
    """Markers with numbers in them: dark on a hollow one, white on a filled one.

    Numbers are written last, when the axes have their limits (:meth:`write`): those of markers that
    hide each other, or that something else hides, stand above them, where they can be read.
    """

    def __init__(self, size: float, fontsize: float):
        self.size = size
        self.fontsize = fontsize
        self._marks: dict[Axes, list[_Mark]] = {}
        self._others: dict[Axes, list[tuple[float, float]]] = {}

    def avoid(self, axes: Axes, points: Iterable[tuple[float, float]]) -> None:
        """Markers without numbers, which would hide a number."""
        self._others.setdefault(axes, []).extend(points)

    def add(self, axes: Axes, at: tuple[float, float], number: int, look: Mapping[str, Any]):
        larger = 1.35 if _is_triangle(look) else 1.0
        axes.plot(*at, ms=larger * self.size, zorder=4, **look)
        self._marks.setdefault(axes, []).append((at, number, look))

    def write(self) -> None:
        for figure in {axes.figure for axes in self._marks}:
            figure.draw_without_rendering()  # puts the axes where they will be
        for axes, marks in self._marks.items():
            pixels = axes.transData.transform([at for at, _, _ in marks])
            near = 0.8 * self.size * axes.figure.dpi / 72
            others = axes.transData.transform(self._others.get(axes) or [(np.nan, np.nan)])
            hidden = np.linalg.norm(pixels[:, None] - others, axis=2).min(1) < near
            for group in _touching(pixels, near):
                above = len(group) > 1 or bool(hidden[group].any())
                self._write(axes, [marks[k] for k in group], above)

    def _write(self, axes: Axes, marks: list[_Mark], above: bool) -> None:
        first, number, look = marks[0]
        text = {"fontsize": self.fontsize, "fontweight": "bold", "ha": "center", "zorder": 4}
        text["textcoords"] = "offset points"
        if not above:
            lower = 0.2 * self.size if _is_triangle(look) else 0.0
            text |= {"va": "center_baseline", "color": INK if look["mfc"] == "white" else "white"}
            axes.annotate(str(number), first, (0, -lower), **text)
            return
        top = max((at for at, _, _ in marks), key=lambda at: at[1])
        numbers = ", ".join(str(n) for _, n, _ in sorted(marks, key=lambda mark: mark[:2]))
        text |= {"zorder": 8, "path_effects": [withStroke(linewidth=2.5, foreground="white")]}
        axes.annotate(numbers, top, (0, 0.65 * self.size), va="bottom", color=INK, **text)


def _is_triangle(look: Mapping[str, Any]) -> bool:
    """Whether a marker is too narrow for a number but near its foot."""
    return look["marker"] == "^"


def _touching(points: np.ndarray, distance: float) -> list[np.ndarray]:
    """Indexes of points in groups, each member closer than a distance to another one."""
    if len(points) < 2:
        return [np.arange(len(points))]
    group = fcluster(linkage(points, "single"), distance, "distance")
    return [np.flatnonzero(group == number) for number in np.unique(group)]
