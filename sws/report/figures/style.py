"""One look for all figures: sizes, colours that stay apart in grey, repeatable files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import fcluster, linkage

from sws.files import replacing

INK = "#1a1a1a"
OURS = "#0b3c6f"  # Relative luminance rises from INK to FAINT, so the order survives grey printing.
THEIRS = "#c8641e"
MIDDLE = "#7a9cc0"
FAINT = "#c9ced6"
RAMP = "Blues"

SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.titlesize": 12,
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
    hide each other stand above them, since inside only the last could be read.
    """

    def __init__(self, size: float, fontsize: float):
        self.size = size
        self.fontsize = fontsize
        self._marks: dict[Axes, list[_Mark]] = {}

    def add(self, axes: Axes, at: tuple[float, float], number: int, look: Mapping[str, Any]):
        larger = 1.35 if _is_triangle(look) else 1.0
        axes.plot(*at, ms=larger * self.size, zorder=4, **look)
        self._marks.setdefault(axes, []).append((at, number, look))

    def write(self) -> None:
        for figure in {axes.figure for axes in self._marks}:
            figure.draw_without_rendering()  # puts the axes where they will be
        for axes, marks in self._marks.items():
            pixels = axes.transData.transform([at for at, _, _ in marks])
            for group in _touching(pixels, 0.8 * self.size * axes.figure.dpi / 72):
                self._write(axes, [marks[k] for k in group])

    def _write(self, axes: Axes, marks: list[_Mark]) -> None:
        first, number, look = marks[0]
        text = {"fontsize": self.fontsize, "fontweight": "bold", "ha": "center", "zorder": 4}
        text["textcoords"] = "offset points"
        if len(marks) == 1:
            lower = 0.2 * self.size if _is_triangle(look) else 0.0
            text |= {"va": "center_baseline", "color": INK if look["mfc"] == "white" else "white"}
            axes.annotate(str(number), first, (0, -lower), **text)
            return
        top = max((at for at, _, _ in marks), key=lambda at: at[1])
        numbers = ", ".join(str(n) for _, n, _ in sorted(marks, key=lambda mark: mark[:2]))
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
