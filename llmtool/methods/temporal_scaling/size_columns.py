"""Which columns of a table of runs are meant, and in which units they count: `N`, `params (M)`, `training_tokens_b`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmtool.core.run.errors import UserError, closest
from llmtool.methods.temporal_scaling.logs.names import words

COLUMNS = {
    "params": ("params", "parameters", "n", "model size", "n params", "num params", "size", "non embedding params",
               "parameter count", "param count", "num parameters", "n parameters"),
    "tokens": ("tokens", "d", "training tokens", "train tokens", "n tokens", "num tokens", "dataset size"),
    "unique": ("unique", "unique tokens", "u"),
    "loss": ("loss", "final loss", "val loss", "eval loss", "test loss", "validation loss"),
    "compute": ("flop", "flops", "training flop", "training flops", "compute", "c"),
    "name": ("name", "run", "run name", "model", "id"),
}  # fmt: skip
"""Names by their words. Where there are no tokens, they are compute / (6 N)."""
BY_HAND = ("params", "tokens", "loss")
WORDS = {
    "params": frozenset({"params", "parameters"}), "tokens": frozenset({"tokens"}), "loss": frozenset({"loss"}),
}  # fmt: skip
"""Where a name is none of these, the only column with one of these words, and none of OTHER, will do."""
OTHER = frozenset({"per", "second", "sec", "batch", "unique", "std", "sd", "lower", "upper", "low", "high", "url"})
COUNTED = ("params", "tokens", "unique", "compute")
"""What a unit in the name is taken for; of a loss `b` and `m` are anything."""
UNITS = {
    "k": 1e3, "thousand": 1e3, "thousands": 1e3, "m": 1e6, "mm": 1e6, "mil": 1e6, "million": 1e6, "millions": 1e6,
    "b": 1e9, "bn": 1e9, "g": 1e9, "billion": 1e9, "billions": 1e9, "t": 1e12, "tn": 1e12, "trillion": 1e12,
    "trillions": 1e12,
}  # fmt: skip
PREFIXES = {"giga": 1e9, "tera": 1e12, "peta": 1e15, "exa": 1e18, "zetta": 1e21, "yotta": 1e24,
            "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24}  # fmt: skip
_FLOP = re.compile(rf"({'|'.join(PREFIXES)})(flops?)")
LISTED = 12
"""Columns that an error lists."""


@dataclass(frozen=True)
class Column:
    """A column that is read: its name, what its numbers are multiplied by, and others that might have been meant."""

    name: str
    scale: float = 1.0
    beside: tuple[str, ...] = ()


def find_columns(header: Sequence[str], chosen: Mapping[str, str], path: Path) -> dict[str, Column]:
    """The column of each quantity that the table has; chosen: named by hand, by the key in COLUMNS."""
    found = {key: _named(key, header, chosen.get(key), path) for key in COLUMNS}
    return {key: column for key, column in found.items() if column is not None}


def listed(header: Sequence[str]) -> str:
    """The columns for an error."""
    some = ", ".join(header[:LISTED]) or "none"
    return some if len(header) <= LISTED else f"{some} and {len(header) - LISTED} more"


def bare(key: str, name: str) -> tuple[str, float]:
    """The words of a name without its unit, and what that multiplies by."""
    parts, scale = words(name), 1.0
    if key in COUNTED and len(parts) > 1 and parts[-1] in UNITS:
        scale = UNITS[parts.pop()]
    if key == "compute":
        for at, part in enumerate(parts):
            if match := _FLOP.fullmatch(part):
                parts[at], scale = match[2], scale * PREFIXES[match[1]]
    return " ".join(parts), scale


def _named(key: str, header: Sequence[str], by_hand: str | None, path: Path) -> Column | None:
    """The column of a quantity: named by hand, by one of its usual names, else the only one that has a word of it."""
    if by_hand is not None:
        held = {name.strip().lower(): name for name in header}
        if by_hand.strip().lower() not in held:
            raise UserError(f"has no column {by_hand!r} (--{key}-column)", where=str(path),
                            hint=closest(by_hand, list(header)) or f"columns: {listed(header)}")  # fmt: skip
        name = held[by_hand.strip().lower()]
        return Column(name, bare(key, name)[1])
    spelled: dict[str, str] = {}
    for name in header:
        spelled.setdefault(" ".join(words(name)), name)
    for name in header:
        spelled.setdefault(bare(key, name)[0], name)
    usual = [spelled[name] for name in COLUMNS[key] if name in spelled]
    some = [name for name in header if WORDS.get(key, frozenset()) & (kinds := set(words(name))) and not OTHER & kinds]
    if not usual and len(some) > 1:
        raise UserError(f"several columns may be its {key}: {listed(some)}", where=str(path),
                        hint=f"name one with --{key}-column")  # fmt: skip
    if not (usual or some):
        return None
    name = (usual or some)[0]
    return Column(name, bare(key, name)[1], tuple(each for each in dict.fromkeys(usual) if each != name))
