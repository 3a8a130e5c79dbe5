"""metrics.jsonl: one row a step, `llmtool.metrics/1`; what `llmtool scaling` reads.

{"schema", "step", "tokens", "time", "lr", "loss", "grad_norm", "tokens_per_s", "figures": {NAME: number or list},
 "eval": {SET: {"loss", "positions": [..]}}}

step counts updates done; time is in seconds of training, restarts left out; eval and figures only where there are any.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

from llmtool.core.run.atomic import atomic_file, explained
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import read_plain
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.core.run.record import Record

SCHEMA = "llmtool.metrics/1"
SLOWEST = 1e-9
"""Tokens a second; none is no rate."""


class Metrics:
    """Appends rows; what stands beyond `resumed` steps belongs to a run that was broken off, and is cut away."""

    def __init__(self, path: Path, resumed: int) -> None:
        self.path = path
        kept = [line for line, row in _rows(path) if row["step"] <= resumed] if resumed else []
        with atomic_file(path) as file:
            file.writelines(kept)
        self._file: IO[bytes] = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; it is on its way to the disk when this returns."""
        with explained(self.path):
            self._file.write(dumps({"schema": SCHEMA, **_rounded(row)}).encode() + b"\n")
            self._file.flush()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a finished or running log; a last line that is not complete is left out."""
    return [row for _, row in _rows(path)]


def _rows(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Lines and what they say, up to the first that is no row: a power cut leaves zeros, or half a line, at the end."""
    if not path.exists():
        return
    for line in read_plain(path).splitlines(keepends=True):
        try:
            row = _row(Record(parse_json(line), str(path)))
        except (ValueError, UserError):
            return
        if line.endswith(b"\n"):
            yield line, row


def _row(row: Record) -> dict[str, Any]:
    """A row whose numbers are what a table or a figure of the run takes them for."""
    for key in ("step", "tokens"):
        row.whole(key)
    for key in ("loss", "lr", "time"):
        row.real(key)
    row.real("tokens_per_s", low=SLOWEST)
    row.real("eval_seconds", default=0.0)
    held = row.record("eval", default={})
    for name in held.facts:
        held.record(name).real("loss")
        held.record(name).real("bits_per_byte", default=0.0)
    return row.facts


def _rounded(value: Any) -> Any:
    """Numbers with six digits: more say nothing, and positions take most of the file."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
