"""What a command found as one page: HTML that needs nothing but itself, or Markdown for a comment in CI.

A `Page` is the command's console. The tables and lines that people see are kept in their order, and the figure that
`--plot` would draw stands between them, so that a page says what the terminal said, and nothing has to be told twice.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from llmtool.core.run.atomic import STDOUT, is_stream
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.figures import claim_marked, mark
from llmtool.core.run.outputs import refuse_overlap
from llmtool.core.run.processes import leads
from llmtool.core.run.settings import Option, Settings

if TYPE_CHECKING:
    from llmtool.core.run.page_blocks import Block

S = TypeVar("S", bound=Settings)

FIGURE = "figure.svg"
HTML = (".html", ".htm")
MARKDOWN = (".md", ".markdown", ".txt", "")
"""Endings of the two forms; GitHub's own $GITHUB_STEP_SUMMARY, which Markdown is written to, has none."""


@dataclass(frozen=True, kw_only=True)
class Pages(Settings):
    """Where the result is written as a page."""

    html: Annotated[
        Path | None, Option("Also write a page that needs nothing but itself.", metavar="FILE", matters=False)
    ] = None
    markdown: Annotated[
        Path | None,
        Option("Also write Markdown, for a comment in CI; - prints it instead.", metavar="FILE", matters=False),
    ] = None

    @contextmanager
    def open(
        self,
        title: str,
        console: Console,
        *,
        read: Iterable[str | Path] = (),
        force: bool = False,
        grows: bool = False,
        muted: bool = False,
    ) -> "Iterator[Page]":
        """The console that keeps what it shows, written at the end of the block; nothing is where nothing was asked.

        read: what the command reads, which no page replaces. muted: results are kept and not shown, as under --json.
        grows: of a run that goes on, perhaps typed otherwise than it was begun: another command's page is replaced
        without `force`, which would start it over, and that is said.
        """
        from shutil import rmtree
        from tempfile import mkdtemp

        if not leads():  # of a run of several processes the first one writes
            yield Page(title, console, muted=muted)
            return
        if muted and self.markdown == STDOUT:
            raise UserError("--json and --markdown - both print the result", hint="write one of them to a file")
        read = list(read)
        places = [path for path in (self.html, self.markdown) if path is not None and path != STDOUT]
        refuse_overlap(places, read)
        _refuse_ending("--html", self.html, HTML)
        _refuse_ending("--markdown", self.markdown, MARKDOWN)
        for path in places:
            claim_marked(path, "page", read=read, force=force or grows)
            if grows and not force and path.exists() and not is_stream(path) and not _is_ours(path):
                console.info(f"{path}: is replaced; it was written by a command that was typed otherwise")
        drawn = Path(mkdtemp(prefix="llmtool-page-")) if self.html else None
        page = Page(title, console, drawn, muted=muted or self.markdown == STDOUT)
        page.missing = not all(path.exists() and (is_stream(path) or _is_ours(path)) for path in places)
        try:
            yield page
            page.write(self)
        except CompleteError:
            if page.missing and page.blocks:
                page.write(self)
            raise
        finally:
            if drawn:
                rmtree(drawn, ignore_errors=True)


class Page(Console):
    """A console that keeps what it shows as blocks; see Pages.open."""

    def __init__(self, title: str, console: Console, drawn: Path | None = None, *, muted: bool = False) -> None:
        super().__init__(console.verbosity)
        self.title, self.muted = title, muted
        self.missing = False
        """Whether a page was asked for that this command has not written yet, though its output may be complete."""
        self.blocks: list[Block] = []
        self._console, self._drawn = console, drawn
        self._figure = drawn / FIGURE if drawn else None

    def info(self, message: str) -> None:
        """As every console; the figure that is drawn for the page alone is not spoken of."""
        if self._drawn is None or str(self._drawn) not in message:
            self._console.info(message)

    def table(
        self,
        title: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        note: str | None = None,
        *,
        result: bool = False,
    ) -> None:
        """Shown as by every console, and kept."""
        from llmtool.core.run.page_blocks import Table

        self.blocks.append(Table(title, list(header), [list(row) for row in rows], note))
        if not (self.muted and result):
            self._console.table(title, header, rows, note, result=result)

    def result(self, lines: Iterable[str]) -> None:
        """Printed as by every console, and kept."""
        from llmtool.core.run.page_blocks import Lines

        kept = list(lines)
        self.blocks.append(Lines(kept))
        if not self.muted:
            self._console.result(kept)

    def add(self, block: "Block") -> None:
        """Keep what is for the page alone."""
        self.blocks.append(block)

    def drawing(self, settings: S) -> S:
        """The settings with a figure for the page, where --plot draws none and something to draw with is installed."""
        if not hasattr(settings, "plot"):  # a command without figures
            return settings
        asked: Path | None = settings.plot
        if asked is not None:
            self.figure(asked)
            return settings
        if self._figure is None or find_spec("matplotlib") is None:
            return settings
        return replace(settings, plot=self._figure)  # type: ignore[type-var]

    def figure(self, path: Path) -> None:
        """The figure that the page shows, if it is there in the end."""
        self._figure = path if self._drawn else None

    def write(self, pages: Pages) -> None:
        """The files that were asked for."""
        from llmtool.core.run import page_blocks

        if pages.html:
            figures = [self._figure] if self._figure and self._figure.is_file() else []
            blocks: list[Any] = [*self.blocks, *map(page_blocks.Figure, figures)]
            page_blocks.write(pages.html, page_blocks.html_page(self.title, blocks, command(), mark()))
            self._console.info(f"{pages.html}: written")
        if pages.markdown == STDOUT:
            print(page_blocks.markdown_page(self.title, self.blocks, None), end="")
        elif pages.markdown:
            page_blocks.write(pages.markdown, page_blocks.markdown_page(self.title, self.blocks, mark()))
            self._console.info(f"{pages.markdown}: written")


def unfinished(console: Console, figure: Path | None) -> bool:
    """Whether a figure or a page is still to be made beside an output that is complete: a run may end between them."""
    return (figure is not None and not figure.exists()) or (isinstance(console, Page) and console.missing)


def _is_ours(path: Path) -> bool:
    """Whether the same command wrote it."""
    return mark().encode() in path.read_bytes()


def _refuse_ending(option: str, path: Path | None, endings: Sequence[str]) -> None:
    """One line where a name says that the file is something else: a page opens by its ending."""
    if path is None or path.suffix.lower() in endings:
        return
    if (endings is MARKDOWN) if path == STDOUT else is_stream(path):
        return
    what, known = ("HTML", "html") if endings is HTML else ("Markdown", "md")
    raise UserError(f"{option} {path}: no {what} by its name", hint=f"a name that ends in .{known}")


def command() -> str:
    """What was typed."""
    import shlex

    return shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "llmtool"), *sys.argv[1:]])
