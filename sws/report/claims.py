"""The paper, sentence by sentence: what we ran, the number, and whether it holds.

A claim is an entry of :data:`CLAIMS`: where it stands, what it says in our words, the rule, the
command whose runs it needs, and the function of :mod:`sws.report.claim_checks` that applies the
rule to them. Verdicts are computed, never typed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sws.report import claim_checks as check
from sws.report.claim_checks import (
    FAILS,
    HOLDS,
    NOT_RUN,
    PART,
    POINTS,
    SHARE,
    UNTESTABLE,
    Finding,
)
from sws.report.evidence import LENET_5, LENET_300, RESNET, Evidence, by_seed
from sws.report.names import pair_title
from sws.report.table import Block, Line, Record, Table, number, write_texts
from sws.report.verdicts import COUNTED_ALIKE
from sws.runs import published
from sws.runs.published import THE_PAPER, Published
from sws.runs.records import Pair, Run
from sws.runs.seeds import over_seeds


@dataclass(frozen=True)
class Claim:
    """A checkable sentence of the paper.

    Attributes
    ----------
    section : str
        Where it stands.
    says : str
        The sentence, in our words.
    rule : str
        When it holds.
    command : str
        Whose runs it needs.
    check : callable
        Applies the rule; None where the runs are missing.
    """

    section: str
    says: str
    rule: str
    command: str
    check: Callable[[Evidence], Finding | None]


# --- Table 1 --------------------------------------------------------------------------------------


def _cell(pair: Pair, column: str, printed: float, words: str) -> Claim:
    """A cell of the paper's table: no worse than printed, beyond the margin."""
    error = column.startswith("error")
    lower_is_better = error or column == "nonzero_pct"
    margin = POINTS if error else SHARE * printed
    limit = printed + margin if lower_is_better else printed - margin

    def value(run: Run) -> float:
        return run.metrics["cr"][column[3:]] if column.startswith("cr_") else run.metrics[column]

    def judge(runs: list[Run]) -> tuple[str, bool]:
        mean, sd, _ = over_seeds(by_seed(runs, value).values())
        return number(mean, sd), mean <= limit if lower_is_better else mean >= limit

    allowed = f"{POINTS:g} points" if error else f"{100 * SHARE:g} %"
    return Claim(
        "Table 1",
        f"{pair_title(pair)}: {words} {printed:g}",
        f"the mean over seeds is no worse than that by more than {allowed}",
        "snakemake --cores all paper",
        lambda evidence: check.by_reading(evidence, pair, judge),
    )


def _near(pair: Pair, printed: float) -> Claim:
    def judge(runs: list[Run]) -> tuple[str, bool]:
        mean, sd, _ = over_seeds(by_seed(runs, lambda r: r.metrics["error_start_pct"]).values())
        return number(mean, sd), abs(mean - printed) <= 2 * POINTS

    return Claim(
        "Table 1",
        f"{pair_title(pair)}: error before, % {printed:g}",
        f"the start is within {2 * POINTS:g} points of it",
        "snakemake --cores all paper",
        lambda evidence: check.by_reading(evidence, pair, judge),
    )


def _table(paper: Published) -> list[Claim]:
    column = COUNTED_ALIKE[paper.ratio_class]
    return [
        _near(paper.pair, paper.error_start),
        _cell(paper.pair, "error_end_pct", paper.error_end, "error after, %"),
        _cell(paper.pair, "nonzero_pct", paper.nonzero_pct, "weights left, %"),
        _cell(paper.pair, column, paper.ratio, "compression rate"),
    ]


