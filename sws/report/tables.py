"""The tables that every target has: table 1, the layers, and what is reached at a fixed error."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sws.report import fixed_error, layers, table1
from sws.report.table import write_texts
from sws.runs import published
from sws.runs.records import MAIN, Pair, Points, ResultsError, cases, read_runs


def build(
    results: Path,
    output: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    points: Points = MAIN,
    missing_data: Collection[Pair] = (),
    published_path: Path | None = None,
    compare: bool = False,
) -> list[Path]:
    """Write table 1 and the per-layer table as CSV, Markdown, a page and (table 1) LaTeX.

    Parameters
    ----------
    results : Path
        Folder that holds ``runs/``.
    output : Path
        Folder to write to, made if missing; files are replaced one by one, by rename.
    pairs : sequence of (model, data set)
        In the order of the table.
    seeds : sequence of int
        Seeds to expect of every case.
    points : sequence of (method, point), or mapping from pair to such
        What to expect of every pair.
    missing_data : collection of (model, data set)
        Pairs whose data set is not on this machine; without runs they are ``no data``.
    published_path : Path, optional
        The literature, by default ``resources/published.csv``.
    compare : bool
        Whether to write also what each method reaches at a fixed error and at a fixed rise.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ResultsError
        If a run is damaged, or there is nothing to put into the table.
    """
    if not pairs or not seeds:
        raise ResultsError(
            "no pairs or no seeds to tabulate; set 'pairs' and 'seeds' in the config"
        )
    literature = published.read(published_path)
    pairs = list(dict.fromkeys(tuple(pair) for pair in pairs))
    records = table1.rows(results, pairs, seeds, points, missing_data, literature)
    verdicts = {}
    for pair in pairs:
        said = (
            table1.verdict(read_runs(results, case, seeds), literature)
            for case in cases([pair], points)
        )
        verdicts[pair] = " ".join(sentence for sentence in said if sentence)
    texts = table1.table(records, verdicts).texts(latex=True)
    main = [case for case in cases(pairs, points) if case.point == "main"]
    texts |= layers.table(layers.rows(results, main, seeds, first=compare)).texts()
    if compare:
        reached = []
        for pair in pairs:
            own = [r for c in cases([pair], points) for r in read_runs(results, c, seeds)]
            reached += fixed_error.rows(own, literature) if own else []
        texts |= fixed_error.table(reached).texts()
    return write_texts(Path(output), texts)
