#!/usr/bin/env python3
"""Write the tables of README.md and docs/paper.md anew from results/reference: `make readme`.

Each table stands between a pair of comments that name it. Everything in it is computed from the
runs and from resources/published.csv; tests/test_docs.py fails if a page says anything else.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import sws
from sws.runs import published

ROOT = Path(__file__).resolve().parents[1]
NOT_RUN = "not run yet"
OURS = "soft-weight-sharing"

NETWORKS = {
    ("lenet-300-100", "mnist"): "LeNet-300-100, MNIST",
    ("lenet-5-caffe", "mnist"): "LeNet-5-Caffe, MNIST",
    ("wrn-16-4", "cifar-10"): "Wide ResNet 16-4, CIFAR-10",
    ("wrn-16-4", "cifar-100"): "Wide ResNet 16-4, CIFAR-100",
    ("vgg-16", "cifar-10"): "VGG-16, CIFAR-10",
}
NO_RATIO = {
    ("wrn-16-4", "cifar-100"): ("28.23 → –", "The paper never compressed it"),
    ("vgg-16", "cifar-10"): ("–", "The paper has no result to compare with"),
}
METHODS = {
    "network-surgery": "network surgery, then k-means and our refinement",
    "spike-slab": "spike and slab, then the same",
    "soft-weight-sharing": "**soft weight-sharing**",
    "no-prior": "no prior: gradual pruning to our size, then the same",
    "deep-compression": "Deep Compression",
    "post-hoc-mixture": "a mixture fitted afterwards, no retraining",
}


def runs() -> pd.DataFrame:
    return sws.results(ROOT / "results" / "reference")


def spread(values: pd.Series, digits: int) -> str:
    """Mean ± standard deviation over seeds; the mean alone of a single run."""
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std():.{digits}f}"


def ratio(values: pd.Series) -> str:
    return spread(values, 0 if values.mean() >= 50 else 1)


def point(frame: pd.DataFrame, pair: tuple[str, str], method: str, name: str) -> pd.DataFrame:
    chosen = frame[(frame["method"] == method) & (frame["point"] == name)]
    return chosen[(chosen["model"] == pair[0]) & (chosen["dataset"] == pair[1])]


def reproduction(frame: pd.DataFrame) -> str:
    """Network × (paper · as written · our recipe, cut and whole · verdict)."""
    lines = [
        "| network | the paper | as written | our recipe, cut where the paper stops "
        "| our recipe | verdict |",
        "|---|---|---|---|---|---|",
    ]
    paper = {row.pair: row for row in published.read() if row.is_the_paper}
    for pair, label in NETWORKS.items():
        ours = point(frame, pair, OURS, "main")
        literal = point(frame, pair, OURS, "paper")
        cells = [label]
        if pair in paper:
            row = paper[pair]
            cells.append(
                f"{row.error_start:.2f} → {row.error_end:.2f} %, "
                f"{row.ratio:.0f} at {row.nonzero_pct:g} %"
            )
        else:
            cells.append(NO_RATIO[pair][0])
        cells.append(whole(literal) if len(literal) else NOT_RUN)
        cells.append(cut(ours) if len(ours) else NOT_RUN)
        cells.append(whole(ours) if len(ours) else NOT_RUN)
        cells.append(verdict(ours, paper[pair]) if pair in paper else NO_RATIO[pair][1])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def start(rows: pd.DataFrame) -> str:
    return f"{rows['error_start_pct'].mean():.2f}"


def cut(rows: pd.DataFrame) -> str:
    return f"{start(rows)} → {spread(rows['error_assigned_pct'], 2)} %"


def whole(rows: pd.DataFrame) -> str:
    end, left = spread(rows["error_end_pct"], 2), rows["nonzero_pct"].mean()
    return f"{start(rows)} → **{end}** %, **{ratio(rows['cr.han'])}** at {left:.1f} %"


def verdict(rows: pd.DataFrame, paper: published.Published) -> str:
    """Whether the paper's ratio is reached at no more than its rise, and under which conditions."""
    rise = rows["error_end_pct"].mean() - rows["error_start_pct"].mean()
    rise_cut = rows["error_assigned_pct"].mean() - rows["error_start_pct"].mean()
    if rows["cr.han"].mean() < paper.ratio or rise > paper.delta:
        return "Not reached"
    said = "Reached"
    if rise_cut > paper.delta:
        said += " with the steps we add, not without them"
    more = rows["nonzero_pct"].mean() / paper.nonzero_pct
    if more > 1.5:
        said += f"; with {more:.1f} times the paper's non-zeros"
    return said + ("; one seed" if len(rows) == 1 else "")


def methods(frame: pd.DataFrame) -> str:
    """The methods on the two MNIST networks, at their point `main`."""
    pairs = [pair for pair in NETWORKS if pair[1] == "mnist"]
    names = [NETWORKS[pair].removesuffix(", MNIST") for pair in pairs]
    lines = [
        "| method | " + " | ".join(f"{name}: error, % | CR file" for name in names) + " |",
        "|---|" + "---:|" * (2 * len(names)),
    ]
    first = {m: point(frame, pairs[0], m, "main")["cr.file"].mean() for m in METHODS}
    for method in sorted(METHODS, key=first.__getitem__, reverse=True):
        cells = [METHODS[method]]
        for pair in pairs:
            rows = point(frame, pair, method, "main")
            cells += [spread(rows["error_end_pct"], 2), ratio(rows["cr.file"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def steps(frame: pd.DataFrame) -> str:
    """The error after each step of our recipe."""
    lines = [
        "| network | start | retrained | assigned: where the paper stops | end |",
        "|---|---:|---:|---:|---:|",
    ]
    for pair, label in NETWORKS.items():
        rows = point(frame, pair, OURS, "main")
        if len(rows):
            errors = [f"error_{step}_pct" for step in ("start", "retrained", "assigned", "end")]
            lines.append("| " + " | ".join([label, *(spread(rows[e], 2) for e in errors)]) + " |")
    return "\n".join(lines)


PAGES = {
    "README.md": {"reproduction": reproduction, "methods": methods},
    "docs/paper.md": {"steps": steps},
}


def rewritten(page: str, frame: pd.DataFrame) -> str:
    """The text of a page with every table between its comments computed anew."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, table in PAGES[page].items():
        opening, closing = f"<!-- table: {name} -->\n", f"<!-- end: {name} -->"
        before, found, rest = text.partition(opening)
        _, ended, after = rest.partition(closing)
        if not found or not ended:
            raise SystemExit(f"error: {page} lacks the comments around its table {name!r}")
        text = f"{before}{opening}{table(frame)}\n{closing}{after}"
    return text


if __name__ == "__main__":
    reference = runs()
    for name in PAGES:
        (ROOT / name).write_text(rewritten(name, reference), encoding="utf-8")
