"""All runs of a results folder as one data frame, for questions that no table answers.

>>> import sws
>>> runs = sws.results("results/reference")
>>> rows = runs.groupby(["model", "dataset", "method", "point"])
>>> rows[["error_end_pct", "cr.file"]].agg(["mean", "std", "count"])
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sws.runs.records import ResultsError, discover, read_runs


def results(folder: Path | str = "results") -> pd.DataFrame:
    """Read every finished run below a results folder.

    Returns
    -------
    A row a run, sorted by model, data set, method, point and seed. Columns are the fields of
    ``metrics.json``, nested ones joined by dots (``cr.file``, ``bytes.file``, ``seconds.retrain``,
    ``provenance.code.commit``), and ``folder``. Errors and shares are in per cent, sizes in bytes,
    the four rates under ``cr`` those of :class:`sws.codec.rates.CompressionRates`. A field that a
    run does not have is NaN.

    Raises
    ------
    ResultsError
        If there is no finished run, or one is damaged.
    """
    rows = [
        {**run.metrics, "folder": str(run.folder)}
        for case, seeds in discover(Path(folder)).items()
        for run in read_runs(Path(folder), case, seeds)
    ]
    if not rows:
        raise ResultsError(
            f"{folder}: no finished run in it; look at results/reference, or run some"
        )
    return pd.json_normalize(rows)
