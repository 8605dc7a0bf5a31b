"""The paper's figures from our runs: SVG and PNG for each, a GIF for the animation.

Reads result files only. :data:`FIGURES` maps a figure's name to what it takes; :func:`build`
writes all that the results allow and says what it left out and why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sws.report.figures.subject import Subject
from sws.runs import published
from sws.runs.records import Case, MethodPoint, Pair, ResultsError, cases, read_runs, read_trials


@dataclass(frozen=True)
class Kind:
    """What a figure takes.

    Attributes
    ----------
    needs : a finished ``run``, the tuning ``trials``, runs of all ``methods``, or ``nothing``.
    arrays : what the run's trace must hold (a method without a mixture has none to draw).
    models : the only models it is drawn for; None means all.
    animated : written as one GIF.
    """

    needs: Literal["run", "trials", "methods", "nothing"]
    arrays: tuple[str, ...] = ()
    models: frozenset[str] | None = None
    animated: bool = False

    def suits(self, pair: Pair) -> bool:
        return self.models is None or pair[0] in self.models


FIGURES: Mapping[str, Kind] = {
    "fig1_weights": Kind("run", ("histogram/counts",)),
    "fig1_animation": Kind("run", ("histogram/counts",), animated=True),
    "fig2_tradeoff": Kind("trials"),
    "fig2_bytes": Kind("trials"),
    "fig3_components": Kind("run", ("mixture/means",)),
    "fig4_relative_indexing": Kind("nothing"),
    "fig5_gamma": Kind("nothing"),
    "fig6_beta": Kind("nothing"),
    "fig7_filters": Kind("run", ("filters/final",), frozenset({"lenet-5-caffe"})),
    "fig8_filters": Kind("run", ("filters/final",), frozenset({"lenet-300-100"})),
    "fig9_methods": Kind("methods"),
}

TITLES: Mapping[str, str] = {
    "fig1_weights": "weights before and after",
    "fig1_animation": "weights, one frame per epoch (GIF to save)",
    "fig2_tradeoff": "error against ratio",
    "fig2_bytes": "error against bytes",
    "fig3_components": "components over the epochs",
    "fig4_relative_indexing": "relative indexes",
    "fig5_gamma": "Gamma hyper-priors",
    "fig6_beta": "Beta hyper-prior",
    "fig7_filters": "convolution filters",
    "fig8_filters": "incoming weights",
    "fig9_methods": "methods compared",
}
"""What a list of figures calls them."""


def _drawings() -> Mapping[str, Callable]:
    """Figure → what draws it: of a Subject, and for an animation of the path to write to as well.

    matplotlib takes long to import, and who plans a run only asks for names.
    """
    from sws.report.figures import (
        components,
        filters,
        hyper_priors,
        indexing,
        methods,
        tradeoff,
        weights,
    )

    return {
        "fig1_weights": weights.draw,
        "fig1_animation": weights.animate,
        "fig2_tradeoff": tradeoff.draw_ratio,
        "fig2_bytes": tradeoff.draw_bytes,
        "fig3_components": components.draw,
        "fig4_relative_indexing": indexing.draw,
        "fig5_gamma": hyper_priors.draw_gamma,
        "fig6_beta": hyper_priors.draw_beta,
        "fig7_filters": filters.draw_convolution,
        "fig8_filters": filters.draw_dense,
        "fig9_methods": methods.draw,
    }


def filenames(
    pairs: Sequence[Pair], tuned: Collection[Pair] = (), only: Sequence[str] | None = None
) -> list[str]:
    """Names of the files that :func:`build` writes when every pair has a run.

    Parameters
    ----------
    tuned : pairs that have tuning trials.
    only : names in :data:`FIGURES`; all if None.
    """
    found = []
    for figure, pair in _plan(pairs, only):
        kind = FIGURES[figure]
        if kind.needs == "trials" and pair not in set(tuned):
            continue
        endings = ("gif",) if kind.animated else ("svg", "png")
        found += [f"{_stem(figure, pair)}.{ending}" for ending in endings]
    return found


def build(
    results: Path,
    output: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    method: str = "soft-weight-sharing",
    point: str = "main",
    only: Sequence[str] | None = None,
    settings: Mapping[Pair, Mapping[str, Any]] | None = None,
    published_path: Path | None = None,
    points: Mapping[Pair, Sequence[MethodPoint]] | None = None,
) -> tuple[list[Path], dict[str, str]]:
    """Draw every figure that the results allow.

    Parameters
    ----------
    results : folder that holds ``runs/`` and ``tuning/``.
    output : folder to write to, made if missing; files are replaced one by one, by rename.
    seeds : the first of them that has run is drawn.
    method, point : which runs to draw.
    only : names in :data:`FIGURES`; all if None.
    settings : pair → settings in use, as plain values; figures 5 and 6 draw their hyper-priors
        beside the paper's.
    points : pair → (method, point) of the runs that the comparison of methods draws.

    Returns
    -------
    The files written, and figure → reason for those that the results do not allow.

    Raises
    ------
    ResultsError
        If a name in ``only`` is unknown or a result file is damaged.
    """
    unknown = [name for name in only or () if name not in FIGURES]
    if unknown:
        raise ResultsError(f"no figure '{unknown[0]}'; choose from {', '.join(FIGURES)}")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    literature = published.read(published_path)
    pairs = [(model, dataset) for model, dataset in pairs]
    subjects: dict[Pair | None, Subject] = {}
    for pair in pairs:
        subjects[pair] = Subject(
            results,
            pair,
            method,
            tuple(read_runs(results, Case(*pair, method, point), seeds)),
            tuple(read_trials(results, pair, method)),
            published.of_pair(literature, pair),
            compared=tuple(
                run
                for case in cases([pair], (points or {}).get(pair, ()))
                for run in read_runs(results, case, seeds)
            ),
            settings=settings or {},
        )
    firsts = tuple(subject.runs[0] for subject in subjects.values() if subject.runs)
    subjects[None] = Subject(results, method=method, runs=firsts, settings=settings or {})
    from sws.report.figures import style

    drawings = _drawings()
    written: list[Path] = []
    skipped: dict[str, str] = {}
    for figure, pair in _plan(pairs, only):
        kind, chosen, stem = FIGURES[figure], subjects[pair], _stem(figure, pair)
        if reason := _lacks(kind, chosen):
            skipped[stem] = reason
        elif kind.animated:
            written.append(drawings[figure](chosen, output / f"{stem}.gif"))
        else:
            with style.drawing():
                written += style.save(drawings[figure](chosen), output / stem)
    return written, skipped


def _lacks(kind: Kind, subject: Subject) -> str | None:
    """What a figure needs and the results do not have."""
    if kind.needs == "trials" and not subject.trials:
        return "no finished tuning trial"
    if kind.needs == "methods" and not subject.compared:
        return "no finished run of any method"
    if kind.needs == "run" and not subject.runs:
        return f"no finished run of {subject.method}"
    if kind.arrays:
        trace = subject.a_run.trace()
        return next(
            (f"its trace holds no {name}" for name in kind.arrays if name not in trace), None
        )
    return None


def _plan(pairs: Sequence[Pair], only: Sequence[str] | None) -> list[tuple[str, Pair | None]]:
    planned: list[tuple[str, Pair | None]] = []
    for name, kind in FIGURES.items():
        if only is not None and name not in only:
            continue
        if kind.needs == "nothing":
            planned.append((name, None))
        else:
            planned += [(name, pair) for pair in pairs if kind.suits(pair)]
    return planned


def _stem(figure: str, pair: Pair | None) -> str:
    """Pairs, not models: one model stands on several data sets."""
    return figure if pair is None else f"{figure}_{pair[0]}_{pair[1]}"
