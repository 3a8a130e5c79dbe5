"""Which engine runs: the C++ extension, or portable Python where it was not built. Chosen once, at import.

LLMTOOL_ENGINE=python forces the portable one (tests, debugging); LLMTOOL_ENGINE=native refuses to run without C++.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any, Protocol

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.encoder import Merge, PortableEncoder, document_ends, needs_unknown
from llmtool.core.bpe.encoder import format_ids as portable_format_ids
from llmtool.core.bpe.normalizers import Step
from llmtool.core.bpe.packed import PackedBytes, PackedIds, PackedTriples, pack_u32
from llmtool.core.bpe.policy import Allows, EncodingPolicy, PieceCutter, Start, Trained, TrainingPolicy
from llmtool.core.bpe.pretokenizers import CUSTOM, byte_pieces, split
from llmtool.core.bpe.segments import Segments, slices
from llmtool.core.bpe.settings import MAX_TOKEN_BYTES
from llmtool.core.bpe.vocabulary import (
    BYTE_ORDER,
    BYTE_TO_UNICODE,
    LONGEST_PIECE,
    Alphabet,
    Vocabulary,
    decode_text,
    piece_parts,
)
from llmtool.core.run.errors import UserError


def _load() -> ModuleType | None:
    wanted = os.environ.get("LLMTOOL_ENGINE", "")
    if wanted not in ("", "native", "python"):
        raise UserError(f"LLMTOOL_ENGINE={wanted!r} is not known", hint="native or python")
    if wanted == "python":
        return None
    try:
        from llmtool.core.bpe import _engine
    except ImportError:
        if wanted == "native":
            raise UserError(
                "the native engine is not built", hint="reinstall with a C++ compiler: LLMTOOL_REQUIRE_NATIVE=1"
            ) from None
        return None
    return _engine


_NATIVE = _load()
NAME = "python" if _NATIVE is None else "native"


class DocumentEncoder(Protocol):
    """What encodes documents: the engine's Encoder or PortableEncoder."""

    def encode(self, text: bytes) -> bytes:
        """Ids (u32) of one document."""
        ...

    def encode_batch(self, text: bytes, ends: bytes, threads: int = 1) -> tuple[bytes, bytes]:
        """(ids u32, end of each document in ids u64)."""
        ...


def segments(definition: Definition) -> Segments:
    """What prepares documents for the encoder."""
    return Segments(definition, _NATIVE)


class Kept(Protocol):
    """Where the engine's tables of a tokenizer are kept (compiled.Tables)."""

    def load(self) -> bytes | memoryview | None:
        """The tables, if there are any."""
        ...

    def store(self, state: bytes) -> None:
        """Keep the tables."""
        ...


def document_encoder(
    definition: Definition, policy: EncodingPolicy, tables: Callable[[str], Kept] | None = None
) -> DocumentEncoder:
    """The encoder of a tokenizer. tables: where its tables are kept, for the engine's file."""
    if _NATIVE is None or policy.native not in _NATIVE.ENCODING_POLICIES:
        return PortableEncoder(definition, policy.cutter(definition))
    kept = tables(_NATIVE.__file__ or "") if tables is not None and policy.native == "merge" else None
    state = kept and kept.load()
    if state:
        with suppress(ValueError):  # of another form: built anew
            return _complaining(_NATIVE.Encoder(state), definition)
    built = _build(_NATIVE, definition, policy)
    if kept:
        kept.store(built.state())
    return _complaining(built, definition)


NOWHERE = 0xFEFEFEFE
"""Written for an unknown symbol where the unknown token has no id. No four bytes of ids that are some look like it."""


def _complaining(encoder: DocumentEncoder, definition: Definition) -> DocumentEncoder:
    unknown = definition.vocabulary.unknown
    return encoder if unknown.token is None or unknown.id is not None else _Complaining(encoder, unknown.token)


class _Complaining:
    """An encoder of a vocabulary whose unknown token is no entry: a text that needs it is refused."""

    def __init__(self, encoder: DocumentEncoder, token: str) -> None:
        self._encoder, self._token = encoder, token

    def encode(self, text: bytes) -> bytes:
        """As the engine's."""
        return self._checked(self._encoder.encode(text))

    def encode_batch(self, text: bytes, ends: bytes, threads: int = 1) -> tuple[bytes, bytes]:
        """As the engine's."""
        ids, limits = self._encoder.encode_batch(text, ends, threads)
        return self._checked(ids), limits

    def _checked(self, ids: bytes) -> bytes:
        if pack_u32([NOWHERE]) in ids:
            raise needs_unknown(self._token)
        return ids


