"""The parts of a page and the two ways to write them: HTML in light and dark, and Markdown as GitHub shows it.

No script, no font, no picture from elsewhere: a figure stands in the page itself, as a picture of its own, so that the
names inside two figures cannot meet.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Protocol

from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.figures import refuse_unmarked
from llmtool.version import __version__

TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --faint: #5b6470; --line: #d4d9e0; --paper: #fff; --stripe: #f5f7fa;
  --accent: #1f4e79; --differs: #ffe1a8; --even: #dce9f7; --odd: #eef3e2; --special: #ead9f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ec; --faint: #9aa4b0; --line: #3a424c; --paper: #14181d;
  --stripe: #1b2027; --accent: #8dbdf0; --differs: #6b4a00; --even: #1f3853; --odd: #2d3a1d; --special: #482f57; } }
body { margin: 2.5rem auto; max-width: 76rem; padding: 0 1.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; color: var(--accent); overflow-wrap: anywhere; }
h2, caption { font-size: 1.05rem; font-weight: 600; text-align: left; margin: 2rem 0 .5rem; padding: .3rem 0; }
caption { white-space: nowrap; }
.wide { overflow-x: auto; margin: 1.6rem 0 .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .28rem .8rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { border-bottom: 2px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; }
tbody tr:nth-child(even) { background: var(--stripe); }
pre { background: var(--stripe); border: 1px solid var(--line); border-radius: 6px; padding: .9rem 1.1rem;
  overflow-x: auto; font: .86rem/1.45 ui-monospace, monospace; }
.note, footer { color: var(--faint); font-size: .88rem; white-space: pre-line; }
img { max-width: 100%; background: #fff; border-radius: 6px; padding: .5rem; box-sizing: border-box; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; overflow-wrap: anywhere; }
code { font: .9em ui-monospace, monospace; }
.cut { font: 1rem/2.1 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0 1rem; }
.cut span { padding: .22rem 0; border-radius: 3px; background: var(--even); box-shadow: inset -1px 0 var(--paper); }
.cut span:nth-of-type(even) { background: var(--odd); }
.cut span.special { background: var(--special); }
.cut span[data-tokens]::after { content: attr(data-tokens); font-size: .6em; vertical-align: super;
  color: var(--faint); }
.cut span.differs { border-bottom: 3px solid #d08700; }
"""


class Block(Protocol):
    """A part of a page."""

    def html(self) -> str:
        """As HTML, everything escaped."""
        ...

    def markdown(self) -> str:
        """As Markdown."""
        ...


@dataclass(frozen=True)
class Table:
    """As Console.table takes it; numbers to the right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str | None = None

    def html(self) -> str:
        """A table with its caption."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.header)
        body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        caption = f"<caption>{escape(self.title)}</caption>"
        table = f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
        return f'<div class="wide">{table}</div>\n{note}'

    def markdown(self) -> str:
        """A table as GitHub reads it."""
        lines = [_row(self.header), _row(["---", *["---:"] * (len(self.header) - 1)])]
        lines += [_row(row) for row in self.rows]
        note = f"\n\n{_plain(self.note)}" if self.note else ""
        return f"### {_plain(self.title)}\n\n" + "\n".join(lines) + note


@dataclass(frozen=True)
class Lines:
    """Lines as a terminal shows them."""

    lines: Sequence[str]

    def html(self) -> str:
        """In a fixed pitch."""
        return f"<pre>{escape(chr(10).join(self.lines))}</pre>"

    def markdown(self) -> str:
        """As code, in a fence longer than any in the text."""
        text = "\n".join(self.lines)
        fence = "`" * max(3, 1 + max((len(run) for run in _runs(text, "`")), default=0))
        return f"{fence}text\n{text}\n{fence}"


@dataclass(frozen=True)
class Figure:
    """A figure that was drawn to a file."""

    path: Path

    def html(self) -> str:
        """A picture in the page; a kind that browsers do not show is named."""
        kind = TYPES.get(self.path.suffix.lower())
        if kind is None:
            return f'<p class="note">drawn to {escape(str(self.path))}</p>'
        data = base64.b64encode(self.path.read_bytes()).decode()
        return f'<p><img alt="figure" src="data:{kind};base64,{data}"></p>'

    def markdown(self) -> str:
        """Where it is."""
        return f"![figure](<{self.path}>)"


def html_page(title: str, blocks: Iterable[Block], command: str, mark: str) -> str:
    """The whole page; `mark` says that it is ours."""
    body = "\n".join(block.html() for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<!-- {mark} -->\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n"
        f"<footer><code>{escape(command)}</code>\nllmtool {__version__}</footer>\n</body>\n</html>\n"
    )


def markdown_page(title: str, blocks: Iterable[Block], mark: str | None) -> str:
    """The same for a comment; the mark is a comment inside it."""
    ours = [f"<!-- {mark} -->"] if mark else []
    return "\n\n".join([*ours, f"## {_plain(title)}", *(block.markdown() for block in blocks)]) + "\n"


def write(path: Path, text: str) -> None:
    """Whole or not at all, and in the place of a page of ours only."""

    def allowed() -> None:
        refuse_unmarked(path, "page")

    with atomic_file(path, allowed) as file:
        file.write(text.encode("utf-8", "replace"))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """One line in which nothing is markup."""
    kept = " ".join(text.split("\n"))
    for mark in "\\`*_[]<>":
        kept = kept.replace(mark, "\\" + mark)
    return kept


def _runs(text: str, mark: str) -> list[str]:
    """Unbroken runs of a character."""
    return "".join(mark if c == mark else " " for c in text).split()
