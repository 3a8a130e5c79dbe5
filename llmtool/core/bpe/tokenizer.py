"""The tokenizer: text to ids and back, for a Definition and the encoder that its file names.

`llmtool.Tokenizer` is this class with the methods of the catalog bound to it.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.encoder import document_ends, spans
from llmtool.core.bpe.engine import DocumentEncoder, document_encoder
from llmtool.core.bpe.policy import EncodingPolicy
from llmtool.core.bpe.pretokenizers import split
from llmtool.core.bpe.vocabulary import decode_text, encode_text, pack_ends, pack_u32
from llmtool.core.run.errors import UserError

Text = str | bytes


def available_cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _as_bytes(text: Text) -> bytes:
    if isinstance(text, str):
        return encode_text(text)
    if not isinstance(text, bytes | bytearray | memoryview):
        raise TypeError(f"text must be str or bytes, not {type(text).__name__}")
    return bytes(text)


def half_of_memory() -> int:
    """Half of the machine's memory, in bytes: what training may take by default."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class BaseTokenizer:
    """Encodes and decodes; immutable.

    Text is a str or UTF-8 bytes; any bytes survive encode and decode (see vocabulary.encode_text for the rule).
    Special tokens in a text are plain text unless allow_special is set.
    """

    def __init__(self, definition: Definition, policy: EncodingPolicy) -> None:
        self.definition = definition
        self.policy = policy

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is built again at first use: the engine's encoder cannot leave its process."""
        return {"definition": self.definition, "policy": self.policy}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseTokenizer) and self.definition == other.definition

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        d = self.definition
        return f"<{type(self).__name__} {d.algorithm}+{d.encoder}, {d.pretokenizer}, {self.vocab_size:,} tokens>"

    @cached_property
    def _encoder(self) -> DocumentEncoder:
        return document_encoder(self.definition, self.policy)

    @cached_property
    def _special(self) -> Any:
        import regex

        texts = sorted(self.special_tokens, key=len, reverse=True)
        return regex.compile(b"|".join(regex.escape(encode_text(text)) for text in texts)) if texts else None

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self.definition.vocabulary.size

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special token -> id."""
        return self.definition.vocabulary.special

    @property
    def bos_id(self) -> int | None:
        """Id of the beginning-of-text token, if the tokenizer names one."""
        return self.special_tokens[self.definition.bos] if self.definition.bos else None

    @property
    def eos_id(self) -> int | None:
        """Id of the end-of-text token, if the tokenizer names one."""
        return self.special_tokens[self.definition.eos] if self.definition.eos else None

    def normalize(self, text: Text) -> bytes:
        """The bytes that are cut into tokens: offsets refer to these."""
        data = _as_bytes(text)
        if self.definition.normalizer == "NFC" and not data.isascii():
            from unicodedata import is_normalized, normalize

            string = decode_text(data)
            if not is_normalized("NFC", string):
                return encode_text(normalize("NFC", string))
        return data

    def encode(self, text: Text, *, allow_special: bool = False) -> list[int]:
        """Ids of one document."""
        if allow_special:
            return self.encode_batch([text], allow_special=True, threads=1)[0]
        return memoryview(self._encoder.encode(self.normalize(text))).cast("I").tolist()

    def encode_batch(
        self, texts: Sequence[Text], *, allow_special: bool = False, threads: int | None = None
    ) -> list[list[int]]:
        """Ids of each document; `threads` defaults to the available cores."""
        if isinstance(texts, str | bytes):
            raise TypeError("texts must be a sequence of texts, not one text; see encode")
        ids, ends = self.encode_buffers(texts, allow_special=allow_special, threads=threads)
        numbers = memoryview(ids).cast("I")
        limits = memoryview(ends).cast("Q").tolist()
        return [numbers[start:end].tolist() for start, end in zip([0, *limits], limits, strict=False)]

    def encode_buffers(
        self, texts: Sequence[Text], *, allow_special: bool = False, threads: int | None = None
    ) -> tuple[bytes, bytes]:
        """As encode_batch, without a Python object for each id: (ids u32, end of each document in ids u64)."""
        threads = available_cores() if threads is None else threads
        if allow_special and self._special:
            return self._encode_with_special([_as_bytes(text) for text in texts], threads)
        documents = [self.normalize(text) for text in texts]
        return self._encoder.encode_batch(b"".join(documents), document_ends(documents), threads)

    def _encode_with_special(self, documents: list[bytes], threads: int) -> tuple[bytes, bytes]:
        """Cut at special tokens (the longest at each place), encode what lies between, and put the ids together.

        Normalization comes after: it may not join a special token with the mark that follows it.
        """
        segments: list[bytes] = []
        layout: list[list[int]] = []  # for each document: the special ids between its segments
        for document in documents:
            start, between = 0, []
            for match in self._special.finditer(document):
                segments.append(self.normalize(document[start : match.start()]))
                between.append(self.special_tokens[decode_text(match.group())])
                start = match.end()
            segments.append(self.normalize(document[start:]))
            layout.append(between)
        ids, ends = self._encoder.encode_batch(b"".join(segments), document_ends(segments), threads)
        limits = iter(memoryview(ends).cast("Q").tolist())
        parts: list[bytes] = []
        lengths: list[int] = []
        start = 0
        for between in layout:
            length = 0
            for special in [*between, None]:
                end = next(limits)
                parts.append(ids[4 * start : 4 * end])
                length += end - start
                start = end
                if special is not None:
                    parts.append(pack_u32([special]))
                    length += 1
            lengths.append(length)
        return b"".join(parts), pack_ends(lengths)

    def token_bytes(self, token: int) -> bytes:
        """Bytes of an id."""
        try:
            return self.definition.vocabulary.tokens[token]
        except KeyError:
            raise UserError(
                f"id {token} is not in the vocabulary", hint=f"{self.vocab_size} ids, is this the right tokenizer?"
            ) from None

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes that the ids spell."""
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids spell; bytes that are no UTF-8 come as U+DC80..U+DCFF and encode back to themselves."""
        return decode_text(self.decode_bytes(ids))

    def offsets(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Byte range of each id in the normalized text."""
        return spans(lambda token: len(self.token_bytes(token)), list(ids))

    def explain(self, text: Text) -> list[tuple[bytes, list[int]]]:
        """How a text is cut: each piece of the pre-tokenizer with its units, before scaffolds are written as parts."""
        pieces = split(self.definition.pretokenizer, self.normalize(text))
        cut = self.policy.cutter(self.definition)
        return [(piece, cut(piece)) for piece in pieces]

    def fingerprint(self) -> str:
        """sha256 of everything that decides ids."""
        return self.definition.fingerprint()