PAPER, LADDER = "snakemake --cores all paper", "snakemake --cores all ladder"
BASELINES = "snakemake --cores all baselines"
SENSITIVITY = "snakemake --cores all sensitivity"
TRIALS = (
    "sws tune lenet-300-100_mnist "
    "config/tuning/lenet-300-100_mnist.soft-weight-sharing.paper.yaml --point paper --seeds 1,2"
)
CLAIMS = (
    Claim("6.1", "96, 90 and 18 % of the layers of LeNet-300-100 are pruned",
          "each within 5 points", PAPER, check.shares_pruned),
    Claim("6.1", "how much of a layer is pruned follows its size, not its kind or place",
          "LeNet-5's layers have the same order by size and by share pruned", PAPER,
          check.pruned_by_size),
    Claim("4.2", "without hyper-priors components collapse and optimisation gets stuck",
          "most seeds diverge, or lose over a point by assignment", PAPER, check.collapse),
    Claim("4.2", "the hyper-prior on variances is a remedy",
          "fixed Gammas lower the error by more than two standard errors", LADDER, check.remedy),
    Claim("4.2", "the mixture's learning rate is very sensitive",
          "rates within half a point of the best error span a decade at most", SENSITIVITY,
          check.sensitive_rates),
    Claim("4.2", "too fast leaves weights behind, too slow converges late",
          "the files at both ends are over 25 % larger than at the best rate", SENSITIVITY,
          check.slow_and_fast),
    Claim("4.1", "means of equal probability mass are no better than evenly spaced ones",
          "on validation images neither error nor file is better beyond the margin", TRIALS,
          check.no_better_tried("means-by-mass")),
    Claim("4.1", "π₀ may be fixed, or learned under a Beta hyper-prior",
          "learned, neither error nor file is better beyond the margin", TRIALS,
          check.no_better_tried("proportion-learned")),
    Claim("6.1", "of 17 components about 6 are left", "4 to 8 on average, LeNet-5", PAPER,
          check.components_left),
    Claim("6.1", "the final weights are peaked and match the prior",
          "at most 10 % off zero, and assignment costs at most 0.1 points, LeNet-5", PAPER,
          check.peaked),
    Claim("6.1", "the second layer's filters have columns that are nearly empty",
          "of at least one input map at most 2 % of the weights are left, LeNet-5", PAPER,
          check.empty_columns),
    Claim("6.1", "where nothing else regularises, the prior improves accuracy",
          "retrained, LeNet-300-100 is better by over two standard errors", PAPER, check.improves),
    Claim("2", "the prior's own description costs next to nothing",
          "the codebook takes at most 1 % of the file", "make mnist", check.description),
    Claim("App. A", "the worked example of the sparse format", "all three vectors are equal",
          "none", check.appendix_a),
    Claim("App. C", "the subsampled prior gradient serves as well",
          "error and file are no worse beyond the margin", BASELINES, check.appendix_c),
    Claim("Rebuttal", "nine tenths of VGG are pruned at no loss, and quantisation costs",
          "at most 10 % left, at most 0.1 points lost before, over 0.1 by assignment",
          "snakemake --cores all cifar10", check.vgg_rebuttal),
    Claim("Review", "asked: is it as efficient as Han et al.?",
          "training takes at most half as long again as Deep Compression's", BASELINES,
          check.efficiency),
)  # fmt: skip
"""Beside the cells of Table 1, which :func:`claims` takes from the literature."""


def claims(literature: Sequence[Published]) -> list[Claim]:
    """All claims: the cells of the paper's table, then :data:`CLAIMS`."""
    rows = [published.counterpart(literature, p, THE_PAPER) for p in (LENET_300, LENET_5, RESNET)]
    return [claim for row in rows if row is not None for claim in _table(row)] + list(CLAIMS)


COLUMNS = ("section", "claim", "ran", "number", "verdict", "rule", "command")
CAPTION = (
    "The paper's claims, one by one. Look at the verdict, then at the rule that gave it: both are "
    "computed from run files. The recipe as written is run in two readings: 'paper' is the plain "
    "one, 'paper-kind' changes only what the paper leaves open; '-plain' is the start that the "
    "authors' tutorial trains, which is nearest to theirs."
)
NOTE = (
    "Holds: the plain reading meets the rule. Holds in part: the kind reading alone, or one of two "
    "conditions. Numbers in brackets count seeds. Not run: the command makes the runs."
)


def rows(results: Path, literature: Sequence[Published]) -> list[Record]:
    """A record for each claim.

    Parameters
    ----------
    results : Path
        Folder that holds ``runs/``, or a reference of them.
    literature : sequence of Published
        Where the paper's numbers come from.
    """
    evidence = Evidence(Path(results))
    found = []
    for claim in claims(literature):
        finding = claim.check(evidence) or Finding("", "", NOT_RUN)
        row: Record = {"section": claim.section, "claim": claim.says, "ran": finding.ran}
        row |= {"number": finding.number, "verdict": finding.verdict}
        found.append(row | {"rule": claim.rule, "command": claim.command})
    return found


def table(records: Sequence[Record]) -> Table:
    """The table of records, with how many claims have which verdict.

    Parameters
    ----------
    records : sequence of dict
        As :func:`rows` makes them.
    """
    kinds = (HOLDS, PART, FAILS, UNTESTABLE, NOT_RUN)
    counts = {kind: sum(row["verdict"] == kind for row in records) for kind in kinds}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    heads = ("section", "claim", "what we ran", "number", "verdict", "rule")
    lines = [
        Line([
            row["section"], row["claim"], row["ran"] or f"`{row['command']}`",
            row["number"] or "–", row["verdict"], row["rule"],
        ])
        for row in records
    ]  # fmt: skip
    block = Block("", heads, lines, frozenset(heads), verdict=f"Of {len(records)} claims: {told}.")
    return Table("claims", "The paper's claims", CAPTION, COLUMNS, records, [block], [NOTE])


def build(results: Path, output: Path, published_path: Path | None = None) -> list[Path]:
    """Write ``claims.{csv,md,html}``.

    Parameters
    ----------
    results, output : Path
        Folder that holds ``runs/``; folder to write to.
    published_path : Path, optional
        The literature, by default ``resources/published.csv``.
    """
    literature = published.read(published_path)
    return write_texts(output, table(rows(results, literature)).texts())
