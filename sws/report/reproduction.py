"""Does it reproduce? A new run beside the reference run and the paper, row by row.

Files that are the same byte for byte need no statistics, and are reported first. Of the others,
each number is judged by :mod:`sws.report.equivalence`: its difference has an interval, and a margin
below which it does not matter. Sizes and ratios are compared by their logarithms, so that their
margin is a share. The variance of a seed is pooled over the cases of a pair, both sides, where
these spread alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from sws.files import write_text
from sws.report import equivalence, table1
from sws.report.equivalence import Spread
from sws.report.table import number, to_csv
from sws.report.verdicts import (
    MEASURES,
    Margins,
    Measure,
    PaperVerdict,
    against_paper,
    paper_of,
    paper_value,
    scaled,
)
from sws.runs import published
from sws.runs.records import Case, Pair, ResultsError, Run, discover, read_runs
from sws.runs.seeds import over_seeds

Verdict = Literal["identical", "same", "different", "cannot tell", "not run"]
FILES = ("model.sws", "history.csv", "trace.safetensors")
"""What a run leaves that holds no time of day: compared byte for byte."""


@dataclass(frozen=True)
class Line:
    """One number of one case: new, reference, paper. None where there is no such number.

    Differences and their intervals are in percentage points for errors, in per cent otherwise.
    """

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
    lower: float | None
    upper: float | None
    margin: float
    pooled_cases: int
    verdict: Verdict
    paper: float | None
    paper_difference: float | None
    paper_lower: float | None
    paper_upper: float | None
    paper_verdict: PaperVerdict


@dataclass(frozen=True)
class Files:
    """Files of a case that both sides have.

    Attributes
    ----------
    same, differing : tuple of str
        ``seed-<n>/<name>``.
    """

    case: Case
    same: tuple[str, ...]
    differing: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What was found: files first, then numbers; and what was not compared."""

    files: Sequence[Files]
    lines: Sequence[Line]
    one_sided: Sequence[str]
    confidence: float

    @property
    def reproduces(self) -> bool:
        """Whether no number was found to differ from the reference."""
        return all(line.verdict != "different" for line in self.lines)

    def to_csv(self) -> str:
        """The lines, in full."""
        names = [field.name for field in fields(Line)]
        return to_csv([asdict(line) for line in self.lines], names)

    def to_text(self) -> str:
        """For a terminal: files, a block for each case, and a summary at the end."""
        return _text(self)


def build(
    new: Path,
    reference: Path,
    output: Path | None = None,
    confidence: float = 0.95,
    published_path: Path | None = None,
    margins: Margins | None = None,
) -> Comparison:
    """Compare every case that two folders have in common, and the first one with the paper.

    Parameters
    ----------
    new, reference : Path
        Folders that hold ``runs/`` (``results`` and ``results/reference``).
    output : Path, optional
        Folder for ``comparison.csv`` and ``comparison.txt``.
    confidence : float
        Of the intervals, in (0, 1): of each that is shown, and of all together before a number
        counts as different from the reference.
    published_path : Path, optional
        The literature, by default ``resources/published.csv``.
    margins : Margins, optional
        What has no practical meaning.

    Raises
    ------
    ResultsError
        If a folder has no runs, the two have no case in common, or confidence or margins make no
        sense.
    """
    margins = margins or Margins()
    if not 0 < confidence < 1:
        raise ResultsError(f"confidence is {confidence}; choose it between 0 and 1, such as 0.95")
    if not (margins.points > 0 and 0 < margins.share < 1):
        raise ResultsError(
            f"margins are {margins.points} points and a share of {margins.share}; choose both "
            "above 0, such as 0.1 and 0.05"
        )
    ours, theirs = (_runs(folder) for folder in (new, reference))
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        raise ResultsError(
            f"{new} and {reference} have no case in common; run one of: "
            + ", ".join(str(case) for case in theirs)
        )
    # all methods of a pair start alike: that is one number, however many cases show it
    numbers = len(both) * (len(MEASURES) - 1) + len({case.pair for case in both})
    literature = published.read(published_path)
    spreads = _spreads([*ours.items(), *theirs.items()])
    files = [_files(case, ours[case], theirs[case]) for case in both]
    lines = []
    for case, compared in zip(both, files, strict=True):
        equal = _repeated(compared, ours[case], theirs[case])
        for name, measure in MEASURES.items():
            lines.append(
                _line(
                    case,
                    name,
                    (_values(ours[case], name), _values(theirs[case], name)),
                    spreads[case.pair, name],
                    paper_value(measure, paper_of(literature, case)),
                    (margins.of(measure), confidence, numbers),
                    equal,
                )
            )
    sides = ((ours.keys() - theirs.keys(), "new"), (theirs.keys() - ours.keys(), "reference"))
    one_sided = [f"{case} ({side} only)" for cases, side in sides for case in sorted(cases)]
    comparison = Comparison(files, lines, one_sided, confidence)
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        write_text(Path(output) / "comparison.csv", comparison.to_csv())
        write_text(Path(output) / "comparison.txt", comparison.to_text())
    return comparison


