"""From a document to what the encoder is given: added tokens cut out, the rest normalized and, where no scanner of
the engine does it, cut into pieces.

The fast form of reference_encoding.py's first half; a document without added tokens passes through untouched.
"""

from functools import cached_property

from llmtool.core.bpe.added_tokens import AddedToken, find
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.normalizers import normalize
from llmtool.core.bpe.pretokenizers import CUSTOM, byte_pieces
from llmtool.core.bpe.reference_encoding import searches
from llmtool.core.bpe.vocabulary import decode_text, encode_text

Part = bytes | int
"""Text for the encoder, or the id of an added token."""


class Segments:
    """Cuts documents for one definition."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._scanned = definition.pretokenizer != CUSTOM

    def parts(self, document: bytes, allow_special: bool) -> list[Part]:
        """What the document is made of, in order."""
        raw, normalized = self._searches[allow_special]
        if not raw and not normalized and self._scanned:
            return [self.normalize(document)]
        parts: list[Part] = []
        text = decode_text(document)
        for start, segment in _cut(text, raw, allow_special):
            if isinstance(segment, AddedToken):
                parts.append(segment.id)
                continue
            whole = decode_text(self.normalize(encode_text(segment)))
            for place, part in _cut(whole, normalized, allow_special):
                if isinstance(part, AddedToken):
                    parts.append(part.id)
                elif self._scanned:
                    parts.append(encode_text(part))
                else:
                    parts += byte_pieces(part, self._definition.pretokenizer_steps, start == place == 0)
        return parts

    def normalize(self, data: bytes) -> bytes:
        """A segment after the normalizer."""
        steps = self._definition.normalizer
        if not steps or (self._only_composes and data.isascii()):
            return data
        return encode_text(normalize(decode_text(data), steps))

    @cached_property
    def _only_composes(self) -> bool:
        return all(step["type"] in ("NFC", "NFD", "NFKC", "NFKD") for step in self._definition.normalizer)

    @cached_property
    def _searches(self) -> dict[bool, tuple[dict[str, AddedToken], dict[str, AddedToken]]]:
        """By allow_special. A search that could only find what is not wanted is left out."""
        both = searches(self._definition)
        some_match = any(not token.special for search in both for token in search.values())
        return {True: both, False: both if some_match else ({}, {})}


def _cut(text: str, tokens: dict[str, AddedToken], allow_special: bool) -> list[tuple[int, str | AddedToken]]:
    """(place, token or what lies between two of them)."""
    if not tokens:
        return [(0, text)] if text else []
    parts: list[tuple[int, str | AddedToken]] = []
    end = 0
    for match in find(text, tokens, allow_special):
        if match.start > end:
            parts.append((end, text[end : match.start]))
        parts.append((match.start, match.token))
        end = match.end
    if end < len(text):
        parts.append((end, text[end:]))
    return parts
