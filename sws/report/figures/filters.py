"""Figures 7 and 8: filters of the first layer before and after compression."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sws.report.figures.subject import Subject
from sws.runs.records import ResultsError

SHOWN = 64


def draw_convolution(subject: Subject) -> Figure:
    """All filters of a first convolution with one input channel, before and after."""
    initial, final, where = _filters(subject)
    if initial.ndim != 4 or initial.shape[1] != 1:
        raise ResultsError(f"{where}: the first layer is not a convolution of one channel")
    order = np.arange(len(initial))
    alive = int(final.any(axis=(1, 2, 3)).sum())
    kept = f"{alive} of {len(final)} filters keep a weight; "
    kept += f"{np.count_nonzero(final)} of {final.size} weights are not zero"
    what = f"the {len(initial)} filters of the first layer, {initial.shape[2]} × {initial.shape[3]}"
    return _grids(subject, initial[:, 0], final[:, 0], order, 5, what, kept)


def draw_dense(subject: Subject, side: int | None = None) -> Figure:
    """The first layer's incoming weights as images: the units with most weight left."""
    initial, final, where = _filters(subject)
    side = side or round(initial[0].size ** 0.5)
    if initial.ndim != 2 or side * side != initial.shape[1]:
        raise ResultsError(f"{where}: the first layer's inputs are not a square image")
    norms = np.linalg.norm(final, axis=1)
    order = np.sort(np.argsort(-norms, kind="stable")[:SHOWN])
    alive = int(final.any(axis=1).sum())
    kept = f"the {len(order)} of {len(final)} units with the largest norm after compression\n"
    kept += f"{alive} of {len(final)} keep a weight, "
    kept += f"{100 * np.count_nonzero(final) / final.size:.1f} % of the weights are not zero"
    what = "incoming weights in the first layer"
    shape = (-1, side, side)
    return _grids(subject, initial.reshape(shape), final.reshape(shape), order, 8, what, kept)


def _filters(subject: Subject) -> tuple[np.ndarray, np.ndarray, str]:
    trace = subject.a_run.trace()
    return trace["filters/initial"], trace["filters/final"], str(trace.path)


def _grids(
    subject: Subject,
    initial: np.ndarray,
    final: np.ndarray,
    order: np.ndarray,
    columns: int,
    what: str,
    kept: str,
) -> Figure:
    """Two mosaics on one grey scale, where zero is the middle grey."""
    both = np.abs(np.concatenate([initial[order].ravel(), final[order].ravel()]))
    reach = float(np.quantile(both[both > 0], 0.995)) if both.any() else 1.0
    norm = Normalize(-reach, reach, clip=True)
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(10, 1.0 + 4.35 * rows / columns), layout="constrained")
    grid = figure.add_gridspec(1, 4, width_ratios=(1, 0.03, 1, 0.035), wspace=0.02)
    image, dead = None, False
    for place, (filters, title) in enumerate(
        ((initial, "pre-trained"), (final, "decoded from the file"))
    ):
        axes = figure.add_subplot(grid[2 * place])
        axes.set_axis_off()
        axes.set_title(title)
        mosaic, corners = _mosaic(filters[order], columns)
        image = axes.imshow(mosaic, cmap="gray", norm=norm, interpolation="nearest")
        height, width = filters.shape[1:]
        for unit, (top, left) in zip(filters[order], corners, strict=True):
            if not unit.any():
                dead = True
                x, y = (left - 0.5, left + width - 0.5), (top + height - 0.5, top - 0.5)
                axes.plot(x, y, color="white", lw=1.5)
    bar = figure.colorbar(image, cax=figure.add_subplot(grid[3]), label="weight", extend="both")
    bar.ax.axhline(0, color="white", lw=1)
    note = "; a white stroke marks a filter with none" if dead else ""
    figure.suptitle(f"{subject.title}: {what}\n{kept}{note}, seed {subject.a_run.seed}")
    return figure


def _mosaic(filters: np.ndarray, columns: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """One image of all filters with gaps of NaN, and each filter's (top, left)."""
    count, height, width = filters.shape
    gap = max(1, round(0.1 * height))
    rows = -(-count // columns)
    mosaic = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    corners = []
    for place, unit in enumerate(filters):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        mosaic[top : top + height, left : left + width] = unit
        corners.append((top, left))
    return mosaic, corners
