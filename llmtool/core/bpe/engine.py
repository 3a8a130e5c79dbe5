"""Which engine runs: the C++ extension, or portable Python where it was not built. Chosen once, at import.

LLMTOOL_ENGINE=python forces the portable one (tests, debugging); LLMTOOL_ENGINE=native refuses to run without C++.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from types import ModuleType
from typing import Any, Protocol

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.encoder import PortableEncoder, document_ends
from llmtool.core.bpe.encoder import format_ids as portable_format_ids
from llmtool.core.bpe.policy import EncodingPolicy, Trained, TrainingPolicy
from llmtool.core.bpe.pretokenizers import CUSTOM, split
from llmtool.core.bpe.reference import MAX_TOKEN_BYTES
from llmtool.core.bpe.vocabulary import BYTE_ORDER, LONGEST_PIECE, pack_ends, pack_u32, piece_parts
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


def document_encoder(definition: Definition, policy: EncodingPolicy) -> DocumentEncoder:
    """The encoder of a tokenizer."""
    if _NATIVE is None or policy.native not in _NATIVE.ENCODING_POLICIES or not definition.spells_bytes:
        return PortableEncoder(definition, policy.cutter(definition))
    chosen = policy.units(definition)
    vocabulary = definition.vocabulary
    units = [vocabulary.units[unit] for unit in chosen]
    emit = [vocabulary.emit[unit] for unit in chosen]
    merges = chain.from_iterable(vocabulary.merges) if policy.native == "merge" else ()
    order = policy.order(definition)
    encoder: DocumentEncoder = _checked(
        _NATIVE.Encoder,
        "none" if definition.pretokenizer == CUSTOM else definition.pretokenizer,
        policy.native,
        b"".join(units),
        pack_ends(map(len, units)),
        pack_u32(merges),
        pack_u32(chain.from_iterable(emit)),
        pack_ends(map(len, emit)),
        definition.ignore_merges,
        None if order is None else pack_u32(order),
    )
    return encoder


def _checked(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call into the engine; what it refuses for its size, and a disk that is full, are the user's to know."""
    try:
        return call(*arguments)
    except (ValueError, OSError, MemoryError) as error:
        raise UserError(str(error) or "out of memory", hint="the tokenizer engine's limit") from error


class PieceCounts:
    """Counts of pre-tokenized pieces, gathered from batches of documents."""

    def __init__(self, pretokenizer: str, threads: int, max_memory: int, spill_directory: str) -> None:
        self._pretokenizer = pretokenizer
        self._portable: Counter[bytes] = Counter()
        self.native = _NATIVE and _NATIVE.PieceCounter(pretokenizer, threads, max_memory, spill_directory)

    def add(self, documents: list[bytes]) -> None:
        """Count one batch."""
        if self.native:
            _checked(self.native.add, b"".join(documents), document_ends(documents))
            return
        for document in documents:
            for piece in split(self._pretokenizer, document):
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
        return policy.train(dict(counts.items()), vocab_size, min_frequency, max_token_bytes, progress)
    limits = vocab_size, min_frequency, max_token_bytes
    made = _checked(_NATIVE.train, counts.native, policy.native, *limits, BYTE_ORDER, progress)
    flat = memoryview(made.merges).cast("I").tolist()
    merges = list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    scaffolds = {unit for unit, mark in enumerate(made.scaffold) if mark}
    return Trained(merges, scaffolds, made.marks, made.promotions)


def format_ids(ids: bytes, ends: bytes) -> bytes:
    """A line of decimal ids, separated by spaces, for each document."""
    if _NATIVE is None:
        return portable_format_ids(ids, ends)
    lines: bytes = _NATIVE.format_ids(ids, ends)
    return lines
