"""Which reader a log needs, decided by its content."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmtool.core.corpus.compression import unpack
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.methods.temporal_scaling.logs import csv_table, stdout, tensorboard
from llmtool.methods.temporal_scaling.logs.log import Log, NotYetError, assemble
from llmtool.methods.temporal_scaling.logs.row import Row, from_mapping

LARGEST = 1 << 30
"""Bytes of the largest log; a day of training at a row a step is some 20 MB."""
STDIN = "-"
IN_DIRECTORY = ("metrics.jsonl", "trainer_state.json", "events.out.tfevents.*", "checkpoint-*/trainer_state.json")
"""What is looked for when a run's directory is named; of several files the latest."""


def read_log(source: str | Path) -> Log:
    """The log in a file, a run's directory, or `-` for standard input."""
    name = str(source)
    path = _in_directory(Path(source)) if name != STDIN and Path(source).is_dir() else source
    data = _bytes(path, name)
    if not data.strip():
        raise NotYetError("the log is empty", where=name)
    if tensorboard.is_event_file(data):
        return assemble(tensorboard.read(data, name), name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("not a training log: neither text nor TensorBoard events", where=name) from None
    horizon = None
    if text.lstrip()[:1] in "{[":
        rows, horizon = _json(text, name)
    elif csv_table.is_table(text):
        rows = csv_table.read(text, name)
    else:
        rows, horizon = stdout.read(text, name)
    return assemble(rows, name, horizon)


def _in_directory(directory: Path) -> Path:
    for pattern in IN_DIRECTORY:
        if found := sorted(directory.glob(pattern), key=lambda path: path.stat().st_mtime):
            return found[-1]
    raise UserError("holds no log", where=str(directory), hint=f"looked for {', '.join(IN_DIRECTORY)}")


def _bytes(source: str | Path, name: str) -> bytes:
    try:
        data = sys.stdin.buffer.read(LARGEST + 1) if name == STDIN else _file(Path(source))
    except OSError as error:
        raise UserError(f"cannot read: {explain_os_error(error)}", where=name) from None
    out = bytearray()
    for block in unpack([data], name):
        out += block
        if len(out) > LARGEST:
            raise UserError(f"larger than {LARGEST >> 20} MiB", where=name, hint="keep one row in a hundred")
    return bytes(out)


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _json(text: str, name: str) -> tuple[Iterator[Row], int | None]:
    """JSONL, a Hugging Face trainer_state.json, or an array of records."""
    first = text.lstrip().split("\n", 1)[0]
    try:
        whole = json.loads(first)
        if not isinstance(whole, list) and "log_history" not in whole:
            return _jsonl(text, name), None
    except (json.JSONDecodeError, RecursionError):
        pass
    try:
        whole = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", where=name, hint="is the file complete?") from None
    if isinstance(whole, list):
        return _records(whole), None
    if not isinstance(history := whole.get("log_history"), list):
        raise UserError("a JSON object without log_history", where=name, hint="JSONL has an object a line")
    steps = whole.get("max_steps")
    return _records(history), int(steps) if isinstance(steps, int | float) and steps > 0 else None


def _records(values: list[Any]) -> Iterator[Row]:
    for value in values:
        if isinstance(value, dict) and (row := from_mapping(value)) is not None and not row.empty:
            yield row


def _jsonl(text: str, name: str) -> Iterator[Row]:
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if number == len(lines):
                return  # a run still going on may be in the middle of its last line
            raise UserError(f"not JSON: {error}", where=f"{name}:{number}") from None
        yield from _records([value])
