"""The stage `embed`: a vector, a sketch and a flag for each chunk, in units of UNIT chunks.

NNNNN.vectors.npy int16 [chunks, dimensions] (none for bm25), NNNNN.sketches.npy uint16 [chunks, 64], NNNNN.sizes.npy
uint32 [chunks] (shingles), NNNNN.digests.npy uint64 [chunks] (of the text, surrounding space apart), NNNNN.flags.npy
uint8 [chunks]: 1 contaminated, 2 nothing to compare.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import Sharded, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.methods.nextlong import lsa
from llmtool.methods.nextlong.chance import even
from llmtool.methods.nextlong.duplicates import Contamination, sizes, sketches
from llmtool.methods.nextlong.store import LONGEST, Store
from llmtool.methods.nextlong.vectors import quantise
from llmtool.methods.nextlong.words import I64, U64, mix, word_hashes

UNIT = 1 << 14
CONTAMINATED, BLANK = 1, 2
BATCH_BYTES = 4 << 20
RUN = 16
"""Chunks of a document that are drawn together."""

SERVERS = ("http://", "https://")


class Embedder(Protocol):
    """Texts to vectors of any length."""

    def __call__(self, texts: list[bytes], hashes: U64, ends: I64, /) -> npt.NDArray[Any]:
        """[texts, dimensions]; the words' hashes are given because everyone needs them."""
        ...


