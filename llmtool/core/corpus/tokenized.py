"""Tokenised corpora on disk: lines of ids, JSONL, and flat arrays with a sidecar.

`bin` is the flat array that nanoGPT-style loaders map (uint16 or uint32 by vocabulary); beside it stand OUT.json (what
the ids are), OUT.offsets.npy (start of each document and the total, uint64) and, for Megatron-style loaders, the
index PREFIX.idx of the same PREFIX.bin. `npy` is the same array with numpy's header.
"""

import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from llmtool.core.bpe.engine import format_ids
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.bpe.vocabulary import decode_text, encode_text
from llmtool.core.corpus.encoding import Around, Encoded
from llmtool.core.corpus.kinds import SIDECAR_SCHEMA
from llmtool.core.run.atomic import Files
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.json_file import dumps

IdFormat = Literal["ids", "jsonl", "npy", "bin"]
NPY_HEADER = 128
MEGATRON_DTYPE = {"uint16": 8, "uint32": 4}
"""Megatron's codes; it has no uint32, and int32 (4) reads ids below 2^31 the same."""


@dataclass
class Totals:
    """What was written."""

    documents: int = 0
    tokens: int = 0

    def add(self, encoded: Encoded) -> None:
        """Count a batch; a document counts when it ends."""
        self.documents += len(encoded.documents) - encoded.open
        self.tokens += encoded.ends[-1] if encoded.ends else 0


class TokenWriter(Protocol):
    """Takes batches in order."""

    def write(self, encoded: Encoded) -> None:
        """Write a batch."""
        ...


class LineWriter:
    """A line of decimal ids for each document."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._open = False

    def write(self, encoded: Encoded) -> None:
        """Write a batch; an open document's line is continued by the next."""
        lines = format_ids(encoded.ids, array("Q", encoded.ends).tobytes())
        if self._open and not lines.startswith(b"\n"):
            self._file.write(b" ")
        self._open = encoded.open
        self._file.write(lines[:-1] if encoded.open else lines)


class JsonlWriter:
    """One object a document: source, row, its id if it has one, ids, and on request the byte range of each id."""

    def __init__(
        self, file: IO[bytes], tokenizer: BaseTokenizer, offsets: bool, around: Around, allow_special: bool = False
    ) -> None:
        self._file = file
        self._tokenizer = tokenizer
        self._offsets = offsets
        self._around = around
        self._held: list[int] = []
        self._allow_special = allow_special
        definition = tokenizer.definition
        self._follows = offsets and bool(definition.normalizer or not definition.spells_bytes)
        self._text = b""

    def write(self, encoded: Encoded) -> None:
        """Write the documents that end in this batch."""
        ids = memoryview(encoded.ids).cast("I")
        start = 0
        for document, end in zip(encoded.documents, encoded.ends, strict=True):
            self._held += ids[start:end].tolist()
            start = end
            if self._follows:
                self._text += document.text
            if document.more:
                continue
            row: dict[str, Any] = {"source": document.source, "row": document.row}
            if document.id is not None:
                row["id"] = document.id
            row["ids"] = self._held
            if self._offsets:
                first, last = self._around.bos is not None, len(self._held) - (self._around.eos is not None)
                row["offsets"] = self._around.spans(self._ranges(self._held[first:last]))
                self._text = b""
            self._file.write(dumps(row).encode() + b"\n")
            self._held = []

    def _ranges(self, ids: list[int]) -> list[tuple[int, int]]:
        """The bytes of the document that each id comes from; whole characters, where a normalizer is followed."""
        if not self._follows:
            return self._tokenizer.offsets(ids)
        text = decode_text(self._text)
        _, spans = self._tokenizer.encode_with_offsets(text, allow_special=self._allow_special)
        places = [0, *accumulate(len(encode_text(character)) for character in text)]
        return [(places[start], places[end]) for start, end in spans]


