"""Tokenised corpora as training and evaluation read them, in memory or mapped: ids, and where documents start.

Reads what `llmtool tokenizer encode --format bin|npy` writes. A .npy of ids without a sidecar, as other programs write
it, is one document of an unknown tokenizer; a bare .bin says nothing of its element type, which then has to be told.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.arrays import map_array
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.encoding import Around, Encoded, encode_documents
from llmtool.core.corpus.readers import Reading, read_documents, total_bytes
from llmtool.core.corpus.sidecar import Ids, open_described
from llmtool.core.corpus.tokenized import id_dtype, token_array
from llmtool.core.run.atomic import atomic_files
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import require_plain

SUFFIXES = (".bin", ".npy")


@dataclass(frozen=True)
class TokenFile:
    """ids [tokens]; starts [documents + 1], the last the number of tokens; tokenizer: its fingerprint, where known."""

    name: str
    ids: Ids
    starts: NDArray[np.uint64]
    tokenizer: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def documents(self, first: int, count: int) -> NDArray[np.int64]:
        """Number of the document of each of `count` tokens from `first` on, the first one's being 0."""
        # A Python number would turn all of `starts` into floats, each time.
        last = int(np.searchsorted(self.starts, np.uint64(first + count - 1), "right"))
        begin = int(np.searchsorted(self.starts, np.uint64(first), "right"))
        borders = self.starts[begin:last].astype(np.int64) - first
        return np.searchsorted(borders, np.arange(count), "right")

    def fingerprint(self) -> dict[str, Any]:
        """What tells this corpus from another: sizes, and a hash over all ids (up to 64 MB of them) or samples."""
        digest = hashlib.sha256(np.ascontiguousarray(self.starts[:: max(1, len(self.starts) // 100_000)]).tobytes())
        block = 1 << 20
        for first in range(0, len(self.ids), max(block, len(self.ids) // 64)):
            digest.update(np.ascontiguousarray(self.ids[first : first + block]).tobytes())
        return {"tokens": len(self.ids), "documents": len(self.starts) - 1, "sha256": digest.hexdigest()}

    def part(self, first: int, last: int, name: str | None = None) -> "TokenFile":
        """The tokens from `first` to `last`, documents cut at both ends."""
        inner = self.starts[(self.starts > first) & (self.starts < last)].astype(np.int64) - first
        starts = np.concatenate(([0], inner, [last - first])).astype(np.uint64)
        return TokenFile(name or self.name, self.ids[first:last], starts, self.tokenizer)


def is_token_file(path: str | Path) -> bool:
    """Whether a name is one of tokenised data rather than of text."""
    return Path(path).suffix in SUFFIXES


def open_tokens(path: str | Path, name: str | None = None, bin_dtype: str | None = None) -> TokenFile:
    """Map a .bin or .npy; a UserError where it is missing, truncated, empty or not what its sidecar says.

    bin_dtype: element type ("uint16", "uint32") of a .bin without a sidecar, as nanoGPT's and its kin write them.
    """
    path = Path(path)
    where, name = str(path), name or path.stem
    sidecar = path.with_name(path.name + ".json")
    size = require_plain(path)
    if sidecar.is_file():
        found = open_described(path, sidecar)
        if not len(found.ids):
            raise UserError("holds no token", where=where)
        return TokenFile(name, found.ids, found.starts, found.tokenizer)
    if path.suffix != ".npy" and bin_dtype is not None:
        return _bare(path, name, bin_dtype, size)
    if path.suffix != ".npy":
        hint = "--bin-dtype uint16 reads nanoGPT's; `llmtool tokenizer encode --format bin` writes both"
        raise UserError(f"{sidecar.name}, which says what the ids are, is missing", where=where, hint=hint)
    ids = map_array(path, hint=None)
    if ids.ndim != 1 or ids.dtype.kind not in "ui" or not ids.size:
        what = f"holds {ids.dtype} of shape {list(ids.shape)}"
        raise UserError(f"{what}, wanted whole numbers in one dimension", where=where)
    return TokenFile(name, ids, np.array([0, len(ids)], np.uint64))


def _bare(path: Path, name: str, dtype: str, size: int) -> TokenFile:
    """Nothing but ids: one document of an unknown tokenizer."""
    kind = np.dtype(dtype).newbyteorder("<")
    if not size or size % kind.itemsize:
        what = f"{size:,} bytes are no whole number of {dtype}" if size else "holds no token"
        raise UserError(what, where=str(path), hint="--bin-dtype uint16 or uint32")
    ids = np.memmap(path, kind, "r")
    return TokenFile(name, ids, np.array([0, len(ids)], np.uint64))


def encode_text(
    tokenizer: BaseTokenizer,
    inputs: Iterable[str],
    name: str,
    console: Console,
    threads: int | None = None,
    reading: Reading | None = None,
) -> TokenFile:
    """Text files, tokenised into memory, each document ended by the end-of-text token where the tokenizer has one.

    It begins with what the tokenizer puts before a text (BOS), as the model has learned it.
    """
    kind = np.dtype(id_dtype(tokenizer))
    parts, starts, tokens = [], [np.zeros(1, np.uint64)], 0
    for encoded in _encoded(tokenizer, list(inputs), name, console, threads, reading):
        ends = np.array(encoded.ends[:-1] if encoded.open else encoded.ends, np.uint64)
        starts.append(ends + np.uint64(tokens))
        parts.append(np.frombuffer(encoded.ids, np.uint32).astype(kind))
        tokens += len(parts[-1])
    return TokenFile(name, np.concatenate(parts), np.unique(np.concatenate(starts)), tokenizer.fingerprint())


def write_text(
    tokenizer: BaseTokenizer,
    inputs: Iterable[str],
    path: Path,
    facts: dict[str, Any],
    name: str,
    console: Console,
    threads: int | None = None,
    reading: Reading | None = None,
) -> None:
    """The same ids, into a .npy with its sidecars; facts: what the sidecar says beside."""
    with atomic_files() as files, token_array(path, tokenizer, "npy", facts, files) as writer:
        for encoded in _encoded(tokenizer, list(inputs), name, console, threads, reading):
            writer.write(encoded)


def _encoded(
    tokenizer: BaseTokenizer,
    inputs: list[str],
    name: str,
    console: Console,
    threads: int | None,
    reading: Reading | None,
) -> Iterator[Encoded]:
    """Batches of ids; text that gives none is refused."""
    report, definition, tokens = ReadReport(), tokenizer.definition, 0
    around = Around(next(iter(definition.around[0]), None), tokenizer.eos_id)
    spelled = [definition.vocabulary.spellings.get(token, "nothing") for token in (around.bos, around.eos)]  # type: ignore[arg-type]
    console.detail(f"{name}: put before each document {spelled[0]}, after it {spelled[1]}")
    with console.progress(f"encoding {name}", total_bytes(inputs, reading), "B") as bar:
        documents = read_documents(inputs, reading, whole=tokenizer.needs_whole(), report=report, on_bytes=bar.advance)
        for encoded in encode_documents(tokenizer, documents, around=around, threads=threads):
            tokens += len(encoded.ids)
            yield encoded
    report.say(console)
    if not tokens:
        raise UserError("the text gave no token", where=", ".join(inputs))


def refuse_out_of_range(file: TokenFile, vocab_size: int) -> None:
    """An id without an embedding is found before the first step, not by a fault of the device in the middle."""
    block = 1 << 24
    for first in range(0, len(file), block):
        part = file.ids[first : first + block]
        wrong = int(part.max()) if int(part.max()) >= vocab_size else int(part.min())
        if not 0 <= wrong < vocab_size:
            what = f"holds id {wrong:,}, but the model's vocabulary ends at {vocab_size - 1:,}"
            raise UserError(what, where=file.name, hint="was it tokenised for this model?")
