"""Documents to ids, as a stream: reading runs beside encoding, and memory holds three batches whatever the corpus."""

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from llmtool.core.bpe.packed import pack_u32
from llmtool.core.bpe.tokenizer import BaseTokenizer, available_cores
from llmtool.core.corpus.document import Document
from llmtool.core.run.dataclass import dataclass

if TYPE_CHECKING:
    from concurrent.futures import Future

BATCH_BYTES, BATCH_DOCUMENTS = 4 << 20, 1 << 13
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


@dataclass(frozen=True)
class Around:
    """Ids put around each document: before its first token, after its last; None for none."""

    bos: int | None = None
    eos: int | None = None

    def spans(self, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Byte ranges of a document's ids, for those of its text: what is put around it stands for none."""
        size = offsets[-1][1] if offsets else 0
        return [*([(0, 0)] * (self.bos is not None)), *offsets, *([(size, size)] * (self.eos is not None))]


def encode_documents(
    tokenizer: BaseTokenizer,
    documents: Iterable[Document],
    *,
    allow_special: bool = False,
    around: Around = Around(),
    threads: int | None = None,
    begun: bool = False,
) -> Iterator[Encoded]:
    """Encode a stream in order, with ids of `around` at the ends of each document.

    begun: the first document is under way already.
    """
    threads = threads or available_cores()

    def encode(batch: list[Document], continued: bool) -> Encoded:
        texts = [document.text for document in batch]
        ids, ends = tokenizer.encode_buffers(texts, allow_special=allow_special, threads=threads)
        return _close(batch, ids, memoryview(ends).cast("Q").tolist(), around, continued)

    batches = _batches(documents, BATCH_BYTES * threads, BATCH_DOCUMENTS * threads)
    first, second = next(batches, None), next(batches, None)
    if first is None or second is None:  # no need for a thread, nor for the 10 ms that its import takes
        yield from [encode(first, begun)] if first else []
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "encode") as worker:
        waiting: Future[Encoded] | None = None
        continued = begun  # whether the batch begins in the middle of a document
        for batch in chain([first, second], batches):
            future = worker.submit(encode, batch, continued)
            continued = batch[-1].more
            if waiting:
                yield waiting.result()
            waiting = future
        if waiting:
            yield waiting.result()


def _batches(documents: Iterable[Document], size: int, number: int) -> Iterator[list[Document]]:
    """Documents of some bytes together; fewer where they are short, for each is an object of 400 bytes."""
    batch: list[Document] = []
    held = 0
    for document in documents:
        batch.append(document)
        held += len(document.text)
        if held >= size or len(batch) >= number:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _close(batch: list[Document], ids: bytes, ends: list[int], around: Around, continued: bool) -> Encoded:
    """Join the blocks of a document and put the ids of `around` before its first and behind its last."""
    last = [number for number, document in enumerate(batch) if not document.more or number == len(batch) - 1]
    bounds = [ends[number] for number in last]
    closed = [batch[number] for number in last]
    if around == Around():
        return Encoded(closed, ids, bounds, batch[-1].more)
    bos, eos = (b"" if token is None else pack_u32([token]) for token in (around.bos, around.eos))
    parts: list[bytes] = []
    sizes: list[int] = []
    for start, end, document in zip([0, *bounds], bounds, closed, strict=False):
        part = [b"" if continued else bos, ids[4 * start : 4 * end], b"" if document.more else eos]
        parts += part
        sizes.append(sum(map(len, part)) // 4)
        continued = False
    return Encoded(closed, b"".join(parts), list(accumulate(sizes)), batch[-1].more)
