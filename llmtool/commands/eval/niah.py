"""`llmtool eval niah`: needles in haystacks, by length and depth."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.eval.loss import MICRO_TOKENS, refuse_ids_out_of_range
from llmtool.commands.eval.settings import NiahSettings
from llmtool.commands.options import method_settings
from llmtool.commands.sources import find_tokenizer, open_source, parse_sources
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.figures import claim_figure
from llmtool.model import Model, load_model
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch

LENGTHS, DEPTHS = 4, (0.0, 0.25, 0.5, 0.75, 1.0)


def needles(
    checkpoint: str | Path,
    data: Sequence[str] = (),
    settings: NiahSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Needle in a haystack over lengths and depths.

    data: text or tokens to hide needles in; without it the haystack is random ids. kind: "words" (needs a tokenizer),
    "ids", or "auto": words where the haystack is text. reading: of text.

    >>> import llmtool
    >>> llmtool.eval.niah("model", samples=1, length=[32], depth=[0.5])["cells"][0]["length"]
    32
    """
    reading, named_settings = Reading.split(reading, named_settings, NiahSettings)
    asked = NiahSettings.of(settings, named_settings)
    kind, samples, seed, plot = asked.kind, asked.samples, asked.seed, asked.plot
    require("torch", extra="models", why="to run models")
    import torch

    from llmtool.core.eval import niah
    from llmtool.core.eval.plot import draw_needles
    from llmtool.core.kernels.cpu import use_threads

    use_threads(asked.threads)
    named = [source.path for source in parse_sources(data)]
    claim_figure(plot, read=[checkpoint, *named, *filter(None, [asked.tokenizer])], force=asked.force)
    model = load_model(checkpoint, asked.dtype, asked.device, settings=method_settings(asked.set))
    if model.note:
        console.info(model.note)
    codec = find_tokenizer(asked.tokenizer, model.path, console)
    kind = ("words" if codec is not None and data else "ids") if kind == "auto" else kind
    size = model.config.vocab_size if codec is None else min(model.config.vocab_size, codec.vocab_size)
    if kind == "words" and codec is None:
        raise UserError("needles of words need a tokenizer", where=str(checkpoint), hint="--kind ids, or --tokenizer")
    if kind == "ids" and size < asked.key + asked.value + 1:
        raise UserError(f"a vocabulary of {size} is too small for needles of {asked.key + asked.value} different ids")
    draw_needle = niah.spelled_needle(codec.encode) if kind == "words" and codec else niah.random_needle(
        range(size), asked.key, asked.value)  # fmt: skip
    longest = model.config.max_position_embeddings
    depths = asked.depth or DEPTHS
    lengths = asked.length or [longest * (part + 1) // LENGTHS for part in range(LENGTHS)]
    import numpy as np

    least = max(niah.shortest(draw_needle(np.random.default_rng((seed, number)))) for number in range(samples))
    for length in lengths:
        if length < least:
            raise UserError(f"{length} tokens do not hold a needle and its question", hint=f"{least} at least")
    if max(lengths) > longest:
        console.warn(f"{max(lengths):,} tokens, but the model was made for {longest:,}")
    haystack = open_haystack(data, codec, model, console, max(lengths), size, reading, asked.bin_dtype)

    @torch.inference_mode()
    def last_logits(ids: "torch.Tensor", last: int) -> "torch.Tensor":
        h, _ = model.decoder.hidden(ids.to(model.device))
        return model.decoder.logits(h[:, -last:])

    with console.progress("searching", samples * len(lengths) * len(depths), "needles") as bar:
        cells = niah.search(last_logits, haystack, draw_needle, lengths, depths, samples=samples, seed=seed,
                            rows=max(1, MICRO_TOKENS // max(lengths)), done=bar.advance)  # fmt: skip
    if plot:
        draw_needles(cells, plot, f"{Path(checkpoint).name}: needles of {kind} found,\n% of {samples} a cell")
        console.info(f"{plot}: drawn")
    return {
        "schema": "llmtool.eval-niah/1", "checkpoint": str(checkpoint), "kind": kind, "samples": samples,
        "recall": sum(cell.recall for cell in cells) / len(cells), "cells": [asdict(cell) for cell in cells],
    }  # fmt: skip


def needle_table(report: dict[str, Any], console: Console) -> None:
    """Recall for people: depths down, lengths across."""
    cells = report["cells"]
    lengths = sorted({cell["length"] for cell in cells})
    depths = sorted({cell["depth"] for cell in cells})
    at = {(cell["depth"], cell["length"]): cell for cell in cells}
    rows = [[f"{100 * depth:.0f}%", *(f"{100 * at[depth, n]['recall']:.0f}% ({at[depth, n]['loss']:.2f})"
             for n in lengths)] for depth in depths]  # fmt: skip
    note = f"needles of {report['kind']} found whole, of {report['samples']} (nats a token of the value)"
    console.table(str(report["checkpoint"]), ["depth", *(f"{n:,}" for n in lengths)], rows, note, result=True)


def open_haystack(
    data: Sequence[str],
    codec: Tokenizer | None,
    model: Model,
    console: Console,
    longest: int,
    size: int,
    reading: Reading | None = None,
    bin_dtype: str | None = None,
) -> "Callable[[int, np.random.Generator], np.ndarray[Any, Any]]":
    """A function (length, random) -> ids [length]: a passage of the data, or random ids."""
    import numpy as np

    if not data:
        return lambda length, random: random.integers(0, size, length)
    files = [open_source(source, codec, console, None, reading, bin_dtype) for source in parse_sources(data)]
    refuse_ids_out_of_range(files, model)
    ids = np.concatenate([np.asarray(file.ids[: 1 << 24], np.int64) for file in files])
    if len(ids) < longest:
        raise UserError(f"holds {len(ids):,} tokens, fewer than {longest:,}", where=", ".join(data))

    def passage(length: int, random: "np.random.Generator") -> "np.ndarray[Any, Any]":
        start = int(random.integers(0, len(ids) - longest + 1))
        return ids[start : start + length]

    return passage
