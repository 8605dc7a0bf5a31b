"""Figure 3: the mixture's components over training, and where the weights went."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sws.report.figures import style
from sws.report.figures.subject import Subject
from sws.runs.records import Trace

# What the paper reports for this figure: 17 components, of which about 6 end up mattering.
PAPER_COMPONENTS = {"lenet-5-caffe": "paper: 17 → about 6"}


def draw(subject: Subject) -> Figure:
    """Left, component means ± 2σ over the epochs; right, initial against final weights."""
    run = subject.a_run
    trace = run.trace()
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.1, 1))
    _over_epochs(left, trace, subject.in_units)
    _before_and_after(right, trace, subject.in_units)
    low, high = _value_range(trace)
    left.set_ylim(low, high)
    components = trace["mixture/means"].shape[1]
    told = f"{components} components at the start, {len(trace['codebook'])} values in the file"
    if subject.pair and subject.pair[0] in PAPER_COMPONENTS:
        told += f" ({PAPER_COMPONENTS[subject.pair[0]]})"
    figure.suptitle(f"{subject.title}: the mixture finds shared values\n{told}, seed {run.seed}")
    return figure


def _value_range(trace: Trace) -> tuple[float, float]:
    """From the smallest to the largest of what both panels show, with a margin."""
    means = trace["mixture/means"]
    shown = np.concatenate([means.ravel(), trace["nonzero/final"], trace["codebook"]])
    low, high = float(shown.min()), float(shown.max())
    margin = 0.06 * (high - low or 1.0)
    return low - margin, high + margin


def _darkness(proportions: np.ndarray) -> np.ndarray:
    """0 to 1 on a log scale, from a share of 1e-6 of the weights to the largest free one."""
    logs = np.log10(np.maximum(proportions, 1e-6)) + 6
    return logs / max(float(logs[1:].max(initial=0)), 1e-9)


def _over_epochs(axes: Axes, trace: Trace, in_units: str) -> None:
    epochs, means = trace["epochs"], trace["mixture/means"].astype(float)
    deviations = trace["mixture/deviations"].astype(float)
    darkness = _darkness(trace["mixture/proportions"][-1].astype(float))
    for j in np.argsort(darkness):
        if j == 0:
            continue
        colour = style.ramp(darkness[j])
        low, high = means[:, j] - 2 * deviations[:, j], means[:, j] + 2 * deviations[:, j]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.18, lw=0)
        axes.plot(epochs, means[:, j], color=colour, lw=0.8 + 1.2 * max(darkness[j], 0))
    zero = 2 * deviations[:, 0]
    axes.fill_between(
        epochs, -zero, zero, facecolor="none", edgecolor=style.INK, hatch="////", lw=0.4
    )
    axes.plot(epochs, means[:, 0], color=style.INK, lw=1.5, ls="--")
    axes.set_xlim(epochs[0], epochs[-1])
    axes.set_xlabel("epoch of retraining")
    axes.set_ylabel(f"weight{in_units}")
    axes.set_title("component means, bands ± 2σ")
    axes.legend(
        handles=[
            Line2D([], [], color=style.ramp(1.0), lw=2, label="many weights"),
            Line2D([], [], color=style.ramp(0.0), lw=0.8, label="almost none"),
            Patch(fc="none", ec=style.INK, hatch="////", lw=0.4, label="zero component"),
        ],
        loc="upper center",
        ncols=3,
        handlelength=1.6,
        columnspacing=1.2,
        bbox_to_anchor=(0.5, -0.13),
    )


def _before_and_after(axes: Axes, trace: Trace, in_units: str) -> None:
    means = trace["mixture/means"][-1].astype(float)
    deviations = trace["mixture/deviations"][-1].astype(float)
    for j in sorted({int(np.abs(means - value).argmin()) for value in trace["codebook"]} - {0}):
        low, high = means[j] - 2 * deviations[j], means[j] + 2 * deviations[j]
        axes.axhspan(low, high, color=style.MIDDLE, alpha=0.35, lw=0)
    axes.axhspan(-2 * deviations[0], 2 * deviations[0], fc="none", ec=style.INK, hatch="////", lw=0)
    for names, colour, marker, size in (
        ("zero", "#8d8d8d", "x", 7),
        ("nonzero", style.OURS, ".", 9),
    ):
        axes.scatter(
            trace[f"{names}/initial"],
            trace[f"{names}/final"],
            s=size,
            c=colour,
            marker=marker,
            linewidths=0.6 if marker == "x" else 0,
            rasterized=True,
            zorder=3,
        )
    both = np.concatenate([trace["nonzero/initial"], trace["zero/initial"]])
    reach = 1.05 * float(np.abs(both).max(initial=0.1))
    axes.plot([-reach, reach], [-reach, reach], ":", color=style.INK, lw=0.9, zorder=4)
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(f"pre-trained weight{in_units}")
    axes.set_title("where each weight went")
    axes.legend(
        handles=[
            Line2D([], [], color=style.OURS, marker=".", ls="", ms=8, label="kept"),
            Line2D([], [], color="#8d8d8d", marker="x", ls="", ms=5, label="set to zero (sample)"),
            Line2D([], [], color=style.INK, ls=":", label="unchanged"),
            Patch(fc=style.MIDDLE, alpha=0.35, label="component in use, ± 2σ"),
        ],
        loc="upper center",
        ncols=2,
        handlelength=1.6,
        columnspacing=1.0,
        bbox_to_anchor=(0.5, -0.13),
    )
