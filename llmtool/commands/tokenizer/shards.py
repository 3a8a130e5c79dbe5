"""`llmtool tokenizer encode -o DIR --shards SIZE`: a corpus into token files, as a job for large corpora.

The corpus is cut into units by its bytes, a unit becomes a shard NNNNN.bin (or .npy) with its sidecars, or a few MDS
files, and a marker NNNNN.done after them. A killed job goes on where it stopped and writes the same bytes; `--part I/N`
makes every N-th shard, for clusters and arrays of jobs that share the directory; `verify` checks what stands there.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from llmtool.commands.tokenizer.encode import token_around, watched
from llmtool.commands.tokenizer.settings import EncodeSettings
from llmtool.commands.tokenizer.shards_check import INDEX, SCHEMA, begun, mds_index, sha256_of, verify_shards
from llmtool.core.bpe import engine
from llmtool.core.bpe.lost import Lost
from llmtool.core.bpe.tokenizer import BaseTokenizer, available_cores
from llmtool.core.corpus.cuts import Unpacked, together
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.encoding import Around, Encoded, encode_documents
from llmtool.core.corpus.inputs import Input, find_inputs, without_weights
from llmtool.core.corpus.plans import CUTS, PLAN, kept_units, plan_units
from llmtool.core.corpus.readers import Reading, parse_size, read_streams
from llmtool.core.corpus.shard_files import write_array_unit, write_mds_unit
from llmtool.core.corpus.shards import DONE, SETTINGS, Stage
from llmtool.core.corpus.successor import Place
from llmtool.core.corpus.units import Means
from llmtool.core.run.atomic import PARTIAL, atomic_file, sweep
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.manifest import Run
from llmtool.core.run.numbers import shown, whole
from llmtool.core.run.outputs import OTHERS, refuse_overlap
from llmtool.core.run.wording import counted

SMALLEST = 1 << 16
_SAMPLED = 16
SPELLED = {
    "tokenizer": "TOK", "inputs": "INPUT", "text_mode": "--documents",
    **{name: f"--{name.replace('_', '-')}" for name in (
        "shards", "format", "bos", "eos", "allow_special", "field", "id_field", "document_separator", "input_format",
        "strict", "broken", "include", "exclude", "seed",
    )},
}  # fmt: skip
"""Settings of a set as the command line calls them."""
_FILE = re.compile(r"\d{5,}\.(done|idx|\d{3,}\.mds|(bin|npy)(\.offsets\.npy|\.json)?)|\..*\.(partial|llmtool-commit)")
"""Names of a set's files, and of what killed processes leave there."""


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
    place = Place(directory, {
        "stage": "encode", "tokenizer": tokenizer.fingerprint(), "inputs": [_identity(stream) for stream in streams],
        "shards": size, "format": settings.written, "bos": around.bos, "eos": around.eos,
        "allow_special": settings.allow_special, "cuts": CUTS, **reading.facts(),
    }, _is_ours, console, SPELLED)  # fmt: skip
    _refuse_foreign(directory)
    if verify and not (directory / SETTINGS).exists():
        raise UserError("holds no shards to verify", where=str(directory), hint="make them first, without --verify")
    fresh = [place for place in (directory, *directory.parents) if part is None and not place.exists()]
    stage = place.begin(force=means.force and not verify, alone=part is None and not verify)
    inside = not tokenizer.needs_whole(settings.allow_special)
    units = kept_units(stage, lambda: plan_units(streams, reading, size, inside=inside))
    mine = [unit for unit in range(len(units)) if unit % chosen[1] == chosen[0]]
    tasks = together(units, mine)
    threads = max(1, means.workers // max(1, len(tasks)))  # one packed file has one reader, and threads that encode
    work = partial(_work, stage, tokenizer, units, reading, settings, around, threads)
    if verify:
        return verify_shards(stage, mine, tokenizer, units, reading, settings, around, means)
    run = Run("tokenizer encode --shards", stage.settings, seed=reading.seed, backend=engine.NAME)
    sealed = stage.complete and (stage.directory / "run.json").exists()
    means.run(stage, mine, work, "encoding", tasks)
    with place.ending(stage) as stage:
        done = [unit for unit in range(len(units)) if stage.is_done(unit)]
        facts = [stage.facts(unit) for unit in done]
        for each in facts:
            report.merge(each["read"])
        sums = {name: sum(each[name] for each in facts) for name in ("documents", "tokens")}
        sums["documents"] -= sum(begun(units[unit]) for unit in done)
        if len(done) == len(units) and not (stage.complete and (stage.directory / "run.json").exists()):
            report.say(means.console)
            if not sums["tokens"]:
                place.give_up()
                for new in fresh:  # of no use to anybody
                    with suppress(OSError):
                        rmtree(new) if new == directory else new.rmdir()
                raise UserError("no text found", where=", ".join(inputs))
            if settings.written == "mds":
                with atomic_file(stage.directory / INDEX) as file:
                    file.write(mds_index(stage, done))
            stage.seal({"shards": len(units), **sums})
            made = [path.name for unit in done for path in stage.files(unit)]
            made += [INDEX] if settings.written == "mds" else []
            run.save(stage.directory / "run.json", [directory / name for name in sorted(made)])
    lost = Lost(tokenizer)
    for each in facts:
        lost.add(each.get("lost", {}))
    lost.say(means.console)
    sums_said = f"{counted(sums['tokens'], 'token')} of {counted(sums['documents'], 'document')}"
    said = "complete already, nothing to do" if sealed else f"{len(done):,} of {counted(len(units), 'shard')}"
    means.console.info(f"{directory}: {said}; {sums_said}" if sealed else f"{directory}: {said}, {sums_said}")
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


def _is_ours(name: str) -> bool:
    """Whether a file of this name is of a set of shards; hidden ones are of killed processes."""
    return name in (SETTINGS, DONE, PLAN, INDEX, "run.json", *OTHERS) or _FILE.fullmatch(name) is not None


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
            begun=begun(units[unit]),
        ))  # fmt: skip
        if settings.written == "mds":
            names, facts = write_mds_unit(stage, unit, encoded)
        else:
            names, facts = write_array_unit(stage, unit, tokenizer, settings.written, encoded)
        sums = {name: sha256_of(stage.directory / name) for name in names}
        missed = {"lost": found} if (found := lost.to_json()) else {}
        stage.finish(unit, names, {**facts, **missed, "sha256": sums, "read": report.to_json()})

    return encode


def _counted(lost: Lost, encoded: Iterable[Encoded]) -> Iterator[Encoded]:
    for batch in encoded:
        lost.written(batch.ids)
        yield batch