def _runs(folder: Path) -> dict[Case, list[Run]]:
    """Finished runs by case.

    Raises
    ------
    ResultsError
        If there are none.
    """
    found = {case: read_runs(folder, case, seeds) for case, seeds in discover(folder).items()}
    found = {case: runs for case, runs in found.items() if runs}
    if not found:
        raise ResultsError(f"{folder}: holds no finished run; run 'make mnist' or give another")
    return found


def _values(runs: Sequence[Run], name: str) -> list[float]:
    return [float(table1.BY_NAME[name].value(run.metrics)) for run in runs]


# --- bytes ----------------------------------------------------------------------------------------


def _files(case: Case, ours: Iterable[Run], theirs: Iterable[Run]) -> Files:
    """What both sides have of each other's seeds, byte for byte."""
    others = {run.seed: run.folder for run in theirs}
    same, differing = [], []
    for run in ours:
        for name in FILES:
            pair = (run.folder / name, others[run.seed] / name) if run.seed in others else ()
            if pair and all(path.is_file() for path in pair):
                equal = pair[0].read_bytes() == pair[1].read_bytes()
                (same if equal else differing).append(f"seed-{run.seed}/{name}")
    return Files(case, tuple(same), tuple(differing))


def _repeated(files: Files, ours: Iterable[Run], theirs: Iterable[Run]) -> frozenset[str]:
    """Measures that are equal in all seeds of which both sides have the same files."""
    compressed = [name for name in (*files.same, *files.differing) if name.endswith("model.sws")]
    if not compressed or files.differing:
        return frozenset()
    others = {run.seed: run for run in theirs}
    pairs = [(run, others[run.seed]) for run in ours if run.seed in others]
    return frozenset(
        name
        for name in MEASURES
        if all(_values([one], name) == _values([other], name) for one, other in pairs)
    )


# --- numbers --------------------------------------------------------------------------------------


def _spreads(sides: Sequence[tuple[Case, Sequence[Run]]]) -> dict[tuple[Pair, str], Spread | None]:
    """(pair, measure) → the variance of a seed, where all cases of the pair have one."""
    found = {}
    for pair in dict.fromkeys(case.pair for case, _ in sides):
        own = [runs for case, runs in sides if case.pair == pair]
        for name, measure in MEASURES.items():
            groups = [scaled(_values(runs, name), measure) for runs in own]
            found[pair, name] = equivalence.pooled(groups)
    return found


def _shown(value: float | None, measure: Measure) -> float | None:
    """A difference as people read it: in points, or in per cent."""
    return value if value is None or not measure.relative else 100 * math.expm1(value)


