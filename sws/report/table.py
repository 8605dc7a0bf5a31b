"""One table, four renderings: CSV for programs; Markdown, a web page and LaTeX for people.

A :class:`Table` holds its numbers once as records, which the CSV shows in full, and once as blocks
of text cells, which the others show. Each module beside this one makes such tables; none of them
writes markup.
"""

from __future__ import annotations

import csv
import html
import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sws.files import write_text

Record = dict[str, Any]
"""A row for programs: column → value."""

WIDTH = 99  # of a line of Markdown that is no row


@dataclass(frozen=True)
class Line:
    """A row for people.

    Attributes
    ----------
    cells : sequence of str
        One for each heading; a single one is a heading of its own, across the block.
    strong : bool
        Whether the row is the one to look at first.
    """

    cells: Sequence[str]
    strong: bool = False

    @property
    def spans(self) -> bool:
        """Whether it is a heading across the block."""
        return len(self.cells) == 1


@dataclass(frozen=True)
class Block:
    """Rows for people that share their headings.

    Attributes
    ----------
    title : str
        Empty if the table has one block only.
    headings : sequence of str
        Of the columns.
    lines : sequence of Line
        The rows.
    text : frozenset of str
        Headings of the columns that hold words; the others hold numbers, set to the right.
    remark : str
        A paragraph beneath the rows.
    verdict : str
        A paragraph above the rows: what they amount to.
    """

    title: str
    headings: Sequence[str]
    lines: Sequence[Line]
    text: frozenset[str] = frozenset()
    remark: str = ""
    verdict: str = ""

    def is_text(self, column: int) -> bool:
        return column == 0 or self.headings[column] in self.text


@dataclass(frozen=True)
class Table:
    """A table for programs and for people.

    Attributes
    ----------
    name : str
        Of its files, without an ending.
    title : str
        Its heading.
    caption : str
        What to see in it, and how to read it.
    columns : sequence of str
        Of the CSV.
    records : sequence of dict
        Rows of the CSV: column → value.
    blocks : sequence of Block
        What people see.
    notes : sequence of str
        What the headings mean, a paragraph each.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    records: Sequence[Record]
    blocks: Sequence[Block] = ()
    notes: Sequence[str] = field(default=())

    def to_csv(self) -> str:
        """All columns of all records."""
        return to_csv(self.records, self.columns)

    def to_markdown(self) -> str:
        """Caption, blocks, notes; paragraphs are wrapped, rows are not."""
        parts = [f"# {self.title}", _wrapped(self.caption)]
        for block in self.blocks:
            parts += [f"## {block.title}"] if block.title else []
            parts += [_wrapped(f"**{block.verdict}**")] if block.verdict else []
            parts.append("\n".join(_markdown_rows(block)))
            parts += [_wrapped(block.remark)] if block.remark else []
        return "\n\n".join([*parts, *map(_wrapped, self.notes)]) + "\n"

    def to_html(self) -> str:
        """A whole page, which needs no other file."""
        head = f"<title>{html.escape(self.title)}</title><style>{STYLE}</style>"
        parts = [f"<h1>{_escape(self.title)}</h1>", f"<p>{_escape(self.caption)}</p>"]
        for block in self.blocks:
            parts += [f"<h2>{_escape(block.title)}</h2>"] if block.title else []
            verdict = _escape(block.verdict)
            parts += [f'<p class="verdict">{verdict}</p>'] if verdict else []
            parts.append("\n".join(['<div class="wide"><table>', *_html_rows(block), "</table>"]))
            parts[-1] += "</div>"
            parts += [f"<p>{_escape(block.remark)}</p>"] if block.remark else []
        parts += [f'<p class="note">{_escape(note)}</p>' for note in self.notes]
        body = "\n".join(parts)
        return f'<!doctype html>\n<html lang="en"><meta charset="utf-8">{head}\n{body}\n</html>\n'

    def to_latex(self) -> str:
        """A ``table*`` that needs only the package booktabs.

        Raises
        ------
        ValueError
            If the blocks do not share their headings: one tabular has one head.
        """
        headings = {tuple(block.headings) for block in self.blocks}
        if len(headings) != 1:
            raise ValueError(f"{self.name}: the blocks have {len(headings)} sets of headings")
        first = self.blocks[0]
        shape = "".join("l" if first.is_text(i) else "r" for i in range(len(first.headings)))
        lines = [
            "% Needs \\usepackage{booktabs}.",
            "\\begin{table*}",
            "\\centering\\scriptsize\\setlength{\\tabcolsep}{3pt}",
            f"\\begin{{tabular}}{{{shape}}}",
            "\\toprule",
            " & ".join(map(_tex, first.headings)) + " \\\\",
        ]
        for block in self.blocks:
            if block.title:
                lines += ["\\midrule", _tex_span(block.title, len(shape), "textbf")]
            for line in block.lines:
                if line.spans:
                    lines.append(_tex_span(line.cells[0], len(shape), "textit"))
                    continue
                cells = [_tex(cell) for cell in line.cells]
                cells = [f"\\textbf{{{c}}}" if line.strong and c else c for c in cells]
                lines.append(" & ".join(cells) + " \\\\")
        lines += ["\\bottomrule", "\\end{tabular}"]
        said = [self.caption, *(f"{b.title}: {b.verdict}" for b in self.blocks if b.verdict)]
        notes = " ".join(_tex(text) for text in (*said, *self.notes))
        lines += [f"\\caption{{{notes}}}", f"\\label{{tab:sws-{self.name}}}", "\\end{table*}"]
        return "\n".join(lines) + "\n"

    def texts(self, latex: bool = False) -> dict[str, str]:
        """Name of a file → what is in it."""
        found = {
            f"{self.name}.csv": self.to_csv(),
            f"{self.name}.md": self.to_markdown(),
            f"{self.name}.html": self.to_html(),
        }
        return found | ({f"{self.name}.tex": self.to_latex()} if latex else {})


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write texts by file name, each by rename; makes the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [write_text(folder / name, text) for name, text in texts.items()]


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────


def to_csv(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Records as CSV text; None is empty, a float has up to ten digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        writer.writerow([_plain(record.get(column)) for column in columns])
    return text.getvalue()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return format(value, ".10g") if isinstance(value, float) else str(value)


def _digits(value: float) -> int:
    return 2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0


def number(value: float | None, sd: float | None = None, digits: int | None = None) -> str:
    """A mean with its deviation in digits that make sense, or an en dash.

    Parameters
    ----------
    value : float or None
        The mean; None is a dash.
    sd : float or None
        Its deviation; None shows the mean alone.
    digits : int or None
        Decimals; by default as many as the size of the mean bears.
    """
    if value is None:
        return "–"
    digits = _digits(value) if digits is None else digits
    text = f"{value:,.{digits}f}"
    return text if sd is None else f"{text} ± {sd:,.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign, a true minus among them, or an en dash."""
    return "–" if value is None else f"{value:+,.{digits}f}".replace("-", "−")


