"""What a stream is, told by its content; a name only helps where content leaves it open.

Parquet, Arrow and tar say what they are. Rows of JSON are told from text by parsing them: a file is JSONL when its
first lines are objects, JSON when it begins with an array of objects or with an object over several lines: how values
are laid out changes nothing. Nothing in comma-separated values tells them from text, so that kind hangs on the name.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from llmtool.core.corpus.document import NOT_TEXT
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object

Kind = Literal["text", "jsonl", "json", "csv", "tar", "parquet", "arrow"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SIDECAR_SCHEMA = "llmtool.tokens/1"
"""What stands in FILE.bin.json beside FILE.bin."""

HEAD = 1 << 16
"""Bytes looked at; fewer only where the stream has no more, so how a pipe delivers them changes nothing."""

PARQUET = b"PAR1"
ARROW_FILE = b"ARROW1\0\0"
BOM = b"\xef\xbb\xbf"

# Formats that would pass for text: learning from them is never what was meant.
_FOREIGN = (
    ("lz4 files are not read", "unpack it first", re.compile(rb"\x04\x22M\x18")),
    ("zip files are not read", "unpack it first", re.compile(rb"PK[\x03\x05][\x04\x06]")),
    ("7-Zip files are not read", "unpack it first", re.compile(rb"7z\xbc\xaf\x27\x1c")),
    ("RAR files are not read", "unpack it first", re.compile(rb"Rar!\x1a\x07")),
    ("ar files (.deb, .a) are not read", "unpack it first", re.compile(rb"!<arch>\n")),
    ("PDF files are not read", "extract its text first", re.compile(rb"%PDF-\d")),
    ("SQLite files are not read", "export its rows first", re.compile(rb"SQLite format 3\x00")),
    ("Avro files are not read", "convert it to Parquet", re.compile(rb"Obj\x01")),
    ("ORC files are not read", "convert it to Parquet", re.compile(rb"ORC[\x00-\x12]")),
    ("Feather files of version 1 are not read", "convert it to Parquet", re.compile(rb"FEA1")),
    ("HDF5 files are not read", "export its text first", re.compile(rb"\x89HDF\r\n\x1a\n")),
    ("arrays of NumPy are no text", "name a file of text", re.compile(rb"\x93NUMPY")),
    ("Office files of before 2007 are not read", "export its text first", re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1")),
)  # fmt: skip

_PACKED = re.compile(r"\.(gz|bz2|xz|zst|zstd)$")
_NUMBERED = re.compile(r"[._-]\d+$")  # data.jsonl.1, as log rotation and `split -d` name parts
_JSONL_NAMES = (".jsonl", ".ndjson", ".jsonlines")
_CSV_NAMES = (".csv", ".tsv")
_OPENING = re.compile(rb'\s*\{\s*("(?:[^"\\]|\\.)*"\s*:|\})', re.DOTALL)
_FIRST_ITEM = re.compile(rb"\s*\[\s*(?=\{)")
_LINES = 20  # looked at, at most


def foreign(head: bytes, *, named: bool) -> tuple[str, str] | None:
    """Why a stream that begins so is no text, and what to do; NUL bytes count only in files met in directories."""
    for what, hint, pattern in _FOREIGN:
        if pattern.match(head):
            return what, hint
    return (NOT_TEXT, "") if not named and b"\0" in head[:8192] else None


def ids_in(source: str) -> tuple[str, str] | None:
    """The same of an array of ids, which nothing in its bytes tells from text: its sidecar does."""
    sidecar = Path(f"{source}.json")
    if not source.endswith(".bin") or not sidecar.is_file():
        return None
    try:
        ours = read_json_object(sidecar).get("schema") == SIDECAR_SCHEMA
    except UserError:
        return None
    return ("token ids are no text", "give the text that they were made of") if ours else None


def plain_name(source: str) -> str:
    """A name in lower case, without .gz, .zst and their kind, and without the number of a part."""
    return _NUMBERED.sub("", _PACKED.sub("", source.lower()))


def tell(head: bytes, source: str, *, named: bool, fields: Sequence[str]) -> Kind:
    """The kind of an unpacked stream that begins with `head` (HEAD bytes, or all there are).

    named: by the user; then what looks like rows is rows, and a missing field is an error. A .json met in a directory
    may be anything (a package's settings), so it is rows only if its first row has one of the fields, if any are given.
    """
    if head.startswith(PARQUET):
        return "parquet"
    if head.startswith(ARROW_FILE) or _is_arrow_stream(head):
        return "arrow"
    if _is_tar(head):
        return "tar"
    name = plain_name(source)
    text = head.removeprefix(BOM)
    if name.endswith(_CSV_NAMES):
        return "csv"
    certain = named or name.endswith(_JSONL_NAMES)
    if match := _FIRST_ITEM.match(text):
        first = _first_value(text[match.end() :])
        return "json" if _has_field(first, text, fields, certain) else "text"
    if _is_spread(text):
        return "json" if _has_field(_first_value(text), text, fields, certain) else "text"
    return "jsonl" if _is_jsonl(text, name, fields, certain) else "text"


def _is_spread(text: bytes) -> bool:
    """Whether an object comes first, and takes more than the first line."""
    if _OPENING.match(text) is None:
        return False
    first, _, rest = text.lstrip().partition(b"\n")
    if first.strip() == b"{" and len(text) >= HEAD - len(BOM):  # longer than what is looked at
        return True
    return bool(rest) and _first_value(first) is None and _first_value(text) is not None


def _is_jsonl(text: bytes, name: str, fields: Sequence[str], certain: bool) -> bool:
    """Whether the lines are objects: the first one and most of the others, or most, where the name says JSONL."""
    complete = text if len(text) < HEAD - len(BOM) else text[: text.rfind(b"\n") + 1]
    lines = [line for line in complete.split(b"\n")[: 4 * _LINES] if line and not line.isspace()][:_LINES]
    called = name.endswith(_JSONL_NAMES)
    if not lines:  # one line longer than what is looked at, or nothing at all
        return called or (_OPENING.match(text) is not None and _has_field(None, text, fields, certain))
    rows = [_first_value(line, whole=True) for line in lines]
    if called:
        return True
    objects = [row for row in rows if isinstance(row, dict)]
    if rows[0] is None or not objects or 2 * len(objects) < len(rows):
        return False
    return _has_field(objects[0], text, fields, certain or len(objects) > 1)


def _has_field(row: object, text: bytes, fields: Sequence[str], certain: bool) -> bool:
    if certain or not fields:
        return True
    tops = {top for field in fields for top in (field, field.partition(".")[0])}
    if isinstance(row, dict):
        return not tops.isdisjoint(row)
    return any(re.search(rb'"' + re.escape(top.encode()) + rb'"\s*:', text) for top in tops)


def _first_value(data: bytes, *, whole: bool = False) -> dict[str, object] | None:
    """The object that the bytes begin with (or are, if whole); None if there is none, or not all of it."""
    text = data.decode(errors="replace").lstrip()
    if not text.startswith("{"):
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not (whole and text[end:].strip()) else None


def _is_arrow_stream(head: bytes) -> bool:
    """A continuation marker and the length of the schema's message, a multiple of eight."""
    length = int.from_bytes(head[4:8], "little")
    return head.startswith(b"\xff\xff\xff\xff") and 0 < length < 1 << 24 and length % 8 == 0


def _is_tar(head: bytes) -> bool:
    """A header block whose checksum is right: also of a tar without the `ustar` of later ones."""
    block = head[:512]
    if len(block) < 512 or not block[0]:
        return False
    try:
        checksum = int(block[148:156].strip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    return checksum == sum(block[:148]) + 8 * 32 + sum(block[156:])
