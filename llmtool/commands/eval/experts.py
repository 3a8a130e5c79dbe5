"""`llmtool eval experts`: which blocks a converted checkpoint uses, where, and what its threshold costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.commands.eval.settings import ExpertsSettings
from llmtool.commands.options import method_settings
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.corpus.inputs import distinct_names, without_weights
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.numbers import real
from llmtool.methods.dsmoe import plot as figures
from llmtool.model import load_model


def taus_of(text: str) -> list[float]:
    """--taus: numbers with commas between."""
    values = [real(word.strip(), "--taus") for word in text.split(",") if word.strip()]
    if not all(0 <= value < 1 for value in values):
        raise UserError(f"--taus {text}: a threshold is 0 or more, and less than 1")
    return values


def experts(
    path: str | Path,
    data: Sequence[str],
    settings: ExpertsSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Measure each input as a source of its own; --set is for the checkpoint, not for `dense`. reading: of text.

    >>> import llmtool
    >>> converted = llmtool.convert.dsmoe("model", "sparse-for-eval", experts=4)
    >>> found = llmtool.eval.experts("sparse-for-eval", ["corpus.txt"], taus="0.2,0.5", tokens=64, length=16)
    >>> found["schema"]
    'llmtool.eval-experts/1'
    """
    reading, named_settings = Reading.split(reading, named_settings)
    asked = ExpertsSettings.of(settings, named_settings)
    plot, dense = asked.plot, asked.dense
    require("torch", extra="models", why="to run models")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.methods.dsmoe import report

    use_threads(asked.threads)
    grid = taus_of(asked.taus)
    claim_figure(plot, read=[path, *without_weights(data), *([dense] if dense else [])], force=asked.force)
    model = load_model(path, asked.dtype, asked.device, settings=method_settings(asked.set))
    if model.note:
        console.info(model.note)
    report.sparse_parts(model.decoder, str(path))
    length = min(asked.length, model.config.max_position_embeddings)
    names = distinct_names(without_weights(data))
    sources = {
        name: text_rows(model.tokenizer.encode_prompt, [one], asked.tokens, length, reading=reading,
                        seed=reading.seed, console=console)
        for name, one in zip(names, data, strict=True)
    }  # fmt: skip
    rival = None if dense is None else load_model(dense, asked.dtype, asked.device)
    if rival is not None and rival.config.vocab_size != model.config.vocab_size:
        raise UserError("another vocabulary: nothing to compare", where=f"{path}, {dense}")
    facts = report.evaluate(
        model.decoder, sources, grid, where=str(path), dense=rival.decoder if rival else None, console=console
    )
    if plot:
        figures.draw(facts, plot)
        console.info(f"{plot}: drawn")
    return facts


def lines(facts: dict[str, Any]) -> list[str]:
    """The report for people."""
    from llmtool.methods.dsmoe import report

    return list(report.lines(facts))
