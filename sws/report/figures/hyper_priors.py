"""Figures 5 and 6: the hyper-priors on the precisions (Gamma) and on π_0 (Beta)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sws.config.sections import Precision
from sws.config.soft_weight_sharing import Proportion
from sws.prior.hyper_priors import BetaPrior, GammaPrior, beta_prior, gamma_prior
from sws.report.figures import style
from sws.report.figures.subject import Subject, in_units
from sws.report.names import model_title
from sws.runs.records import Pair

PAPER_MODE = 400.0  # λ* = 1/0.05²: the paper's "variance 0.05" is a standard deviation (App. B).
VARIANCES = (1e3, 3e3, 1e4, 3e4)
BETA_MODE = 0.9
TOTALS = (5, 10, 50, 200)
SIGMAS = tuple(d * 10.0**e for e in (-3, -2, -1) for d in (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 7))
"""Standard deviations that an axis may name."""
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class InUse:
    """A hyper-prior of our runs, and whose it is."""

    label: str
    prior: GammaPrior | BetaPrior


def in_use(settings: Mapping[Pair, Mapping[str, Any]], weights: Mapping[Pair, int]) -> list[InUse]:
    """The hyper-priors of our settings, equal ones once, with the models' names.

    Parameters
    ----------
    settings : pair → its settings, as plain values; their ``prior`` section is what counts.
    weights : pair → number of weights; without it, a Beta (a fraction of it) is left out.
    """
    found: dict[tuple[str, GammaPrior | BetaPrior], list[str]] = {}
    for pair, point in settings.items():
        prior, name = point["prior"], model_title(pair[0]) + in_units(point)
        for part, key in (("zero component", "zero_precision"), ("others", "precision")):
            setting = Precision.model_validate(prior[key]) if prior.get(key) else None
            if setting is not None and setting.deviation is None:  # annealing() has the others
                gamma = gamma_prior(setting, weights.get(pair, 0), progress=0.0)
                found.setdefault((part, gamma), []).append(name)
        share = Proportion.model_validate(prior.get("zero_proportion") or {})
        beta = beta_prior(share, weights[pair]) if pair in weights else None
        if beta is not None and share.pseudo_count:  # without one, it is uniform
            found.setdefault(("π₀", beta), []).append(name)
    return [
        InUse(f"{', '.join(dict.fromkeys(names))}: {part}", prior)
        for (part, prior), names in found.items()
    ]


def draw_gamma(subject: Subject) -> Figure:
    """Gamma densities at the paper's mode for several variances, and those in use."""
    from scipy import stats  # the workflow reads the names of figures at every start

    ours = _ours(subject, GammaPrior)
    schedules = annealing(subject.settings)
    figure, panels = _panels(1 + bool(ours) + bool(schedules))
    grid = np.linspace(1, 900, 1200)
    for variance, line, colour in zip(VARIANCES, LINES, _colours(), strict=True):
        prior = GammaPrior.from_mode_and_variance(PAPER_MODE, variance)
        label = f"variance {variance:,.0f}\n(α = {prior.alpha:.3g}, β = {prior.beta:.3g})"
        density = stats.gamma.pdf(grid, prior.alpha, scale=1 / prior.beta)
        panels[0].plot(grid, density, line, color=colour, label=label)
    _mark(panels[0], PAPER_MODE, "mode 400: σ = 0.05")
    panels[0].set_title("at the paper's mode, as in its figure 5")
    if ours:
        parts = [stats.gamma(use.prior.alpha, scale=1 / use.prior.beta) for use in ours]
        low = max(1e-3, min(p.ppf(0.0005) for p in parts))
        grid = np.linspace(low, max(p.ppf(0.9995) for p in parts), 2000)
        for use, part, look in zip(ours, parts, _looks(), strict=False):
            prior = use.prior
            label = f"{use.label}\nα = {prior.alpha:,.5g}, β = {prior.beta:,.4g},\n"
            label += f"mode {prior.mode:,.0f} (σ = {prior.mode**-0.5:.3g})"
            panels[1].plot(grid, part.pdf(grid), label=label, **look)
        panels[1].set_title("in use here (at the start of retraining)")
    told = (
        "What the mixture is told about how narrow a component should be. Look at the mode: it is "
        "where the prior pulls the precision; the variance says how hard."
    )
    if schedules:
        told += " Bottom: our recipe moves the mode during retraining; σ falls, and components "
        told += "narrow, in the last part."
        _draw_annealing(panels.pop(), schedules)
    for axes in panels:
        axes.set_xlabel("precision λ = 1/σ²")
        _finish(axes, "density of λ")
        _sigma_axis(axes)
    style.explain(figure, "Gamma hyper-prior on a component's precision", told)
    return figure


def annealing(
    settings: Mapping[Pair, Mapping[str, Any]],
) -> dict[tuple[str, tuple[tuple[float, float], ...]], list[str]]:
    """Hyper-priors given by σ: (component, knots of fraction and σ) → the models that use them."""
    found: dict[tuple[str, tuple[tuple[float, float], ...]], list[str]] = {}
    for pair, point in settings.items():
        for part, key in (("zero component", "zero_precision"), ("others", "precision")):
            knots = (point["prior"].get(key) or {}).get("deviation")
            if isinstance(knots, int | float):
                knots = [(0.0, knots)]
            if isinstance(knots, list | tuple):
                place = (part + in_units(point), tuple((float(at), float(s)) for at, s in knots))
                found.setdefault(place, []).append(model_title(pair[0]))
    return found


