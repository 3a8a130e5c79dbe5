"""A tokenizer written for other libraries, and checked: what `llmtool tokenizer export` does."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmtool.commands.tokenizer.settings import ExportSettings
from llmtool.core.bpe.export import export_huggingface, export_tiktoken
from llmtool.core.bpe.export_card import gguf_pre, versions
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.readers import Reading, read_documents
from llmtool.core.run.console import QUIET, Console
from llmtool.tokenizer import Tokenizer

SAMPLE_BYTES = 1 << 20
"""Text that an export is checked on: LBPE's stock form reads 0.08 to 0.3 MB/s."""


def export(
    tokenizer: Tokenizer,
    directory: Path,
    settings: ExportSettings | None = None,
    *,
    reading: Reading | None = None,
    read: Sequence[str | Path] = (),
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Write an export and say on a sample (the first SAMPLE_BYTES of these files) whether its readers agree with us.

    reading: of these files. read: where the tokenizer came from, which no output may replace.
    """
    asked = ExportSettings.of(settings, named_settings)
    texts = None
    if asked.sample:
        met = ReadReport()
        documents = read_documents(asked.sample, reading, limit_bytes=SAMPLE_BYTES, report=met)
        texts = [document.text for document in documents]
        met.say(console)
    write = export_huggingface if asked.to == "hf" else export_tiktoken
    report = write(
        tokenizer,
        directory,
        sample=texts,
        read=[*read, *without_weights(asked.sample)],
        force=asked.force,
        console=console,
    )
    console.info("\n".join([f"{directory}: written", *report.lines()]))
    pre = gguf_pre(tokenizer.definition)
    if asked.to == "hf":
        console.info(f"read by {versions(tokenizer.definition)}")
        console.info(f"GGUF: tokenizer.ggml.pre {pre or 'has no value that is known to fit'}")
    checks = [asdict(check) for check in report.checks]
    return {
        "schema": "llmtool.tokenizer-export/1",
        "directory": str(directory),
        "exact": report.exact,
        "checks": checks,
        "gguf_pre": pre,
    }
