"""A table of finished runs: parameters, tokens, unique tokens, loss, as people write them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.logs.names import words
from llmtool.methods.temporal_scaling.logs.numbers import number
from llmtool.methods.temporal_scaling.row_file import Row, read_rows
from llmtool.methods.temporal_scaling.size_columns import BY_HAND, COLUMNS, Column, find_columns, listed

Array = NDArray[np.float64]
FLOPS = 6.0
"""Training takes 6 N D operations."""
SPOKEN = {1e3: "thousands", 1e6: "millions", 1e9: "billions", 1e12: "trillions"}
KIND = 6
"""Rows of a kind, at the least, that a column of text may tell apart from others."""
_SUFFIX = re.compile(r".*\d\s*[kKmMbBgGtT]")


@dataclass(frozen=True)
class Table:
    """One row a run: parameters, tokens, unique tokens, final loss; names: what each is called in messages.

    columns: the names in the file of what was read, by their key in COLUMNS. group [rows]: which run a row is of, where
    the table holds several of each, such as its checkpoints; else empty. notes: how the file was read. kinds [rows]: by
    its name, the labels of each column of text that tells a few kinds of runs apart.
    """

    params: Array
    tokens: Array
    unique: Array
    loss: Array
    names: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    group: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    notes: tuple[str, ...] = ()
    kinds: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

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
        group = self.group[places] if len(self.group) else self.group
        return Table(self.params[places], self.tokens[places], self.unique[places], self.loss[places], names,
                     self.columns, group, self.notes,
                     {key: kind[places] for key, kind in self.kinds.items()})  # fmt: skip

    def drawn(self, generator: np.random.Generator) -> "Table":
        """As many runs drawn with replacement, each with all of its rows: those of one run err alike."""
        if not len(self.group):
            return self.rows(generator.integers(0, len(self.loss), len(self.loss)))
        labels = np.unique(self.group)
        runs = labels[generator.integers(0, len(labels), len(labels))]
        return self.rows(np.concatenate([np.flatnonzero(self.group == run) for run in runs]))

    @property
    def runs(self) -> int:
        """How many runs the rows are of."""
        return len(np.unique(self.group)) if len(self.group) else len(self.loss)


def read_table(path: Path, *, need_unique: bool = False, chosen: Mapping[str, str] | None = None) -> Table:
    """Runs from a table with columns params, tokens (or FLOP), loss and, for repeated data, unique_tokens.

    chosen: columns named by hand, by their key in COLUMNS.
    """
    rows = read_rows(path)
    header = list(dict.fromkeys(name for _, row in rows for name in row))
    found = find_columns(header, chosen or {}, path)
    needed = ["params", "loss", *(("unique",) if need_unique else ())]
    if "compute" not in found or "tokens" in found:
        needed.append("tokens")
    for key in needed:
        if key not in found:
            what = f"has no column {key!r}; columns: {listed(header)}"
            flag = f"--{key}-column, or " if key in BY_HAND else ""
            raise UserError(what, where=str(path), hint=f"{flag}one of {', '.join(COLUMNS[key])}")
    whole = [(line, row) for line, row in rows if not _empty(row.get(found["loss"].name))]
    notes = _notes(found, rows, len(rows) - len(whole))
    rows = whole or rows
    columns = {key: _numbers(rows, column, path) for key, column in found.items() if key != "name"}
    if "tokens" not in columns:
        columns["tokens"] = columns["compute"] / FLOPS / columns["params"]
    unique = columns.get("unique", columns["tokens"])
    called = [f"line {line}" for line, _ in rows]
    group = np.zeros(0, dtype=np.int64)
    if "name" in found:
        name = found["name"].name
        called = [str(row.get(name)) for _, row in rows]
        if "run" in words(name) and 1 < len(set(called)) < len(rows):  # a model or a size may have many runs
            group = np.unique(called, return_inverse=True)[1]
        called = [f"{each} (line {line})" for each, (line, _) in zip(called, rows, strict=True)]
    names = {key: column.name for key, column in found.items()}
    return Table(columns["params"], columns["tokens"], np.minimum(unique, columns["tokens"]), columns["loss"],
                 tuple(called), names, group, notes, _kinds(rows, header))  # fmt: skip


def _empty(cell: Any) -> bool:
    """Whether there is no loss: a run that has not ended, or broke."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in ("", "none", "null", "na", "n/a", "-")):
        return True
    value = number(cell)
    return value is not None and not np.isfinite(value)


def _notes(found: Mapping[str, Column], rows: Sequence[Row], dropped: int) -> tuple[str, ...]:
    """What a reader of the result should know of the table, in a line each."""
    out = []
    for key, column in found.items():
        if column.scale != 1 and not _suffixed(rows, column.name):
            out.append(
                f"{key}: {column.name!r} counts in {SPOKEN.get(column.scale, f'{column.scale:.0e}')}, by its name"
            )
    if beside := found["loss"].beside:
        out.append(f"the loss is {found['loss'].name!r}; there is {', '.join(map(repr, beside))}, too (--loss-column)")
    if dropped:
        out.append(f"dropped {counted(dropped, 'row')} without a loss")
    return tuple(out)


def _suffixed(rows: Sequence[Row], name: str) -> bool:
    """Whether the cells have units of their own, as 7B, beside which that of the name says nothing."""
    return any(isinstance(cell := row.get(name), str) and _SUFFIX.fullmatch(cell) for _, row in rows)


def _kinds(rows: Sequence[Row], header: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    out = {}
    for name in header:
        cells = [row.get(name) for _, row in rows]
        if not all(isinstance(cell, str) and number(cell) is None for cell in cells):
            continue
        labels, kind, counts = np.unique(np.array(cells, dtype=str), return_inverse=True, return_counts=True)
        if len(labels) > 1 and np.median(counts) >= KIND:
            out[name] = kind.astype(np.int64)
    return out


def _numbers(rows: Sequence[Row], column: Column, path: Path) -> Array:
    values = []
    for line, row in rows:
        value = number(row.get(column.name))
        if value is None:
            raise UserError(f"{column.name!r} is no number: {row.get(column.name)!r}", where=f"{path}:{line}")
        if not (np.isfinite(value) and value > 0):
            raise UserError(f"{column.name!r} is not a positive number: {value}", where=f"{path}:{line}")
        values.append(value)
    return np.array(values) * (1.0 if _suffixed(rows, column.name) else column.scale)
