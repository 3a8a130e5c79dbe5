"""The tokenizer: text to ids and back, for a Definition and the encoder that its file names.

`llmtool.Tokenizer` is this class with the methods of the catalog bound to it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from llmtool.core.bpe.alignment import Place, align
from llmtool.core.bpe.decoders import BYTE_LEVEL, decode_tokens, text_bytes, token_bytes
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.encoder import spans
from llmtool.core.bpe.engine import DocumentEncoder, Kept, document_encoder, segments
from llmtool.core.bpe.packed import pack_ends
from llmtool.core.bpe.policy import EncodingPolicy
from llmtool.core.bpe.pretokenizers import CUSTOM, byte_pieces
from llmtool.core.bpe.segments import Segments
from llmtool.core.bpe.streaming import StreamDecoder
from llmtool.core.bpe.vocabulary import decode_text, encode_text
from llmtool.core.run.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Text = str | bytes
Ids: TypeAlias = "Sequence[int] | NDArray[np.integer[Any]] | torch.Tensor"


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


class Arrays(NamedTuple):
    """Ids of many documents: those of document i are ids[offsets[i] : offsets[i + 1]].

    ids: uint32 [tokens]. offsets: int64 [documents + 1], the first 0, the last the number of tokens.
    """

    ids: "NDArray[np.uint32]"
    offsets: "NDArray[np.int64]"


def as_ids(ids: Ids) -> list[int]:
    """Whole numbers of a sequence, an array or a tensor of one dimension; TypeError for anything else."""
    plain: Any = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(plain, str | bytes) or not isinstance(plain, Iterable):
        raise TypeError(f"ids must be a sequence of whole numbers, not {type(ids).__name__}")
    numbers = list(plain)
    if set(map(type, numbers)) <= {int}:
        return numbers
    wrong = next((number for number in numbers if isinstance(number, bool) or not hasattr(number, "__index__")), None)
    if wrong is not None:
        hint = "; decode_batch takes rows of ids" if isinstance(wrong, Iterable) and not isinstance(wrong, str) else ""
        raise TypeError(f"ids must be whole numbers, not {type(wrong).__name__}{hint}")
    return [index(number) for number in numbers]


class BaseTokenizer:
    """Encodes and decodes; immutable.

    Text is a str or UTF-8 bytes; any bytes survive encode and decode (see vocabulary.encode_text for the rule).
    Special tokens in a text are plain text unless allow_special is set.
    """

    _tables: "Callable[[str], Kept] | None" = None
    """Where the engine's tables are kept, of a tokenizer as it was read."""

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
        return f"<{type(self).__name__} {d.algorithm}+{d.encoder}, {d.pretokenizer}, {self.token_count:,} tokens>"

    @cached_property
    def _encoder(self) -> DocumentEncoder:
        return document_encoder(self.definition, self.policy, self._tables)

    @cached_property
    def _segments(self) -> Segments:
        return segments(self.definition)

    @property
    def vocab_size(self) -> int:
        """The rows that a model needs: one more than the largest id."""
        return self.definition.vocabulary.id_limit

    @property
    def token_count(self) -> int:
        """Number of ids, added tokens included; files may leave gaps between them."""
        return self.definition.vocabulary.size

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special token -> id: the added tokens that are plain text unless allow_special is set."""
        return self.definition.vocabulary.special

    @property
    def added_tokens(self) -> dict[str, int]:
        """Added token -> id: the special ones, and those that always match."""
        return self.definition.vocabulary.added_ids

    @property
    def bos_id(self) -> int | None:
        """Id of the beginning-of-text token, if the tokenizer names one."""
        return self.added_tokens[self.definition.bos] if self.definition.bos else None

    @property
    def eos_id(self) -> int | None:
        """Id of the end-of-text token, if the tokenizer names one."""
        return self.added_tokens[self.definition.eos] if self.definition.eos else None

    def normalize(self, text: Text) -> bytes:
        """The bytes that are cut into tokens: offsets refer to these."""
        return self._segments.normalize(_as_bytes(text))

    def encode(self, text: Text, *, allow_special: bool = False) -> list[int]:
        """Ids of one document."""
        segment, _, layout = self._segments.cut([_as_bytes(text)], allow_special)
        if layout is None:
            return memoryview(self._encoder.encode(segment)).cast("I").tolist()
        ids, _ = self.encode_buffers([text], allow_special=allow_special, threads=1)
        return memoryview(ids).cast("I").tolist()

    def encode_with_places(self, text: str, places: Sequence[int]) -> "tuple[list[int], list[Place]]":
        """Ids of a text, special tokens read as such, and for each place in it (characters) the ids before it."""
        return align(self.definition, self._segments, self._encode_pieces, text, places)

    def _encode_pieces(self, pieces: list[bytes]) -> list[list[int]]:
        """Ids of each of the texts that come out of the pre-tokenizer's steps."""
        ids, ends = self._encoder.encode_batch(b"".join(pieces), pack_ends(map(len, pieces)), 1)
        numbers, limits = memoryview(ids).cast("I"), memoryview(ends).cast("Q").tolist()
        return [numbers[start:end].tolist() for start, end in zip([0, *limits], limits, strict=False)]

    def encode_with_offsets(self, text: str, *, allow_special: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text, and the characters [start, end) of it, as given, that each comes from.

        Of every kind of tokenizer, as `tokenizers` has them: an id that holds a part of a character has all of it.
        """
        from llmtool.core.bpe.offsets import ids_and_spans

        text = decode_text(encode_text(text))
        return ids_and_spans(self.definition, self._segments, self._encode_pieces, text, allow_special)

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
        text, ends, layout = self._segments.cut(list(map(_as_bytes, texts)), allow_special)
        return self._segments.join(*self._encoder.encode_batch(text, ends, threads), layout)

    def needs_whole(self, allow_special: bool = False) -> bool:
        """Whether a long document must be encoded in one go, because a cut before a space or newline that follows a
        letter or number, or between a single newline and one (corpus/blocks.py safe_cut), could change its ids.
        """
        definition = self.definition
        scanned = definition.pretokenizer not in (CUSTOM, "none") and definition.vocabulary.alphabet == "bytes"
        composes = all(step["type"] in ("NFC", "NFD", "NFKC", "NFKD") for step in definition.normalizer)
        crossing = (
            token.lstrip or token.rstrip or any(character.isspace() for character in token.content)
            for token in definition.vocabulary.added
            if allow_special or not token.special
        )
        return not (scanned and composes) or any(crossing)

    def encode_arrays(
        self, texts: Sequence[Text], *, allow_special: bool = False, threads: int | None = None
    ) -> "Arrays":
        """As encode_batch, in two numpy arrays: what a data loader wants, without an object for each id."""
        import numpy as np

        if isinstance(texts, str | bytes):
            raise TypeError("texts must be a sequence of texts, not one text; see encode")
        ids, ends = self.encode_buffers(texts, allow_special=allow_special, threads=threads)
        return Arrays(np.frombuffer(ids, np.uint32), np.concatenate(([0], np.frombuffer(ends, np.uint64))).astype("i8"))

    def encode_prompt(self, text: Text) -> list[int]:
        """Ids of a text as a model is given it: special tokens are read as such, and what the tokenizer itself puts
        before a text (BOS) stands there. What it puts after one (EOS) does not: the model goes on from here.
        """
        return [*self.definition.around[0], *self.encode(text, allow_special=True)]

    @cached_property
    def _token_bytes(self) -> dict[int, bytes]:
        """Bytes that each id decodes to, wherever it stands."""
        definition = self.definition
        plain = definition.spellings is definition.vocabulary.spellings
        if plain and definition.decoder == (BYTE_LEVEL,) and definition.vocabulary.alphabet == "bytes":
            return definition.vocabulary.tokens
        return {number: token_bytes(text, definition.decoder) for number, text in definition.spellings.items()}

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that skip_special leaves out: of special tokens, and of tokens that are spelled like one."""
        special = self.special_tokens
        return frozenset(number for number, text in self.definition.spellings.items() if text in special)

    def token_bytes(self, token: int) -> bytes:
        """Bytes of an id."""
        try:
            return self._token_bytes[token]
        except KeyError:
            raise UserError(
                f"id {token} is not in the vocabulary", hint=f"{self.token_count} ids, is this the right tokenizer?"
            ) from None

    @cached_property
    def texts(self) -> dict[int, bytes]:
        """The bytes of text that each id of the vocabulary is made for, whatever it is spelled like (<0x0A>, a mark for
        a space); in an alphabet of bytes also where a file's decoder says nothing of them."""
        vocabulary = self.definition.vocabulary
        if vocabulary.alphabet == "bytes":
            return vocabulary.tokens
        return {number: self.token_bytes(number) for number in vocabulary.tokens}

    def decode_bytes(self, ids: Ids, *, skip_special: bool = False, whole: bool = False) -> bytes:
        """The bytes that the ids spell. whole: they are a text from its first id to its last, not a part of one, so
        what the decoder takes off its ends goes (SentencePiece's first space), as it does from `decode`.
        """
        kept = self._kept(ids, skip_special)
        parts = map(self.token_bytes, kept)
        if not whole or self._spells_utf8:
            return b"".join(parts)
        spellings = self.definition.spellings
        return text_bytes([spellings[token] for token in kept], list(parts), self.definition.decoder)

    def decode(self, ids: Ids, errors: str = "replace", skip_special: bool = False) -> str:
        """The text that the ids spell.

        ids: a sequence, a numpy array or a torch tensor of one dimension. errors: what bytes that are no UTF-8 become,
        as in bytes.decode. "replace", U+FFFD, gives what `tokenizers` gives; with "surrogateescape" the text encodes
        back to the very same bytes. skip_special: leave special tokens out (added tokens that are not special stay).
        """
        if errors != "replace" or self._spells_utf8:
            return self.decode_bytes(ids, skip_special=skip_special, whole=True).decode("utf-8", errors)
        spellings = self.definition.spellings
        kept = self._kept(ids, skip_special)
        for token in kept:
            self.token_bytes(token)  # refuses what is no id
        return decode_tokens([spellings[token] for token in kept], self.definition.decoder)

    def decode_batch(self, rows: Iterable[Ids], errors: str = "replace", skip_special: bool = False) -> list[str]:
        """Text of each row of ids: lists, or an array or tensor of two dimensions."""
        return [self.decode(row, errors, skip_special) for row in rows]

    def decode_stream(self, *, skip_special: bool = False) -> StreamDecoder:
        """What decodes ids as they arrive: `push(id)` and `finish()` give text, never half a character."""
        skipped = self.special_ids if skip_special else frozenset[int]()
        return StreamDecoder(self.definition.spellings, self.definition.decoder, skipped)

    @cached_property
    def _spells_utf8(self) -> bool:
        """Whether a text is its tokens' bytes, one after the other, read as UTF-8."""
        return all(step["type"] == "ByteLevel" for step in self.definition.decoder) and bool(self.definition.decoder)

    def _kept(self, ids: Ids, skip_special: bool) -> list[int]:
        rows = as_ids(ids)
        return [token for token in rows if token not in self.special_ids] if skip_special else rows

    def offsets(self, ids: Ids) -> list[tuple[int, int]]:
        """Byte range of each id in the text that the ids spell: their `token_bytes`, one after the other."""
        return spans(lambda token: len(self.token_bytes(token)), as_ids(ids))

    def explain(self, text: Text) -> list[tuple[bytes, list[int]]]:
        """How a text is cut: each piece of the pre-tokenizer with its units, before scaffolds are written as parts.

        Units are numbers of `definition.vocabulary.units`, and no ids: `vocabulary.emit[unit]` are those of one.
        """
        cut = self.policy.cutter(self.definition)
        steps = self.definition.pretokenizer_steps
        pieces = byte_pieces(decode_text(self.normalize(text)), steps)
        return [(piece, cut(piece)) for piece in pieces]

    def fingerprint(self) -> str:
        """sha256 of everything that decides ids."""
        return self.definition.fingerprint()
