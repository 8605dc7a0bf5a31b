"""Figure 4: relative indexing with padding, the paper's example of three bits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from sws.codec.relative_index import relative_index
from sws.report.figures import style
from sws.report.figures.subject import Subject

BITS = 3
LENGTH = 16
WEIGHTS = {1: "3.4", 4: "0.9", 15: "1.7"}


class Entry(NamedTuple):
    """A stored entry: where it stands, its difference, what its field holds, whether it pads."""

    position: int
    gap: int
    skip: int
    padding: bool


def entries(positions: Iterable[int], bits: int = BITS, length: int = LENGTH) -> list[Entry]:
    """What the codec stores for a row with non-zeros at ``positions`` (Appendix A)."""
    row = np.zeros((1, length), np.uint8)
    row[0, list(positions)] = 1
    index = relative_index(row, bits)
    places = np.cumsum(index.skips + 1) - 1
    columns = (places, index.differences, index.skips, index.values == 0)
    return [Entry(*entry) for entry in zip(*(c.tolist() for c in columns), strict=True)]


def draw(subject: Subject) -> Figure:
    """The row of weights above, what is stored below, gaps as arrows between."""
    stored = entries(WEIGHTS)
    figure = style.canvas(3.5)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-4.6, LENGTH + 0.2)
    axes.set_ylim(-3.9, 3.1)
    axes.set_aspect("equal")
    _row(axes, stored)
    _stored(axes, stored)
    told = (
        "A row's non-zero weights are stored as distances from one to the next. Look at the "
        f"hatched entry: {BITS} bits reach {2**BITS} places, so that a longer gap needs a zero "
        "stored in between, which costs an index and a value."
    )
    style.explain(figure, f"Relative indexing with {BITS} bits", told)
    return figure


def _row(axes: Axes, stored: list[Entry]) -> None:
    padding = {entry.position for entry in stored if entry.padding}
    for position in range(LENGTH):
        is_weight, is_padding = position in WEIGHTS, position in padding
        face = style.OURS if is_weight else "white"
        box = Rectangle((position, 0), 1, 1, fc=face, ec=style.INK, lw=0.9)
        if is_padding:
            box.set(hatch="////", edgecolor=style.THEIRS, lw=1.6, zorder=3)
        axes.add_patch(box)
        text = WEIGHTS.get(position, "0")
        colour = "white" if is_weight else style.INK if is_padding else "#9a9a9a"
        patch = {"fc": "white", "ec": "none", "pad": 1} if is_padding else None
        axes.text(
            position + 0.5,
            0.5,
            text,
            ha="center",
            va="center",
            color=colour,
            bbox=patch,
            zorder=4,
        )
        axes.text(
            position + 0.5, -0.32, str(position), ha="center", va="center", fontsize=style.SMALLEST
        )
    axes.text(-0.3, 0.5, "weights of a row", ha="right", va="center", fontsize=8.5)
    axes.text(-0.3, -0.32, "position", ha="right", va="center", fontsize=8.5)
    last = 0
    for position, gap, _, is_padding in stored:
        height = 0.45 + 0.12 * gap
        arrow = FancyArrowPatch(
            (last + 0.5, 1.05),
            (position + 0.5, 1.05),
            connectionstyle=f"arc3,rad={-2 * height / gap}",
            arrowstyle="-|>",
            mutation_scale=11,
            color=style.THEIRS if is_padding else style.OURS,
            lw=1.3,
        )
        axes.add_patch(arrow)
        middle = (last + position) / 2 + 0.5
        axes.text(middle, 1.13 + height, f"+{gap}", ha="center", va="bottom", fontsize=9.5)
        last = position


def _stored(axes: Axes, stored: list[Entry]) -> None:
    left, width = 2.5, 3.0
    rows = (
        ("difference", [str(entry.gap) for entry in stored], -1.9),
        (f"zeros skipped, {BITS} bits", [f"{entry.skip:0{BITS}b}" for entry in stored], -2.8),
        ("value", ["0" if e.padding else WEIGHTS[e.position] for e in stored], -3.7),
    )
    for name, texts, y in rows:
        axes.text(-0.3, y + 0.4, name, ha="right", va="center", fontsize=8.5)
        for place, entry in enumerate(stored):
            box = Rectangle((left + place * width, y), width, 0.8, fc="white", ec=style.INK, lw=0.9)
            if entry.padding:
                box.set(edgecolor=style.THEIRS, hatch="////", lw=1.6, zorder=3)
            axes.add_patch(box)
            axes.text(
                left + (place + 0.5) * width,
                y + 0.38,
                texts[place],
                ha="center",
                va="center",
                fontsize=9.5,
                bbox={"fc": "white", "ec": "none", "pad": 1.5},
                zorder=4,
            )
