"""Compare with an earlier run: is anything of ours slower than it was?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object

SCHEMA = "llmtool.bench-kernels/1"
KEY = ("op", "dtype", "direction", "implementation")


def read_baseline(path: Path, device: str) -> list[dict[str, Any]]:
    """The rows of an earlier `llmtool bench kernels --json`, taken on the same device."""
    report = read_json_object(path)
    if report.get("schema") != SCHEMA:
        raise UserError(f"no report of the kind {SCHEMA}", where=str(path), hint="llmtool bench kernels --json > FILE")
    if (taken := report.get("machine", {}).get("device")) != device:
        raise UserError(f"was taken on {taken}, this is {device}", where=str(path), hint="compare like with like")
    rows: list[dict[str, Any]] = report["rows"]
    return rows


def slower(
    rows: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]], most: float
) -> tuple[list[dict[str, Any]], int]:
    """Rows of ours that take more than `most` times what they took, and how many rows could be compared."""
    known = {_key(row): row["seconds"] for row in before if row["own"] and "seconds" in row}
    compared = [row for row in rows if row["own"] and "seconds" in row and _key(row) in known]
    found = []
    for row in compared:
        slowdown = row["seconds"] / known[_key(row)]
        if slowdown > most:
            found.append({**{key: row[key] for key in (*KEY, "case")}, "slowdown": slowdown})
    return found, len(compared)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return *(row[key] for key in KEY), tuple(sorted(row["case"].items()))
