"""What of a text a vocabulary has no token for: written as <unk>, or left out without a trace."""

from collections import Counter
from typing import Any

from llmtool.core.bpe.pretokenizers import byte_pieces
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.bpe.vocabulary import decode_text, encode_text
from llmtool.core.run.console import Console


class Lost:
    """Counts for one tokenizer; costs nothing for those that can write any text.

    Unknown tokens are counted in ids, at a thousandth of what encoding costs. What is left out shows in the text alone:
    each character is judged once, by itself. (Kinds of vocabularies that leave out are small and few.)
    """

    def __init__(self, tokenizer: BaseTokenizer) -> None:
        self._definition = tokenizer.definition
        self._vocabulary = vocabulary = tokenizer.definition.vocabulary
        unknown, lacks = vocabulary.unknown, not tokenizer.definition.spells_bytes
        self._normalize = tokenizer.normalize
        self._id = unknown.id if lacks else None
        self._leaves_out = lacks and unknown.token is None and len(unknown.byte_ids) < 256
        self._known: dict[str, bool] = {}
        self.tokens = self.unknown = self.characters = self.left_out = 0

    def read(self, text: bytes) -> None:
        """Count the characters of a text that are left out."""
        if not self._leaves_out:
            return
        characters = text.decode("utf-8", "replace")
        self.characters += len(characters)
        if any(not self._keeps(character) for character in set(characters)):
            counts = Counter(characters)
            self.left_out += sum(count for character, count in counts.items() if not self._keeps(character))

    def written(self, ids: bytes) -> None:
        """Count the unknown tokens among ids (u32)."""
        if self._id is not None:
            import numpy as np

            found = np.frombuffer(ids, np.uint32)
            self.tokens, self.unknown = self.tokens + len(found), self.unknown + int((found == self._id).sum())

    def occurred(self, counts: Any) -> None:
        """The same from occurrences of each id [id_limit]."""
        if self._id is not None:
            self.tokens, self.unknown = self.tokens + int(counts.sum()), self.unknown + int(counts[self._id])

    def add(self, facts: dict[str, int]) -> None:
        """What another process has counted."""
        for name, count in facts.items():
            setattr(self, name, getattr(self, name) + count)

    def to_json(self) -> dict[str, int]:
        """The counts; none where nothing was lost."""
        counts = {
            "tokens": self.tokens, "unknown": self.unknown, "characters": self.characters, "left_out": self.left_out
        }  # fmt: skip
        return counts if self.unknown or self.left_out else {}

    def say(self, console: Console, name: str = "") -> None:
        """A warning, where there was anything."""
        if self.unknown:
            share, token = self.unknown / self.tokens, self._vocabulary.unknown.token
            what = f"{self.unknown:,} of {self.tokens:,} tokens ({share:.2%}) are {token}"
            console.warn(f"{name}{what}: the vocabulary lacks characters of the text")
        if self.left_out:
            share = self.left_out / self.characters
            what = f"{self.left_out:,} of {self.characters:,} characters ({share:.2%}) are left out"
            console.warn(f"{name}{what}: the vocabulary lacks them, and has no token for what is unknown")

    def _keeps(self, character: str) -> bool:
        known = self._known.get(character)
        if known is None:
            unit_of, byte_ids = self._vocabulary.unit_of, self._vocabulary.unknown.byte_ids
            text = decode_text(self._normalize(encode_text(character)))
            pieces = byte_pieces(text, self._definition.pretokenizer_steps)
            known = self._known[character] = all(
                symbol in unit_of or all(byte in byte_ids for byte in symbol)
                for piece in pieces for symbol in self._vocabulary.symbols(piece)
            )  # fmt: skip
        return known
