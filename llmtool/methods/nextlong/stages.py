"""The stages as functions: chunk, embed, index, mine. Each goes on where it stopped, and refuses other settings.

A work directory holds chunks/, vectors/, index/, neighbours-*/ and tokens-*/; a stage's settings name what stands
upstream by its fingerprint, the content of the corpus included.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from threading import Event

import numpy as np
import numpy.typing as npt

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.corpus.cuts import Unpacked, together
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.plans import CUTS
from llmtool.core.corpus.provenance import describe
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.json_file import dumps
from llmtool.methods.nextlong import copies, indexing
from llmtool.methods.nextlong.chance import held_out
from llmtool.methods.nextlong.chunking import Reading
from llmtool.methods.nextlong.copies import Dedupe
from llmtool.methods.nextlong.duplicates import Contamination, Suspects
from llmtool.methods.nextlong.embedding import UNIT, Embedded, check_embedder, embed_unit, embedder, fit_lsa, identity
from llmtool.methods.nextlong.hardness import least
from llmtool.methods.nextlong.indexing import I64, IndexKind
from llmtool.methods.nextlong.mining import Pool, mine_unit
from llmtool.methods.nextlong.ordering import order_unit
from llmtool.methods.nextlong.reading import Group, read_unit, seal_read, total, unit_groups
from llmtool.methods.nextlong.replacing import made_from, standing
from llmtool.methods.nextlong.seeds import capped, check_caps, eligible, seed_order
from llmtool.methods.nextlong.shingles import Shingles
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.tokens import token_stage, token_unit
from llmtool.methods.nextlong.vectors import SCALE

CHUNK_VERSION, EMBED_VERSION = 2, 3
"""Go up when the same text gets other chunks or vectors, so that a work directory of before is not gone on with."""

HELD_VERSION = 2
"""Goes up when others of the same documents are held out."""

GROUP_BYTES = 32 << 20
SCORED_BYTES = 64 << 20
"""Ids of one unit of samples, at most."""


def chunk(corpora: Sequence[str], directory: Path, reading: Reading, means: Means) -> Store:
    """Read the corpora, cut their documents into chunks, and put the documents into the order of their keys."""
    inputs = [describe(name, Event(), read_whole=True, reading=reading.text) for name in corpora]
    settings = {"stage": "chunk", "version": CHUNK_VERSION, "inputs": inputs, **asdict(reading)}
    piped = any(entry["sha256"] is None for entry in inputs)  # stdin, a FIFO, <(a command)
    with standing(directory / "chunks", settings, means, again=piped) as stage:
        inside = directory if stage.directory == directory / "chunks" else stage.directory
        read = Stage(inside / "documents", {**settings, "cuts": CUTS})
        if piped or not stage.complete:
            _chunk(corpora, stage, read, reading, means, piped=piped)
        _remove(read.directory)  # also of a run that ended between the seal and this
    return Store(directory)


def _chunk(
    corpora: Sequence[str], stage: Stage, read: Stage, reading: Reading, means: Means, *, piped: bool
) -> None:  # fmt: skip
    read.begin(force=True)
    if not read.complete or piped:
        found = ReadReport()
        groups = unit_groups(corpora, reading, found, GROUP_BYTES, None if piped else read)
        tasks = together([group.streams for group in groups], range(len(groups)))
        alone = Means(1, means.console) if piped else means
        if piped:  # nobody can tell whether the same came in before
            for path in [*stage.directory.glob("*.done"), *read.directory.glob("*.done")]:
                path.unlink()
        alone.run(read, range(len(groups)), partial(_read_work, read, groups, reading), "reading", tasks)
        seal_read(read, len(groups), found, means.console, ", ".join(corpora))
    totals = read.totals()
    units = max(1, -(-totals["bytes"] // GROUP_BYTES))
    means.run(stage, range(units), partial(_order_work, stage, read, totals["units"], units), "chunking")
    facts = [stage.facts(unit) for unit in range(units)]
    sums = {key: sum(each[key] for each in facts) for key in ("documents", "chunks", "bytes", "chars")}
    if shared := sum(each.get("shared_ids", 0) for each in facts):
        means.console.warn(
            f"{shared:,} of {sums['documents']:,} documents bear the id of another: --id-field names the field that "
            "tells them apart; --holdout takes or leaves those of one id together"
        )
    digest = blake2b("".join(each["digest"] for each in facts).encode(), digest_size=8).hexdigest()
    more = {"rejects": totals["rejects"], "skipped": totals["skipped"]}
    stage.seal({"units": units, **sums, **more, "digest": digest})


def _remove(directory: Path) -> None:
    """Take a directory away; a disk that refuses is told, as the same command then does it, and else nobody would."""
    if directory.is_dir():
        shutil.rmtree(directory)


def _read_work(read: Stage, groups: list[Group], reading: Reading) -> Callable[[int], None]:
    return partial(read_unit, read, groups, reading, Unpacked())


def _order_work(stage: Stage, read: Stage, sources: int, units: int) -> Callable[[int], None]:
    return partial(order_unit, stage, read, sources, units)


def upstream(store: Store) -> str:
    """The chunks' name in the settings of later stages: their settings are not enough, a pipe is not hashed."""
    return f"{store.facts['digest']}-{store.stage.settings['size']}-{store.stage.settings['split']}"


