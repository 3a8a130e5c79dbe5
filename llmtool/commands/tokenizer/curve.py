"""Bytes a token by the size of the vocabulary, from one training: what `llmtool tokenizer train --curve` does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.commands.tokenizer.settings import TrainTokenizerSettings
from llmtool.commands.tokenizer.usage import usage
from llmtool.core.bpe.size_curve import refuse_other, tokens_at
from llmtool.core.corpus.readers import Reading, parse_size
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import amount
from llmtool.tokenizer import Tokenizer

Points = list[tuple[int, float]]
"""(size, bytes a token)."""


def curve_sizes(asked: TrainTokenizerSettings) -> list[int]:
    """The sizes of --curve in their order, and --vocab-size; empty without --curve."""
    if asked.curve is None:
        if asked.curve_text or asked.plot:
            raise UserError("--curve-text and --plot go with --curve", hint="--curve 8K,16K,32K")
        return []
    sizes = sorted({amount(word.strip(), "--curve") for word in asked.curve.split(",")} | {asked.vocab_size})
    if sizes[-1] > asked.vocab_size:
        what = f"--curve {asked.curve}: --vocab-size {asked.vocab_size:,} is trained, and no more"
        raise UserError(what, hint=f"--vocab-size {sizes[-1]}")
    return sizes


def draw_curve(
    tokenizer: Tokenizer,
    inputs: Sequence[str],
    sizes: list[int],
    asked: TrainTokenizerSettings,
    reading: Reading,
    console: Console,
) -> dict[str, Any]:
    """Measure, say, and draw where a file is named; {"curve": {text: [{"size", "bytes_per_token"}]}}."""
    refuse_other(tokenizer.definition)
    reached = tokenizer.token_count
    sizes = sorted({min(size, reached) for size in sizes})
    limit = None if asked.limit_bytes is None else parse_size(asked.limit_bytes)
    texts = [[text] for text in asked.curve_text] or [list(inputs)]
    names = [Path(text).name for text in asked.curve_text] or ["training text"]
    found: dict[str, Points] = {}
    for name, text in zip(names, texts, strict=True):
        own = limit if not asked.curve_text else None
        used = usage(tokenizer, text, reading, console, limit_bytes=own, threads=asked.threads)
        tokens = tokens_at(tokenizer.definition, used.counts, sizes)
        found[name] = [(size, used.bytes / max(1, number)) for size, number in zip(sizes, tokens, strict=True)]
    rows = [
        [f"{size:,}", *(f"{points[place][1]:.3f}" for points in found.values())] for place, size in enumerate(sizes)
    ]
    console.table("bytes a token by size", ["vocabulary", *found], rows, "one training: smaller ones are its beginning")
    if asked.plot:
        _plot(found, asked.plot)
    return {
        "curve": {
            name: [{"size": size, "bytes_per_token": value} for size, value in points] for name, points in found.items()
        }
    }


def _plot(found: dict[str, Points], path: Path) -> None:
    from matplotlib.figure import Figure

    from llmtool.core.run.figures import save_figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in found.items():
        axes.plot([size for size, _ in points], [value for _, value in points], "o-", label=name, markersize=4)
    axes.set_xscale("log", base=2)
    sizes = [size for size, _ in next(iter(found.values()))]
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
    axes.minorticks_off()
    axes.set_xlabel("vocabulary, tokens")
    axes.set_ylabel("bytes a token")
    axes.set_title("Compression by size of the vocabulary (higher is better)", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    save_figure(figure, path)
