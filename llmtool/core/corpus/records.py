"""From a row to its text: one field or several, nested or not, strings or lists of them; and the row's own name."""

from collections.abc import Sequence
from typing import Any

from llmtool.core.corpus.broken import BrokenText
from llmtool.core.corpus.document import Document, RowErrors
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.numbers import whole

Record = dict[str, Any]
JOINT = "\n\n"
"""Between fields, and between the items of a list."""

_SHOWN_KEYS = 8
_MISSING = object()


class Selector:
    """Makes documents of rows; a row without text in its fields is counted, or under `strict` fatal.

    fields: tried as a row's own key first, then as a path (`a.b.c`; through lists, and `a.0.b` for one item).
    """

    def __init__(
        self,
        fields: Sequence[str],
        id_field: str | None,
        keep: Sequence[str],
        errors: RowErrors,
        broken: BrokenText,
    ) -> None:
        if not fields or not all(fields):
            raise UserError("no field", hint="--field NAME")
        self.fields, self.id_field, self.keep = tuple(fields), id_field, tuple(keep)
        self._errors, self.broken = errors, broken

    def tops(self, names: Sequence[str]) -> list[str]:
        """The columns, of those that a table has, which hold anything that is asked for."""
        wanted = [*self.fields, self.id_field or "id", *self.keep]
        return [name for name in names if any(_among(path, [name]) for path in wanted)]

    def lacking(self, names: Sequence[str], source: str) -> UserError | None:
        """What to say of a table that has none of the fields."""
        absent = [field for field in self.fields if not _among(field, names)]
        if self.id_field and not _among(self.id_field, names):
            absent = [self.id_field]
        elif len(absent) < len(self.fields):
            return None
        shown = ", ".join(map(repr, names)) or "none"
        hint = closest(absent[0], list(names)) or "name the column with --field"
        return UserError(f"no column {absent[0]!r}; the file has {shown}", where=source, hint=hint)

    def document(self, record: object, source: str, row: int, *, damaged: bool = False) -> Document | None:
        """The document of a row; damaged: its bytes were no UTF-8 (broken.py)."""
        if type(record) is not dict:
            self._errors.add(f"{source}:{row}", "not a JSON object", hint='a row looks like {"text": "..."}')
            return None
        text = record.get(self.fields[0]) if len(self.fields) == 1 else None
        if type(text) is not str and (text := self._joined(record, source, row)) is None:
            return None
        key = _name(value_at(record, self.id_field or "id"))
        if self.id_field and key is None:
            self._errors.add(f"{source}:{row}", f"no text or number in the id field {self.id_field!r}")
            return None
        kept = self._kept(record) if self.keep else None
        if isinstance(text, bytes):
            return Document(self.broken.of_bytes(text, source, row), source, row, id=key, kept=kept)
        return Document(self.broken.of_string(text, source, row, damaged=damaged), source, row, id=key, kept=kept)

    def _kept(self, record: Record) -> dict[str, str]:
        found = {name: value_at(record, name) for name in self.keep}
        return {name: str(_name(value)) for name, value in found.items() if isinstance(value, str | bytes)}

    def _joined(self, record: Record, source: str, row: int) -> str | bytes | None:
        parts: list[str | bytes] = []
        found = False
        for field in self.fields:
            value = value_at(record, field)
            if value is _MISSING or value is None:
                continue
            if not _gather(value, parts):
                what = f"field {field!r} is not a string"
                hint = "name another field with --field"
                self._errors.add(f"{source}:{row}", what, detail=_kind(value), hint=hint)
                return None
            found = True
        if not found:
            self._complain(record, f"{source}:{row}")
            return None
        if len(parts) == 1:
            return parts[0]
        filled = [part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part for part in parts]
        return JOINT.join(part for part in filled if part)

    def _complain(self, record: Record, where: str) -> None:
        """Say what a row has instead of text."""
        field = self.fields[0]
        if value_at(record, field) is None:
            self._errors.add(where, f"field {field!r} is not a string", detail="null")
            return
        keys = ", ".join(map(repr, list(record)[:_SHOWN_KEYS])) or "none"
        guess = closest(field, list(record))
        hint = f"{guess} name the field with --field" if guess else "name the field with --field"
        self._errors.add(where, f"no field {field!r}", detail=f"the row's fields: {keys}", hint=hint)


def _among(path: str, names: Sequence[str]) -> bool:
    """Whether a path is, or begins with, one of the names."""
    return any(path == name or path.startswith(name + ".") for name in names)


def value_at(record: object, path: str) -> Any:
    """What stands at `a.b.c`; of a list, what stands there in each of its items; _MISSING if nothing does."""
    if isinstance(record, dict):
        if path in record:
            return record[path]
        head, _, rest = path.partition(".")
        return value_at(record[head], rest) if rest and head in record else _MISSING
    if isinstance(record, list):
        head, _, rest = path.partition(".")
        if head.isdecimal():
            place = whole(head, "--field")
            item = record[place] if place < len(record) else _MISSING
            return value_at(item, rest) if rest else item
        try:
            found = [value for item in record if (value := value_at(item, path)) is not _MISSING]
        except RecursionError:  # lists in lists, a thousand deep: no row that means anything
            return _MISSING
        return found or _MISSING
    return _MISSING


def _gather(value: Any, parts: list[str | bytes]) -> bool:
    """Collect the strings of a value, in order; False if it holds anything else. Lists may lie in lists, as deep as
    JSON's parser lets them."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str | bytes):
            parts.append(value)
        elif isinstance(value, list):
            left += [item for item in reversed(value) if item is not None]
        else:
            return False
    return True


def _name(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list of more than strings"
    return type(value).__name__