# ── markup ──────────────────────────────────────────────────────────────────────────────────────


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)


def _markdown_rows(block: Block) -> Iterator[str]:
    yield "| " + " | ".join(block.headings) + " |"
    yield "|" + "".join("---|" if block.is_text(i) else "---:|" for i in range(len(block.headings)))
    for line in block.lines:
        cells = [cell.replace("|", "\\|") for cell in line.cells]
        if line.spans:
            cells = [f"*{cells[0]}*", *[""] * (len(block.headings) - 1)]
        elif line.strong:
            cells = [f"**{cell}**" if cell else cell for cell in cells]
        yield "| " + " | ".join(cells) + " |"


STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1b1b1b; margin: 1.2rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .5rem; }
p { max-width: 56rem; margin: .5rem 0; }
.verdict { font-weight: 600; border-left: 4px solid #0b3c6f; padding-left: .7rem; }
.note { color: #444; font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th { text-align: left; vertical-align: bottom; border-bottom: 2px solid #444; }
th, td { padding: .22rem .5rem; }
td { border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
td:first-child { white-space: normal; min-width: 10rem; max-width: 15rem; }
td:not(.number):not(:first-child) { white-space: normal; max-width: 22rem; }
th.number, td.number { text-align: right; }
tr.strong td { font-weight: 700; background: #e8eff7; }
tr.span td { font-style: italic; color: #444; padding-top: .7rem; max-width: none; }
tr:hover td { background: #f2f5f9; }
"""


def _html_rows(block: Block) -> Iterator[str]:
    classes = ["" if block.is_text(i) else ' class="number"' for i in range(len(block.headings))]
    heads = zip(block.headings, classes, strict=True)
    yield "<tr>" + "".join(f"<th{c}>{_escape(head)}</th>" for head, c in heads) + "</tr>"
    for line in block.lines:
        if line.spans:
            across = f'<td colspan="{len(classes)}">{_escape(line.cells[0])}</td>'
            yield f'<tr class="span">{across}</tr>'
            continue
        cells = zip(line.cells, classes, strict=True)
        row = "".join(f"<td{c}>{_escape(cell)}</td>" for cell, c in cells)
        yield f'<tr class="strong">{row}</tr>' if line.strong else f"<tr>{row}</tr>"


def _escape(text: str) -> str:
    return html.escape(text, quote=False)


_TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%#_{}$"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "±": r"$\pm$",
        "−": r"$-$",
        "–": "--",
        "†": r"$^\dagger$",
        "×": r"$\times$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "→": r"$\to$",
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)


def _tex_span(text: str, columns: int, style: str) -> str:
    return f"\\multicolumn{{{columns}}}{{l}}{{\\{style}{{{_tex(text)}}}}} \\\\"
