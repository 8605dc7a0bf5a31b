"""The literature's numbers, with what kind of ratio each one is.

``resources/published.csv`` restates published results. ``model_id`` names one of our models only
where the source used the same network; everything else is context and never compared.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sws.environment import CHECKOUT
from sws.runs.records import Pair, ResultsError

DEFAULT = CHECKOUT / "resources" / "published.csv"

RATIO_CLASSES = {
    "FILE": "size of a file that decodes",
    "CODED": "size of an entropy-coded stream",
    "BITS": "bits counted by formula, nothing written",
    "VALUES": "bits of the values alone, positions left out",
    "MASK32": "32-bit values and a one-bit mask",
    "COUNT": "parameters kept, not bytes",
}
"""From what is closest to our cr_file to what is furthest from it."""

THE_PAPER = "Ullrich et al., Soft Weight-Sharing"


@dataclass(frozen=True)
class Published:
    """One published result; None where the source does not say."""

    paper: str
    year: int
    model: str
    dataset: str
    error_start: float | None
    error_end: float | None
    nonzero_pct: float | None
    size_kb: float | None
    ratio: float | None
    ratio_class: str
    evidence: str

    @property
    def pair(self) -> Pair:
        return self.model, self.dataset

    @property
    def is_the_paper(self) -> bool:
        return self.paper == THE_PAPER

    @property
    def delta(self) -> float | None:
        if self.error_start is None or self.error_end is None:
            return None
        return self.error_end - self.error_start

    @property
    def label(self) -> str:
        """Short name: first author and year, with what tells its variant apart."""
        author, _, title = self.paper.partition(", ")
        return f"{author.removesuffix(' et al.')} {self.year}" + (f", {title}" if title else "")


def read(path: Path | None = None) -> list[Published]:
    """Read the published results of networks that are ours too.

    Raises
    ------
    ResultsError
        If the file is missing or a row is not readable.
    """
    path = DEFAULT if path is None else Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [_published(row) for row in rows if row["model_id"]]
    except FileNotFoundError:
        raise ResultsError(f"{path}: missing; restore it with 'git checkout {path}'") from None
    except (KeyError, ValueError) as error:
        raise ResultsError(f"{path}: unreadable ({error!r}); restore it from git") from None


def _published(row: dict[str, str]) -> Published:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    if row["ratio_class"] and row["ratio_class"] not in RATIO_CLASSES:
        raise ValueError(f"ratio class {row['ratio_class']}")
    return Published(
        paper=row["paper"],
        year=int(row["year"]),
        model=row["model_id"],
        dataset=row["dataset"].lower(),
        error_start=number("error_start_pct"),
        error_end=number("error_end_pct"),
        nonzero_pct=number("nonzero_pct"),
        size_kb=number("size_kb"),
        ratio=number("ratio"),
        ratio_class=row["ratio_class"],
        evidence=row["evidence"],
    )


def of_pair(rows: Iterable[Published], pair: Pair) -> list[Published]:
    """Results on one pair: the paper first, then by kind of ratio, then by ratio, largest first."""
    order = list(RATIO_CLASSES)

    def rank(row: Published) -> tuple:
        kind = order.index(row.ratio_class) if row.ratio_class else len(order)
        return not row.is_the_paper, row.ratio is None, kind, -(row.ratio or 0.0), row.year

    return sorted((row for row in rows if row.pair == pair), key=rank)


def counterpart(rows: Iterable[Published], pair: Pair, paper: str | None) -> Published | None:
    """A paper's row on a pair, if there is one; of no paper there is none."""
    return next((row for row in rows if row.pair == pair and row.paper == paper), None)
