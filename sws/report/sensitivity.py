"""Table and figure of the study of the mixture's update: error and bytes by its rates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from sws.config.sensitivity import VARIED, Curve, Sensitivity, trial_name
from sws.report.figures import style
from sws.report.table import Block, Line, Record, Table, number, write_texts
from sws.runs.records import ResultsError, rate_trial_folder
from sws.runs.seeds import over_seeds

NAME = "sensitivity"
COLUMNS = (
    *("panel", "curve", "varies", "value", "seeds", "ended"),
    *("error_end_val_pct", "error_end_val_sd", "error_retrained_val_pct"),
    *("file_bytes", "file_bytes_sd", "nonzero_pct"),
)
CAPTION = (
    "Error on validation images and size of the file, for rates of the mixture's update. Look for "
    "the widest range in which neither moves: that setting forgives a wrong rate. The weights are "
    "set to the mixture's means, and nothing makes up for it afterwards."
)
LOOKS = (("o", "-"), ("s", "--"), ("D", ":"))


def rows(results: Path, study: Sensitivity) -> list[Record]:
    """A record for each value of each curve, a mean over the seeds that have run.

    Parameters
    ----------
    results : Path
        Folder that holds ``sensitivity/``, or a reference with one.
    study : Sensitivity
        Which trials there are.

    Raises
    ------
    ResultsError
        If none has run.
    """
    found = []
    for folder in (Path(results), Path(results) / "reference"):
        found = [_row(folder, study, curve, value) for curve in study.curves
                 for value in curve.values]  # fmt: skip
        if any(row["seeds"] for row in found):
            return found
    raise ResultsError(f"{results}/sensitivity: no trial has run; run 'snakemake sensitivity'")


def _row(folder: Path, study: Sensitivity, curve: Curve, value: float) -> Record:
    row: Record = dict.fromkeys(COLUMNS)
    row |= {"panel": curve.panel, "curve": curve.name, "varies": curve.varies, "value": value}
    name = trial_name(curve, value)
    paths = [rate_trial_folder(folder, name, seed) / "trial.json" for seed in study.seeds]
    told = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    done = [trial for trial in told if not trial.get("note")]
    row["seeds"] = len(done)
    row["ended"] = "; ".join(f"seed {t['seed']} {t['note']}" for t in told if t.get("note"))
    for column, deviation in (
        ("error_end_val_pct", "error_end_val_sd"),
        ("file_bytes", "file_bytes_sd"),
        ("error_retrained_val_pct", None),
        ("nonzero_pct", None),
    ):
        mean, sd, _ = over_seeds(float(trial[column]) for trial in done)
        row[column] = mean
        if deviation:
            row[deviation] = sd
    return row


def table(records: Sequence[Record], study: Sensitivity) -> Table:
    """The table of records: a block for each curve.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    study : Sensitivity
        Titles of the curves.
    """
    blocks = []
    for curve in study.curves:
        heads = [VARIED[curve.varies], "seeds", "retrained, %", "assigned, %"]
        heads += ["file, bytes", "non-zero, %"]
        lines = [Line(_cells(row)) for row in records if row["curve"] == curve.name]
        blocks.append(Block(f"{curve.panel}: {curve.title}", heads, lines))
    title = "How fast the mixture may follow the weights"
    return Table(NAME, title, CAPTION, COLUMNS, records, blocks)


def _cells(row: Record) -> list[str]:
    seeds = str(row["seeds"]) if row["seeds"] or row["ended"] else "not run"
    return [
        f"{row['value']:g}",
        f"{seeds} ({row['ended']})" if row["ended"] else seeds,
        number(row["error_retrained_val_pct"], None, 2),
        number(row["error_end_val_pct"], row["error_end_val_sd"], 2),
        number(row["file_bytes"], row["file_bytes_sd"], 0),
        number(row["nonzero_pct"], None, 2),
    ]


def draw(records: Sequence[Record], study: Sensitivity) -> Figure:
    """Error above, bytes below; a column for each panel of the study.

    Trials that came to no result stand as crosses at the upper edge; a panel of which no trial has
    run is left out.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    study : Sensitivity
        Titles and panels of the curves.
    """
    tried = {row["panel"] for row in records if row["seeds"]}
    panels = list(dict.fromkeys(c.panel for c in study.curves if c.panel in tried))
    figure = Figure(figsize=(4 * len(panels), 6.4), layout="constrained")
    grid = figure.subplots(2, len(panels), sharex="col", sharey="row", squeeze=False)
    for place, panel in enumerate(panels):
        curves = [curve for curve in study.curves if curve.panel == panel]
        for curve, (marker, line), shade in zip(curves, LOOKS, (0.9, 0.55, 0.25), strict=False):
            own = [row for row in records if row["curve"] == curve.name]
            for axes, column in zip(
                grid[:, place], ("error_end_val_pct", "file_bytes"), strict=True
            ):
                axes.plot(
                    [row["value"] for row in own if row[column] is not None],
                    [row[column] for row in own if row[column] is not None],
                    color=style.ramp([shade])[0], marker=marker, linestyle=line, ms=5,
                    label=curve.title,
                )  # fmt: skip
                for row in own:
                    if row["ended"]:
                        axes.plot(
                            row["value"], 0.98, "x", color=style.INK, ms=7,
                            transform=axes.get_xaxis_transform(),
                        )  # fmt: skip
        grid[0, place].set_title(panel)
        grid[0, place].legend()
        grid[1, place].set_xlabel(
            " / ".join(dict.fromkeys(VARIED[c.varies] for c in curves)), fontsize=8
        )
    for axes in grid.flat:
        axes.set(xscale="log", yscale="log")
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.grid(color=style.FAINT, linewidth=0.5)
    grid[0, 0].set_ylabel("error after assignment, % (validation)")
    grid[1, 0].set_ylabel("file, bytes")
    return figure


def build(results: Path, output: Path, study: Sensitivity) -> list[Path]:
    """Write ``tables/sensitivity/sensitivity.*`` and ``figures/sensitivity/sensitivity.{svg,png}``.

    Parameters
    ----------
    results, output : Path
        Folder that holds ``sensitivity/``; folder to write to.
    study : Sensitivity
        Which trials there are.
    """
    records = rows(results, study)
    written = write_texts(output / "tables" / NAME, table(records, study).texts())
    folder = output / "figures" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    with style.drawing():
        written += style.save(draw(records, study), folder / NAME)
    return written
