"""Figures 7 and 8: filters before and after compression, and what is left of the second layer."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from sws import codec
from sws.network.quantized import QuantizedTensor
from sws.report.figures import style
from sws.report.figures.subject import Subject
from sws.runs.records import ResultsError, Run

SHOWN = 64
GREYS = "gray_r"


def draw_convolution(subject: Subject) -> Figure:
    """All filters of a first convolution with one input channel, and those of the second."""
    initial, final, where = _filters(subject)
    if initial.ndim != 4 or initial.shape[1] != 1:
        raise ResultsError(f"{where}: the first layer is not a convolution of one channel")
    second = _second_layer(subject.a_run)
    figure, above, below = _two(2.6, 3.0)
    order = np.arange(len(initial))
    _grids(above, initial[:, 0], final[:, 0], order, 5)
    alive = int(final.any(axis=(1, 2, 3)).sum())
    told = (
        f"Top: the first layer before and after; {alive} of its {len(final)} filters keep a "
        f"weight, {np.count_nonzero(final)} of {final.size} weights are not zero. Bottom: the "
        f"second layer in the file, a {_cross(second.shape[2:])} filter for each input (down) and "
        "output (across); darker is larger, white is zero. Look for rows and columns that are "
        f"all but empty: {_sparse(second)} Seed {subject.a_run.seed}."
    )
    # outputs across, inputs down: 50 x 20 filters make a broad picture
    outputs, inputs = second.shape[:2]
    mosaic, _ = _mosaic(second.swapaxes(0, 1).reshape(-1, *second.shape[2:]), outputs)
    axes = _magnitudes(below, mosaic, "filters of the second layer, decoded from the file")
    axes.set_xlabel(f"{outputs} outputs")
    axes.set_ylabel(f"{inputs} inputs")
    style.explain(figure, f"{subject.title}: convolution filters", told)
    return figure


def draw_dense(subject: Subject, side: int | None = None) -> Figure:
    """The first layer's incoming weights as images, and the matrix of the second layer."""
    initial, final, where = _filters(subject)
    side = side or round(initial[0].size ** 0.5)
    if initial.ndim != 2 or side * side != initial.shape[1]:
        raise ResultsError(f"{where}: the first layer's inputs are not a square image")
    second = _second_layer(subject.a_run)
    figure, above, below = _two(3.6, 2.5)
    norms = np.linalg.norm(final, axis=1)
    order = np.sort(np.argsort(-norms, kind="stable")[:SHOWN])
    shape = (-1, side, side)
    _grids(above, initial.reshape(shape), final.reshape(shape), order, 8)
    alive, dead = int(final.any(axis=1).sum()), int((~second.any(axis=0)).sum())
    told = (
        f"Top: what the {len(order)} of {len(final)} units with the largest weights see of the "
        "image. Look at the border, where the digits never are: it is emptied, and what is left "
        f"forms strokes. {alive} of {len(final)} units keep a weight, "
        f"{100 * np.count_nonzero(final) / final.size:.1f} % of the weights are not zero. Bottom: "
        "the second layer in the file; darker is larger, white is zero. A column without a mark is "
        f"a unit of the first layer that nothing uses: {dead} of {second.shape[1]}. "
        f"Seed {subject.a_run.seed}."
    )
    title = "weights of the second layer, decoded from the file"
    axes = _magnitudes(below, np.abs(second), title)
    axes.set_xlabel(f"{second.shape[1]} inputs")
    axes.set_ylabel(f"{second.shape[0]} outputs")
    style.explain(figure, f"{subject.title}: incoming weights", told)
    return figure


def _two(above: float, below: float) -> tuple[Figure, SubFigure, SubFigure]:
    figure = style.canvas(above + below + 1.45)
    parts = figure.subfigures(2, 1, height_ratios=(above + 0.2, below))
    return figure, parts[0], parts[1]


def _cross(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _sparse(second: np.ndarray) -> str:
    """In words, how many outputs and inputs of a layer have next to nothing left."""
    left = second.reshape(*second.shape[:2], -1).any(axis=2)
    few = 0.1
    outputs = int((left.mean(axis=1) <= few).sum())
    inputs = int((left.mean(axis=0) <= few).sum())
    share = 100 * np.count_nonzero(second) / second.size
    return (
        f"{outputs} of {left.shape[0]} outputs and {inputs} of {left.shape[1]} inputs keep a "
        f"weight in at most a tenth of their filters; {share:.1f} % of the weights are not zero."
    )


def _filters(subject: Subject) -> tuple[np.ndarray, np.ndarray, str]:
    trace = subject.a_run.trace()
    return trace["filters/initial"], trace["filters/final"], str(trace.path)


def _second_layer(run: Run) -> np.ndarray:
    """Weights of the second layer as the file has them; no trace keeps them.

    Raises
    ------
    ResultsError
        If the file cannot be read, or has one layer only.
    """
    path = run.folder / "model.sws"
    try:
        network = codec.read(path)
    except (OSError, codec.CorruptFileError) as error:
        raise ResultsError(
            f"{path}: cannot be read ({error}); delete the folder and run it again"
        ) from None
    layers = [t for t in network.tensors if isinstance(t, QuantizedTensor) and len(t.shape) > 1]
    if len(layers) < 2:
        raise ResultsError(f"{path}: has no second layer to draw")
    return network.values(layers[1])


def _grids(
    figure: SubFigure, initial: np.ndarray, final: np.ndarray, order: np.ndarray, columns: int
) -> None:
    """Two mosaics on one grey scale, where zero is the middle grey."""
    both = np.abs(np.concatenate([initial[order].ravel(), final[order].ravel()]))
    reach = float(np.quantile(both[both > 0], 0.995)) if both.any() else 1.0
    norm = Normalize(-reach, reach, clip=True)
    panels = figure.subplots(1, 2)
    for axes, filters, title in zip(
        panels, (initial, final), ("pre-trained", "decoded from the file"), strict=True
    ):
        axes.set_axis_off()
        mosaic, corners = _mosaic(filters[order], columns)
        image = axes.imshow(mosaic, cmap="gray", norm=norm, interpolation="nearest")
        height, width = filters.shape[1:]
        dead = 0
        for unit, (top, left) in zip(filters[order], corners, strict=True):
            if not unit.any():
                dead += 1
                x, y = (left - 0.5, left + width - 0.5), (top + height - 0.5, top - 0.5)
                axes.plot(x, y, color="white", lw=1.5)
        axes.set_title(f"{title} (stroke: none left)" if dead else title)
    figure.colorbar(image, ax=panels, label="weight", extend="both", pad=0.01, shrink=0.85)


def _magnitudes(figure: SubFigure, values: np.ndarray, title: str) -> Axes:
    """|values| from white (zero) to black, small ones visible too."""
    axes = figure.subplots()
    size = np.abs(values)
    reach = float(np.nanmax(size)) or 1.0
    shades = np.where(size > 0, 0.35 + 0.65 * size / reach, size)
    axes.set_facecolor("#dfe6ef")
    axes.imshow(shades, cmap=GREYS, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.set_title(title)
    return axes


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
