"""One look for all figures: sizes, colours that stay apart in grey, repeatable files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
        beside = stem.with_name(f".{stem.name}.{os.getpid()}.{kind}")
        try:
            figure.savefig(beside, metadata=metadata, facecolor="white")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        paths.append(path)
    return paths


def ramp(values: np.ndarray) -> np.ndarray:
    """Colours (n, 4) from light to dark for values in [0, 1], none too light to see on white."""
    return matplotlib.colormaps[RAMP](0.3 + 0.7 * np.clip(values, 0, 1))


def thousands(value: float) -> str:
    return f"{value:,.0f}"


def numbered_mark(
    axes: Axes,
    at: tuple[float, float],
    number: int,
    look: Mapping[str, Any],
    *,
    size: float,
    fontsize: float,
) -> None:
    """A marker with a number in it: dark on a hollow one, white on a filled one."""
    axes.plot(*at, ms=size, zorder=4, **look)
    axes.annotate(
        str(number),
        at,
        ha="center",
        va="center_baseline",
        fontsize=fontsize,
        fontweight="bold",
        color=INK if look["mfc"] == "white" else "white",
        zorder=4,
    )
