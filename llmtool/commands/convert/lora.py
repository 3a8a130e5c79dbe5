"""`llmtool convert merge-lora`: adapters into the weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run


def merge_lora(
    path: Path, output: Path, *, dtype: str | None = None, force: bool = False, console: Console
) -> dict[str, Any]:
    """Write OUT without adapters; a checkpoint of a stock family becomes one again."""
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
    run = Run("convert merge-lora", {"rank": entry["rank"], "alpha": entry["alpha"], "dtype": dtype})
    written = write_checkpoint(
        output, merged(checkpoint, float(entry["alpha"]) / int(entry["rank"])), facts, run=run, source=checkpoint,
        dtype=dtype, force=force, console=console,
    )  # fmt: skip
    console.info(f"{output}: {written.parameters:,} parameters, adapters of rank {entry['rank']} merged")
    return {"schema": "llmtool.convert-merge-lora/1", "output": str(output), "parameters": written.parameters}