def embed(
    directory: Path, name: str, means: Means, *, seed: int, decontaminate: Sequence[str], ngram: int,
    fields: Sequence[str], prefix: str | None,
) -> Embedded:  # fmt: skip
    """Vectors, sketches and flags of all chunks; fields: of the evaluation files."""
    check_embedder(name, prefix)
    store = Store(directory)
    against = [describe(file, Event(), read_whole=True) for file in decontaminate]
    settings = {
        "stage": "embed", "version": EMBED_VERSION, "chunks": upstream(store), "embedder": name, "seed": seed,
        "decontaminate": [entry["sha256"] for entry in against], "ngram": ngram if against else None,
        "fields": list(fields) if against else None, "prefix": prefix, "encoder": identity(name),
    }  # fmt: skip
    with standing(directory / "vectors", settings, means) as stage:
        if not stage.complete:
            if name == "lsa" and not (stage.directory / "lsa.basis.npy").exists():
                means.console.detail("fitting LSA on a sample of the chunks")
                fit_lsa(store, seed).save(stage.directory)
            known = Contamination.read(decontaminate, ngram, fields) if against else None
            if known and known.short:
                means.console.warn(f"{known.short:,} evaluation texts are shorter than {ngram} words: not looked for")
            units = range(-(-store.chunks // UNIT))
            work = partial(_embed_work, stage, directory, name, prefix, tuple(decontaminate), ngram, tuple(fields))
            means.run(stage, units, work, "embedding")
            facts = [stage.facts(unit) for unit in units]
            stage.seal({"units": len(units), **total(facts)})
    return Embedded(directory)


def embedded(directory: Path) -> Embedded:
    """The vectors of a work directory, if they are those of its chunks."""
    found = Embedded(directory)
    made_from(found.stage, "chunks", upstream(Store(directory)), "llmtool data embed")
    return found


def _embed_work(
    stage: Stage, directory: Path, name: str, prefix: str | None, decontaminate: tuple[str, ...], ngram: int,
    fields: tuple[str, ...],
) -> Callable[[int], None]:  # fmt: skip
    known = Contamination.read(decontaminate, ngram, fields) if decontaminate else None
    return partial(embed_unit, stage, Store(directory), embedder(name, stage.directory, prefix), known)


def index(directory: Path, kind: IndexKind, means: Means, *, seed: int = 0, dedupe: Dedupe = "near") -> Stage:
    """Merge copies; the index over what is left. `auto` is exact up to 200,000 chunks."""
    found = embedded(directory)
    kind = indexing.choose(kind, found, means.console)
    with standing(directory / "copies", copies.settings(found, dedupe), means) as merged:
        if not merged.complete:
            copies.merge(merged, directory, means)
        settings = {"stage": "index", "copies": merged.fingerprint, "index": kind, "seed": seed}
        with standing(directory / "index", settings, means) as stage:
            if not stage.complete:
                indexing.build(stage, directory, merged, means)
    return built(directory)


def built(directory: Path) -> Stage:
    """The index of a work directory, if it is that of its vectors."""
    found, merged = (Stage.existing(directory / name, "llmtool data index") for name in ("index", "copies"))
    made_from(merged, "vectors", embedded(directory).stage.fingerprint, "llmtool data index")
    made_from(found, "copies", merged.fingerprint, "llmtool data index")
    return found


def count_tokens(directory: Path, tokenizer: BaseTokenizer, separator: str, means: Means) -> Stage:
    """Tokens of each chunk."""
    store = Store(directory)
    stage = token_stage(directory, store, tokenizer, separator)
    stage.begin(force=means.force)
    if not stage.complete:
        units = range(-(-store.chunks // UNIT))
        work = partial(_token_work, stage, directory, tokenizer, separator)
        means.run(stage, units, work, "counting tokens")
        stage.seal({"units": len(units), **total(stage.facts(unit) for unit in units)})
    return stage


def _token_work(stage: Stage, directory: Path, tokenizer: BaseTokenizer, separator: str) -> Callable[[int], None]:
    return partial(token_unit, stage, Store(directory), tokenizer, separator.encode())


@dataclass(frozen=True)
class Choice:
    """Which documents become samples, and what is no negative."""

    target: int
    chars_per_token: float
    min_chunks: int
    max_overlap: float
    min_similarity: float | None = None
    """Cosine of a negative, at least; if not given, what few random pairs reach (see hardness)."""
    holdout: float = 0.0
    seed: int = 0
    caps: Mapping[str, float] | None = None

    def unit_seeds(self) -> int:
        """Seeds of one unit: 16 to 4,096, so that its samples stay below SCORED_BYTES."""
        return max(16, min(4096, SCORED_BYTES // (4 * self.target)))


def mine_stage(directory: Path, choice: Choice) -> Stage:
    """The directory of the rankings for a choice."""
    settings = {
        "stage": "mine",
        "index": built(directory).fingerprint,
        **asdict(choice),
        "unit_seeds": choice.unit_seeds(),
    }
    settings["caps"] = dict(choice.caps or {})
    if choice.holdout:
        settings["held"] = HELD_VERSION
    stage = Stage(directory, settings)
    return Stage(directory / f"neighbours-{stage.fingerprint[:8]}", settings)


def mine(directory: Path, choice: Choice, means: Means, *, seeds: int | None = None) -> Stage:
    """Rankings of the first `seeds` candidates, of all if None; asked for more, it goes on."""
    stage = mine_stage(directory, choice)
    stage.begin(force=means.force)
    if not (stage.directory / "seeds.npy").exists():
        _choose_seeds(stage, directory, choice)
    order = map_array(stage.directory / "seeds.npy")
    size = choice.unit_seeds()
    wanted = len(order) if seeds is None else min(len(order), seeds)
    units = range(-(-wanted // size))
    done = stage.totals()["units"] if stage.complete else 0
    if len(units) > done or not stage.complete:
        means.run(stage, units, partial(_mine_work, stage, directory, size), "mining")
        counts = [stage.facts(unit) for unit in units]
        sums = {key: sum(each[key] for each in counts) for key in ("seeds", "metas", "negatives")}
        left = total(each["left_out"] for each in counts)
        facts = {"units": len(units), "candidates": len(order), **sums, "left_out": left}
        stage.seal({**facts, "rejects": stage_rejects(stage)})
    return stage


def _choose_seeds(stage: Stage, directory: Path, choice: Choice) -> None:

    from llmtool.core.run.atomic import atomic_file

    store, embedded = Store(directory), Embedded(directory)
    check_caps(choice.caps or {}, store)
    flags = copies.flags(directory, embedded, _held(store, choice.holdout))
    chosen, rejects = eligible(store, choice.min_chunks, flags)
    order = seed_order(store, chosen, choice.seed)
    kept = capped(order, store, choice.caps or {})
    if len(kept) < len(order):
        rejects["source beyond its --cap"] = len(order) - len(kept)
    with atomic_file(stage.directory / "rejects.json") as file:
        file.write(dumps(rejects).encode())
    save_array(stage.directory / "seeds.npy", kept.astype(np.int64))


def _held(store: Store, share: float) -> npt.NDArray[np.bool_]:
    """Chunks of the documents that are held out [chunks]."""
    return np.repeat(held_out(store.keys, share), np.diff(store.first))


def stage_rejects(stage: Stage) -> dict[str, int]:
    """Documents that cannot be seeds, by reason."""
    from llmtool.core.run.json_file import read_json_object

    return read_json_object(stage.directory / "rejects.json")


def _mine_work(stage: Stage, directory: Path, size: int) -> Callable[[int], None]:
    store, embedded = Store(directory), Embedded(directory)
    searcher = indexing.searcher(directory, store, embedded)
    seeds: I64 = np.asarray(map_array(stage.directory / "seeds.npy"))
    flags = copies.flags(directory, embedded, _held(store, stage.settings["holdout"]))
    most = stage.settings["max_overlap"]
    pool = Pool(embedded, flags, Shingles(store, most), Suspects(most))
    return partial(mine_unit, stage, store, searcher, pool, seeds, size, floor(directory, stage) * SCALE**2)


def floor(directory: Path, mined: Stage) -> float:
    """The least cosine of a negative of these rankings; what is not similar at all (0) is none ever."""
    asked, built = mined.settings["min_similarity"], Stage.existing(directory / "index", "llmtool data index")
    chunks = Store(directory).facts
    negatives = (
        mined.settings["target"] * mined.settings["chars_per_token"] * chunks["chunks"] / max(1, chunks["chars"])
    )
    pairs = map_array(built.directory / "random_pairs.npy")
    level = least(pairs, negatives, built.totals()["chunks"]) if asked is None else float(asked)
    return max(level, 1 / SCALE**2)


def measured_ratio(store: Store, tokens: Stage) -> float:
    """Characters a token, of this corpus with this tokenizer; to three digits, so that it reads well."""
    ratio: float = store.facts["chars"] / max(1, tokens.totals()["tokens"])
    return round(ratio, 3)
