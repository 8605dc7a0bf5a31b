"""Does it reproduce? A new run beside the reference run and the paper, row by row.

Two means reproduce each other if they differ by less than Student's t at the chosen confidence
times their combined standard error (Welch), or by less than a floor below which a difference says
nothing. The confidence is that of all numbers together: each of m is judged at 1 − (1 − c)/m. With
one seed on one side, the other side's spread stands for both; with one seed on both,
there is no spread to measure, and the fallback of :data:`MEASURES` takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from sws.config import methods
from sws.files import write_text
from sws.report import tables
from sws.runs import published
from sws.runs.published import Published
from sws.runs.records import Case, ResultsError, discover, read_runs

Verdict = Literal["reproduces", "differs", "not run"]
PaperVerdict = Literal["no different", "better", "worse", ""]


@dataclass(frozen=True)
class Measure:
    """How differences of one column are judged.

    Attributes
    ----------
    paper : attribute of a published row, and the kinds of ratio it is comparable with.
    lower_is_better : errors and bytes, against ratios.
    floor : differences up to this much never count; relative if ``relative``.
    fallback : assumed standard deviation of one seed where none can be measured.
    """

    paper: str | None
    ratio_classes: tuple[str, ...]
    lower_is_better: bool
    floor: float
    fallback: float
    relative: bool = True


_ERROR = {"ratio_classes": (), "lower_is_better": True, "relative": False}
_RATE = {"lower_is_better": False, "floor": 0.01, "fallback": 0.05}
MEASURES: Mapping[str, Measure] = {
    # Two images of 10,000; one seed of a network near 1-2 % of error spreads by about 0.1 points.
    "error_start_pct": Measure("error_start", floor=0.02, fallback=0.1, **_ERROR),
    "error_end_pct": Measure("error_end", floor=0.02, fallback=0.1, **_ERROR),
    "nonzero_pct": Measure("nonzero_pct", (), True, 0.01, 0.05),
    "cr_nonzero": Measure("ratio", ("COUNT",), **_RATE),
    "cr_han": Measure("ratio", ("BITS",), **_RATE),
    "cr_huffman": Measure("ratio", ("CODED",), **_RATE),
    "cr_file": Measure("ratio", ("FILE",), **_RATE),
    "file_bytes": Measure(None, (), True, 0.01, 0.05),
}


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
        return tables.to_csv([asdict(line) for line in self.lines], names)

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
        paper = _paper(literature, case)
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


def _paper(literature: Sequence[Published], case: Case) -> Published | None:
    """What the paper reports of a case: of main points, and of methods whose paper has a file."""
    if case.point != "main" or not methods.spec(case.method).sizes:
        return None
    return published.counterpart(literature, case.pair, methods.spec(case.method).paper)


def _values(results: Path, case: Case, seeds: Sequence[int]) -> dict[str, list[float]]:
    runs = read_runs(results, case, seeds)
    return {
        name: [float(value(run.metrics)) for run in runs]
        for name, (_, value) in tables.MEASURES.items()
    }


def tolerance(
    a: Sequence[float], b: Sequence[float], measure: Measure, confidence: float = 0.99
) -> float:
    """Largest difference of two means that still counts as the same.

    Welch's t times √(s_a²/n_a + s_b²/n_b); a side of one value borrows the other side's s.
    """
    from scipy import stats

    size = abs(fmean(b)) if measure.relative else 1.0
    deviations = [stdev(side) if len(side) > 1 else None for side in (a, b)]
    known = [s for s in deviations if s is not None]
    if known:
        variances = [
            (known[0] if s is None else s) ** 2 / len(side)
            for s, side in zip(deviations, (a, b), strict=True)
        ]
        degrees = sum(
            (v**2 / (len(side) - 1) if len(side) > 1 else 0.0)
            for v, side in zip(variances, (a, b), strict=True)
        )
        total = sum(variances)
        if len(known) == 1 or degrees == 0:
            freedom = max(len(a), len(b)) - 1
        else:
            freedom = total**2 / degrees
        spread = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(total)
    else:
        spread = float(stats.norm.ppf(0.5 + confidence / 2)) * measure.fallback * size * 2**0.5
    return max(spread, measure.floor * size)


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
    difference = fmean(a) - fmean(b) if compared else None
    verdict: Verdict = "not run"
    if difference is not None and limit is not None:
        # The last digits of a sum must not turn "equal to the tolerance" into "beyond it".
        verdict = "reproduces" if abs(difference) <= limit * (1 + 1e-9) else "differs"
    value = _paper_value(measure, paper)
    against, allowed, judged = None, None, ""
    if a and value is not None:
        against = fmean(a) - value
        allowed = tolerance(a, [value], measure, confidence)  # the paper's number is one run's
        judged = _against_paper(against, allowed, measure)
    return Line(
        **asdict(case),
        measure=name,
        new=fmean(a) if a else None,
        new_sd=stdev(a) if len(a) > 1 else None,
        new_seeds=len(a),
        reference=fmean(b) if b else None,
        reference_sd=stdev(b) if len(b) > 1 else None,
        reference_seeds=len(b),
        difference=difference,
        tolerance=limit,
        verdict=verdict,
        paper=value,
        paper_difference=against,
        paper_tolerance=allowed,
        paper_verdict=judged,
    )


def _paper_value(measure: Measure, paper: Published | None) -> float | None:
    if paper is None or measure.paper is None:
        return None
    if measure.ratio_classes and paper.ratio_class not in measure.ratio_classes:
        return None
    return getattr(paper, measure.paper)


def _against_paper(difference: float, allowed: float, measure: Measure) -> PaperVerdict:
    if abs(difference) <= allowed * (1 + 1e-9):
        return "no different"
    return "better" if (difference < 0) == measure.lower_is_better else "worse"


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
        tables.number(line.new, line.new_sd, digits),
        tables.number(line.reference, line.reference_sd, digits),
        difference,
        tables.number(line.tolerance, None, digits),
        line.verdict,
        tables.number(line.paper, None, 2),
        tables.number(line.paper_tolerance, None, 2) if line.paper is not None else "",
        line.paper_verdict,
    )
