"""`llmtool convert gguf`: a GGUF file in, a checkpoint with its tokenizer out."""

from pathlib import Path
from typing import Any

from llmtool.commands.convert.settings import GgufSettings
from llmtool.commands.places import beside
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run, file_entry

SCHEMA = "llmtool.convert-gguf/1"


def convert_gguf(
    path: str | Path,
    output: str | Path | None = None,
    settings: GgufSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """A checkpoint from a GGUF file: weights dequantised, config.json and the tokenizer made again.

    What quantisation took is not given back.

    >>> import llmtool
    >>> llmtool.convert.gguf("corpus.txt", "out")
    Traceback (most recent call last):
        ...
    llmtool.core.run.errors.UserError: corpus.txt: not a GGUF file (it would begin with GGUF)
    """
    asked = GgufSettings.of(settings, named_settings)
    require("torch", extra="models", why="to write weights")
    from llmtool.core.checkpoint.gguf_file import GgufFile
    from llmtool.core.checkpoint.gguf_tokenizer import tokenizer_config, tokenizer_json
    from llmtool.core.model.config import parse_config
    from llmtool.core.model.families import FAMILIES

    path, output = Path(path), beside(path, "checkpoint", output)
    source = GgufFile(path)
    config = source.config()
    parse_config(config)  # what the metadata lack is said before anything is written
    facts = {"architectures": [FAMILIES[source.architecture.family].architecture], **config, "torch_dtype": "float32"}
    files = {
        "tokenizer.json": dumps(tokenizer_json(source.facts, str(path)), ensure_ascii=False).encode(),
        "tokenizer_config.json": dumps(tokenizer_config(source.facts), indent=2, ensure_ascii=False).encode(),
    }
    run = Run("convert gguf", asked.facts(), defaults=asked.defaults())
    run.inputs = [file_entry(path)]
    written = write_checkpoint(
        output,
        source.tensors(),
        facts,
        run=run,
        files=files,
        dtype=asked.dtype,
        read=[path],
        force=asked.force,
        console=console,
    )
    console.info(
        f"{output}: {written.parameters:,} parameters of a {source.kind} model, from {', '.join(source.types)}; what "
        "quantisation took is gone"
    )
    return {
        "schema": SCHEMA, "output": str(output), "architecture": source.kind, "parameters": written.parameters,
        "types": source.types, "dtype": asked.dtype,
    }  # fmt: skip
