"""From documents to what the encoder is given: added tokens cut out, the rest normalized and, where no scanner of the
engine does it, cut into pieces.

The fast form of reference_encoding.py's first half. A layout says how the ids of the segments become those of the
documents: SEGMENT for each, the id of an added token where one stood, END after each document.
"""

from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from llmtool.core.bpe.added_tokens import WHITE_SPACE, AddedToken, Match, is_word
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.normalizers import normalize
from llmtool.core.bpe.packed import pack_ends, pack_u32
from llmtool.core.bpe.pretokenizers import CUSTOM, byte_pieces
from llmtool.core.bpe.reference_encoding import searches
from llmtool.core.bpe.vocabulary import decode_text, encode_text

SEGMENT, END = 0xFFFFFFFF, 0xFFFFFFFE

Cut = tuple[bytes, bytes, bytes]
"""(text of the segments, their ends u64, layout u32)."""


class Part(NamedTuple):
    """Characters [start, end) of a text: a segment, or an added token of this id, with its content at `inner`."""

    start: int
    end: int
    token: int | None = None
    inner: tuple[int, int] = (0, 0)


class Search(Protocol):
    """One search for added tokens: the engine's AddedTokens, or PortableSearch."""

    def cut(self, text: bytes, ends: bytes, allow_special: bool) -> Cut:
        """The documents of a text, cut at the tokens found."""
        ...


class Segments:
    """Cuts documents for one definition. `native` is the engine's module, or None."""

    def __init__(self, definition: Definition, native: Any = None) -> None:
        self._definition = definition
        self._native = native

    def cut(self, documents: list[bytes], allow_special: bool) -> tuple[bytes, bytes, bytes | None]:
        """Text and ends for the encoder, and the layout; None where the documents are the segments."""
        raw, normalized = self._searches[allow_special]
        scanned = self._definition.pretokenizer != CUSTOM
        if raw is None and normalized is None and scanned:
            documents = list(map(self.normalize, documents)) if self._definition.normalizer else documents
            return b"".join(documents), _ends(documents), None
        text, ends = b"".join(documents), _ends(documents)
        layout = pack_u32(entry for document in documents for entry in ((SEGMENT, END) if document else (END,)))
        if raw is not None:
            text, ends, layout = raw.cut(text, ends, allow_special)
        elif not all(documents):
            ends = _ends([document for document in documents if document])
        if self._definition.normalizer:
            segments = [self.normalize(segment) for segment in slices(text, ends)]
            text, ends = b"".join(segments), _ends(segments)
        if normalized is not None:
            text, ends, inner = normalized.cut(text, ends, allow_special)
            layout = self._nest(layout, inner)
        if not scanned:
            text, ends, inner = self._pieces(text, ends, layout)
            layout = self._nest(layout, inner)
        return text, ends, layout

    def join(self, ids: bytes, ends: bytes, layout: bytes | None) -> tuple[bytes, bytes]:
        """Ids of the documents, and their ends, from those of the segments."""
        if layout is None:
            return ids, ends
        if self._native is not None:
            joined: tuple[bytes, bytes] = self._native.join(ids, ends, layout)
            return joined
        return _join(ids, ends, layout)

    def normalize(self, data: bytes) -> bytes:
        """A segment after the normalizer."""
        steps = self._definition.normalizer
        if not steps or (self._only_composes and data.isascii()):
            return data
        return encode_text(normalize(decode_text(data), steps))

    def parts(self, text: str, *, normalized: bool = False, allow_special: bool = True) -> Iterator[Part]:
        """What a text is cut into by the search in raw, or in normalized text."""
        search = self._searches[allow_special][normalized]
        if search is None:
            if text:
                yield Part(0, len(text))
            return
        data = encode_text(text)
        found, ends, layout = search.cut(data, _ends([data]), allow_special)
        segments, place = iter(slices(found, ends)), 0
        for entry in memoryview(layout).cast("I").tolist():
            if entry == END:
                return
            if entry == SEGMENT:
                end = place + len(decode_text(next(segments)))
                yield Part(place, end)
            else:
                content, token = self._found[normalized][entry]
                start = text.index(content, place)  # what lies before it is white space that it takes along
                end = stop = start + len(content)
                if token.rstrip:
                    end = len(text) - len(text[stop:].lstrip(WHITE_SPACE))
                yield Part(place, end, entry, (start, stop))
            place = end

    def _nest(self, outer: bytes, inner: bytes) -> bytes:
        if self._native is not None:
            nested: bytes = self._native.nest(outer, inner)
            return nested
        parts = iter(memoryview(inner).cast("I").tolist())
        out = array("I")
        for entry in memoryview(outer).cast("I").tolist():
            if entry == SEGMENT:
                out.extend(iter(lambda: next(parts), END))
            else:
                out.append(entry)
        return out.tobytes()

    def _pieces(self, text: bytes, ends: bytes, layout: bytes) -> Cut:
        """The segments cut into the pieces of the pre-tokenizer."""
        steps = self._definition.pretokenizer_steps
        cut = [
            byte_pieces(decode_text(segment), steps, starts)
            for segment, starts in zip(slices(text, ends), _starts(layout), strict=True)
        ]
        pieces = [piece for segment in cut for piece in segment]
        return b"".join(pieces), _ends(pieces), pack_u32(e for segment in cut for e in (*[SEGMENT] * len(segment), END))

    @cached_property
    def _only_composes(self) -> bool:
        return all(step["type"] in ("NFC", "NFD", "NFKC", "NFKD") for step in self._definition.normalizer)

    @cached_property
    def _found(self) -> list[dict[int, tuple[str, AddedToken]]]:
        """The tokens of the two searches by id, with their content as it is searched."""
        return [
            {token.id: (content, token) for content, token in reversed(tokens.items())}
            for tokens in searches(self._definition)
        ]

    @cached_property
    def _searches(self) -> dict[bool, tuple[Search | None, Search | None]]:
        """By allow_special: the searches in raw and in normalized text. One that can find nothing wanted is None."""
        raw, normalized = (self._search(tokens) for tokens in searches(self._definition))
        always = [
            any(not token.special for token in tokens.values()) and search
            for tokens, search in zip(searches(self._definition), (raw, normalized), strict=True)
        ]
        return {True: (raw, normalized), False: (always[0] or None, always[1] or None)}

    def _search(self, tokens: dict[str, AddedToken]) -> Search | None:
        if not tokens:
            return None
        if self._native is None or any(token.single_word for token in tokens.values()):
            return PortableSearch(tokens)
        texts = list(map(encode_text, tokens))
        flags = bytes(token.special + 2 * token.lstrip + 4 * token.rstrip for token in tokens.values())
        ids = pack_u32(token.id for token in tokens.values())
        search: Search = self._native.AddedTokens(b"".join(texts), _ends(texts), ids, flags)
        return search


