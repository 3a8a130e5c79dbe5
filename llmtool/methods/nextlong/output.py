"""Samples as their users read them: JSONL, arrays of ids, MDS; provenance beside those that hold ids only."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.arrays import map_array
from llmtool.core.corpus.document import Document
from llmtool.core.corpus.encoding import Encoded
from llmtool.core.corpus.mds import write_mds
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.tokenized import token_array
from llmtool.core.run.atomic import atomic_file, atomic_files
from llmtool.core.run.json_file import dumps
from llmtool.methods.nextlong.chance import held_out
from llmtool.methods.nextlong.store import Store

HELD_OUT = "held-out.jsonl"
Form = Literal["jsonl", "bin", "npy", "mds"]


def write(
    stage: Stage, units: int, wanted: int, output: Path, form: Form, tokenizer: BaseTokenizer, facts: dict[str, Any]
) -> int:
    """Write the first `wanted` samples of a stage's units; returns how many there are."""
    _clear(output)
    counts = [stage.facts(unit)["accepted"] for unit in range(units)]
    kept = [min(count, max(0, wanted - sum(counts[:unit]))) for unit, count in enumerate(counts)]
    plain = "samples" if form == "jsonl" else "spans"
    parts = [unit for unit in range(units) if kept[unit]]
    for number, unit in enumerate(parts):
        _link(stage.path(unit, "jsonl"), output / f"{plain}-{number:05d}.jsonl", kept[unit], counts[unit])
    if form in ("bin", "npy"):
        _write_array(stage, parts, kept, output / f"samples.{form}", form, tokenizer, facts)
    if form == "mds":
        write_mds(output, _mds_rows(stage, parts, kept))
    return sum(kept)


def _clear(output: Path) -> None:
    """What an unfinished run left of this step."""
    for pattern in ("samples*", "spans-*.jsonl", "shard.*.mds", "index.json", HELD_OUT):
        for path in filter(Path.is_file, output.glob(pattern)):
            path.unlink()


def write_held_out(store: Store, share: float, output: Path) -> int:
    """The documents that no sample sees, as JSONL; returns how many there are."""
    numbers = np.flatnonzero(held_out(store.keys, share)).tolist()
    with atomic_file(output / HELD_OUT) as file:
        for number in numbers:
            about = store.document(number)
            row: dict[str, Any] = {key: about[key] for key in ("id", "source", "licence") if key in about}
            row["text"] = store.passage(int(store.first[number]), int(store.first[number + 1]), 1 << 40).decode()
            file.write(dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    return len(numbers)


def _link(part: Path, path: Path, kept: int, count: int) -> None:
    """The part under its public name, without a copy where the disk can; its first rows only if not all are wanted."""
    if kept == count:
        try:
            os.link(part, path)
        except OSError:
            shutil.copyfile(part, path)
        return
    with part.open("rb") as source, atomic_file(path) as target:
        for _ in range(kept):
            target.write(source.readline())


def _ids(stage: Stage, parts: list[int], kept: list[int]) -> Iterator[npt.NDArray[np.uint32]]:
    for unit in parts:
        yield map_array(stage.path(unit, "ids.npy"))[: kept[unit]]


def _write_array(
    stage: Stage, parts: list[int], kept: list[int], path: Path, form: str, tokenizer: BaseTokenizer,
    facts: dict[str, Any],
) -> None:  # fmt: skip
    with atomic_files() as files, token_array(path, tokenizer, form, facts, files) as writer:
        for block in _ids(stage, parts, kept):
            for row in block:
                writer.write(Encoded([Document(b"", "", 1)], np.asarray(row).tobytes(), [len(row)], open=False))


def _mds_rows(stage: Stage, parts: list[int], kept: list[int]) -> Iterator[dict[str, Any]]:
    for unit, block in zip(parts, _ids(stage, parts, kept), strict=True):
        with stage.path(unit, "jsonl").open("rb") as file:
            for ids, line in zip(block, file, strict=False):
                row = json.loads(line)
                domain = max(row["sources"], key=lambda name: (row["sources"][name], name))
                # one range: trainers mask attention between the ranges, and a sample is one document
                whole = np.array([[0, len(ids)]], np.uint32)
                yield {"input_ids": np.asarray(ids), "length": len(ids), "domain": domain, "indices": whole}