def batches(store: Store, start: int, stop: int) -> Iterator[list[bytes]]:
    """Texts of chunks start..stop-1 in batches of about BATCH_BYTES."""
    step = 2048
    while start < stop:
        size = max(1, int(store.facts["bytes"] / max(1, store.chunks)))
        step = max(16, min(4096, BATCH_BYTES // size))
        texts = [text[:LONGEST] for text in store.texts(start, min(stop, start + step))]
        yield texts
        start += step


def fit_lsa(store: Store, seed: int, sample: int = lsa.SAMPLE) -> lsa.Lsa:
    """LSA fitted on chunks drawn by their length, in runs of up to RUN of a document so that reading is not all seeks.

    By length, as a corpus may be nine tenths poems of 50 characters: drawn evenly they would fill the 256 dimensions.
    What is drawn for a document hangs on its key: another file beside it replaces few of the runs.
    """
    counts = np.diff(store.first)
    runs = -(-counts // RUN)
    owner = np.repeat(np.arange(len(counts)), runs)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(runs) - runs, runs)
    starts = store.first[owner] + place * RUN
    sizes = np.add.reduceat(store.lengths(0, store.chunks), starts).clip(min=1)
    held = np.minimum(starts + RUN, store.first[owner + 1]) - starts
    # without replacement, in proportion to size: the smallest of exponential waiting times (Efraimidis, Spirakis 2006)
    waits = -np.log1p(-even(seed, "lsa", mix(store.keys[owner] + place.astype(np.uint64)))) / sizes
    order = np.argsort(waits, kind="stable")
    chosen = np.sort(order[: int(np.searchsorted(np.cumsum(held[order]), sample)) + 1]).tolist()
    parts = []
    texts: list[bytes] = []
    for run in chosen:
        texts += [text[:LONGEST] for text in store.texts(int(starts[run]), int(starts[run] + held[run]))]
        if len(texts) >= 1024 or run == chosen[-1]:
            parts.append(word_hashes(texts))
            texts = []
    return lsa.fit(parts, seed)


def embedder(name: str, directory: Path, prefix: str | None = None) -> Embedder | None:
    """The embedder of a name; None for bm25, which has no vectors. prefix: of encoders, else the model's own."""
    if name == "lsa":
        model = lsa.Lsa.load(directory)
        return lambda _, hashes, ends: model.embed(hashes, ends)
    if name == "bm25":
        return None
    if name.startswith(SERVERS):
        from llmtool.methods.nextlong.endpoint import Endpoint

        return Endpoint(name, prefix)
    from llmtool.methods.nextlong.encoders import SentenceEncoder

    return SentenceEncoder(Path(name[3:]), prefix)


def check_embedder(name: str, prefix: str | None = None) -> None:
    """Refuse what could not work, before anything is read."""
    if name.startswith("hf:"):
        if not any((Path(name[3:]) / file).is_file() for file in ("config.json", "modules.json")):
            raise UserError("not a sentence encoder: no config.json", where=name[3:], hint="name a model's directory")
        require("transformers", extra="hf", why="for --embedder hf:PATH")
    elif name.startswith(SERVERS):
        if not urlsplit(name).netloc:
            raise UserError(f"--embedder {name}: no host", hint="http://127.0.0.1:8080/v1")
    elif name not in ("lsa", "bm25"):
        raise UserError(f"embedder {name!r} is not known", hint="lsa, bm25, hf:PATH or http://HOST:PORT/v1")
    elif prefix is not None:
        raise UserError(f"--embedder-prefix: {name} has no prompts", hint="for hf:PATH and http://...")


def identity(name: str) -> str | None:
    """What tells two encoders under one path apart: their settings, and how long their files are."""
    if not name.startswith("hf:"):
        return None
    digest = blake2b(digest_size=8)
    for path in sorted(Path(name[3:]).rglob("*")):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".txt", ".model"):
            digest.update(f"{path.relative_to(name[3:])}:{path.stat().st_size}\n".encode())
            if path.suffix == ".json" and path.stat().st_size < 1 << 20:
                digest.update(path.read_bytes())
    return digest.hexdigest()


def embed_unit(
    stage: Stage, store: Store, embed: Embedder | None, contamination: Contamination | None, unit: int
) -> None:
    """Write one unit."""
    start, stop = unit * UNIT, min(store.chunks, (unit + 1) * UNIT)
    vectors, drawn, flags, counted, digests = [], [], [], [], []
    for texts in batches(store, start, stop):
        hashes, ends = word_hashes(texts)
        flag = np.zeros(len(texts), np.uint8)
        flag[np.diff(ends, prepend=0) == 0] = BLANK
        if contamination is not None:
            flag[contamination(hashes, ends)] |= CONTAMINATED
        if embed is not None:
            found = quantise(embed(texts, hashes, ends))
            flag[~found.any(1)] |= BLANK
            vectors.append(found)
        drawn.append(sketches(hashes, ends))
        flags.append(flag)
        counted.append(sizes(ends))
        digests += [int.from_bytes(blake2b(text.strip(), digest_size=8).digest(), "little") for text in texts]
    names: dict[str, npt.NDArray[Any]] = {
        "sketches.npy": np.concatenate(drawn), "sizes.npy": np.concatenate(counted),
        "digests.npy": np.array(digests, np.uint64), "flags.npy": np.concatenate(flags),
    }  # fmt: skip
    if vectors:
        names["vectors.npy"] = np.concatenate(vectors)
    for suffix, array in names.items():
        save_array(stage.path(unit, suffix), array)
    flagged = names["flags.npy"]
    facts = {
        "chunks": stop - start,
        "contaminated": int((flagged & CONTAMINATED > 0).sum()),
        "blank": int((flagged & BLANK > 0).sum()),
    }
    stage.finish(unit, [stage.path(unit, suffix).name for suffix in names], facts)


class Embedded:
    """What the stage left: vectors, sketches and flags of all chunks."""

    def __init__(self, directory: Path) -> None:
        self.stage = Stage.existing(directory / "vectors", "llmtool data embed")
        units = range(self.stage.totals()["units"])
        self.embedder: str = self.stage.settings["embedder"]
        self.sketches, self.sizes, self.digests = (
            Sharded([self.stage.path(unit, f"{name}.npy") for unit in units], UNIT)
            for name in ("sketches", "sizes", "digests")
        )
        self.flags = np.concatenate(Sharded([self.stage.path(unit, "flags.npy") for unit in units], UNIT).parts)
        self._units = units

    @property
    def vectors(self) -> Sharded:
        """int16 [chunks, dimensions]."""
        if self.embedder == "bm25":
            raise UserError("bm25 has no vectors", where=str(self.stage.directory), hint="embed with lsa or hf:PATH")
        return Sharded([self.stage.path(unit, "vectors.npy") for unit in self._units], UNIT)
