"""Objects that were read from JSON: each field is asked for by its type, and named where it is of another.

    facts = Record(read_json_object(path), str(path))
    tokens, dtype = facts.whole("tokens"), facts.choice("dtype", ("uint16", "uint32"))

A field that is missing takes the default, where there is one, and is an error otherwise.
"""

import math
from collections.abc import Collection
from pathlib import PurePath
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import EXACT, real, shown, whole

_MISSING: Any = object()


class Record:
    """An object of a file; `where` is the file, and the path of the object in it."""

    def __init__(self, facts: Any, where: str) -> None:
        if not isinstance(facts, dict):
            raise UserError(f"{shown(facts)}: not an object", where=where)
        self.facts, self.where = facts, where

    def whole(self, key: str, *, low: int = 0, high: int = EXACT, default: int = _MISSING) -> int:
        """A whole number."""
        value = self._value(key, default)
        return value if value is default else whole(value, key, low=low, high=high, where=self.where)

    def real(self, key: str, *, low: float = -math.inf, high: float = math.inf, default: float = _MISSING) -> float:
        """A finite number, written as one."""
        value = self._value(key, default)
        return value if value is default else _written(value, key, low, high, self.where)

    def text(self, key: str, *, default: str = _MISSING) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str) and value is not default:
            raise UserError(f"{key} {shown(value)}: not a text", where=self.where)
        return value

    def name(self, key: str, *, default: str = _MISSING) -> str:
        """The name of a file in the same directory."""
        value = self.text(key, default=default)
        if value != PurePath(value).name or "\0" in value or value in ("", ".", ".."):
            raise UserError(f"{key} {shown(value)}: not the name of a file beside it", where=self.where)
        return value

    def choice(self, key: str, choices: Collection[str], *, default: str = _MISSING) -> str:
        """One of some words."""
        value = self.text(key, default=default)
        if value not in choices:
            raise UserError(f"{key} {shown(value)}: wanted one of {', '.join(choices)}", where=self.where)
        return value

    def record(self, key: str, *, default: dict[str, Any] = _MISSING) -> "Record":
        """An object within."""
        return Record(self._value(key, default), f"{self.where}: {key}")

    def items(self, key: str, *, default: list[Any] = _MISSING) -> list[Any]:
        """A list of anything."""
        value = self._value(key, default)
        if not isinstance(value, list):
            raise UserError(f"{key} {shown(value)}: not a list", where=self.where)
        return value

    def texts(self, key: str, *, default: list[str] = _MISSING) -> list[str]:
        """A list of strings."""
        found = self.items(key, default=default)
        if wrong := [value for value in found if not isinstance(value, str)]:
            raise UserError(f"{key} holds {shown(wrong[0])}: not a text", where=self.where)
        return found

    def reals(
        self, key: str, *, low: float = -math.inf, high: float = math.inf, length: int | None = None
    ) -> list[float]:
        """A list of finite numbers, of some length if it is given."""
        found = self.items(key)
        if length is not None and len(found) != length:
            raise UserError(f"{key} holds {len(found):,} numbers, wanted {length:,}", where=self.where)
        return [_written(value, key, low, high, self.where) for value in found]

    def counts(self, *, high: int = EXACT) -> dict[str, int]:
        """All fields, each a whole number."""
        return {key: whole(value, key, high=high, where=self.where) for key, value in self.facts.items()}

    def _value(self, key: str, default: Any) -> Any:
        value = self.facts.get(key, default)
        if value is _MISSING:
            raise UserError(f"{key} is missing", where=self.where)
        return value


def _written(value: Any, key: str, low: float, high: float, where: str) -> float:
    if isinstance(value, str):
        raise UserError(f"{key} {shown(value)}: a text, not a number", where=where)
    return real(value, key, low=low, high=high, where=where)
