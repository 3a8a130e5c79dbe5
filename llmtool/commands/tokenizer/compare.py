"""Tokenizers compared on files: what `llmtool tokenizer compare` does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmtool.commands.tokenizer.settings import CompareSettings
from llmtool.core.bpe.comparison import Comparison, Row, compare
from llmtool.core.bpe.comparison_baseline import against, unknown
from llmtool.core.bpe.side_by_side import MOST, SideBySide
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.readers import Reading, read_documents, total_bytes
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.page import Page

MOST_SHOWN = 6
"""Texts that are shown side by side."""


def compare_files(
    tokenizers: Mapping[str, BaseTokenizer],
    corpora: Sequence[str],
    settings: CompareSettings | None = None,
    *,
    reading: Reading | None = None,
    read: Sequence[str | Path] = (),
    console: Console = QUIET,
    **named_settings: Any,
) -> Comparison:
    """Measure on files, each a corpus of its own; settings, reading: as objects or by their options' names.

    reference: JSONL whose rows carry the same `id` as their translations in the corpora; parity refers to it.
    plot: PNG or SVG to draw; one that exists is replaced with `force` only. read: where the tokenizers came from.
    """
    reading, named_settings = Reading.split(reading, named_settings)
    asked = CompareSettings.of(settings, named_settings)
    reference, plot = asked.reference, asked.plot
    if not tokenizers:
        raise UserError("no tokenizer to measure", hint="name one or more")
    report, names = ReadReport(), short_names(corpora)
    named, begun = dict(zip(corpora, names, strict=True)), dict[str, str]()
    whole = any(tokenizer.needs_whole() for tokenizer in tokenizers.values())
    read = [*read, *corpora, *(name for name in (reference, asked.baseline) if name)]
    claim_figure(plot, read=read, force=asked.force)
    with console.progress("comparing", total_bytes(corpora, reading), "B") as bar:

        def rows(path: str, count: Callable[[int], None] | None) -> Iterator[Row]:
            for document in read_documents([path], reading, whole=whole, report=report, on_bytes=count):
                begun.setdefault(named.get(path, ""), document.text[: 8 * MOST].decode("utf-8", "replace"))
                yield Row(document.text, document.id)

        comparison = compare(
            tokenizers,
            {name: rows(path, bar.advance) for name, path in zip(names, corpora, strict=True)},
            reference=None if reference is None else rows(reference, None),
            alpha=asked.alpha,
            rare=asked.rare,
            threads=asked.threads,
        )
    report.say(console)
    for name, entry in comparison.measured.items():
        if entry.lost:
            entry.lost.say(console, f"{name}: ")
    texts = {f"text {n}": text for n, text in enumerate(asked.show_text, 1)} or begun
    shown = [SideBySide.of(name, text, tokenizers) for name, text in texts.items() if text.strip()]
    comparison = replace(comparison, cuts=tuple(shown[:MOST_SHOWN]))
    if plot:
        from llmtool.core.bpe.comparison_plot import plot as draw

        draw(comparison, plot)
    return comparison


def show(comparison: Comparison, settings: CompareSettings, console: Console) -> list[dict[str, Any]] | None:
    """The tables, and for a page the texts side by side; what is worse than the baseline allows, None without one."""
    for table in comparison.tables():
        console.table(*table, result=True)
    if isinstance(console, Page):
        for block in comparison.cuts:
            console.add(block)
    if settings.baseline is None:
        return None
    rows = against(comparison, settings.baseline)
    cells = [
        [row["tokenizer"], row["corpus"], *(f"{row[when]:.4f}" for when in ("before", "now")), f"{row['worse']:.2%}"]
        for row in rows
    ]
    header = ["tokenizer", "corpus", "before", "now", "worse by"]
    note = f"bytes a token; {settings.max_worse:.2%} less is allowed"
    console.table(f"Against {settings.baseline}", header, cells, note, result=True)
    if left := unknown(comparison, rows):
        console.warn(f"{settings.baseline} has nothing of {', '.join(left)}: not checked")
    worse = [row for row in rows if row["worse"] > settings.max_worse]
    for row in worse:
        console.warn(f"{row['tokenizer']} on {row['corpus']}: {row['worse']:.2%} fewer bytes a token than before")
    return worse


def short_names(paths: Sequence[str]) -> list[str]:
    """File names without suffix, or whole paths where those are not distinct."""
    if len(set(paths)) < len(paths):
        repeated = next(path for path in paths if paths.count(path) > 1)
        raise UserError("named twice", where=repeated, hint="name each file once")
    stems = [Path(path).name.split(".")[0] or path for path in paths]
    return stems if len(set(stems)) == len(stems) else list(paths)
