"""How text is read: the options that every command which takes text has, and nobody's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

Format = Literal["auto", "text", "jsonl", "json", "csv", "tar", "parquet", "arrow"]
TextMode = Literal["file", "line"]
Broken = Literal["keep", "replace"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How inputs become documents.

    field: the fields of a row that hold its text, `a.b.c` for nested ones; several, and the items of a list, are
        joined by a blank line. One that is null or missing is passed over where another has text.
    id_field: the field that names a row; else its `id`, if it has one.
    text_mode: plain text is one document a file (handed on in blocks, see `Document.more`) or one a line.
    format: "auto" looks at what the input holds (kinds.py). gzip and Zstandard are unpacked in any case.
    strict: the first row that does not parse, and the first broken text, is a UserError; otherwise they are counted.
    broken: what is done with broken text (broken.py).
    include, exclude: globs for files below a named directory; those without "/" look at names alone.
    sample: about so much text (sampling.py), drawn with `seed` over all files by their size.
    """

    field: str | Sequence[str] = ("text",)
    id_field: str | None = None
    text_mode: TextMode = "file"
    format: Format = "auto"
    strict: bool = False
    broken: Broken = "keep"
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    sample: str | int | None = None
    seed: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the text, always several."""
        return (self.field,) if isinstance(self.field, str) else tuple(self.field)

    @classmethod
    def of(cls, given: Self | None, named: Mapping[str, Any]) -> Self:
        """What a caller in Python gave: the object, keywords, or the object with some keywords changed."""
        return cls(**named) if given is None else replace(given, **named)
