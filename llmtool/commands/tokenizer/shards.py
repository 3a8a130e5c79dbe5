"""`llmtool tokenizer encode -o DIR --shards SIZE`: a corpus into token files, as a job for large corpora.

The corpus is cut into units by its bytes, a unit becomes a shard NNNNN.bin (or .npy) with its sidecars, or a few MDS
files, and a marker NNNNN.done after them. A killed job goes on where it stopped and writes the same bytes; `--part I/N`
makes every N-th shard, for clusters and arrays of jobs that share the directory; `verify` checks what stands there.
"""

import hashlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from shutil import rmtree
from typing import Any

from llmtool.commands.tokenizer.encode import token_around, watched
from llmtool.commands.tokenizer.settings import EncodeSettings
from llmtool.core.bpe import engine
from llmtool.core.bpe.lost import Lost
from llmtool.core.bpe.tokenizer import BaseTokenizer, available_cores
from llmtool.core.corpus.cuts import Unpacked, together
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.encoding import Around, Encoded, encode_documents
from llmtool.core.corpus.inputs import Input, find_inputs, without_weights
from llmtool.core.corpus.mds import index, read_ids
from llmtool.core.corpus.plans import CUTS, kept_units, plan_units
from llmtool.core.corpus.readers import Reading, parse_size, read_streams
from llmtool.core.corpus.shard_files import write_array_unit, write_mds_unit
from llmtool.core.corpus.shards import SETTINGS, Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.atomic import PARTIAL, atomic_file, sweep
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import parse_json
from llmtool.core.run.manifest import Run
from llmtool.core.run.numbers import shown, whole
from llmtool.core.run.outputs import refuse_overlap
from llmtool.core.run.wording import counted

SCHEMA = "llmtool.tokenizer-shards/1"
SMALLEST = 1 << 16
CHECKED = 3
"""Shards of which the beginning is encoded again by `verify`, and the documents of each."""
CHECKED_DOCUMENTS = 200
_SAMPLED = 16
INDEX = "index.json"


