"""`llmtool convert copy`: the same model in another element type or other shards."""

from pathlib import Path
from typing import Any

from llmtool.commands.convert.settings import CopySettings
from llmtool.commands.places import beside
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.dtypes import element_type
from llmtool.core.checkpoint.writer import expected_size, write_checkpoint
from llmtool.core.corpus.sizes import parse_size
from llmtool.core.model.config import MODEL_TYPE
from llmtool.core.model.families import FAMILIES
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.core.run.numbers import shown
from llmtool.core.run.wording import counted, size

SCHEMA = "llmtool.convert-copy/1"


def copy_checkpoint(
    path: str | Path,
    output: str | Path | None = None,
    settings: CopySettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """The same model in another element type or other shards, copied tensor by tensor.

    >>> import llmtool
    >>> llmtool.convert.copy("model", "half", dtype="bf16")["parameters"]
    36384
    """
    asked, path, output = CopySettings.of(settings, named_settings), Path(path), beside(path, "copy", output)
    dtype, most = asked.dtype, parse_size(str(asked.max_shard_size))
    source = open_checkpoint(path, asked.override)
    if source.config.get("model_type") in (*FAMILIES, MODEL_TYPE):
        require("torch", extra="models", why="to compare config.json with the tensors")
        from llmtool.core.model.loading import refuse_contradiction
        from llmtool.model import build

        refuse_contradiction(source, build)
    else:
        what = f"model_type {shown(source.config.get('model_type'))} is not known here"
        console.warn(f"{path}: {what}: copied as it is, config.json and tensors are not compared")
    if source.wrapper:
        console.info(f"{path}: the text model of a {source.wrapper}; the other parts are left out")
    if source.left_out:
        console.info(f"left out: {source.left_out} rotary_emb.inv_freq buffers, which follow from config.json")
    if asked.dry_run:
        number = len(source.names())
        held = expected_size(source, element_type(dtype) if dtype else None)
        console.info(f"{output}: {counted(number, 'tensor')}, {size(held)} would be written")
        return {"schema": SCHEMA, "dry_run": True, "output": str(output), "tensors": number, "bytes": held}
    given = {"override": list(asked.override)} if asked.override else {}
    run = Run("convert copy", {"dtype": dtype, "max_shard_size": most, **given}, options=asked.options())
    # An export's code and card belong to it: without them its auto_map would point at nothing.
    code = [*path.glob("*.py"), path / "README.md"] if "auto_map" in source.config else []
    with_it = {file.name: file.read_bytes() for file in code if file.is_file()}
    written = write_checkpoint(
        output, source.tensors(), source.config,
        run=run, source=source, files=with_it, dtype=dtype, max_shard_size=most, force=asked.force, console=console,
    )  # fmt: skip
    held = sum(shard["bytes"] for shard in written.shards)
    console.info(f"{output}: {written.parameters:,} parameters, {size(held)} in {counted(len(written.shards), 'file')}")
    return {
        "schema": SCHEMA,
        "output": str(output),
        "tensors": written.tensors,
        "parameters": written.parameters,
        "shards": list(written.shards),
    }
