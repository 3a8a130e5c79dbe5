"""Compare with an earlier run: is anything of ours slower than it was?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, read_json_object
from llmtool.core.run.record import Record

SCHEMA = "llmtool.bench-kernels/1"
KEY = ("op", "dtype", "direction", "implementation")


def read_baseline(path: Path, device: str) -> list[dict[str, Any]]:
    """The rows of an earlier `llmtool bench kernels --json`, taken on the same device."""
    report = read_json_object(path)
    if report.get("schema") != SCHEMA:
        raise UserError(f"no report of the kind {SCHEMA}", where=str(path), hint="llmtool bench kernels --json > FILE")
    facts = Record(report, str(path))
    if (taken := facts.record("machine").text("device")) != device:
        raise UserError(f"was taken on {taken}, this is {device}", where=str(path), hint="compare like with like")
    for number, fact in enumerate(facts.items("rows")):
        row = Record(fact, f"{path}: rows[{number}]")
        row.record("case")
        row.real("seconds", low=0, default=0)
        if not isinstance(row.facts.get("own"), bool) or not all(isinstance(row.facts.get(key), str) for key in KEY):
            raise UserError(f"own is no flag, or one of {', '.join(KEY)} no text", where=row.where)
    return facts.items("rows")


def slower(
    rows: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]], most: float
) -> tuple[list[dict[str, Any]], int]:
    """Rows of ours that take more than `most` times what they took, and how many rows could be compared."""
    known = {_key(row): row["seconds"] for row in before if row["own"] and "seconds" in row}
    compared = [row for row in rows if row["own"] and "seconds" in row and _key(row) in known]
    found = []
    for row in compared:
        slowdown = row["seconds"] / max(known[_key(row)], 1e-12)
        if slowdown > most:
            found.append({**{key: row[key] for key in (*KEY, "case")}, "slowdown": slowdown})
    return found, len(compared)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return *(row[key] for key in KEY), dumps(row["case"], sort_keys=True)
