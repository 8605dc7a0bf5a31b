"""Figure 3: the mixture's components over training, and where the weights went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sws.report.figures import style
from sws.report.figures.subject import Subject
from sws.runs.records import Trace

# What the paper reports for this figure: 17 components, of which about 6 end up mattering.
PAPER_COMPONENTS = {"lenet-5-caffe": " (paper: about 6)"}


def draw(subject: Subject) -> Figure:
    """Left, component means ± 2σ over the epochs; right, initial against final weights."""
    run = subject.a_run
    trace = run.trace()
    figure = style.canvas(5.7)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
    _over_epochs(left, trace, subject.in_units)
    _before_and_after(right, trace, subject.in_units)
    low, high = _value_range(trace)
    left.set_ylim(low, high)
    paper = PAPER_COMPONENTS.get(subject.pair[0], "") if subject.pair else ""
    told = (
        f"{trace['mixture/means'].shape[1]} components at the start; at the end their density has "
        f"{len(modes(trace))} peaks{paper}, zero among them. Left: look at how components that "
        "begin apart run together, or stay apart. Right: the weights at the end of retraining are "
        "drawn towards the bands, but still spread around them; it is the assignment that gives "
        f"each one of the {len(trace['codebook'])} values in the file, which are trained on after "
        f"it. Seed {run.seed}."
    )
    style.explain(figure, f"{subject.title}: the mixture during retraining", told)
    return figure


def modes(trace: Trace) -> np.ndarray:
    """Where the mixture's density peaks at the end of retraining, 0 first.

    Components nearer than about two standard deviations make one peak. Those that stand for less
    than one weight are left out.
    """
    means, deviations, proportions = (
        trace[f"mixture/{name}"][-1].astype(float)
        for name in ("means", "deviations", "proportions")
    )
    weights = int(trace["histogram/counts"][-1].sum())
    used = np.flatnonzero(proportions * weights >= 1)
    used = used[used > 0]
    found = [0.0]
    if used.size:
        step = deviations[used].min() / 8
        low, high = means[used].min() - 8 * step, means[used].max() + 8 * step
        grid = np.linspace(low, high, min(20_000, 2 + int((high - low) / step)))
        scaled = (grid[:, None] - means[used]) / deviations[used]
        density = (proportions[used] / deviations[used] * np.exp(-(scaled**2) / 2)).sum(1)
        peak = (density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])
        found += grid[1:-1][peak].tolist()
    return np.array(found)


BELOW: Mapping[str, Any] = {
    "loc": "upper left",
    "ncols": 2,
    "handlelength": 1.4,
    "columnspacing": 0.9,
    "fontsize": 8,
    "bbox_to_anchor": (-0.05, -0.14),
    "alignment": "left",
}
"""Where a panel's legend stands."""


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
        axes.fill_between(epochs, low, high, color=colour, alpha=0.07, lw=0)
        axes.plot(epochs, means[:, j], color=colour, lw=0.8 + 1.2 * max(darkness[j], 0))
    zero = 2 * deviations[:, 0]
    axes.fill_between(
        epochs, -zero, zero, facecolor="none", edgecolor=style.INK, hatch="////", lw=0.4
    )
    axes.plot(epochs, means[:, 0], color=style.INK, lw=1.5, ls="--")
    axes.set_xlim(epochs[0], epochs[-1])
    axes.set_xlabel("epoch of retraining")
    axes.set_ylabel(f"weight{in_units}")
    axes.set_title("components over the epochs")
    axes.legend(
        handles=[
            Line2D([], [], color=style.ramp(1.0), lw=2, label="many weights"),
            Line2D([], [], color=style.ramp(0.0), lw=0.8, label="almost none"),
            Patch(fc="none", ec=style.INK, hatch="////", lw=0.4, label="zero component"),
        ],
        title="means, bands ± 2σ",
        **BELOW,
    )


def _before_and_after(axes: Axes, trace: Trace, in_units: str) -> None:
    means = trace["mixture/means"][-1].astype(float)
    deviations = trace["mixture/deviations"][-1].astype(float)
    for j in range(1, len(means)):
        axes.axhspan(
            means[j] - 2 * deviations[j], means[j] + 2 * deviations[j], color=style.FAINT, lw=0
        )
    axes.axhspan(-2 * deviations[0], 2 * deviations[0], fc="none", ec=style.INK, hatch="////", lw=0)
    values = trace["codebook"]
    axes.plot(
        np.ones(len(values)), values, "<", color=style.THEIRS, ms=6,
        transform=axes.get_yaxis_transform(), clip_on=False, zorder=6,
    )  # fmt: skip
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
            Line2D([], [], color="#8d8d8d", marker="x", ls="", ms=5, label="set to 0 (sample)"),
            Line2D([], [], color=style.INK, ls=":", label="unchanged"),
            Patch(fc=style.FAINT, label="component, ± 2σ"),
            Line2D([], [], color=style.THEIRS, marker="<", ls="", ms=6, label="value in the file"),
        ],
        **BELOW,
    )