class ArrayWriter:
    """One flat array of ids; offsets of documents are kept (8 bytes a document) until the end."""

    def __init__(self, file: IO[bytes], dtype: str, header: bool) -> None:
        self._file = file
        self._dtype = dtype
        self._header = header
        self.starts = array("Q", [0])
        self._tokens = 0
        if header:
            file.write(b"\0" * NPY_HEADER)

    def write(self, encoded: Encoded) -> None:
        """Append a batch."""
        import numpy as np

        self._file.write(np.frombuffer(encoded.ids, np.uint32).astype(np.dtype(self._dtype).newbyteorder("<")).data)
        ends = encoded.ends[:-1] if encoded.open else encoded.ends
        self.starts.extend([self._tokens + end for end in ends])
        self._tokens += encoded.ends[-1] if encoded.ends else 0

    def finish(self) -> None:
        """Fill in numpy's header, whose place was kept."""
        if self._header:
            kind = "<u2" if self._dtype == "uint16" else "<u4"
            self._file.seek(0)
            self._file.write(npy_header(kind, self._tokens))


def npy_header(kind: str, length: int) -> bytes:
    """Header of a one-dimensional .npy file (format 1.0), always NPY_HEADER bytes long."""
    facts = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({length},), }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", NPY_HEADER - 10) + facts.ljust(NPY_HEADER - 11).encode() + b"\n"


def megatron_index(starts: "array[int]", dtype: str) -> Iterator[bytes]:
    """The .idx file of Megatron's memory-mapped dataset, one sequence a document."""
    import numpy as np

    offsets = np.frombuffer(starts, np.uint64).astype("<i8")
    width = 2 if dtype == "uint16" else 4
    count = len(offsets) - 1
    yield b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, MEGATRON_DTYPE[dtype], count, count + 1)
    yield np.diff(offsets).astype("<i4").tobytes()
    yield (offsets[:-1] * width).tobytes()
    yield np.arange(count + 1, dtype="<i8").tobytes()


def id_dtype(tokenizer: BaseTokenizer) -> str:
    """The narrowest of uint16 and uint32 that holds every id."""
    return "uint16" if tokenizer.definition.vocabulary.id_limit <= 1 << 16 else "uint32"


def sidecars(path: Path, form: str) -> dict[str, Path]:
    """What stands beside an array of ids in the format "bin" or "npy"; `about` describes it all."""
    beside = {"offsets": path.with_name(path.name + ".offsets.npy")}
    if form == "bin":
        beside["megatron_index"] = path.with_suffix(".idx")
    return {**beside, "about": path.with_name(path.name + ".json")}


@contextmanager
def token_array(
    path: Path, tokenizer: BaseTokenizer, form: str, facts: dict[str, Any], files: Files
) -> Iterator[ArrayWriter]:
    """Write `path` and its sidecars, which appear together, with whatever else is in `files`."""
    dtype = id_dtype(tokenizer)
    writer = ArrayWriter(files.open(path), dtype, header=form == "npy")
    yield writer
    writer.finish()
    beside = sidecars(path, form)
    offsets = files.open(beside["offsets"])
    offsets.write(npy_header("<u8", len(writer.starts)))
    offsets.write(writer.starts.tobytes())
    if form == "bin":
        files.open(beside["megatron_index"]).writelines(megatron_index(writer.starts, dtype))
    about = {
        "schema": SIDECAR_SCHEMA,
        "dtype": dtype,
        "byte_order": "little",
        "tokens": writer.starts[-1],
        "documents": len(writer.starts) - 1,
        "vocab_size": tokenizer.definition.vocabulary.id_limit,
        "tokenizer_sha256": tokenizer.fingerprint(),
        "eos": tokenizer.eos_id,
        **{name: sidecar.name for name, sidecar in beside.items() if name != "about"},
        **facts,
    }
    files.open(beside["about"]).write(dumps(about, indent=2).encode() + b"\n")
