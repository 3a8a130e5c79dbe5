"""Two checkpoints, each with its own tokenizer, over the same bytes: what `eval loss --against` does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.commands.eval.settings import LossSettings
from llmtool.commands.options import method_settings
from llmtool.commands.sources import Source, count, find_tokenizer
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.model import load_model

SCHEMA = "llmtool.eval-loss-same-text/1"


def same_text(
    checkpoint: str | Path, sources: Sequence[Source], asked: LossSettings, reading: Reading | None, console: Console
) -> dict[str, Any]:
    """Bits a byte of both on each source; nats a token only where the tokenizer is one."""
    from llmtool.core.corpus.readers import read_documents
    from llmtool.core.corpus.token_files import is_token_file
    from llmtool.core.eval.same_bytes import PIECE_BYTES, cut_by_bytes, score
    from llmtool.core.train.objective import Batch

    for source in sources:
        if is_token_file(source.path):
            what = "holds ids of one tokenizer, and two are compared"
            raise UserError(what, where=source.path, hint="name the text itself")
    if asked.length is not None or asked.mask_documents:
        raise UserError("--length and --mask-documents are for one checkpoint", hint="text is cut by bytes here")
    assert asked.against is not None
    paths = {str(checkpoint): asked.tokenizer, asked.against: None}
    if len(paths) < 2:
        raise UserError("--against names the same checkpoint", where=asked.against)
    given = method_settings(asked.set)
    models = {path: load_model(path, asked.dtype, asked.device, settings=given if path == str(checkpoint) else None)
              for path in paths}  # fmt: skip
    codecs = {path: find_tokenizer(named, models[path].path, console) for path, named in paths.items()}
    for path, codec in codecs.items():
        if codec is None:
            raise UserError("has no tokenizer to read text with", where=path, hint="--tokenizer TOK, for the first one")
    longest = min(PIECE_BYTES, *(model.config.max_position_embeddings - 1 for model in models.values()))
    size = count(asked.bytes, "--bytes")
    report: dict[str, Any] = {}
    for source in sources:
        documents = (document.text for document in read_documents([source.path], reading, whole=True))
        pieces = list(cut_by_bytes(documents, longest, size))
        total = len(models) * sum(map(len, pieces))
        with console.progress(f"scoring {source.name}", total, "B") as bar:
            report[source.name] = {}
            for path, model in models.items():
                codec = codecs[path]
                assert codec is not None

                def losses(ids: Any, labels: Any, model: Any = model) -> Any:
                    return model.losses(Batch(ids, labels))

                report[source.name][path] = score(losses, codec, pieces, bar.advance).figures()
    hashes = {path: codec.fingerprint() for path, codec in codecs.items() if codec is not None}
    return {
        "schema": SCHEMA, "checkpoint": str(checkpoint), "against": asked.against, "tokenizers": hashes,
        "piece_bytes": longest, "sources": report,
    }  # fmt: skip


def same_text_table(report: dict[str, Any], console: Console) -> None:
    """For people, on stdout."""
    one = len(set(report["tokenizers"].values())) == 1
    rows = [
        [name if place == 0 else "", path, f"{found['bytes']:,}", f"{found['tokens']:,}",
         f"{found['bytes_per_token']:.3f}", f"{found['bits_per_byte']:.4f}"]
        for name, both in report["sources"].items() for place, (path, found) in enumerate(both.items())
    ]  # fmt: skip
    note = "one tokenizer" if one else "two tokenizers: a loss a token of one says nothing of the other's"
    console.table(
        f"the same text, cut every {report['piece_bytes']:,} bytes",
        ["source", "checkpoint", "bytes", "tokens", "bytes/token", "bits/byte"], rows, note, result=True,
    )  # fmt: skip
