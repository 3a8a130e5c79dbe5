"""How often each id occurs in some text: what extending is judged by, and trimming goes by."""

from collections import Counter
from collections.abc import Sequence

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.encoding import encode_documents
from llmtool.core.corpus.readers import Reading, read_documents, total_bytes
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass


@dataclass(frozen=True)
class Usage:
    """Bytes of a text, and the occurrences of each id in it."""

    bytes: int
    counts: Counter[int]

    @property
    def tokens(self) -> int:
        """Ids of the text."""
        return self.counts.total()


def usage(
    tokenizer: BaseTokenizer,
    inputs: Sequence[str],
    reading: Reading,
    console: Console,
    *,
    limit_bytes: int | None = None,
    threads: int | None = None,
    report: ReadReport | None = None,
) -> Usage:
    """Encode text, with added tokens read as such, and count."""
    import numpy as np

    totals = np.zeros(tokenizer.vocab_size, np.int64)
    size = 0
    with console.progress("counting tokens", total_bytes(inputs, reading), "B") as bar:
        documents = read_documents(
            inputs, reading, whole=tokenizer.needs_whole(allow_special=True), limit_bytes=limit_bytes, report=report,
            on_bytes=bar.advance,
        )  # fmt: skip

        def measured() -> "object":
            nonlocal size
            for document in documents:
                size += len(document.text)
                yield document

        for encoded in encode_documents(tokenizer, measured(), allow_special=True, threads=threads):  # type: ignore[arg-type]
            totals += np.bincount(np.frombuffer(encoded.ids, np.uint32), minlength=len(totals))
    used = np.flatnonzero(totals)
    return Usage(size, Counter(dict(zip(used.tolist(), totals[used].tolist(), strict=True))))
