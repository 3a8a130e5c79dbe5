"""`llmtool tokenizer encode --shards --verify`: whether the shards that stand are those of this corpus."""

import hashlib
import shlex
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from llmtool.commands.tokenizer.settings import EncodeSettings
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.encoding import Around, encode_documents
from llmtool.core.corpus.inputs import Input
from llmtool.core.corpus.mds import index, read_ids
from llmtool.core.corpus.readers import Reading, read_streams
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.json_file import parse_json
from llmtool.core.run.wording import counted

SCHEMA = "llmtool.tokenizer-shards/1"
CHECKED = 3
"""Shards of which the beginning is encoded again, and the documents of each."""
CHECKED_DOCUMENTS = 200
INDEX = "index.json"


def verify_shards(
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
            if any(sha256_of(stage.directory / name) != known for name, known in facts["sha256"].items()):
                wrong[path.name] = "holds other bytes than were written"
            elif settings.written != "mds":
                about = parse_json(path.with_name(path.name + ".json").read_bytes())
                if any(about.get(name) != facts[name] for name in ("tokens", "documents")):
                    wrong[path.name] = "its sidecar counts otherwise"
            bar.advance(1)
    if (
        settings.written == "mds"
        and stage.complete
        and (stage.directory / INDEX).read_bytes() != mds_index(stage, done)
    ):
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
        tokenizer, texts, allow_special=settings.allow_special, around=around, threads=1, begun=begun(unit)
    )
    ids, held = [], 0
    for batch in encoded:
        ids.append(np.frombuffer(batch.ids, np.uint32))
        held += len(ids[-1])
        if held >= len(stored):
            break
    return bool(np.array_equal(np.concatenate(ids)[: len(stored)], stored))


def mds_index(stage: Stage, units: Sequence[int]) -> bytes:
    """index.json of all MDS files: what StreamingDataset opens the directory by."""
    return index([entry for unit in units for entry in stage.facts(unit)["shards"]])


def begun(unit: list[Input]) -> bool:
    """Whether a unit begins inside a document."""
    return bool(unit) and unit[0].begun


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
