"""The files of one shard of a tokenised corpus: a flat array with its sidecars, or MDS files, a sample a document."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.encoding import Encoded
from llmtool.core.corpus.mds import read_ids, write_shards
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.tokenized import sidecars, token_array
from llmtool.core.run.atomic import atomic_files

Written = tuple[list[str], dict[str, Any]]
"""Names of files in the stage's directory, and what was counted."""


def write_array_unit(
    stage: Stage, unit: int, tokenizer: BaseTokenizer, form: str, batches: Iterable[Encoded]
) -> Written:
    """NNNNN.bin or .npy with its sidecars."""
    path = stage.path(unit, form)
    batches = _closed(batches)
    with atomic_files() as files, token_array(path, tokenizer, form, {"unit": unit}, files) as writer:
        for encoded in batches:
            writer.write(encoded)
    names = [path.name, *(sidecar.name for sidecar in sidecars(path, form).values())]
    return names, {"documents": len(writer.starts) - 1, "tokens": writer.starts[-1]}


def write_mds_unit(stage: Stage, unit: int, batches: Iterable[Encoded]) -> Written:
    """NNNNN.KKK.mds; the `domain` of a sample is where its document was read."""
    shards = write_shards(stage.directory, _samples(_closed(batches)), lambda number: f"{unit:05d}.{number:03d}.mds")
    names = [shard["raw_data"]["basename"] for shard in shards]
    tokens = sum(len(ids) for name in names for ids in read_ids(stage.directory / name))
    return names, {"documents": sum(shard["samples"] for shard in shards), "tokens": tokens, "shards": shards}


def _closed(batches: Iterable[Encoded]) -> Iterator[Encoded]:
    """The same ids; a document that goes on in the next shard ends here, as far as this one knows."""
    last: Encoded | None = None
    for encoded in batches:
        if last is not None:
            yield last
        last = encoded
    if last is not None and last.open:
        *documents, document = last.documents
        last = replace(last, documents=[*documents, replace(document, more=False)], open=False)
    if last is not None:
        yield last


def _samples(batches: Iterable[Encoded]) -> Iterator[dict[str, Any]]:
    """Rows as core/corpus/mds.py takes them; a document without a token is no sample."""
    import numpy as np

    held: list[Any] = []
    for encoded in batches:
        ids, start = np.frombuffer(encoded.ids, np.uint32), 0
        for document, end in zip(encoded.documents, encoded.ends, strict=True):
            held.append(ids[start:end])
            start = end
            if document.more:
                continue
            whole = np.concatenate(held)
            held = []
            if len(whole):
                span = np.array([[0, len(whole)]], np.uint32)
                yield {"input_ids": whole, "length": len(whole), "domain": document.source, "indices": span}
