"""Tables as pages for a browser: the same text as the Markdown, where nobody renders that.

Knows the Markdown that this package writes: headings, tables, lists, paragraphs, bold.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; margin: 1.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0 0 1.2rem; }
th { text-align: left; vertical-align: bottom; border-bottom: 2px solid #444; }
th, td { padding: .25rem .7rem; }
td { border-bottom: 1px solid #ddd; white-space: nowrap; }
th.number, td.number { text-align: right; }
tr:hover td { background: #f2f5f9; }
p, li { max-width: 50rem; }
"""


def pages(texts: Mapping[str, str]) -> dict[str, str]:
    """The texts, by file name, with a page for every Markdown file among them."""
    made = {
        f"{name.removesuffix('.md')}.html": from_markdown(text)
        for name, text in texts.items()
        if name.endswith(".md")
    }
    return {**texts, **made}


def from_markdown(text: str) -> str:
    """A whole page, which needs no other file."""
    title = re.search(r"^# (.*)$", text, re.MULTILINE)
    head = f"<title>{html.escape(title[1] if title else 'Table')}</title><style>{STYLE}</style>"
    body = "\n".join(_block(block.splitlines()) for block in re.split(r"\n\s*\n", text.strip()))
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8">{head}\n{body}\n</html>\n'


def _block(lines: list[str]) -> str:
    if not lines:
        return ""
    if heading := re.match(r"(#+) (.*)", lines[0]):
        level = min(6, len(heading[1]))
        return f"<h{level}>{_inline(heading[2])}</h{level}>" + _block(lines[1:])
    if lines[0].startswith("|"):
        return "\n".join(["<table>", *_table(lines), "</table>"])
    if lines[0].startswith("- "):
        items = "\n".join(lines).removeprefix("- ").split("\n- ")
        return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _table(lines: list[str]) -> Iterator[str]:
    rows = [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in lines
    ]
    classes = [' class="number"' if rule.endswith(":") else "" for rule in rows[1]]
    for tag, row in (("th", rows[0]), *(("td", row) for row in rows[2:])):
        cells = zip(row, classes, strict=True)
        yield "<tr>" + "".join(f"<{tag}{c}>{_inline(cell)}</{tag}>" for cell, c in cells) + "</tr>"


def _inline(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text, quote=False))
