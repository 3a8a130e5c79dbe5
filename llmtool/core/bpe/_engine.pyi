"""Types of the native engine: C++ in core/bpe/native, built as llmtool.core.bpe._engine.

Arrays cross as buffers in native byte order (u32: ids, u64: offsets), so that no caller needs numpy.
A batch of documents is one buffer of concatenated bytes and the end offset of each document.
Text is UTF-8; every byte that belongs to no well-formed sequence is one code point of class "other".
"""

from collections.abc import Callable
from typing import overload

from typing_extensions import Buffer

UNICODE_VERSION: str
PRETOKENIZERS: tuple[str, ...]
TRAINING_POLICIES: tuple[str, ...]
ENCODING_POLICIES: tuple[str, ...]

def split(pretokenizer: str, text: Buffer) -> bytes:
    """End offset of each piece (u64)."""

def read_bpe(texts: list[str], merges: list[object], alphabet: str) -> tuple[bytes, bytes, bytes] | None:
    """(bytes of the units, their ends u64, merges as u32 triples) of a tokenizer file, where all of it is plain.

    texts: the units as the file spells them, which are their places in the triples. merges: "a b" or ["a", "b"]; lines
    that begin with "#version" are none. alphabet: the characters that spell the bytes 0 to 255; "" for texts that are
    their own UTF-8. None where an entry is something else, joins or makes what is no unit, or is listed twice.
    """

class PieceCounter:
    """Counts pre-tokenized pieces in 64 bits; past `max_memory` bytes (0: no limit) it spills to `spill_directory`."""

    def __init__(self, pretokenizer: str, threads: int = 1, max_memory: int = 0, spill_directory: str = "") -> None: ...
    def add(self, text: Buffer, ends: Buffer) -> None:
        """Count a batch of documents; releases the GIL, uses `threads` threads."""
    def items(self) -> list[tuple[bytes, int]]:
        """(piece, count) in the order of the pieces' bytes."""
    @property
    def pieces(self) -> int:
        """Pieces counted, repeats included."""
    @property
    def bytes(self) -> int:
        """Bytes of all documents counted."""
    @property
    def spills(self) -> int:
        """Sorted runs written to disk so far."""

class Trained:
    """Units 0..255 are the bytes in the caller's order; every new unit follows in the order of its making."""

    @property
    def merges(self) -> bytes:
        """u32 triples (left unit, right unit, resulting unit) in rank order."""
    @property
    def frequencies(self) -> bytes:
        """u64 per merge: the pair's frequency when it was merged."""
    @property
    def scaffold(self) -> bytes:
        """One byte per unit: 1 where the unit ended as a scaffold token."""
    @property
    def marks(self) -> int: ...
    @property
    def promotions(self) -> int: ...

def train(
    counter: PieceCounter,
    policy: str,
    vocab_size: int,
    min_frequency: int,
    max_token_bytes: int,
    byte_order: bytes,
    progress: Callable[[int], None] | None = None,
) -> Trained:
    """Merge until `vocab_size` normal units (bytes included) exist or no frequency reaches max(1, min_frequency).

    A pair that together is longer than `max_token_bytes` is never merged.

    `progress(normal_units)` is called at once, then a few times a second, with the GIL held; what it raises ends it.
    """

class Encoder:
    """Encodes documents; keeps its bounded per-thread piece caches between calls (that is what "warm" means)."""

    @overload
    def __init__(
        self,
        pretokenizer: str,
        policy: str,
        units: Buffer,
        unit_ends: Buffer,
        merges: Buffer,
        emit: Buffer,
        emit_ends: Buffer,
        ignore_merges: bool = False,
        order: Buffer | None = None,
        characters: bool = False,
        known: int | None = None,
        byte_units: Buffer | None = None,
        unknown_unit: int | None = None,
        fuse: bool = False,
    ) -> None:
        """Units' bytes are concatenated in `units`; unit u is written as the ids emit[emit_ends[u-1]:emit_ends[u]].

        merges: u32 triples in rank order (policy "merge"). order: u32 per unit, the lowest is taken first
        (policy "lbpe"); None means longest first, the leftmost of equals. ignore_merges: a piece that is
        itself a unit becomes that unit whatever the merges say.

        characters: encoding starts from characters, not bytes. Units from `known` on fill gaps: bytes that are no
        unit, and empty units that stand for what unknown symbols become: byte_units (u32, 256 or none) for their
        bytes, where all have one (2^32 - 1: none), else unknown_unit, once for neighbours if `fuse`; else nothing.
        """
    @overload
    def __init__(self, state: Buffer) -> None:
        """The encoder whose `state` it is; ValueError for one of another form. What it holds is not looked at."""
    def state(self) -> bytes:
        """The built tables, for this very build of the engine; empty for the policy "lbpe", which builds none."""
    def encode(self, text: Buffer) -> bytes:
        """Ids (u32) of one document."""
    def encode_batch(self, text: Buffer, ends: Buffer, threads: int = 1) -> tuple[bytes, bytes]:
        """(ids u32, end of each document in ids u64); releases the GIL."""
    @property
    def operations(self) -> int:
        """Inner-loop steps since construction: a bound for tests against quadratic blow-up."""

class AddedTokens:
    """Finds added tokens: one search for all of them, the longest at each place."""

    def __init__(self, texts: Buffer, ends: Buffer, ids: Buffer, flags: Buffer) -> None:
        """Texts concatenated, their ends (u64), ids (u32), and flags (u8): 1 special, 2 lstrip, 4 rstrip."""
    def cut(self, text: Buffer, ends: Buffer, allow_special: bool) -> tuple[bytes, bytes, bytes]:
        """(text of the segments between tokens, their ends u64, layout u32).

        The layout lists the parts of each document: 2^32 - 1 for a segment, the id of a token; after each document
        comes 2^32 - 2.
        """

def join(ids: Buffer, ends: Buffer, layout: Buffer) -> tuple[bytes, bytes]:
    """(ids u32, end of each document u64) from the ids of the segments of a layout and their ends."""

def nest(outer: Buffer, inner: Buffer) -> bytes:
    """The layout `outer`, whose segments were cut again as the documents of `inner`."""

def format_ids(ids: Buffer, ends: Buffer) -> bytes:
    """A line of decimal ids, separated by spaces, for each document."""
