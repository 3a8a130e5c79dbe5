"""What differs between two tokenizers: tokens, ids, merges and their order, how text is cut, and encodings of text."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import field
from heapq import heappush, heappushpop
from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.run.dataclass import dataclass

SHOWN_BYTES = 48
"""Of a text around the first place where two encodings part."""


@dataclass(frozen=True)
class Difference:
    """From one tokenizer to another; tokens are told apart by their bytes, added tokens by their texts.

    added, gone: (id, bytes), in the order of ids. renumbered: (bytes, old id, new id). merges_moved: pairs that both
    have, but not in the same order: the fewest that would have to move. settings: name -> (old, new).
    """

    added: list[tuple[int, bytes]]
    gone: list[tuple[int, bytes]]
    renumbered: list[tuple[bytes, int, int]]
    merges_added: list[tuple[bytes, bytes]]
    merges_gone: list[tuple[bytes, bytes]]
    merges_moved: list[tuple[bytes, bytes]]
    settings: dict[str, tuple[Any, Any]]

    @property
    def same_ids(self) -> bool:
        """Whether nothing differs that decides ids, as far as these show."""
        return not any((self.added, self.gone, self.renumbered, self.merges_added, self.merges_gone, self.merges_moved,
                        self.settings))  # fmt: skip


def difference(old: BaseTokenizer, new: BaseTokenizer) -> Difference:
    """Compare two tokenizers as they are, without text."""
    before, after = _tokens(old), _tokens(new)
    shared = [key for key in before if key in after]
    mine, theirs = _merges(old.definition), _merges(new.definition)
    rank = {pair: place for place, pair in enumerate(theirs)}
    common = [pair for pair in mine if pair in rank]
    still = set(_longest_rise([rank[pair] for pair in common]))
    held = set(mine)
    return Difference(
        added=sorted((after[key], key[1]) for key in after if key not in before),
        gone=sorted((before[key], key[1]) for key in before if key not in after),
        renumbered=sorted(
            ((key[1], before[key], after[key]) for key in shared if before[key] != after[key]), key=lambda row: row[1]
        ),
        merges_added=[pair for pair in theirs if pair not in held],
        merges_gone=[pair for pair in mine if pair not in rank],
        merges_moved=[pair for pair in common if rank[pair] not in still],
        settings=_settings(old.definition, new.definition),
    )


def _tokens(tokenizer: BaseTokenizer) -> dict[tuple[bool, bytes], int]:
    """(whether it is an added token, its bytes) -> id."""
    added = {*tokenizer.added_tokens.values()}
    return {(number in added, tokenizer.token_bytes(number)): number for number in
            sorted(tokenizer.definition.vocabulary.spellings, reverse=True)}  # fmt: skip


def _merges(definition: Definition) -> list[tuple[bytes, bytes]]:
    units = definition.vocabulary.units
    return [(units[left], units[right]) for left, right, _ in definition.vocabulary.merges]


def _longest_rise(ranks: list[int]) -> list[int]:
    """A longest increasing subsequence of distinct numbers, O(n log n)."""
    tails: list[int] = []
    at: list[int] = []
    before: list[int] = []
    for place, value in enumerate(ranks):
        length = bisect_left(tails, value)
        before.append(at[length - 1] if length else -1)
        tails[length : length + 1] = [value]
        at[length : length + 1] = [place]
    found: list[int] = []
    place = at[-1] if at else -1
    while place >= 0:
        found.append(ranks[place])
        place = before[place]
    return found


def _settings(old: Definition, new: Definition) -> dict[str, tuple[Any, Any]]:
    def facts(definition: Definition) -> dict[str, Any]:
        spelled = definition.vocabulary.spellings
        first, last = ([spelled.get(number) for number in ids] for ids in definition.around)
        return {
            "normalizer": definition.normalizer_name, "pre-tokenizer": definition.pretokenizer,
            "cut by": None if definition.pretokenizer != "custom" else list(definition.pretokenizer_steps),
            "encoder": definition.encoder, "length": definition.length, "ties": definition.ties,
            "ignore_merges": definition.ignore_merges, "alphabet": definition.vocabulary.alphabet,
            "put around a text": [*first, "...", *last], "bos": definition.bos, "eos": definition.eos,
            "special tokens": sorted(definition.vocabulary.special),
            "scaffolds": len(definition.vocabulary.scaffolds), "chat template": definition.chat_template,
        }  # fmt: skip

    before, after = facts(old), facts(new)
    return {name: (value, after[name]) for name, value in before.items() if value != after[name]}


@dataclass(order=True)
class Changed:
    """A text that is cut otherwise: tokens before and after, and where the two part."""

    weight: int
    place: int
    name: str = field(compare=False)
    before: int = field(compare=False)
    after: int = field(compare=False)
    old_cut: list[bytes] = field(compare=False)
    new_cut: list[bytes] = field(compare=False)


@dataclass
class Texts:
    """Encodings compared. worst: by the change in tokens, the largest first."""

    number: int = 0
    changed: int = 0
    bytes: int = 0
    before: int = 0
    after: int = 0
    worst: list[Changed] = field(default_factory=list)


def compare_texts(old: BaseTokenizer, new: BaseTokenizer, texts: Iterable[tuple[str, bytes]], most: int = 10) -> Texts:
    """Encode (name, text) with both; cuts are the same where the tokens' bytes are, whatever their ids."""
    found = Texts()
    heap: list[Changed] = []
    for name, text in texts:
        first, second = old.encode(text), new.encode(text)
        found.number += 1
        found.bytes += len(text)
        found.before += len(first)
        found.after += len(second)
        mine, theirs = ([codec.token_bytes(i) for i in ids] for codec, ids in ((old, first), (new, second)))
        if mine == theirs:
            continue
        found.changed += 1
        one, other = _around_first(mine, theirs)
        entry = Changed(abs(len(second) - len(first)), -found.number, name, len(first), len(second), one, other)
        if len(heap) < most:
            heappush(heap, entry)
        else:
            heappushpop(heap, entry)
    found.worst = sorted(heap, reverse=True)
    return found


def _around_first(mine: list[bytes], theirs: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Both cuts from the first place on where they part, until they meet or enough is shown."""
    place = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    return list(_up_to(mine[place:])), list(_up_to(theirs[place:]))


def _up_to(tokens: list[bytes]) -> Iterator[bytes]:
    size = 0
    for token in tokens:
        if size >= SHOWN_BYTES:
            return
        yield token
        size += len(token)
