"""Figure 1: every weight before and after retraining, and its animation over the epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from sws.files import replacing
from sws.report.figures import style
from sws.report.figures.subject import Subject
from sws.runs.records import ResultsError, Trace

FRAME_MS = 350
LAST_FRAMES = 6  # The end is held for as long as it takes to look at it.


class JointPlot:
    """The joint histogram with its margins; :meth:`show` puts one snapshot into it.

    Parameters
    ----------
    in_units : what the axes say after "weight", if it is measured in something.
    """

    def __init__(self, trace: Trace, in_units: str = "") -> None:
        self.edges = trace["histogram/edges"].astype(float)
        self.counts = trace["histogram/counts"].astype(np.int64)
        self.epochs = trace["histogram/epochs"]
        if not self.counts.any():
            raise ResultsError(f"{trace.path}: its histogram is empty; run the compression again")
        self.figure = Figure(figsize=(7.2, 6.2), layout="constrained")
        FigureCanvasAgg(self.figure)
        grid = self.figure.add_gridspec(
            2, 3, width_ratios=(5, 1.3, 0.16), height_ratios=(1.1, 5), wspace=0.02, hspace=0.02
        )
        self.joint = self.figure.add_subplot(grid[1, 0])
        self.top = self.figure.add_subplot(grid[0, 0], sharex=self.joint)
        self.right = self.figure.add_subplot(grid[1, 1], sharey=self.joint)
        self.mesh = self._joint(trace, in_units)
        colours = self.figure.add_subplot(grid[1, 2])
        self.figure.colorbar(self.mesh, cax=colours, label="weights in a cell (log scale)")
        self._margins()
        corner = self.figure.add_subplot(grid[0, 1:])
        corner.set_axis_off()
        handles = [
            Line2D([], [], color=style.THEIRS, marker="<", ls="", ms=6, label="value in\nthe file"),
            Line2D([], [], color=style.INK, ls=":", lw=0.9, label="unchanged"),
        ]
        corner.legend(handles=handles, loc="center", handlelength=1.2, borderaxespad=0)

    def _joint(self, trace: Trace, in_units: str) -> QuadMesh:
        axes = self.joint
        norm = LogNorm(1, max(10, int(self.counts.max())))
        empty = np.ma.masked_all(self.counts.shape[1:])
        ramp = style.matplotlib.colormaps[style.RAMP](np.linspace(0.22, 1, 256))
        ramp = style.matplotlib.colors.ListedColormap(ramp)
        mesh = axes.pcolormesh(
            self.edges, self.edges, empty, norm=norm, cmap=ramp, rasterized=True, zorder=2
        )
        axes.plot(self.edges[[0, -1]], self.edges[[0, -1]], ":", color=style.INK, lw=0.8, zorder=3)
        columns = self.counts.sum(axis=(0, 2))
        rows = self.counts.sum(axis=(0, 1))
        axes.set_xlim(*_extent(self.edges, columns))
        axes.set_ylim(*_extent(self.edges, rows))
        low, high = axes.get_ylim()
        values = trace["codebook"]
        values = values[(values >= low) & (values <= high)]
        axes.plot(
            np.ones(len(values)),
            values,
            "<",
            color=style.THEIRS,
            ms=6,
            transform=axes.get_yaxis_transform(),
            clip_on=False,
            zorder=5,
        )
        axes.set_xlabel(f"pre-trained weight{in_units}")
        axes.set_ylabel(f"weight after retraining{in_units}")
        return mesh

    def _margins(self) -> None:
        starts = self.counts[-1].sum(axis=1)
        self.top.stairs(starts, self.edges, fill=True, color=style.MIDDLE)
        self.top.set_ylabel("weights\nin a bin")
        self.top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        self.top.tick_params(labelbottom=False)
        self.right.set_xscale("log")
        self.right.set_xticks([1, 100, 10_000, 1_000_000])
        self.right.set_xlim(0.7, 2 * self.counts.sum(axis=1).max())
        self.right.set_xlabel("weights in a bin\n(log scale)")
        self.right.tick_params(labelleft=False)
        self.bars = self.right.stairs(
            np.full(len(self.edges) - 1, 0.7),
            self.edges,
            baseline=0.7,
            fill=True,
            orientation="horizontal",
            color=style.OURS,
        )

    def show(self, snapshot: int) -> None:
        """Draw snapshot number ``snapshot`` of the trace (−1 is the last)."""
        counts = self.counts[snapshot]
        self.mesh.set_array(np.ma.masked_equal(counts.T, 0))
        self.bars.set_data(np.maximum(counts.sum(axis=0), 0.7))


def _extent(edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    used = np.flatnonzero(counts)
    margin = 0.02 * (edges[used[-1] + 1] - edges[used[0]])
    return edges[used[0]] - margin, edges[used[-1] + 1] + margin


def _outside(plot: JointPlot) -> int:
    """Weights that the outer bins hold, where the histogram's range ends."""
    last = plot.counts[-1]
    return int(last.sum() - last[1:-1, 1:-1].sum())


def draw(subject: Subject) -> Figure:
    """Start against end of retraining: 2-D histogram (log colour) and margins."""
    run = subject.a_run
    plot = JointPlot(run.trace(), subject.in_units)
    plot.show(-1)
    weights = int(plot.counts[-1].sum())
    ours = f"{run.metrics['nonzero_pct']:.1f} % non-zero"
    paper = subject.paper
    if paper is not None and paper.nonzero_pct is not None:
        ours += f" (paper: {paper.nonzero_pct:.1f} %)"
    plot.figure.suptitle(
        f"{subject.title}: each weight before and after retraining\n"
        f"{style.thousands(weights)} weights, {ours}, seed {run.seed}"
    )
    if outside := _outside(plot):
        note = f"{style.thousands(outside)} weights lie in the outermost bins or beyond"
        plot.joint.text(0.02, 0.98, note, transform=plot.joint.transAxes, va="top", fontsize=8.5)
    return plot.figure


def animate(subject: Subject, path: Path) -> Path:
    """Write the animation of figure 1 over the snapshots as a GIF."""
    run = subject.a_run
    with style.drawing():
        plot = JointPlot(run.trace(), subject.in_units)
        title = plot.figure.suptitle("")
        writer = PillowWriter(fps=1000 / FRAME_MS)
        frames = [*range(len(plot.epochs)), *[len(plot.epochs) - 1] * LAST_FRAMES]
        with replacing(path) as beside, writer.saving(plot.figure, str(beside), dpi=90):
            for frame in frames:
                plot.show(frame)
                title.set_text(
                    f"{subject.title}, seed {run.seed}\n"
                    f"epoch {plot.epochs[frame]} of {plot.epochs[-1]}"
                )
                writer.grab_frame()
    return path
