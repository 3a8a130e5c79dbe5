"""`llmtool convert merge-lora`: adapters into the weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from llmtool.commands.convert.settings import MergeSettings
from llmtool.commands.places import beside
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.core.run.numbers import real, whole


def merge_lora(
    path: str | Path,
    output: str | Path | None = None,
    settings: MergeSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Add the adapters of `posttrain --lora` to the weights; a checkpoint of a stock family becomes one again.

    >>> import llmtool
    >>> tuned = llmtool.posttrain.sft("model", ["chat.jsonl"], "adapted", template="plain", lora=2, steps=1, batch=64)
    >>> llmtool.convert.merge_lora("adapted", "merged")["parameters"]
    36384
    """
    asked, output = MergeSettings.of(settings, named_settings), beside(path, "merged", output)
    require("torch", extra="models", why="to read and write weights")
    from llmtool.core.model.export import method_config
    from llmtool.core.model.loading import read_architecture
    from llmtool.methods.lora.merge import merged

    checkpoint = open_checkpoint(path)
    config = read_architecture(checkpoint)
    entry = next((method for method in config.methods if method["name"] == "lora"), None)
    if entry is None:
        raise UserError("has no adapters", where=str(path), hint="posttrain --lora makes them")
    left = tuple(method for method in config.methods if method is not entry)
    facts = method_config(checkpoint.config, replace(config, methods=left))
    where = str(path)
    scale = real(entry["alpha"], "alpha", where=where) / whole(entry["rank"], "rank", low=1, where=where)
    run = Run("convert merge-lora", {"rank": entry["rank"], "alpha": entry["alpha"], "dtype": asked.dtype},
              options=asked.options())  # fmt: skip
    written = write_checkpoint(
        output, merged(checkpoint, scale), facts, run=run, source=checkpoint,
        dtype=asked.dtype, force=asked.force, console=console,
    )  # fmt: skip
    console.info(f"{output}: {written.parameters:,} parameters, adapters of rank {entry['rank']} merged")
    return {"schema": "llmtool.convert-merge-lora/1", "output": str(output), "parameters": written.parameters}
