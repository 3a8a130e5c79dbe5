"""Encoding by merge rank, and whole documents, in portable Python: what runs where the C++ engine was not built.

A piece of n bytes costs O(n log n) whatever it holds: neighbours are linked, candidate merges wait in a queue.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.packed import pack_ends, pack_u32
from llmtool.core.bpe.policy import PieceCutter
from llmtool.core.bpe.pretokenizers import CUSTOM, split
from llmtool.core.bpe.stock_form import bpe, cutting, word_level
from llmtool.core.bpe.vocabulary import Vocabulary, decode_text, token_to_string
from llmtool.core.run.errors import UserError

CACHED_PIECES = 1 << 20
"""Pieces remembered before the cache starts anew: about 200 MB."""


class Merge:
    """Merge by rank; a unit without an id is written as its parts (Scaffold-BPE's demolishing)."""

    native = "merge"
    needs_merges = True

    def cutter(self, definition: Definition) -> PieceCutter:
        """What cuts a piece into units, portable."""
        vocabulary = definition.vocabulary
        ranks = {(left, right): (rank, result) for rank, (left, right, result) in enumerate(vocabulary.merges)}
        unit_of = vocabulary.unit_of
        cut_symbols = between_unknown(vocabulary, lambda run: merge(run, ranks))

        def cut(piece: bytes) -> list[int]:
            if definition.ignore_merges and piece in unit_of:
                return [unit_of[piece]]
            return cut_symbols(piece)

        return cut

    def order(self, definition: Definition) -> list[int] | None:
        """Merging has ranks, not priorities."""
        return None

    def units(self, definition: Definition) -> list[int]:
        """All of them."""
        return list(range(len(definition.vocabulary.units)))

    def to_huggingface(self, definition: Definition) -> dict[str, Any]:
        """Stock BPE; where units are written as parts, which no stock component does, with remote code."""
        vocabulary = definition.vocabulary
        if vocabulary.scaffolds:
            refuse_scaffolds(definition)
            form = {"pre_tokenizer": cutting(definition), "model": word_level(definition)}
            return {**form, "remote_code": "LlmtoolTokenizer"}
        spell = list(map(token_to_string if vocabulary.alphabet == "bytes" else decode_text, vocabulary.units))
        merges = [(spell[left], spell[right]) for left, right, _ in vocabulary.merges]
        return {"pre_tokenizer": cutting(definition), "model": bpe(definition, merges, definition.ignore_merges)}


def refuse_scaffolds(definition: Definition) -> None:
    """Refuse what the code for `transformers` cannot cut: it takes a piece for the tokens that it spells, all known.

    Bytes for what a vocabulary of characters lacks, and <unk>, are no part of a piece.
    """
    if not definition.spells_bytes:
        kind = "of characters" if definition.vocabulary.alphabet != "bytes" else "that lacks bytes"
        what = f"scaffolds of a vocabulary {kind} cannot be written for `transformers`"
        raise UserError(what, hint="extend it with --algorithm bpe")


def merge(units: list[int], ranks: dict[tuple[int, int], tuple[int, int]]) -> list[int]:
    """Apply the merge of lowest rank at its leftmost place until none applies; consumes `units`."""
    size = len(units)
    following = list(range(1, size + 1))
    previous = list(range(-1, size - 1))
    queue = [(ranks[pair][0], at, ranks[pair][1], *pair) for at, pair in enumerate(pairwise(units)) if pair in ranks]
    heapify(queue)
    gone = -1
    while queue:
        _, at, result, left, right = heappop(queue)
        other = following[at]
        if units[at] != left or other >= size or units[other] != right:
            continue
        units[at], units[other] = result, gone
        following[at] = after = following[other]
        if after < size:
            previous[after] = at
        for place, neighbour in ((previous[at], at), (at, after)):
            if place >= 0 and neighbour < size and (pair := (units[place], units[neighbour])) in ranks:
                rank, made = ranks[pair]
                heappush(queue, (rank, place, made, *pair))
    return [unit for unit in units if unit != gone]


def needs_unknown(token: str | None) -> UserError:
    """What is said of an unknown symbol where the unknown token is no entry; `tokenizers` fails there too."""
    what = f"the unknown token {token!r} is not in the vocabulary, and a text needs it"
    return UserError(what, hint="add it to model.vocab")


def between_unknown(vocabulary: Vocabulary, encode: Callable[[list[int]], list[int]]) -> PieceCutter:
    """Cuts a piece: `encode` takes the units of its symbols, as far as they are known.

    Unknown symbols are written as units beyond the vocabulary's: number i beyond is vocabulary.unknown_ids[i].
    The rules are those of reference_encoding.model_ids.
    """
    unit_of, unknown = vocabulary.unit_of, vocabulary.unknown
    beyond = {number: len(vocabulary.units) + place for place, number in enumerate(vocabulary.unknown_ids)}

    def cut(piece: bytes) -> list[int]:
        symbols = vocabulary.symbols(piece)
        units = [unit_of.get(symbol) for symbol in symbols]
        if None not in units:
            return encode(units)  # type: ignore[arg-type]
        out: list[int] = []
        run: list[int] = []
        waiting = False

        def end_run() -> None:
            if run:
                out.extend(encode(run))
                run.clear()

        def end_waiting() -> None:
            nonlocal waiting
            if waiting:
                if unknown.id is None:
                    raise needs_unknown(unknown.token)
                out.append(beyond[unknown.id])
            waiting = False

        for symbol, unit in zip(symbols, units, strict=True):
            if unit is not None:
                if waiting:
                    end_run()
                    end_waiting()
                run.append(unit)
            elif unknown.byte_fallback and all(byte in unknown.byte_ids for byte in symbol):
                end_run()
                out.extend(beyond[unknown.byte_ids[byte]] for byte in symbol)
            elif unknown.token is not None:
                end_run()
                if not unknown.fuse:
                    end_waiting()
                waiting = True
        end_run()
        end_waiting()
        return out

    return cut


class PortableEncoder:
    """Cuts documents with the `regex` module and encodes each distinct piece once; the engine's Encoder in Python."""

    def __init__(self, definition: Definition, cut: PieceCutter) -> None:
        self._pretokenizer = "none" if definition.pretokenizer == CUSTOM else definition.pretokenizer
        vocabulary = definition.vocabulary
        self._emit = [*vocabulary.emit, *((number,) for number in vocabulary.unknown_ids)]
        self._cut = cut
        self._cache: dict[bytes, tuple[int, ...]] = {}

    def _ids(self, document: bytes) -> list[int]:
        cache = self._cache
        out: list[int] = []
        for piece in split(self._pretokenizer, document):
            ids = cache.get(piece)
            if ids is None:
                ids = tuple([token for unit in self._cut(piece) for token in self._emit[unit]])
                if len(cache) >= CACHED_PIECES:
                    cache.clear()
                cache[piece] = ids
            out.extend(ids)
        return out

    def encode(self, text: bytes) -> bytes:
        """Ids (u32) of one document."""
        return pack_u32(self._ids(text))

    def encode_batch(self, text: bytes, ends: bytes, threads: int = 1) -> tuple[bytes, bytes]:
        """(ids u32, end of each document in ids u64); one thread, whatever is asked."""
        limits = memoryview(ends).cast("Q").tolist()
        documents = [self._ids(text[start:end]) for start, end in zip([0, *limits], limits, strict=False)]
        return b"".join(map(pack_u32, documents)), pack_ends(map(len, documents))


def format_ids(ids: bytes, ends: bytes) -> bytes:
    """A line of decimal ids, separated by spaces, for each document."""
    numbers = memoryview(ids).cast("I").tolist()
    limits = memoryview(ends).cast("Q").tolist()
    lines = [" ".join(map(str, numbers[start:end])) for start, end in zip([0, *limits], limits, strict=False)]
    return "".join(line + "\n" for line in lines).encode()


def document_ends(documents: list[bytes]) -> bytes:
    """End offset of each document in their concatenation (u64)."""
    return pack_ends(map(len, documents))


def spans(lengths: Callable[[int], int], ids: list[int]) -> list[tuple[int, int]]:
    """Byte range of each id: tokens spell the text without gaps."""
    ends = list(accumulate(map(lengths, ids)))
    return list(zip([0, *ends], ends, strict=False))
