"""Tokens that no text is cut into: dead weight of a vocabulary (Land & Bartolo, arXiv 2405.05417)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.bpe.words import Ints
from llmtool.core.run.errors import UserError

BEFORE = ("", "\n", ".", "x", "7", "\u4e00", "\ue000")
"""What stands before a token's own text in a text that may yield it: pre-tokenizers and a token's neighbours, merges
above all, keep some from some."""

CODE_POINTS = [*range(1, 0xD800), *range(0xE000, 0x10000), *range(0x10000, 0x110000, 61)]
"""Characters whose bytes are all that UTF-8 has."""


def unreachable_tokens(tokenizer: BaseTokenizer, seen: Ints | None = None) -> list[int]:
    """Ids of plain-text tokens that their own text yields nowhere: alone, where the tokenizer itself puts a space
    before it, or behind one of BEFORE.

    seen: occurrences of each id in text that was encoded; what occurred is reachable. A token that is no well-formed
    UTF-8 (Land & Bartolo set such fragments aside) is met inside characters only, and alone it would be cut like
    undecodable bytes; so it is encoded as one piece instead. A byte of its own (`<0x0A>`) is met in characters that the
    vocabulary lacks. Special tokens are left out: plain text never yields them.
    """
    tokens = tokenizer.definition.vocabulary.id_of
    if seen is not None:
        tokens = {token: number for token, number in tokens.items() if not seen[number]}
    missed = dict.fromkeys(_not_reached(tokenizer, tokens))
    fragments = {token: tokens[token] for token in missed if is_fragment(token)}
    whole_piece = BaseTokenizer(replace(tokenizer.definition, pretokenizer="none"), tokenizer.policy)
    reached = fragments.keys() - _not_reached(whole_piece, fragments)
    left = {tokens[token] for token in missed if token not in reached}
    texts = {number: tokenizer.token_bytes(number) for number in left - set(fragments.values())}
    for before in map(str.encode, BEFORE):
        for own in (texts, {number: text.removeprefix(b" ") for number, text in texts.items()}):
            asked = [number for number in texts if number in left]
            left -= _met(tokenizer, asked, [before + own[number] for number in asked])
    unknown = tokenizer.definition.vocabulary.unknown
    if len(unknown.byte_ids) == 256 and not left.isdisjoint(unknown.byte_ids.values()):
        left -= set(tokenizer.encode("".join(map(chr, CODE_POINTS))))
    return sorted(left)


def _not_reached(tokenizer: BaseTokenizer, tokens: Mapping[bytes, int]) -> list[bytes]:
    """Those whose bytes give anything but the one id."""
    if not tokens:
        return []
    packed, packed_ends = tokenizer.encode_buffers(list(tokens))
    ids = np.frombuffer(packed, np.uint32)
    ends = np.frombuffer(packed_ends, np.int64)
    single = np.diff(ends, prepend=0) == 1
    own = np.fromiter(tokens.values(), np.int64)
    reached = np.zeros(len(own), bool)
    reached[single] = ids[ends[single] - 1] == own[single]
    return [token for token, fine in zip(tokens, reached.tolist(), strict=True) if not fine]


def _met(tokenizer: BaseTokenizer, numbers: Sequence[int], texts: Iterable[bytes]) -> set[int]:
    """Those ids that occur in what their text gives."""
    try:
        packed, packed_ends = tokenizer.encode_buffers(list(texts))
    except UserError:  # a vocabulary that refuses what is unknown
        return set()
    ids = np.frombuffer(packed, np.uint32)
    ends = np.frombuffer(packed_ends, np.int64)
    own = np.repeat(np.array(numbers, np.int64), ends - np.concatenate(([0], ends[:-1])))
    return set(own[ids == own].tolist())


def is_fragment(token: bytes) -> bool:
    """Whether the bytes are no well-formed UTF-8."""
    try:
        token.decode()
    except UnicodeDecodeError:
        return True
    return False
