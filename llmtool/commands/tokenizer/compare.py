"""Tokenizers compared on files: what `llmtool tokenizer compare` does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmtool.commands.tokenizer.settings import CompareSettings
from llmtool.core.bpe.comparison import Comparison, Row, compare
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.readers import Reading, read_documents, total_bytes
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.figures import claim_figure


def compare_files(
    tokenizers: Mapping[str, BaseTokenizer],
    corpora: Sequence[str],
    settings: CompareSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> Comparison:
    """Measure on files, each a corpus of its own; settings, reading: as objects or by their options' names.

    reference: JSONL whose rows carry the same `id` as their translations in the corpora; parity refers to it.
    plot: PNG or SVG to draw; one that exists is replaced with `force` only.
    """
    reading, named_settings = Reading.split(reading, named_settings)
    asked = CompareSettings.of(settings, named_settings)
    reference, plot = asked.reference, asked.plot
    if len(tokenizers) < 2:
        raise UserError("one tokenizer cannot be compared", hint="name two or more")
    report = ReadReport()
    whole = any(tokenizer.needs_whole() for tokenizer in tokenizers.values())
    claim_figure(plot, read=[*corpora, *([reference] if reference else [])], force=asked.force)
    with console.progress("comparing", total_bytes(corpora, reading), "B") as bar:

        def rows(path: str, count: Callable[[int], None] | None) -> Iterator[Row]:
            for document in read_documents([path], reading, whole=whole, report=report, on_bytes=count):
                yield Row(document.text, document.id)

        names = short_names(corpora)
        comparison = compare(
            tokenizers,
            {name: rows(path, bar.advance) for name, path in zip(names, corpora, strict=True)},
            reference=None if reference is None else rows(reference, None),
            alpha=asked.alpha,
            rare=asked.rare,
            threads=asked.threads,
        )
    report.say(console)
    if plot:
        from llmtool.core.bpe.comparison_plot import plot as draw

        draw(comparison, plot)
    return comparison


def short_names(paths: Sequence[str]) -> list[str]:
    """File names without suffix, or whole paths where those are not distinct."""
    if len(set(paths)) < len(paths):
        repeated = next(path for path in paths if paths.count(path) > 1)
        raise UserError("named twice", where=repeated, hint="name each file once")
    stems = [Path(path).name.split(".")[0] or path for path in paths]
    return stems if len(set(stems)) == len(stems) else list(paths)
