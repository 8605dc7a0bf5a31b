"""Table and figure of the prior's cost, from what :mod:`sws.measure.prior_cost` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sws.report.figures import style
from sws.report.table import Block, Line, Table, number, write_texts
from sws.report.table import Record as Row
from sws.runs.records import ResultsError

NAMES = {"broadcast": "broadcast + autograd", "exact": "exact", "tabulated": "tabulated"}
COLUMNS = (
    *("case", "weights", "components", "estimator", "threads", "seconds", "speed_up"),
    *("first_seconds", "extra_memory_mb", "error_weights", "error_mixture"),
)
MARKS = {"broadcast": "s", "exact": "D", "tabulated": "o"}


def title(estimator: str) -> str:
    """An estimator's name for a reader."""
    if estimator.startswith("subsampled-"):
        return f"subsampled, K = {int(estimator.split('-')[1]):,}"
    return NAMES[estimator]


def rows(results: Path) -> list[Row]:
    """A row for each measurement, cases by size; ``speed_up`` is over broadcast with autograd.

    Raises
    ------
    ResultsError
        If there is no measurement, or one is damaged.
    """
    found = []
    for path in sorted(Path(results, "studies", "prior").glob("*/*.json")):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            raise ResultsError(f"{path}: damaged; delete it and run the study again") from None
    if not found:
        raise ResultsError(f"{results}/studies/prior: nothing measured; run 'snakemake studies'")
    slow = {r["case"]: r["seconds"] for r in found if r["estimator"] == "broadcast"}
    for row in found:
        base = slow.get(row["case"])
        row["speed_up"] = base / row["seconds"] if base and row["seconds"] else None
    order = [*NAMES, *sorted({r["estimator"] for r in found} - set(NAMES), key=len)]
    found.sort(key=lambda r: (r["weights"], order.index(r["estimator"])))
    return [{c: r.get(c) for c in COLUMNS} for r in found]


CAPTION = (
    "What one step of the prior costs: gradients for all weights and sums for the mixture, after "
    "the mixture has moved. Look at the speed-up, over broadcast with autograd, and at what it "
    "costs in accuracy: subsampling (Appendix C of the paper) is unbiased, but a single step says "
    "little about weights that it did not draw."
)
NOTE = "Memory is above weights and gradients. Errors are relative, against float64."


def table(records: Sequence[Row]) -> Table:
    """The table for readers.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    """
    heads = ["weights × components", "estimator", "seconds", "speed-up", "memory, MB"]
    heads += ["error, weights", "error, mixture"]
    block = Block("", heads, [Line(_cells(row)) for row in records], frozenset({"estimator"}))
    title = "One step of the prior"
    return Table("prior", title, CAPTION, COLUMNS, records, [block], [NOTE])


def _cells(row: Row) -> list[str]:
    size = f"{row['case']}: {row['weights']:,} × {row['components']}"
    if row["seconds"] is None:
        return [size, title(row["estimator"]), "out of memory", "", "", "", ""]
    speed = "" if row["speed_up"] is None else number(row["speed_up"])
    return [
        *(size, title(row["estimator"]), f"{row['seconds']:.3g}", speed),
        f"{row['extra_memory_mb']:,.0f}",
        *(f"{row[name]:.1e}" for name in ("error_weights", "error_mixture")),
    ]


def draw(table: Sequence[Row]) -> Figure:
    """Time, memory and the weights' gradient error against the number of weights.

    Networks of the same number of components are joined by a line; the cost depends on both.
    """
    figure = style.canvas(9.3)
    panels = figure.subplots(3, 1, sharex=True)
    labels = (
        ("seconds", "time of a step, seconds"),
        ("extra_memory_mb", "memory above weights and gradients, MB"),
        ("error_weights", "error of the weights' gradient, relative"),
    )
    estimators = list(dict.fromkeys(r["estimator"] for r in table))
    sizes = sorted({r["components"] for r in table})
    usual = max(sizes, key=lambda j: len({r["case"] for r in table if r["components"] == j}))
    for axes, (column, label) in zip(panels, labels, strict=True):
        for estimator in estimators:
            own = [r for r in table if r["estimator"] == estimator and r[column]]
            for components in sizes:
                same = [r for r in own if r["components"] == components]
                axes.plot(
                    [r["weights"] for r in same],
                    [
                        max(r[column], 0.1) if column == "extra_memory_mb" else r[column]
                        for r in same
                    ],
                    **_look(estimator, estimators, joined=components == usual),
                    label=title(estimator) if components == usual else None,
                )
        axes.set(xscale="log", yscale="log", title=label)
        axes.grid(color=style.FAINT, linewidth=0.5)
    panels[-1].set_xlabel("weights (log scale)")
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    cases = dict.fromkeys((r["case"], r["weights"], r["components"]) for r in table)
    told = ", ".join(f"{case} {w / 1e6:.3g} M × {j}" for case, w, j in cases)
    other = ", ".join(str(j) for j in sizes if j != usual)
    caption = (
        f"Look at the distance between the lines, on log scales. Weights × components: {told}. "
        f"Lines join networks of {usual} components"
    )
    caption += f"; hollow marks have {other}, and belong to no line. " if other else ". "
    caption += "Dashed: subsampled (Appendix C); a step costs less and its gradient is noise for "
    caption += "most weights."
    style.explain(figure, "What one step of the prior costs", caption)
    return figure


def _look(estimator: str, estimators: Sequence[str], joined: bool) -> dict[str, Any]:
    """Line and marker; hollow and unjoined where another number of components is meant."""
    sampled = [e for e in estimators if e not in NAMES]
    dashed = estimator in sampled
    if dashed:
        shade = 0.35 + 0.3 * sampled.index(estimator)
        colour = style.ramp([shade])[0]
    else:
        colour = _colour(estimator)
    line = "--" if dashed else "-"
    return {
        "color": colour,
        "linestyle": line if joined else "",
        "marker": "v^<"[sampled.index(estimator) % 3] if dashed else MARKS[estimator],
        "markersize": 6,
        "markerfacecolor": colour if joined else "white",
    }


def _colour(estimator: str) -> str:
    return {"broadcast": style.THEIRS, "exact": style.INK, "tabulated": style.OURS}[estimator]


def build(results: Path, output: Path) -> list[Path]:
    """Write ``tables/studies/prior.*`` and ``figures/studies/fig10_prior.{svg,png}``.

    Parameters
    ----------
    results, output : Path
        Folder that holds ``studies/prior/``; folder to write to.
    """
    records = rows(results)
    figures = output / "figures" / "studies"
    figures.mkdir(parents=True, exist_ok=True)
    written = write_texts(output / "tables" / "studies", table(records).texts())
    with style.drawing():
        drawn = style.save(draw(records), figures / "fig10_prior")
    return [*written, *drawn]
