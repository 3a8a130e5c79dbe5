"""Token ids to measure a model on, in windows: from text, from a file of ids, or random."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.readers import read_documents
from llmtool.core.corpus.tokenized import read_token_documents
from llmtool.core.run.errors import UserError


@dataclass(frozen=True)
class Sample:
    """`windows` of at most `length` ids, `tokens` in all at most; `source` says in words where they come from."""

    source: str
    windows: Iterable[Sequence[int]]


def take_sample(
    text: Sequence[str] | None,
    ids: str | None,
    tokenizer: Callable[[], BaseTokenizer],
    *,
    vocab_size: int,
    length: int,
    tokens: int,
    seed: int,
) -> Sample:
    """Windows of the documents in text files, of those in a file of ids, or of random ids where neither is given.

    vocab_size: of the model; an id that it does not have is a UserError. `tokenizer` is called only for text.
    """
    if text and ids:
        raise UserError("both text and ids were given", hint="give --text or --ids")
    if not (text or ids):
        draw = random.Random(seed)
        sizes = cut([range(tokens)], length, tokens)
        return Sample(f"random, seed {seed}", [[draw.randrange(vocab_size) for _ in window] for window in sizes])
    if ids:
        documents, source = read_token_documents(ids, None), ids
    else:
        encoder = tokenizer()
        documents = (encoder.encode(document.text) for document in read_documents(text or []))
        source = ", ".join(text or [])
    return Sample(source, cut(in_range(documents, vocab_size, source), length, tokens))


def cut(documents: Iterable[Sequence[int]], length: int, tokens: int) -> Iterator[Sequence[int]]:
    """Each document in windows of `length` ids, the last one shorter; at most `tokens` ids in all."""
    left = tokens
    for document in documents:
        for start in range(0, len(document), length):
            window = document[start : start + min(length, left)]
            left -= len(window)
            yield window
            if left == 0:
                return


def in_range(documents: Iterable[list[int]], vocab_size: int, source: str) -> Iterator[list[int]]:
    """The documents as they are; an id that the model has no row for is refused."""
    for number, document in enumerate(documents, 1):
        for token in (min(document, default=0), max(document, default=0)):
            if not 0 <= token < vocab_size:
                hint = "is the tokenizer larger than the embedding?"
                what = f"document {number} holds id {token}, the model has {vocab_size:,} tokens"
                raise UserError(what, where=source, hint=hint)
        yield document
