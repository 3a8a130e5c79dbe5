"""`llmtool verify`: two checkpoints on the same tokens."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmtool.commands.generation.settings import VerifySettings
from llmtool.core.bpe.foreign_files import holds_tokenizer
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.readers import Reading, read_documents
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.model import Model, load_model, read_ids

VOCABULARIES = "llmtool.verify-vocabularies/1"


def verify(
    norm: str | Path,
    other: str | Path,
    inputs: Sequence[str] = (),
    settings: VerifySettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Run both checkpoints on the same text, ids, or (without inputs) seeded random ids. reading: of text.

    >>> import llmtool
    >>> llmtool.verify("model", "model", ["corpus.txt"], tokens=256)["kl"]
    0.0
    """
    reading, named_settings = Reading.split(reading, named_settings, VerifySettings)
    asked = VerifySettings.of(settings, named_settings)
    require("torch", extra="models", why="to run models")
    from llmtool.core.eval.agreement import compare_logits
    from llmtool.core.kernels.cpu import use_threads

    use_threads(asked.threads)
    first, second = (load_model(path, asked.dtype, asked.device, changed=asked.override) for path in (norm, other))
    for note in dict.fromkeys(model.note for model in (first, second) if model.note):
        console.info(note)
    sizes = first.config.vocab_size, second.config.vocab_size
    if inputs and not asked.ids and _differ(first, second):
        return _vocabularies(first, second, inputs, asked, reading, console)
    if sizes[0] != sizes[1]:
        what = f"vocabularies of {sizes[0]:,} and {sizes[1]:,}"
        why = "the same ids cannot be read by both"
        hint = "drop --ids" if asked.ids else "name a TEXT, over whose bytes they are compared"
        if not all(holds_tokenizer(model.path) for model in (first, second)):
            hint = "with a tokenizer in each directory, a TEXT compares them over its bytes"
        raise UserError(f"{what}: {why}", where=f"{norm}, {other}", hint=hint)
    length = min(asked.length, first.config.max_position_embeddings, second.config.max_position_embeddings)
    rows = list(_verify_rows(first, inputs, asked, reading, length, console))
    if not rows:
        raise UserError("no tokens to compare on", where=", ".join(inputs))
    with console.progress("comparing", len(rows), "rows") as bar:

        def counted(row: Any) -> Any:
            bar.advance(1)
            return first(row)

        found = compare_logits(counted, second, rows)
    return {
        "schema": "llmtool.verify/1",
        "norm": str(norm),
        "other": str(other),
        "on": "ids" if asked.ids else "text" if inputs else f"random ids, seed {asked.seed}",
        **found.figures(),
        # A NaN is no agreement: the comparison is written so that it fails.
        "passed": None if asked.max_kl is None else bool(found.kl <= asked.max_kl),
    }


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The result for people."""
    if report["schema"] == VOCABULARIES:
        from llmtool.commands.convert.vocab_check import lines

        yield from lines(report)
        return
    keys = ("kl", "kl_max", "max_abs_difference", "top1_agreement", "norm_loss", "other_loss")
    kl, most, largest, top1, one, other = (math.nan if report[key] is None else report[key] for key in keys)
    same = ", identical bit for bit" if report["identical"] else ""
    yield (
        f"{report['tokens']:,} tokens of {report['on']}: KL {kl:.3g} nats (largest {most:.3g}), "
        f"max |d| {largest:.3g}, same top-1 {top1:.2%}, loss {one:.4f} and {other:.4f}{same}"
    )


def _differ(first: Model, second: Model) -> bool:
    """Whether both have a tokenizer, and not the same or not as many rows for its ids."""
    if not all(holds_tokenizer(model.path) for model in (first, second)):
        return False
    padded = first.config.vocab_size != second.config.vocab_size
    return padded or first.tokenizer.fingerprint() != second.tokenizer.fingerprint()


def _vocabularies(
    first: Model, second: Model, inputs: Sequence[str], asked: VerifySettings, reading: Reading, console: Console
) -> dict[str, Any]:
    """Of two tokenizers: logits of shared ids, the mass on new ones, and bits a byte over the same bytes."""
    from llmtool.commands.convert.vocab_check import compare, pieces_of

    if asked.max_kl is not None:
        what = "two tokenizers: there is no KL divergence between their distributions"
        raise UserError(what, where=f"{first.path}, {second.path}", hint="drop --max-kl")
    contexts = (model.config.max_position_embeddings for model in (first, second))
    found = compare(first, second, pieces_of(inputs, 4 * asked.tokens, contexts, reading), console)
    return {
        "schema": VOCABULARIES, "norm": str(first.path), "other": str(second.path), **found,
        "passed": None,
    }  # fmt: skip


def _verify_rows(
    model: Model, inputs: Sequence[str], asked: VerifySettings, reading: Reading, length: int, console: Console
) -> Iterator[list[int]]:
    """Rows of up to `length` ids, at most --tokens in all."""
    left = asked.tokens
    if not inputs:
        draw = random.Random(asked.seed)
        size = model.config.vocab_size
        for start in range(0, left, length):
            yield [draw.randrange(size) for _ in range(min(length, left - start))]
        return
    report = ReadReport()
    reading = replace(reading, text_mode="line" if asked.ids else reading.text_mode)
    for document in read_documents(inputs, reading, report=report):
        text = document.text if isinstance(document.text, str) else bytes(document.text).decode(errors="replace")
        row = read_ids(text) if asked.ids else model.tokenizer.encode_prompt(text)
        for start in range(0, len(row), length):
            if left <= 0:
                report.say(console)
                return
            part = row[start : start + min(length, left)]
            left -= len(part)
            yield part
    report.say(console)
