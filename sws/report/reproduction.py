"""Does it reproduce? A new run beside the reference run and the paper, row by row.

The rule is that of :mod:`sws.report.verdicts`. The confidence is that of all numbers together: each
of m is judged at 1 − (1 − c)/m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from sws.files import write_text
from sws.report import table1
from sws.report.table import number, to_csv
from sws.report.verdicts import (
    MEASURES,
    PaperVerdict,
    against_paper,
    paper_of,
    paper_value,
    tolerance,
)
from sws.runs import published
from sws.runs.published import Published
from sws.runs.records import Case, ResultsError, discover, read_runs
from sws.runs.seeds import over_seeds

Verdict = Literal["reproduces", "differs", "not run"]


@dataclass(frozen=True)
class Line:
    """One number of one case: new, reference, paper. None where there is no such number."""

    model: str
    dataset: str
    method: str
    point: str
    measure: str
    new: float | None
    new_sd: float | None
    new_seeds: int
    reference: float | None
    reference_sd: float | None
    reference_seeds: int
    difference: float | None
    tolerance: float | None
    verdict: Verdict
    paper: float | None
    paper_difference: float | None
    paper_tolerance: float | None
    paper_verdict: PaperVerdict


@dataclass(frozen=True)
class Comparison:
    """All lines; ``reproduces`` is True if no compared number differs from the reference."""

    lines: Sequence[Line]

    @property
    def reproduces(self) -> bool:
        return all(line.verdict != "differs" for line in self.lines)

    def to_csv(self) -> str:
        names = [field.name for field in fields(Line)]
        return to_csv([asdict(line) for line in self.lines], names)

    def to_text(self) -> str:
        """The comparison for a terminal, a block for each case, a summary at the end."""
        return _text(self)


def build(
    new: Path,
    reference: Path,
    output: Path | None = None,
    confidence: float = 0.99,
    published_path: Path | None = None,
) -> Comparison:
    """Compare every case of the reference with the new run, and both with the paper.

    Parameters
    ----------
    new, reference : folders that hold ``runs/`` (``results`` and ``results/reference``).
    output : folder for ``comparison.csv`` and ``comparison.txt``; nothing is written if None.
    confidence : of the two-sided t intervals of all compared numbers together, in (0, 1); of each
        by itself where it is set beside the paper's.

    Returns
    -------
    Comparison
        ``reproduces`` is False if a number differs. Cases that only one side has run are listed as
        ``not run`` and do not count.

    Raises
    ------
    ResultsError
        If a folder has no runs, or the two have no case in common.
    """
    if not 0 < confidence < 1:
        raise ResultsError(f"confidence is {confidence}; choose it between 0 and 1, such as 0.99")
    found = []
    for folder in (new, reference):
        seeds = discover(folder)
        if not seeds:
            raise ResultsError(f"{folder}: holds no finished run; run 'make mnist' or give another")
        found.append({case: _values(folder, case, s) for case, s in seeds.items()})
    ours, theirs = found
    if not ours.keys() & theirs.keys():
        raise ResultsError(
            f"{new} and {reference} have no case in common; run one of: "
            + ", ".join(str(case) for case in theirs)
        )
    literature = published.read(published_path)
    both = ours.keys() & theirs.keys()
    # all methods of a pair start alike: that is one number, however many cases show it
    numbers = len(both) * (len(MEASURES) - 1) + len({case.pair for case in both})
    each = 1 - (1 - confidence) / numbers
    lines = []
    for case in sorted(ours.keys() | theirs.keys()):
        paper = paper_of(literature, case)
        for measure in MEASURES:
            a = ours.get(case, {}).get(measure, [])
            b = theirs.get(case, {}).get(measure, [])
            lines.append(_line(case, measure, a, b, paper, each, confidence))
    comparison = Comparison(lines)
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        write_text(Path(output) / "comparison.csv", comparison.to_csv())
        write_text(Path(output) / "comparison.txt", comparison.to_text())
    return comparison


def _values(results: Path, case: Case, seeds: Sequence[int]) -> dict[str, list[float]]:
    runs = read_runs(results, case, seeds)
    return {
        measure.name: [float(measure.value(run.metrics)) for run in runs]
        for measure in table1.MEASURED
    }


def _line(
    case: Case,
    name: str,
    a: Sequence[float],
    b: Sequence[float],
    paper: Published | None,
    each: float,
    confidence: float,
) -> Line:
    measure = MEASURES[name]
    compared = bool(a) and bool(b)
    limit = tolerance(a, b, measure, each) if compared else None
    new, old = over_seeds(a), over_seeds(b)
    difference = new.mean - old.mean if compared else None
    verdict: Verdict = "not run"
    if difference is not None and limit is not None:
        # The last digits of a sum must not turn "equal to the tolerance" into "beyond it".
        verdict = "reproduces" if abs(difference) <= limit * (1 + 1e-9) else "differs"
    value = paper_value(measure, paper)
    against, allowed, judged = None, None, ""
    if a and value is not None:
        against = new.mean - value
        allowed = tolerance(a, [value], measure, confidence)  # the paper's number is one run's
        judged = against_paper(against, allowed, measure)
    return Line(
        **asdict(case),
        measure=name,
        new=new.mean,
        new_sd=new.sd,
        new_seeds=new.n,
        reference=old.mean,
        reference_sd=old.sd,
        reference_seeds=old.n,
        difference=difference,
        tolerance=limit,
        verdict=verdict,
        paper=value,
        paper_difference=against,
        paper_tolerance=allowed,
        paper_verdict=judged,
    )


def _text(comparison: Comparison) -> str:
    head = ("measure", "new", "reference", "difference", "tolerance", "verdict")
    head += ("paper", "tolerance", "against it")
    lines: list[str] = []
    blocks: dict[Case, list[Line]] = {}
    for line in comparison.lines:
        case = Case(line.model, line.dataset, line.method, line.point)
        blocks.setdefault(case, []).append(line)
    one_sided = [c for c, here in blocks.items() if all(x.verdict == "not run" for x in here)]
    for case, here in blocks.items():
        if case in one_sided:
            continue
        seeds = f"{here[0].new_seeds} new seeds, {here[0].reference_seeds} in the reference"
        lines.append(f"{case}  ({seeds})")
        rows = [head, *(_text_row(line) for line in here)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
            lines.append("  " + "  ".join(cells).rstrip())
        lines.append("")
    counts = {v: sum(x.verdict == v for x in comparison.lines) for v in ("reproduces", "differs")}
    total = sum(counts.values())
    if comparison.reproduces:
        lines.append(f"Reproduces: all {total} numbers agree with the reference.")
    else:
        lines.append(f"Differs: {counts['differs']} of {total} numbers are out of tolerance.")
    if one_sided:
        names = ", ".join(str(case) for case in one_sided)
        lines.append(f"Not compared, run on one side only: {names}.")
    return "\n".join(lines) + "\n"


def _text_row(line: Line) -> tuple[str, ...]:
    digits = 0 if line.measure == "file_bytes" else 2
    difference = "–" if line.difference is None else f"{line.difference:+,.{digits}f}"
    return (
        line.measure,
        number(line.new, line.new_sd, digits),
        number(line.reference, line.reference_sd, digits),
        difference,
        number(line.tolerance, None, digits),
        line.verdict,
        number(line.paper, None, 2),
        number(line.paper_tolerance, None, 2) if line.paper is not None else "",
        line.paper_verdict,
    )