def _build(native: ModuleType, definition: Definition, policy: EncodingPolicy) -> Any:
    chosen = policy.units(definition)
    vocabulary = definition.vocabulary
    units, emit = vocabulary.units, vocabulary.emit
    if len(chosen) < len(units):  # in the order of the units, always
        units, emit = [units[unit] for unit in chosen], [emit[unit] for unit in chosen]
    unknown: dict[str, Any] = {}
    if not definition.spells_bytes:
        unknown = {"characters": vocabulary.alphabet == "characters", "known": len(units)}
        units, emit = list(units), list(emit)
        unknown.update(_gaps(vocabulary, units, emit))
    merges = vocabulary.merges if policy.native == "merge" else ()
    spelled, written = PackedBytes.of(units), PackedIds.of(emit)
    order = policy.order(definition)
    if order is not None:
        order = [*order, *[max(order) + 1] * (len(units) - len(order))]
    return _checked(
        native.Encoder,
        _scanner(definition, units[: unknown["known"]] if unknown else units),
        policy.native,
        spelled.data,
        spelled.ends,
        PackedTriples.of(merges).data,
        written.data,
        written.ends,
        definition.ignore_merges,
        None if order is None else pack_u32(order),
        **unknown,
    )


def plain_units(texts: list[str], merges: list[Any], alphabet: Alphabet) -> tuple[PackedBytes, PackedTriples] | None:
    """The units that a file's texts spell, and its merges by their places; None where only a closer look can tell.

    merges: "a b" or ["a", "b"]. A closer look needs what spells no bytes, a pair that is listed twice or joins or makes
    what is no unit, and every file where the native engine was not built.
    """
    made = _NATIVE.read_bpe(texts, merges, ALPHABET if alphabet == "bytes" else "") if _NATIVE else None
    return None if made is None else (PackedBytes(*made[:2]), PackedTriples(made[2]))


ALPHABET = "".join(BYTE_TO_UNICODE[byte] for byte in range(256))


def _gaps(vocabulary: Vocabulary, units: list[bytes], emit: list[tuple[int, ...]]) -> dict[str, Any]:
    """Adds what the engine needs beside the units: every byte, and an empty unit for each id of unknown symbols."""
    known = set(units)
    missing = [byte for byte in map(bytes, zip(range(256), strict=True)) if byte not in known]
    units += missing
    emit += [(0,)] * len(missing)  # never written: the engine cuts at unknown symbols
    unit_of: dict[int, int] = {}
    for number in vocabulary.unknown_ids:
        unit_of[number] = len(units)
        units.append(b"")
        emit.append((number,))
    unknown = vocabulary.unknown
    written = NOWHERE if unknown.token is not None and unknown.id is None else unknown.id
    if written == NOWHERE:
        unit_of[NOWHERE] = len(units)
        units.append(b"")
        emit.append((NOWHERE,))
    ids = [unknown.byte_ids.get(byte) for byte in range(256)] if unknown.byte_ids else []
    return {
        "byte_units": pack_u32(0xFFFFFFFF if number is None else unit_of[number] for number in ids),
        "unknown_unit": None if written is None else unit_of[written],
        "fuse": unknown.fuse,
    }


def _scanner(definition: Definition, units: Sequence[bytes]) -> str:
    """The engine's scanner. Text of SentencePiece's kind is cut before each U+2581 that follows another character,
    if no unit reaches over such a place: the ids are the same, and the cache of pieces works."""
    if definition.vocabulary.alphabet == "bytes":
        return "none" if definition.pretokenizer == CUSTOM else definition.pretokenizer
    if definition.ignore_merges or MARK not in units:
        return "none"
    if re.search(b"[^\\xff\0]\0", b"\xff".join(units).replace(MARK, b"\0")):
        return "none"
    return "metaspace"


MARK = "\u2581".encode()
"""SentencePiece's mark of a space."""


