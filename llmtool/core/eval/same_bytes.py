"""Models of different tokenizers on the same text: cut by bytes, whole pieces scored, in bits a byte.

A loss a token says nothing across tokenizers, and rows cut by tokens cover different bytes under each. Here every byte
of a piece is predicted by both: the context begins with BOS or the end-of-text token.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from llmtool.core.bpe.tokenizer import BaseTokenizer

PIECE_BYTES = 4096
"""Bytes of a piece, at most; less where a model's context holds fewer tokens."""


Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(ids [1, T], the next ids [1, T]) -> the loss of each position in nats."""


def cut_by_bytes(documents: Iterable[bytes], size: int, most: int) -> Iterator[bytes]:
    """Pieces of at most `size` bytes, cut at white space where some is near, until `most` bytes are given out."""
    for document in documents:
        start = 0
        while start < len(document):
            end = _end(document, start, start + min(size, most))
            if end <= start:
                return
            yield document[start:end]
            most -= end - start
            start = end
            if most <= 0:
                return


def _end(text: bytes, start: int, end: int) -> int:
    if end >= len(text):
        return len(text)
    near = max(text.rfind(b" ", end - (end - start) // 8, end), text.rfind(b"\n", end - (end - start) // 8, end))
    if near > start:
        return near
    while end > start + 1 and text[end] & 0xC0 == 0x80:
        end -= 1
    return end


@dataclass
class ByteLoss:
    """Sums over pieces."""

    nats: float = 0.0
    bytes: int = 0
    tokens: int = 0

    @property
    def bits_per_byte(self) -> float:
        """Bits that a byte of text costs."""
        return self.nats / math.log(2) / max(1, self.bytes)

    def figures(self) -> dict[str, Any]:
        """For a report."""
        return {
            "bits_per_byte": self.bits_per_byte, "bytes": self.bytes, "tokens": self.tokens,
            "bytes_per_token": self.bytes / max(1, self.tokens),
        }  # fmt: skip


def score(
    losses: Losses, tokenizer: BaseTokenizer, pieces: Iterable[bytes],
    advance: Callable[[float], None] = lambda _: None,
) -> ByteLoss:  # fmt: skip
    """Score each piece as a document of its own. Without BOS and end-of-text token its first token is not scored."""
    first = next(iter(tokenizer.definition.around[0]), tokenizer.eos_id)
    total = ByteLoss()
    for piece in pieces:
        ids = tokenizer.encode(piece)
        size = len(piece)
        if first is None and ids:
            size -= len(tokenizer.token_bytes(ids[0]))
        row = ids if first is None else [first, *ids]
        if len(row) > 1:
            total.nats += float(losses(torch.tensor([row[:-1]]), torch.tensor([row[1:]])).double().sum())
            total.bytes += size
            total.tokens += len(row) - 1
        advance(len(piece))
    return total