def encode_shards(
    tokenizer: BaseTokenizer,
    inputs: Sequence[str],
    directory: Path | None,
    asked: EncodeSettings,
    *,
    reading: Reading | None = None,
    read: Sequence[str | Path] = (),
    console: Console = QUIET,
) -> dict[str, Any]:
    """Make the shards that are missing, or with --verify check those that are there.

    --shards: bytes of the corpus (on disk) in a shard. One long text goes on from shard to shard, where no token is
    cut, if the tokenizer can be cut there; a JSON array, a table, an Arrow file or a packed tar is one unit. Raises
    UserError where the directory holds shards of another corpus, tokenizer or other settings.
    """
    if directory is None or asked.written == "jsonl" or asked.shards is None:
        raise UserError("--shards writes .bin, .npy or MDS into a directory", hint="-o DIR --format bin")
    reading = reading or Reading()
    settings = replace(asked, form="bin") if asked.written == "ids" else asked
    means = Means(asked.workers or available_cores(), console, asked.engine, asked.force)
    chosen, part, verify = parse_part(asked.part), asked.part, asked.verify
    size = parse_size(str(asked.shards))
    if size < SMALLEST:
        raise UserError(f"--shards {asked.shards} is too little for a shard", hint="512MB")
    if reading.sample is not None:
        raise UserError("--sample is not drawn into shards", hint="draw it into one file first, without --shards")
    refuse_overlap([directory], [*without_weights(inputs), *read])
    report = ReadReport()
    streams = find_inputs(inputs, reading, report)
    for stream in streams:
        if stream.size is None or stream.weight != 1:
            what = "a weight" if stream.size is not None else "standard input and pipes"
            raise UserError(f"{what} cannot be encoded into shards", where=stream.source, hint="name files")
    around = token_around(tokenizer, settings, console)
    stage = Stage(directory, {
        "stage": "encode", "tokenizer": tokenizer.fingerprint(), "inputs": [_identity(stream) for stream in streams],
        "shards": size, "format": settings.written, "bos": around.bos, "eos": around.eos,
        "allow_special": settings.allow_special, "cuts": CUTS, **reading.facts(),
    })  # fmt: skip
    _refuse_foreign(directory)
    if verify and not (directory / SETTINGS).exists():
        raise UserError("holds no shards to verify", where=str(directory), hint="make them first, without --verify")
    fresh = [place for place in (directory, *directory.parents) if part is None and not place.exists()]
    stage.begin(force=means.force and not verify, alone=part is None and not verify)
    inside = not tokenizer.needs_whole(settings.allow_special)
    units = kept_units(stage, lambda: plan_units(streams, reading, size, inside=inside))
    mine = [unit for unit in range(len(units)) if unit % chosen[1] == chosen[0]]
    tasks = together(units, mine)
    threads = max(1, means.workers // max(1, len(tasks)))  # one packed file has one reader, and threads that encode
    work = partial(_work, stage, tokenizer, units, reading, settings, around, threads)
    if verify:
        return _verify(stage, mine, tokenizer, units, reading, settings, around, means)
    run = Run("tokenizer encode --shards", stage.settings, seed=reading.seed, backend=engine.NAME)
    means.run(stage, mine, work, "encoding", tasks)
    done = [unit for unit in range(len(units)) if stage.is_done(unit)]
    facts = [stage.facts(unit) for unit in done]
    for each in facts:
        report.merge(each["read"])
    sums = {name: sum(each[name] for each in facts) for name in ("documents", "tokens")}
    sums["documents"] -= sum(_begun(units[unit]) for unit in done)
    complete = len(done) == len(units)
    if complete and not (stage.complete and (directory / "run.json").exists()):
        report.say(means.console)
        if not sums["tokens"]:
            for place in fresh:  # of no use to anybody
                with suppress(OSError):
                    rmtree(place) if place == directory else place.rmdir()
            raise UserError("no text found", where=", ".join(inputs))
        if settings.written == "mds":
            with atomic_file(directory / INDEX) as file:
                file.write(_index(stage, done))
        stage.seal({"shards": len(units), **sums})
        made = [path for unit in done for path in stage.files(unit)]
        run.save(directory / "run.json", sorted([*made, directory / INDEX] if settings.written == "mds" else made))
    lost = Lost(tokenizer)
    for each in facts:
        lost.add(each.get("lost", {}))
    lost.say(means.console)
    sums_said = f"{counted(sums['tokens'], 'token')} of {counted(sums['documents'], 'document')}"
    means.console.info(f"{directory}: {len(done):,} of {counted(len(units), 'shard')}, {sums_said}")
    return {"schema": SCHEMA, "directory": str(directory), "shards": len(units), "done": len(done), **sums}


def parse_part(text: str | None) -> tuple[int, int]:
    """ "2/8" -> (1, 8): the second of eight."""
    number, _, parts = (text or "1/1").partition("/")
    if not number or not parts:
        raise UserError(f"--part {text}: wanted I/N, such as 1/8 to 8/8")
    try:
        of = whole(parts, "N", low=1, high=1 << 31)
        return whole(number, "I", low=1, high=of) - 1, of
    except UserError as error:
        raise UserError(f"--part {shown(text or '')}: wanted I/N, such as 1/8 to 8/8: {error.what}") from None


def _index(stage: Stage, units: Sequence[int]) -> bytes:
    """index.json of all MDS files: what StreamingDataset opens the directory by."""
    return index([entry for unit in units for entry in stage.facts(unit)["shards"]])


def _refuse_foreign(directory: Path) -> None:
    if directory.is_file():
        raise UserError("is a file", where=str(directory), hint="shards are written into a directory: -o DIR")
    if not directory.is_dir() or (directory / SETTINGS).exists():
        return
    sweep(directory, {SETTINGS})  # of a run that was killed while it began; one that lives is another part's
    begun = f".{SETTINGS}."
    if any(not (path.name.startswith(begun) and path.name.endswith(PARTIAL)) for path in directory.iterdir()):
        raise UserError("holds other files", where=str(directory), hint="name a new or an empty directory")


def _identity(stream: Input) -> list[Any]:
    """A file's name, size, and a hash of _SAMPLED places in it: a hash of all would cost as much as encoding begins."""
    size = stream.size or 0
    digest = hashlib.sha256(str(size).encode())
    with stream.seekable() as place:
        file = place if hasattr(place, "read") else Path(place).open("rb")  # noqa: SIM115 (closed below)
        try:
            for number in range(_SAMPLED):
                file.seek(max(0, size - SMALLEST) * number // (_SAMPLED - 1))
                digest.update(file.read(SMALLEST))
        except OSError as error:
            raise UserError(f"cannot read: {error.strerror}", where=stream.source) from None
        finally:
            if file is not place:
                file.close()
    return [stream.source, size, digest.hexdigest()[:32]]


def _work(
    stage: Stage,
    tokenizer: BaseTokenizer,
    units: list[list[Input]],
    reading: Reading,
    settings: EncodeSettings,
    around: Around,
    threads: int,
) -> Callable[[int], None]:
    """What a process does with a unit."""
    unpacked = Unpacked()

    def encode(unit: int) -> None:
        report = ReadReport()
        texts = read_streams(
            units[unit], reading, whole=tokenizer.needs_whole(settings.allow_special), report=report, unpacked=unpacked
        )
        lost = Lost(tokenizer)
        encoded = _counted(lost, encode_documents(
            tokenizer, watched(texts, lost), allow_special=settings.allow_special, around=around, threads=threads,
            begun=_begun(units[unit]),
        ))  # fmt: skip
        if settings.written == "mds":
            names, facts = write_mds_unit(stage, unit, encoded)
        else:
            names, facts = write_array_unit(stage, unit, tokenizer, settings.written, encoded)
        sums = {name: _sha256(stage.directory / name) for name in names}
        missed = {"lost": found} if (found := lost.to_json()) else {}
        stage.finish(unit, names, {**facts, **missed, "sha256": sums, "read": report.to_json()})

    return encode


def _counted(lost: Lost, encoded: Iterable[Encoded]) -> Iterator[Encoded]:
    for batch in encoded:
        lost.written(batch.ids)
        yield batch


def _begun(unit: list[Input]) -> bool:
    """Whether a unit begins inside a document."""
    return bool(unit) and unit[0].begun


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(
    stage: Stage,
    mine: list[int],
    tokenizer: BaseTokenizer,
    units: list[list[Input]],
    reading: Reading,
    settings: EncodeSettings,
    around: Around,
    means: Means,
) -> dict[str, Any]:
    """Hashes and counts of all shards, and the beginning of some encoded again: what does not fit, by shard."""
    wrong: dict[str, str] = {}
    done = [unit for unit in mine if stage.is_done(unit)]
    lacking = [stage.path(unit, settings.written).name for unit in mine if unit not in done]
    wrong |= dict.fromkeys(lacking, "is not there, or not whole")
    with means.console.progress("verifying", len(done), "shards") as bar:
        for unit in done:
            path, facts = stage.path(unit, settings.written), stage.facts(unit)
            if any(_sha256(stage.directory / name) != known for name, known in facts["sha256"].items()):
                wrong[path.name] = "holds other bytes than were written"
            elif settings.written != "mds":
                about = parse_json(path.with_name(path.name + ".json").read_bytes())
                if any(about.get(name) != facts[name] for name in ("tokens", "documents")):
                    wrong[path.name] = "its sidecar counts otherwise"
            bar.advance(1)
    if settings.written == "mds" and stage.complete and (stage.directory / INDEX).read_bytes() != _index(stage, done):
        wrong[INDEX] = "does not list the shards"
    sampled = Random(reading.seed).sample(done, min(CHECKED, len(done)))
    for unit in sampled:
        if not _agrees(stage, unit, tokenizer, units[unit], reading, settings, around):
            wrong[stage.path(unit, settings.written).name] = "the text gives other ids now"
    for name, what in wrong.items():
        means.console.warn(f"{stage.directory / name}: {what}")
    if wrong:
        markers = dict.fromkeys("done.json" if name == INDEX else f"{name.split('.')[0]}.done" for name in wrong)
        removed = " ".join(shlex.quote(str(stage.directory / marker)) for marker in markers)
        means.console.warn(f"rm -f {removed}, and the same command without --verify makes what is wrong again")
    means.console.info(
        f"{counted(len(done), 'shard')} verified, {len(sampled)} of them encoded again: {len(wrong)} wrong"
    )
    return {"schema": SCHEMA, "directory": str(stage.directory), "verified": len(done), "wrong": wrong}


def _agrees(
    stage: Stage,
    number: int,
    tokenizer: BaseTokenizer,
    unit: list[Input],
    reading: Reading,
    settings: EncodeSettings,
    around: Around,
) -> bool:
    """Whether the first documents of a shard give the ids that stand there."""
    import numpy as np

    from llmtool.core.corpus.token_files import open_tokens

    facts = stage.facts(number)
    if not facts["tokens"]:
        return True
    count = min(CHECKED_DOCUMENTS, facts["documents"])
    if settings.written == "mds":
        samples = (ids for path in stage.files(number) for ids in read_ids(path))
        stored = np.concatenate(list(islice(samples, count)))
    else:
        array = open_tokens(stage.path(number, settings.written))
        stored = array.ids[: int(array.starts[count])]
    texts = read_streams(unit, reading, whole=tokenizer.needs_whole(settings.allow_special), report=ReadReport())
    encoded = encode_documents(
        tokenizer, texts, allow_special=settings.allow_special, around=around, threads=1, begun=_begun(unit)
    )
    ids, held = [], 0
    for batch in encoded:
        ids.append(np.frombuffer(batch.ids, np.uint32))
        held += len(ids[-1])
        if held >= len(stored):
            break
    return bool(np.array_equal(np.concatenate(ids)[: len(stored)], stored))
