"""`llmtool eval experts`: which blocks a converted checkpoint uses, where, and what its threshold costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.corpus.calibration import text_rows
from llmtool.core.corpus.inputs import distinct_names
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.figures import claim_figure
from llmtool.methods.dsmoe import plot as figures
from llmtool.model import load_model

TAUS = "0.2,0.3,0.4,0.5,0.6,0.7,0.8"


def taus_of(text: str) -> list[float]:
    """--taus: numbers with commas between."""
    try:
        values = [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise UserError(f"--taus {text}: not numbers with commas between", hint="0.2,0.5,0.8") from None
    if not all(0 <= value < 1 for value in values):
        raise UserError(f"--taus {text}: a threshold is 0 or more, and less than 1")
    return values


def experts(
    path: Path,
    data: Sequence[str],
    *,
    taus: str = TAUS,
    tokens: int = 4096,
    length: int = 256,
    dense: Path | None = None,
    plot: Path | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    console: Console,
) -> dict[str, Any]:
    """Measure each input as a source of its own; tokens: of each; settings: of the checkpoint, not of `dense`."""
    require("torch", extra="models", why="to run models")
    from llmtool.methods.dsmoe import report

    grid = taus_of(taus)
    claim_figure(plot, read=[path, *data, *([dense] if dense else [])])
    model = load_model(path, dtype, device, settings=settings)
    if model.note:
        console.info(model.note)
    report.sparse_parts(model.decoder, str(path))
    length = min(length, model.config.max_position_embeddings)
    names = distinct_names(data)
    sources = {
        name: text_rows(model.tokenizer.encode_prompt, [one], tokens, length)
        for name, one in zip(names, data, strict=True)
    }
    rival = None if dense is None else load_model(dense, dtype, device)
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
