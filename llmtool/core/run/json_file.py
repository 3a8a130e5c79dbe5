"""JSON of others, read: bounded in size and depth, never a traceback. JSON of ours, written: never a NaN."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.files import LARGEST, read_plain
from llmtool.core.run.wording import encodable


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a file; a UserError names the file and the line otherwise."""
    return json_object(read_bytes(path), str(path))


def read_json(path: Path) -> Any:
    """Any JSON value in a file."""
    return json_value(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of a file of JSON, not parsed yet."""
    return read_plain(path, largest=LARGEST, wanted="JSON")


def json_object(data: bytes, where: str) -> dict[str, Any]:
    """The object that the bytes of a file hold; a UserError names the file and the line otherwise."""
    facts = json_value(data, where)
    if not isinstance(facts, dict):
        raise UserError("not a JSON object", where=where)
    return facts


def json_value(data: bytes, where: str) -> Any:
    """Any JSON value that the bytes of a file hold."""
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError:
        raise UserError("not UTF-8, so not JSON", where=where) from None
    except json.JSONDecodeError as error:
        what = f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise UserError(what, where=where, hint="is the file complete?") from None
    except ValueError:
        raise UserError("not JSON: a number of thousands of digits", where=where) from None
    except RecursionError:
        raise UserError("nested too deeply", where=where) from None


def parse_json(text: str | bytes) -> Any:
    """Any JSON value; a ValueError whatever is wrong: syntax, depth, encoding, a number of thousands of digits."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(
    value: Any,
    *,
    indent: int | None = None,
    ensure_ascii: bool = True,
    sort_keys: bool = False,
    separators: tuple[str, str] | None = None,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """JSON that every reader takes: what is not a finite number becomes null, since JSON has no other word for it, and
    a lone surrogate, which UTF-8 has none for, is spelled out."""
    how: dict[str, Any] = {
        "indent": indent, "ensure_ascii": ensure_ascii, "sort_keys": sort_keys, "separators": separators,
        "default": default, "allow_nan": False,
    }  # fmt: skip
    try:
        text = json.dumps(value, **how)
    except ValueError:
        text = json.dumps(_finite(value), **how)
    return text if ensure_ascii else encodable(text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
