"""The stage `embed`: a vector, a sketch and a flag for each chunk, in units of UNIT chunks.

NNNNN.vectors.npy int16 [chunks, dimensions] (none for bm25), NNNNN.sketches.npy uint16 [chunks, 64], NNNNN.sizes.npy
uint32 [chunks] (shingles), NNNNN.digests.npy uint64 [chunks] (of the text, surrounding space apart), NNNNN.flags.npy
uint8 [chunks]: 1 contaminated, 2 nothing to compare.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llmtool.core.corpus.arrays import Sharded, save_array
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.methods.nextlong import lsa
from llmtool.methods.nextlong.duplicates import Contamination, sizes, sketches
from llmtool.methods.nextlong.store import LONGEST, Store
from llmtool.methods.nextlong.vectors import quantise
from llmtool.methods.nextlong.words import I64, U64, word_hashes

UNIT = 1 << 14
CONTAMINATED, BLANK = 1, 2
BATCH_BYTES = 4 << 20
HF_TOKENS = 256
HF_BATCH = 64


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
    """LSA fitted on chunks drawn by their length, in runs of 16 so that reading is not a seek for each.

    By length, as a corpus may be nine tenths poems of 50 characters: drawn evenly they would fill the 256 dimensions.
    """
    runs = max(1, store.chunks // 16)
    wanted = min(runs, max(1, sample // 16))
    sizes = np.add.reduceat(store.lengths(0, store.chunks), np.arange(0, runs * 16, 16)).clip(min=1)
    # without replacement, in proportion to size: the smallest of exponential waiting times (Efraimidis, Spirakis 2006)
    waits = np.random.Generator(np.random.PCG64(seed)).standard_exponential(runs) / sizes
    chosen = np.sort(np.argsort(waits, kind="stable")[:wanted]).tolist()
    parts = []
    for place in range(0, len(chosen), 64):
        texts: list[bytes] = []
        for run in chosen[place : place + 64]:
            stop = store.chunks if run == runs - 1 else run * 16 + 16
            texts += [text[:LONGEST] for text in store.texts(run * 16, min(stop, run * 16 + 32))]
        parts.append(word_hashes(texts))
    return lsa.fit(parts, seed)


def embedder(name: str, directory: Path) -> Embedder | None:
    """The embedder of a name; None for bm25, which has no vectors."""
    if name == "lsa":
        model = lsa.Lsa.load(directory)
        return lambda _, hashes, ends: model.embed(hashes, ends)
    if name == "bm25":
        return None
    if name.startswith("hf:"):
        return sentence_encoder(Path(name[3:]))
    raise UserError(f"embedder {name!r} is not known", hint="lsa, bm25 or hf:PATH")


def check_embedder(name: str) -> None:
    """Refuse what could not work, before anything is read."""
    if name.startswith("hf:"):
        if not (Path(name[3:]) / "config.json").is_file():
            raise UserError("not a sentence encoder: no config.json", where=name[3:], hint="name a model's directory")
        require("transformers", extra="hf", why="for --embedder hf:PATH")
    elif name not in ("lsa", "bm25"):
        raise UserError(f"embedder {name!r} is not known", hint="lsa, bm25 or hf:PATH")


def sentence_encoder(path: Path) -> Embedder:
    """Mean of the last hidden states over the text's tokens, for any encoder that transformers reads; one thread."""
    torch = require("torch", extra="models", why="for --embedder hf:PATH")
    transformers = require("transformers", extra="hf", why="for --embedder hf:PATH")
    torch.set_num_threads(1)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = transformers.AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"not a sentence encoder: {str(error).splitlines()[0]}", where=str(path)) from None
    limit = min(HF_TOKENS, getattr(model.config, "max_position_embeddings", HF_TOKENS))

    def embed(texts: list[bytes], _hashes: U64, _ends: I64) -> npt.NDArray[Any]:
        out = np.zeros((len(texts), model.config.hidden_size), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), HF_BATCH):
            chosen = order[start : start + HF_BATCH]
            strings = [texts[i].decode("utf-8", "replace") for i in chosen]
            batch = tokenizer(strings, padding=True, truncation=True, max_length=limit, return_tensors="pt")
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            out[chosen] = ((hidden * mask).sum(1) / mask.sum(1).clamp(min=1)).float().numpy()
        return out

    return embed


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