class PortableSearch:
    """added_tokens.find with one alternation of all tokens, the longest first: linear in the number of tokens."""

    def __init__(self, tokens: dict[str, AddedToken]) -> None:
        import regex

        self._tokens = tokens
        self._finditer = regex.compile("|".join(map(regex.escape, sorted(tokens, key=len, reverse=True)))).finditer

    def cut(self, text: bytes, ends: bytes, allow_special: bool) -> Cut:
        """As the engine's."""
        segments: list[bytes] = []
        layout = array("I")
        for document in slices(text, ends):
            string = decode_text(document)
            end = 0
            for match in self._matches(string, allow_special):
                if match.start > end:
                    segments.append(encode_text(string[end : match.start]))
                    layout.append(SEGMENT)
                layout.append(match.token.id)
                end = match.end
            if end < len(string):
                segments.append(encode_text(string[end:]))
                layout.append(SEGMENT)
            layout.append(END)
        return b"".join(segments), _ends(segments), layout.tobytes()

    def _matches(self, text: str, allow_special: bool) -> Iterator[Match]:
        taken = 0
        for found in self._finditer(text):
            token, (start, end) = self._tokens[found.group()], found.span()
            if token.special and not allow_special:
                continue
            if token.single_word and (is_word(text[start - 1 : start]) or is_word(text[end : end + 1])):
                continue
            if token.lstrip:
                start = max(len(text[:start].rstrip(WHITE_SPACE)), taken)
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip(WHITE_SPACE))
            yield Match(start, end, token)
            taken = end


def _join(ids: bytes, ends: bytes, layout: bytes) -> tuple[bytes, bytes]:
    limits = iter(memoryview(ends).cast("Q").tolist())
    joined: list[bytes] = []
    lengths: list[int] = []
    start = length = 0
    for entry in memoryview(layout).cast("I").tolist():
        if entry == END:
            lengths.append(length)
            length = 0
        elif entry == SEGMENT:
            end = next(limits)
            joined.append(ids[4 * start : 4 * end])
            length += end - start
            start = end
        else:
            joined.append(pack_u32([entry]))
            length += 1
    return b"".join(joined), pack_ends(lengths)


def _ends(texts: Iterable[bytes]) -> bytes:
    return pack_ends(map(len, texts))


def slices(text: bytes, ends: bytes) -> list[bytes]:
    """What lies between the ends (u64)."""
    limits = memoryview(ends).cast("Q").tolist()
    return [text[start:end] for start, end in zip([0, *limits], limits, strict=False)]


def _starts(layout: bytes) -> list[bool]:
    """For each segment whether it begins its document."""
    entries = memoryview(layout).cast("I").tolist()
    before = [END, *entries]
    return [previous == END for previous, entry in zip(before, entries, strict=False) if entry == SEGMENT]
