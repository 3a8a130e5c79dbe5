"""Samples as their users read them: JSONL, arrays of ids, MDS; provenance beside those that hold ids only."""

import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

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
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.methods.nextlong.chance import held_out
from llmtool.methods.nextlong.mixture import Mixture, domain
from llmtool.methods.nextlong.recipe import Form
from llmtool.methods.nextlong.store import Store

LINES = 4096
"""Lines of a file of a mixture."""

HELD_OUT = "held-out.jsonl"
FILES = ("samples*", "spans-*.jsonl", "short-*.jsonl", "shard.*.mds", "index.json", HELD_OUT)
"""What is written here, whatever the format."""


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


def write_mixture(mixture: Mixture, output: Path, form: Form, tokenizer: BaseTokenizer, facts: dict[str, Any]) -> None:
    """Write rows of several kinds; the ordinary documents' lines stand in short-*.jsonl."""
    _clear(output)
    text = form == "jsonl"
    _write_lines(output, "samples" if text else "spans", mixture.lines(text=text))
    _write_lines(output, "short", mixture.documents(text=text))
    if form in ("bin", "npy"):
        with atomic_files() as files, token_array(output / f"samples.{form}", tokenizer, form, facts, files) as writer:
            for row in mixture:
                documents = [Document(b"", "", 1)] * len(row.ends)
                writer.write(Encoded(documents, row.ids.astype(np.uint32).tobytes(), row.ends, open=False))
    if form == "mds":
        write_mds(output, (_mds_row(row.ids, row.ends, row.domain) for row in mixture))


def _write_lines(output: Path, name: str, lines: Iterator[bytes]) -> None:
    """NAME-NNNNN.jsonl, LINES in each."""
    number = 0
    while (first := next(lines, None)) is not None:
        with atomic_file(output / f"{name}-{number:05d}.jsonl") as file:
            file.write(first)
            file.writelines(islice(lines, LINES - 1))
        number += 1


def _mds_row(ids: npt.NDArray[Any], ends: list[int], source: str) -> dict[str, Any]:
    """indices: the ranges between which trainers mask attention."""
    ranges = np.array([[0, *ends[:-1]], ends], np.uint32).T
    return {"input_ids": np.asarray(ids), "length": len(ids), "domain": source, "indices": ranges}


def _clear(output: Path) -> None:
    """What an unfinished run left of this step."""
    for pattern in FILES:
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
            file.write(dumps(row, ensure_ascii=False).encode() + b"\n")
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
                yield _mds_row(ids, [len(ids)], domain(parse_json(line)["sources"]))  # a sample is one document
