"""Which reader a log needs, decided by its content."""

import os
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import Any

from llmtool.core.corpus.compression import unpack
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.files import refuse_device
from llmtool.core.run.json_file import parse_json
from llmtool.methods.temporal_scaling.logs import (
    csv_table,
    headerless,
    json_columns,
    mllog,
    stdout,
    tensorboard,
    wandb_file,
)
from llmtool.methods.temporal_scaling.logs.columns import Chosen, Record
from llmtool.methods.temporal_scaling.logs.log import Log, NotYetError, assemble
from llmtool.methods.temporal_scaling.logs.names import LINE

LARGEST = 1 << 30
"""Bytes of the largest log; a day of training at a row a step is some 20 MB."""
STDIN = "-"
IN_DIRECTORY = ("metrics.jsonl", "trainer_log.jsonl", "trainer_state.json", "metrics.csv", "events.out.tfevents.*",
                "checkpoint-*/trainer_state.json", "run-*.wandb")  # fmt: skip
"""What is looked for when a run's directory is named; of several files the latest."""
BELOW = 3
"""Loggers put a run's files so many directories below the one that they were given (lightning_logs/version_0)."""
NAMED = 4
"""Of several such directories an error names so many."""


def read_log(source: str | Path, chosen: Chosen | None = None) -> Log:
    """The log in a file, a run's directory, or `-` for standard input. chosen: columns named by hand."""
    name, chosen = str(source), chosen or Chosen()
    paths: list[str | Path] = [source]
    if name != STDIN and Path(source).is_dir():
        place = _place(Path(source))
        name, paths = str(place), list(_logs(place))
    parts = [_bytes(path, name) for path in paths]
    if not any(part.strip() for part in parts):
        raise NotYetError("the log is empty", where=name)
    if wandb_file.is_wandb(parts[0]):
        return assemble(wandb_file.read(parts[0], name), name, chosen=chosen)
    if tensorboard.is_event_file(parts[0]):
        events = (record for part in parts for record in tensorboard.read(part, name))
        return assemble(events, name, chosen=chosen)
    try:
        # PowerShell writes what a program prints as UTF-16
        text = parts[0].decode("utf-16" if parts[0][:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("not a training log: neither text nor TensorBoard events", where=name) from None
    records: Iterator[Record]
    horizon, told = None, list[str]()
    if mllog.is_mllog(text):
        records, horizon, told = mllog.read(text, name)
    elif (held := _json(text, name)) is not None:
        records, horizon = held
    elif (rows := headerless.read(text)) is not None:
        records = rows
    elif csv_table.is_table(text, chosen):
        records = csv_table.read(text, name, chosen)
    else:
        records, told = stdout.read(text, name)
    return assemble(records, name, horizon, chosen, told)


def _place(directory: Path) -> Path:
    """Where the log of a run's directory is: in it, or in the only one below that holds any."""
    if _logs(directory):
        return directory
    below: list[Path] = []
    for folder, names, _ in os.walk(directory):
        place = Path(folder)
        if place != directory and _logs(place):
            below.append(place)
        if below[-1:] == [place] or len(place.relative_to(directory).parts) == BELOW:
            names.clear()  # os.walk goes no further down there
        names.sort()
    if not below:
        raise UserError("holds no log", where=str(directory), hint=f"looked for {', '.join(IN_DIRECTORY)}")
    if len(below) > 1:
        some = ", ".join(str(place) for place in below[:NAMED]) + (", ..." if len(below) > NAMED else "")
        raise UserError(f"{len(below)} directories in it hold logs", where=str(directory), hint=f"name one of {some}")
    return below[0]


def _logs(directory: Path) -> Sequence[Path]:
    """The latest log in a directory; of event files, one for each start of the program, all of them."""
    for pattern in IN_DIRECTORY:
        if found := sorted(directory.glob(pattern), key=lambda path: (path.stat().st_mtime, path.name)):
            return sorted(found) if "tfevents" in pattern else found[-1:]
    return ()


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
        found = os.fstat(file.fileno())
        refuse_device(path, found.st_mode)
        # room for as much is taken at once, whatever there is
        return file.read(min(LARGEST, found.st_size) + 1 if S_ISREG(found.st_mode) else LARGEST + 1)


def _json(text: str, name: str) -> tuple[Iterator[Record], int | None] | None:
    """JSONL, a Hugging Face trainer_state.json, or an array of records; None where the text is no JSON.

    Text that begins with a bracket need not be: `[rank0]: step: 1`, `[2025-01-01] iteration 1`, `{'loss': 2.5}`.
    """
    start = text.lstrip()
    if start[:1] not in ("{", "["):
        return None
    head, _, rest = start.partition("\n")
    first = head.rstrip()
    whole = _parsed(first)
    if isinstance(whole, dict) and "log_history" not in whole:
        columns = None if rest.strip() else json_columns.records(whole)
        return (_jsonl(text, name) if columns is None else columns), None
    if whole is None or not isinstance(whole, dict | list):
        whole = _parsed(text)
    if isinstance(whole, list):
        triples = (*csv_table.TENSORBOARD[:-1], "loss")
        rows = (dict(zip(triples, each, strict=True)) if isinstance(each, list) and len(each) == len(triples) else each
                for each in whole)  # fmt: skip
        return (each for each in rows if isinstance(each, dict)), None
    if isinstance(whole, dict):
        if "log_history" not in whole and (columns := json_columns.records(whole)):
            return columns, None
        if not isinstance(history := whole.get("log_history"), list):
            raise UserError("a JSON object without log_history", where=name, hint="JSONL has an object a line")
        steps = whole.get("max_steps")
        planned = steps if type(steps) is int and 0 < steps < 10**15 else None
        return (each for each in history if isinstance(each, dict)), planned
    if first in ("{", "[", "[{") or first.startswith('{"'):
        why = "is the file complete?"
        raise UserError("begins as JSON does and is none", where=name, hint=why)
    return None


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _jsonl(text: str, name: str) -> Iterator[Record]:
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except ValueError as error:
            if number == len(lines):
                return  # a run still going on may be in the middle of its last line
            raise UserError(f"not JSON: {error}", where=f"{name}:{number}") from None
        if isinstance(value, dict):
            yield {**value, LINE: number}