def _checked(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call into the engine; what it refuses for its size, and a disk that is full, are the user's to know."""
    try:
        return call(*arguments, **named)
    except (ValueError, OSError, MemoryError) as error:
        raise UserError(str(error) or "out of memory", hint="the tokenizer engine's limit") from error


class PieceCounts:
    """Counts of pre-tokenized pieces, gathered from batches of documents.

    own: of a tokenizer, whose added tokens, normalizer and steps come first; `own_pieces` makes such counts.
    """

    def __init__(
        self,
        pretokenizer: str,
        threads: int,
        max_memory: int,
        spill_directory: str,
        steps: tuple[Step, ...] = (),
        own: Segments | None = None,
    ) -> None:
        self._pretokenizer = pretokenizer
        self._steps = steps if pretokenizer == CUSTOM else None
        self._own = own
        self._portable: Counter[bytes] = Counter()
        scanner = "none" if pretokenizer == CUSTOM else pretokenizer
        self.native = _NATIVE and _NATIVE.PieceCounter(scanner, threads, max_memory, spill_directory)

    def add(self, documents: list[bytes]) -> None:
        """Count one batch."""
        if self._own is not None:
            text, ends, _ = self._own.cut(documents, allow_special=True)
            if self.native:
                _checked(self.native.add, text, ends)
                return
            documents = slices(text, ends)
        elif self._steps is not None:
            documents = [piece for document in documents for piece in byte_pieces(decode_text(document), self._steps)]
        if self.native:
            _checked(self.native.add, b"".join(documents), document_ends(documents))
            return
        for document in documents:
            for piece in [document] if self._steps else _scan(self._pretokenizer, document):
                self._portable.update(piece_parts(piece) if len(piece) > LONGEST_PIECE else (piece,))

    def items(self) -> Iterable[tuple[bytes, int]]:
        """(piece, count) in the order of the pieces' bytes."""
        items: Iterable[tuple[bytes, int]] = self.native.items() if self.native else sorted(self._portable.items())
        return items

    @property
    def spills(self) -> int:
        """Times that counts were written to disk; the portable engine keeps all of them in memory."""
        return int(self.native.spills) if self.native else 0

    @property
    def pieces(self) -> int:
        """Pieces counted so far, repeats included."""
        return int(self.native.pieces) if self.native else self._portable.total()


def train(
    counts: PieceCounts,
    policy: TrainingPolicy,
    vocab_size: int,
    min_frequency: int,
    progress: Callable[[int], None],
    max_token_bytes: int = MAX_TOKEN_BYTES,
) -> Trained:
    """Run the merge loop; `vocab_size` counts normal units, the 256 bytes included."""
    if _NATIVE is None or counts.native is None or policy.native not in _NATIVE.TRAINING_POLICIES:
        start = Start.of_bytes(dict(counts.items()))
        return policy.extend(start, vocab_size, min_frequency, max_token_bytes, progress)
    limits = vocab_size, min_frequency, max_token_bytes
    made = _checked(_NATIVE.train, counts.native, policy.native, *limits, BYTE_ORDER, progress)
    return _trained(made)


def own_pieces(definition: Definition, threads: int, max_memory: int, spill_directory: str) -> PieceCounts:
    """What counts the pieces that a tokenizer itself cuts a text into; its added tokens are cut out of the text."""
    known = [*definition.vocabulary.units]
    name = _scanner(definition, known)
    return PieceCounts(name, threads, max_memory, spill_directory, own=segments(definition))


def extend(
    counts: PieceCounts,
    definition: Definition,
    policy: TrainingPolicy,
    added: int,
    min_frequency: int,
    max_token_bytes: int,
    progress: Callable[[int], None],
    allows: Allows,
) -> Trained:
    """Go on from a tokenizer's merges; counts are `own_pieces` of it. New units are numbered after its own."""
    by_merges, merge = replace(definition, encoder="merge"), Merge()
    first = len(definition.vocabulary.units)
    if _NATIVE is None or counts.native is None or policy.native not in _NATIVE.TRAINING_POLICIES:
        start = Start(definition.vocabulary.units, _sequences(counts, merge.cutter(by_merges), first))
        return policy.extend(start, first + added, min_frequency, max_token_bytes, progress, allows)
    encoder = document_encoder(by_merges, merge)
    gaps = encoder.units - first  # type: ignore[attr-defined]
    limits = first + gaps + added, min_frequency, max_token_bytes
    trained = _trained(_checked(_NATIVE.extend, counts.native, encoder, policy.native, *limits, allows, progress))

    def own(unit: int) -> int:
        return unit if unit < first else unit - gaps

    merges = [(own(left), own(right), own(result)) for left, right, result in trained.merges]
    return replace(trained, merges=merges, scaffolds=set(map(own, trained.scaffolds)))


def _sequences(counts: PieceCounts, cut: PieceCutter, known: int) -> list[tuple[list[int], int]]:
    """The counted pieces as units; what an unknown symbol is written as (units from `known` on) ends a sequence."""
    sequences = []
    for piece, count in counts.items():
        run: list[int] = []
        for unit in [*cut(piece), known]:
            if unit < known:
                run.append(unit)
                continue
            if len(run) > 1:
                sequences.append((run, count))
            run = []
    return sequences


def _scan(name: str, document: bytes) -> list[bytes]:
    """Pieces of the engine's scanner of that name, portable."""
    if name != "metaspace":
        return split(name, document)
    return [piece for piece in re.split(b"(?<!%b)(?=%b)" % (MARK, MARK), document) if piece]


def _trained(made: Any) -> Trained:
    flat = memoryview(made.merges).cast("I").tolist()
    merges = list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    scaffolds = {unit for unit, mark in enumerate(made.scaffold) if mark}
    frequencies = memoryview(made.frequencies).cast("Q").tolist()
    return Trained(merges, scaffolds, made.marks, made.promotions, frequencies)


def format_ids(ids: bytes, ends: bytes) -> bytes:
    """A line of decimal ids, separated by spaces, for each document."""
    if _NATIVE is None:
        return portable_format_ids(ids, ends)
    lines: bytes = _NATIVE.format_ids(ids, ends)
    return lines
