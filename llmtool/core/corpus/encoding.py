"""Documents to ids, as a stream: reading runs beside encoding, and memory holds three batches whatever the corpus."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from llmtool.core.bpe.tokenizer import BaseTokenizer, available_cores
from llmtool.core.bpe.vocabulary import pack_u32
from llmtool.core.corpus.document import Document

if TYPE_CHECKING:
    from concurrent.futures import Future

BATCH_BYTES = 4 << 20
"""Text handed to the engine at once, for each thread: 16 of the engine's blocks, so that no thread waits long."""


@dataclass(frozen=True)
class Encoded:
    """Ids of some documents: `ids` (u32) up to ends[i] are document i's.

    open: the last document goes on in the next Encoded (it is a file larger than a batch).
    """

    documents: list[Document]
    ids: bytes
    ends: list[int]
    open: bool


def encode_documents(
    tokenizer: BaseTokenizer,
    documents: Iterable[Document],
    *,
    allow_special: bool = False,
    append_eos: bool = False,
    threads: int | None = None,
) -> Iterator[Encoded]:
    """Encode a stream in order. append_eos needs a tokenizer with an end-of-text token."""
    threads = threads or available_cores()
    eos = pack_u32([tokenizer.eos_id]) if append_eos and tokenizer.eos_id is not None else b""

    def encode(batch: list[Document]) -> Encoded:
        texts = [document.text for document in batch]
        ids, ends = tokenizer.encode_buffers(texts, allow_special=allow_special, threads=threads)
        return _close(batch, ids, memoryview(ends).cast("Q").tolist(), eos)

    batches = _batches(documents, BATCH_BYTES * threads)
    first, second = next(batches, None), next(batches, None)
    if first is None or second is None:  # no need for a thread, nor for the 10 ms that its import takes
        yield from map(encode, [first] if first else [])
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "encode") as worker:
        waiting: Future[Encoded] | None = None
        for batch in chain([first, second], batches):
            future = worker.submit(encode, batch)
            if waiting:
                yield waiting.result()
            waiting = future
        if waiting:
            yield waiting.result()


def _batches(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    batch: list[Document] = []
    held = 0
    for document in documents:
        batch.append(document)
        held += len(document.text)
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _close(batch: list[Document], ids: bytes, ends: list[int], eos: bytes) -> Encoded:
    """Join the blocks of a document and end each document with `eos`."""
    last = [number for number, document in enumerate(batch) if not document.more or number == len(batch) - 1]
    bounds = [ends[number] for number in last]
    closed = [batch[number] for number in last]
    if eos:
        starts = [0, *bounds]
        parts = []
        for start, end, document in zip(starts, bounds, closed, strict=False):
            parts += [ids[4 * start : 4 * end], b"" if document.more else eos]
        ids = b"".join(parts)
        bounds = [end + number + (not closed[number].more) for number, end in enumerate(bounds)]
    return Encoded(closed, ids, bounds, batch[-1].more)
