"""Figure 1: every weight before and after retraining, and its animation over the epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from sws.files import replacing
from sws.report.figures import style
from sws.report.figures.subject import Subject
from sws.runs.records import ResultsError, Trace

FRAME_MS = 350
LAST_FRAMES = 6  # The end is held for as long as it takes to look at it.


class JointPlot:
    """The joint histogram with its margins and the mixture; :meth:`show` puts one epoch into it.

    Parameters
    ----------
    trace : Trace
        Of the run to draw.
    in_units : str
        What the axes say after "weight", if it is measured in something.
    """

    def __init__(self, trace: Trace, in_units: str = "") -> None:
        self.trace = trace
        self.edges = trace["histogram/edges"].astype(float)
        self.counts = trace["histogram/counts"].astype(np.int64)
        self.epochs = trace["histogram/epochs"]
        if not self.counts.any():
            raise ResultsError(f"{trace.path}: its histogram is empty; run the compression again")
        self.figure = style.canvas(6.9)
        FigureCanvasAgg(self.figure)
        grid = self.figure.add_gridspec(
            2, 4, width_ratios=(5, 0.55, 1.25, 0.16), height_ratios=(0.9, 5), wspace=0, hspace=0
        )
        self.joint = self.figure.add_subplot(grid[1, 0])
        self.top = self.figure.add_subplot(grid[0, 0], sharex=self.joint)
        self.strip = self.figure.add_subplot(grid[1, 1], sharey=self.joint)
        self.right = self.figure.add_subplot(grid[1, 2], sharey=self.joint)
        self.mesh = self._joint(in_units)
        colours = self.figure.add_subplot(grid[1, 3])
        self.figure.colorbar(self.mesh, cax=colours, label="weights in a cell (log scale)")
        self._margins()
        self.strip.set_xlim(0, 1)
        self.strip.set_xticks([])
        self.strip.tick_params(left=False, labelleft=False)
        self.strip.spines[:].set_visible(False)
        self.strip.set_xlabel("mixture", fontsize=8.5)
        self.in_strip: list[Artist] = []
        corner = self.figure.add_subplot(grid[0, 1:])
        corner.set_axis_off()
        handles = [
            Patch(fc=style.FAINT, label="component, ± 2σ"),
            Line2D([], [], color=style.OURS, lw=1.6, label="its mean"),
            Line2D([], [], color=style.THEIRS, marker="<", ls="", ms=6, label="value in the file"),
            Line2D([], [], color=style.INK, ls=":", lw=0.9, label="unchanged"),
        ]
        corner.legend(handles=handles, loc="center", handlelength=1.2, borderaxespad=0, fontsize=8)

    def _joint(self, in_units: str) -> QuadMesh:
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
        self.right.set_xticks([1, 1000, 1_000_000])
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
        """Draw snapshot number ``snapshot`` of the trace (−1 is the last, with the file)."""
        counts = self.counts[snapshot]
        self.mesh.set_array(np.ma.masked_equal(counts.T, 0))
        self.bars.set_data(np.maximum(counts.sum(axis=0), 0.7))
        for artist in self.in_strip:
            artist.remove()
        self.in_strip = []
        if "mixture/means" in self.trace:
            self._components(int(self.epochs[snapshot]))
        if self.epochs[snapshot] == self.epochs[-1]:
            self._values()

    def _components(self, epoch: int) -> None:
        """Bands that do not add up where they overlap, and a line for each mean."""
        row = int(np.flatnonzero(self.trace["epochs"] == epoch)[0])
        means, deviations = (self.trace[f"mixture/{n}"][row] for n in ("means", "deviations"))
        low, high = means - 2 * deviations, means + 2 * deviations
        lines = [[(0.1, mean), (0.8, mean)] for mean in means]
        self.in_strip += [
            self.strip.bar(0.45, high - low, 0.7, low, color=style.FAINT, zorder=1),
            self.strip.add_collection(
                LineCollection(lines, colors=style.OURS, linewidths=0.9, zorder=2), autolim=False
            ),
        ]

    def _values(self) -> None:
        """The values in the file, which exist after the last epoch only."""
        low, high = self.joint.get_ylim()
        values = self.trace["codebook"]
        values = values[(values >= low) & (values <= high)]
        place = np.full(len(values), 0.95)
        look = {"color": style.THEIRS, "ms": 6, "clip_on": False, "zorder": 5}
        self.in_strip += self.strip.plot(place, values, "<", **look)


def _extent(edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    used = np.flatnonzero(counts)
    margin = 0.02 * (edges[used[-1] + 1] - edges[used[0]])
    return edges[used[0]] - margin, edges[used[-1] + 1] + margin


def _outside(plot: JointPlot) -> int:
    """Weights that the outer bins hold, where the histogram's range ends."""
    last = plot.counts[-1]
    return int(last.sum() - last[1:-1, 1:-1].sum())


def draw(subject: Subject) -> Figure:
    """Start against end of retraining: 2-D histogram (log colour), margins, mixture."""
    run = subject.a_run
    plot = JointPlot(run.trace(), subject.in_units)
    plot.show(-1)
    weights = int(plot.counts[-1].sum())
    share = f"{run.metrics['nonzero_pct']:.1f} % of {style.thousands(weights)} weights are not zero"
    paper = subject.paper
    if paper is not None and paper.nonzero_pct is not None:
        share += f" in the file (paper: {paper.nonzero_pct:.1f} %)"
    told = (
        "Each weight before retraining (across) and after it (up), before it is assigned a value. "
        "Look at the dark row at zero, where most weights end, and at the rows away from the "
        f"dotted line, where the others gather; {share}. Between the panels: the mixture at the "
        "end of retraining, and the values in the file. Those need not lie on the mixture's means: "
        "after the assignment they are trained on, to lower the error. "
    )
    if outside := _outside(plot):
        told += f"{style.thousands(outside)} weights lie in the outermost bins or beyond. "
    title = f"{subject.title}: weights before and after retraining"
    style.explain(plot.figure, title, f"{told}Seed {run.seed}.")
    return plot.figure


def animate(subject: Subject, path: Path) -> Path:
    """Write the animation of figure 1 over the snapshots as a GIF.

    Parameters
    ----------
    subject : Subject
        Whose first run is drawn.
    path : Path
        The GIF, replaced by rename.
    """
    run = subject.a_run
    with style.drawing():
        plot = JointPlot(run.trace(), subject.in_units)
        told = (
            "Each weight before retraining (across) and now (up). Watch the mixture between the "
            "panels narrow, and the weights gather at zero and at its means. The values in the "
            f"file appear at the end, when there is a file. Seed {run.seed}."
        )
        plot.show(-1)
        style.explain(plot.figure, subject.title, told)
        plot.figure.draw_without_rendering()
        plot.figure.set_layout_engine("none")  # else frames shift against each other
        writer = PillowWriter(fps=1000 / FRAME_MS)
        frames = [*range(len(plot.epochs)), *[len(plot.epochs) - 1] * LAST_FRAMES]
        with replacing(path) as beside, writer.saving(plot.figure, str(beside), dpi=90):
            for frame in frames:
                plot.show(frame)
                now = f"epoch {plot.epochs[frame]} of {plot.epochs[-1]}"
                style.explain(plot.figure, f"{subject.title}: {now}", told)
                writer.grab_frame()
    return path