def _draw_annealing(axes: Axes, schedules: Mapping) -> None:
    """σ at the mode of each Gamma that is given by it, over the epochs of retraining."""
    for ((part, knots), names), look in zip(schedules.items(), _looks(), strict=False):
        at, sigma = zip(*((0.0, knots[0][1]), *knots, (1.0, knots[-1][1])), strict=True)
        axes.plot(np.multiply(100, at), sigma, label=f"{part}\n({', '.join(names)})", **look)
    axes.set_yscale("log")
    axes.set_ylim(top=4 * max(sigma for _, knots in schedules for _, sigma in knots))
    axes.set_xlabel("epochs of retraining, %")
    axes.set_ylabel("σ at the mode of the Gamma")
    moves = any(len(knots) > 1 for _, knots in schedules)
    axes.set_title(f"in use here: the mode is {'annealed' if moves else 'fixed'}")
    _legend(axes)


def _sigma_axis(axes: Axes) -> None:
    """A second axis above with the standard deviations that the precisions stand for."""
    low, high = axes.get_xlim()
    largest = max(low, high / 12) ** -0.5
    places = [sigma for sigma in SIGMAS if high**-0.5 <= sigma <= largest]
    top = axes.secondary_xaxis("top")
    top.set_xticks([sigma**-2 for sigma in places], [f"{sigma:g}" for sigma in places])
    top.set_xlabel("standard deviation σ")


def draw_beta(subject: Subject) -> Figure:
    """Beta densities at mode 0.9 for several α + β, and the one in use."""
    from scipy import stats  # the workflow reads the names of figures at every start

    ours = _ours(subject, BetaPrior)
    figure, panels = _panels(1 + bool(ours))
    grid = np.linspace(0, 1, 1001)
    for total, line, colour in zip(TOTALS, LINES, _colours(), strict=True):
        prior = BetaPrior.from_mode(BETA_MODE, total - 2)
        label = f"α + β = {total}\n(α = {prior.alpha:.4g}, β = {prior.beta:.3g})"
        density = stats.beta.pdf(grid, prior.alpha, prior.beta)
        panels[0].plot(grid, density, line, color=colour, label=label)
    _mark(panels[0], BETA_MODE, "mode 0.9", "right")
    panels[0].set_title("at mode 0.9, as in the paper's figure 6")
    if ours:
        parts = [stats.beta(use.prior.alpha, use.prior.beta) for use in ours]
        low, high = min(p.ppf(1e-5) for p in parts), max(p.ppf(1 - 1e-5) for p in parts)
        grid = np.linspace(low, high, 2000)
        for use, part, look in zip(ours, parts, _looks(), strict=False):
            prior = use.prior
            label = f"{use.label}\nα = {prior.alpha:,.7g},\nβ = {prior.beta:,.5g}, "
            label += f"mode {prior.mode:.5g}"
            panels[1].plot(grid, part.pdf(grid), label=label, **look)
        panels[1].xaxis.set_major_locator(MaxNLocator(5))
        panels[1].set_title("in use here")
    told = (
        "What the mixture is told about the share of weights that should be zero. Look at the "
        "mode, and at how narrow the curve is: α + β − 2 counts as that many weights which have "
        "voted already."
    )
    told += "" if ours else " Our runs fix the share, so none of them uses this density."
    for axes in panels:
        axes.set_xlabel("share of the zero component π₀")
        _finish(axes, "density of π₀")
    style.explain(figure, "Beta hyper-prior on the zero component's share", told)
    return figure


def _ours(subject: Subject, kind: type[GammaPrior] | type[BetaPrior]) -> list[InUse]:
    weights = {run.case.pair: int(run.metrics["weights"]) for run in subject.runs}
    return [use for use in in_use(subject.settings, weights) if isinstance(use.prior, kind)]


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = style.canvas(1.0 + 2.75 * count)
    return figure, list(figure.subplots(count, 1, squeeze=False)[:, 0])


def _colours() -> list:
    return list(style.ramp(np.linspace(0.35, 1, 4)))


def _looks() -> Iterator[dict]:
    """Line styles that stay apart in grey, without end."""
    colours = itertools.cycle((style.INK, style.THEIRS, style.MIDDLE))
    for line, colour in zip(itertools.cycle(LINES), colours, strict=False):
        yield {"ls": line, "color": colour}


def _mark(axes: Axes, x: float, text: str, side: str = "left") -> None:
    axes.axvline(x, color=style.THEIRS, lw=1)
    place = 5 if side == "left" else -5
    axes.annotate(
        text,
        (x, 1),
        (place, -3),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha=side,
        va="top",
        color=style.THEIRS,
        fontsize=9,
    )


def _finish(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
    low, high = axes.get_lines()[0].get_xdata()[[0, -1]]
    axes.set_xlim(low, high)
    _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handlelength=2.6)
