"""A table of finished runs: parameters, tokens, unique tokens, loss, as people write them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError, closest
from llmtool.methods.temporal_scaling.logs.names import words
from llmtool.methods.temporal_scaling.logs.numbers import number
from llmtool.methods.temporal_scaling.row_file import Row, read_rows

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
BY_HAND = ("params", "tokens", "loss")
WORDS = {
    "params": frozenset({"params", "parameters"}), "tokens": frozenset({"tokens"}), "loss": frozenset({"loss"}),
}  # fmt: skip
"""Where a name is none of these, the only column with one of these words, and none of OTHER, will do."""
OTHER = frozenset({"per", "second", "sec", "batch", "unique", "std", "sd", "lower", "upper", "low", "high", "url"})
FLOPS = 6.0
"""Training takes 6 N D operations."""


@dataclass(frozen=True)
class Table:
    """One row a run: parameters, tokens, unique tokens, final loss; names: what each is called in messages.

    columns: the names in the file of what was read, by their key in COLUMNS. group [rows]: which run a row is of, where
    the table holds several of each, such as its checkpoints; else empty.
    """

    params: Array
    tokens: Array
    unique: Array
    loss: Array
    names: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    group: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

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
                     self.columns, group)  # fmt: skip

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
    found = {key: _named(key, header, (chosen or {}).get(key), path) for key in COLUMNS}
    needed = ["params", "loss", *(("unique",) if need_unique else ())]
    if found["compute"] is None or found["tokens"] is not None:
        needed.append("tokens")
    for key in needed:
        if found[key] is None:
            what = f"has no column {key!r}; columns: {', '.join(header) or 'none'}"
            flag = f"--{key}-column, or " if key in BY_HAND else ""
            raise UserError(what, where=str(path), hint=f"{flag}one of {', '.join(COLUMNS[key])}")
    columns = {key: _numbers(rows, name, path) for key, name in found.items() if name is not None and key != "name"}
    if "tokens" not in columns:
        columns["tokens"] = columns["compute"] / FLOPS / columns["params"]
    unique = columns.get("unique", columns["tokens"])
    called = [f"line {line}" for line, _ in rows]
    group = np.zeros(0, dtype=np.int64)
    if (name := found["name"]) is not None:
        called = [str(row.get(name)) for _, row in rows]
        if "run" in words(name) and 1 < len(set(called)) < len(rows):  # a model or a size may have many runs
            group = np.unique(called, return_inverse=True)[1]
        called = [f"{each} (line {line})" for each, (line, _) in zip(called, rows, strict=True)]
    return Table(columns["params"], columns["tokens"], np.minimum(unique, columns["tokens"]), columns["loss"],
                 tuple(called), {key: name for key, name in found.items() if name is not None}, group)  # fmt: skip


def _named(key: str, header: Sequence[str], by_hand: str | None, path: Path) -> str | None:
    """The column of a quantity: named by hand, by one of its usual names, else the only one that has a word of it."""
    if by_hand is not None:
        held = {name.strip().lower(): name for name in header}
        if by_hand.strip().lower() not in held:
            raise UserError(f"has no column {by_hand!r} (--{key}-column)", where=str(path),
                            hint=closest(by_hand, list(header)) or f"columns: {', '.join(header)}")  # fmt: skip
        return held[by_hand.strip().lower()]
    spelled = {" ".join(words(name)): name for name in header}
    if (usual := next((name for name in COLUMNS[key] if name in spelled), None)) is not None:
        return spelled[usual]
    some = [name for name in header if WORDS.get(key, frozenset()) & (kinds := set(words(name))) and not OTHER & kinds]
    if len(some) > 1:
        raise UserError(f"several columns may be its {key}: {', '.join(some)}", where=str(path),
                        hint=f"name one with --{key}-column")  # fmt: skip
    return some[0] if some else None


def _numbers(rows: Sequence[Row], name: str, path: Path) -> Array:
    values = []
    for line, row in rows:
        value = number(row.get(name))
        if value is None:
            raise UserError(f"{name!r} is no number: {row.get(name)!r}", where=f"{path}:{line}")
        if not (np.isfinite(value) and value > 0):
            raise UserError(f"{name!r} is not a positive number: {value}", where=f"{path}:{line}")
        values.append(value)
    return np.array(values)
