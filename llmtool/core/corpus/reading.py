"""How text is read: the options that every command which takes text has, said once."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings, names

Format = Literal["auto", "text", "jsonl", "json", "csv", "tar", "parquet", "arrow"]
TextMode = Literal["file", "line"]
Broken = Literal["keep", "replace"]


@dataclass(frozen=True, kw_only=True)
class Reading(Settings):
    """How inputs become documents.

    field: several fields, and the items of a list, are joined by a blank line. One that is null or missing is passed
        over where another has text.
    text_mode: a file is handed on in blocks, see `Document.more`. document_separator: belongs to no document.
    format: gzip, bzip2, xz and Zstandard are unpacked in any case.
    seed: of the sample and of weights; a command's own.
    """

    field: Annotated[
        Sequence[str],
        Option("Field of a row that holds the text (a.b for nested ones); again to join several.", metavar="NAME"),
    ] = ("text",)
    id_field: Annotated[
        str | None, Option("Field that names a row. Default: id, where there is one.", metavar="NAME")
    ] = None
    text_mode: Annotated[TextMode, Option("Plain text: one document a file, or one a line.", "--documents")] = "file"
    document_separator: Annotated[
        str | None, Option("Plain text: a document ends wherever this stands.", metavar="TEXT")
    ] = None
    format: Annotated[Format, Option("What the inputs are; auto looks at their content.", "--input-format")] = "auto"
    strict: Annotated[bool, Option("Stop at the first row that does not parse, or broken text.", "--strict")] = False
    broken: Annotated[Broken, Option("Text that is no UTF-8, lone surrogates: keep the bytes, or write U+FFFD.")] = (
        "keep"
    )
    include: Annotated[
        Sequence[str], Option("Of a directory, only files that match; may be given again.", metavar="GLOB")
    ] = ()
    exclude: Annotated[
        Sequence[str], Option("Of a directory, no files that match; may be given again.", metavar="GLOB")
    ] = ()
    sample: Annotated[
        str | int | None,
        Option("About so much text (10GB), drawn by --seed over all files by their size.", metavar="SIZE"),
    ] = None
    seed: Annotated[int, Option("Seed of everything that is drawn.", metavar="N")] = 0

    @classmethod
    def split(
        cls, given: "Reading | None", named: dict[str, Any], beside: type[Settings] | None = None
    ) -> tuple["Reading", dict[str, Any]]:
        """What a caller gave for the reading, as an object or among other keywords; and the other keywords.

        Both by the names of fields or of options. beside: the command's own settings; a name that both have (seed)
        goes to both.
        """
        known, shared = names(cls), names(beside) if beside else {}
        mine = {name: value for name, value in named.items() if name in known}
        return cls.of(given, mine), {k: v for k, v in named.items() if k not in known or k in shared}

    def facts(self) -> dict[str, Any]:
        """For run.json: what differs from the defaults, and the field; `format` is often the output's there."""
        plain = Reading()
        told = [name for name, value in super().facts().items() if value != getattr(plain, name) or name == "field"]
        return {"input_format" if name == "format" else name: getattr(self, name) for name in told}
