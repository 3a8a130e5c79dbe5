"""metrics.jsonl: one row a step, `llmtool.metrics/1`; what `llmtool scaling` reads.

{"schema", "step", "tokens", "time", "lr", "loss", "grad_norm", "tokens_per_s", "figures": {NAME: number or list},
 "eval": {SET: {"loss", "positions": [..]}}}

step counts updates done; time is in seconds of training, restarts left out; eval and figures only where there are any.
"""

import json
from pathlib import Path
from typing import IO, Any, Self

from llmtool.core.run.atomic import atomic_file

SCHEMA = "llmtool.metrics/1"


class Metrics:
    """Appends rows; what stands beyond `resumed` steps belongs to a run that was broken off, and is cut away."""

    def __init__(self, path: Path, resumed: int) -> None:
        self.path = path
        kept = [line for line in _lines(path) if _step(line) <= resumed] if resumed else []
        with atomic_file(path) as file:
            file.writelines(kept)
        self._file: IO[bytes] = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; it is on its way to the disk when this returns."""
        self._file.write(json.dumps({"schema": SCHEMA, **_rounded(row)}).encode() + b"\n")
        self._file.flush()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a finished or running log; a last line that is not complete is left out."""
    return [json.loads(line) for line in _lines(path)]


def _lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _step(line: bytes) -> int:
    return int(json.loads(line)["step"])


def _rounded(value: Any) -> Any:
    """Numbers with six digits: more say nothing, and positions take most of the file."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
