"""A table of finished runs: parameters, tokens, unique tokens, loss, as people write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.csv_file import read_rows
from llmtool.methods.temporal_scaling.logs.names import words
from llmtool.methods.temporal_scaling.logs.numbers import number

Array = NDArray[np.float64]
COLUMNS = {
    "params": ("params", "parameters", "n", "model size", "n params", "num params", "size", "non embedding params"),
    "tokens": ("tokens", "d", "training tokens", "train tokens", "n tokens", "num tokens", "dataset size"),
    "unique": ("unique", "unique tokens", "u"),
    "loss": ("loss", "final loss", "val loss", "eval loss", "test loss", "validation loss"),
    "compute": ("flop", "flops", "training flop", "training flops", "compute", "c"),
    "name": ("name", "run", "run name", "model", "id"),
}
"""Names by their words. Where there are no tokens, they are compute / (6 N)."""
FLOPS = 6.0
"""Training takes 6 N D operations."""


@dataclass(frozen=True)
class Table:
    """One row a run: parameters, tokens, unique tokens, final loss; names: what each is called in messages."""

    params: Array
    tokens: Array
    unique: Array
    loss: Array
    names: tuple[str, ...] = ()

    @classmethod
    def one(cls, params: float, tokens: float, unique: float | None = None) -> "Table":
        """A single run without a loss."""
        first, second, third = (np.array([value]) for value in (params, tokens, tokens if unique is None else unique))
        return cls(first, second, third, np.ones(1))

    @property
    def compute(self) -> Array:
        """Operations of each run."""
        return FLOPS * self.params * self.tokens

    def rows(self, places: Any) -> "Table":
        """Some of the rows."""
        names = tuple(np.array(self.names, dtype=object)[places]) if self.names else ()
        return Table(self.params[places], self.tokens[places], self.unique[places], self.loss[places], names)


def read_table(path: Path, *, need_unique: bool = False) -> Table:
    """Runs from a CSV with columns params, tokens (or FLOP), loss and, for repeated data, unique_tokens."""
    rows = read_rows(path)
    header = {" ".join(words(name or "")): name for name in (rows[0] if rows else {})}
    found = {key: next((header[name] for name in names if name in header), None) for key, names in COLUMNS.items()}
    needed = ["params", "loss", *(("unique",) if need_unique else ())]
    if found["compute"] is None or found["tokens"] is not None:
        needed.append("tokens")
    for key in needed:
        if found[key] is None:
            what = f"has no column {key!r}; columns: {', '.join(map(str, header.values())) or 'none'}"
            raise UserError(what, where=str(path), hint=f"one of {', '.join(COLUMNS[key])}")
    columns = {key: _numbers(rows, name, path) for key, name in found.items() if name is not None and key != "name"}
    if "tokens" not in columns:
        columns["tokens"] = columns["compute"] / FLOPS / columns["params"]
    unique = columns.get("unique", columns["tokens"])
    called = [f"line {line}" for line in range(2, len(rows) + 2)]
    if (name := found["name"]) is not None:
        called = [f"{row[name]} ({place})" for row, place in zip(rows, called, strict=True)]
    return Table(columns["params"], columns["tokens"], np.minimum(unique, columns["tokens"]), columns["loss"],
                 tuple(called))  # fmt: skip


def _numbers(rows: Sequence[dict[str, str]], name: str, path: Path) -> Array:
    values = []
    for line, row in enumerate(rows, start=2):
        value = number(row[name])
        if value is None:
            raise UserError(f"{name!r} is no number: {row[name]!r}", where=f"{path}:{line}")
        if not (np.isfinite(value) and value > 0):
            raise UserError(f"{name!r} is not a positive number: {value}", where=f"{path}:{line}")
        values.append(value)
    return np.array(values)