def _line(
    case: Case,
    name: str,
    sides: tuple[Sequence[float], Sequence[float]],
    spread: Spread | None,
    paper: float | None,
    rule: tuple[float, float, int],
    repeated: frozenset[str],
) -> Line:
    measure, (margin, confidence, numbers) = MEASURES[name], rule
    new, old = over_seeds(sides[0]), over_seeds(sides[1])
    a, b = (scaled(side, measure) for side in sides)
    found = equivalence.difference(a, b, spread)
    lower, upper = found.interval(confidence) or (None, None)
    verdict: Verdict = equivalence.judge(found, margin, confidence, numbers)
    if name in repeated:
        verdict = "identical"
    beside = None if paper is None else equivalence.difference(a, scaled([paper], measure), spread)
    bounds = (beside and beside.interval(confidence)) or (None, None)
    judged: PaperVerdict = ""
    if beside is not None:
        judged = against_paper(beside, measure, margin, confidence)
    return Line(
        **asdict(case),
        measure=name,
        new=new.mean,
        new_sd=new.sd,
        new_seeds=new.n,
        reference=old.mean,
        reference_sd=old.sd,
        reference_seeds=old.n,
        difference=_shown(found.estimate, measure),
        lower=_shown(lower, measure),
        upper=_shown(upper, measure),
        margin=_shown(margin, measure),
        pooled_cases=0 if spread is None else spread.groups,
        verdict=verdict,
        paper=paper,
        paper_difference=beside and _shown(beside.estimate, measure),
        paper_lower=_shown(bounds[0], measure),
        paper_upper=_shown(bounds[1], measure),
        paper_verdict=judged,
    )


# --- for people -----------------------------------------------------------------------------------


def _text(comparison: Comparison) -> str:
    head = ("measure", "new", "reference", "difference", "interval", "margin", "verdict")
    head += ("paper", "interval", "against it")
    lines = [*_about_files(comparison.files), ""]
    blocks: dict[Case, list[Line]] = {}
    for line in comparison.lines:
        case = Case(line.model, line.dataset, line.method, line.point)
        blocks.setdefault(case, []).append(line)
    for case, here in blocks.items():
        seeds = f"{here[0].new_seeds} new seeds, {here[0].reference_seeds} in the reference"
        lines.append(f"{case}  ({seeds})")
        rows = [head, *(_text_row(line) for line in here)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
            lines.append("  " + "  ".join(cells).rstrip())
        lines.append("")
    lines += _summary(comparison)
    return "\n".join(lines) + "\n"


def _about_files(files: Sequence[Files]) -> list[str]:
    same = sum(len(found.same) for found in files)
    total = same + sum(len(found.differing) for found in files)
    if not total:
        return ["Bytes: the two have no seed in common, so no file could be compared."]
    lines = [f"Bytes: {same} of {total} files that both have are identical."]
    for found in files:
        if found.differing:
            lines.append(f"  {found.case}: {', '.join(found.differing)} differ")
    return lines


def _summary(comparison: Comparison) -> list[str]:
    kinds = ("identical", "same", "cannot tell", "different")
    counts = {kind: sum(line.verdict == kind for line in comparison.lines) for kind in kinds}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    total = len(comparison.lines)
    if counts["different"]:
        lines = [f"Differs: {counts['different']} of {total} numbers by more than their margin."]
    elif counts["cannot tell"]:
        lines = [f"Nothing differs, but of {counts['cannot tell']} of {total} numbers the seeds"]
        lines[0] += " are too few to tell."
    else:
        lines = [f"Reproduces: all {total} numbers."]
    lines.append(f"Numbers: {told}. Intervals at {100 * comparison.confidence:g} %.")
    if comparison.one_sided:
        lines.append(f"Not compared: {', '.join(comparison.one_sided)}.")
    return lines


def _text_row(line: Line) -> tuple[str, ...]:
    measure = MEASURES[line.measure]
    digits = 0 if line.measure == "file_bytes" else 2
    unit = " %" if measure.relative else ""
    few = f"cannot tell with {min(line.new_seeds, line.reference_seeds)}"
    return (
        line.measure,
        number(line.new, line.new_sd, digits),
        number(line.reference, line.reference_sd, digits),
        f"{line.difference:+.2f}{unit}",
        _interval(line.lower, line.upper, unit),
        f"{line.margin:.2g}{unit}",
        few if line.verdict == "cannot tell" else line.verdict,
        number(line.paper, None, 2) if line.paper is not None else "",
        _interval(line.paper_lower, line.paper_upper, unit) if line.paper is not None else "",
        line.paper_verdict,
    )


def _interval(lower: float | None, upper: float | None, unit: str) -> str:
    return "–" if lower is None or upper is None else f"{lower:+.2f} to {upper:+.2f}{unit}"
