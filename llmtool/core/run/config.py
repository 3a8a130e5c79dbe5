"""Settings from a TOML file: the long option names of one command, below whatever the command line says."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.files import read_text
from llmtool.core.run.numbers import real

LARGEST = 1 << 20
"""Bytes: options of one command."""


def read_config(path: Path, known: Collection[str]) -> dict[str, Any]:
    """Parameters by name ("vocab_size"); keys may be written with hyphens. Unknown keys are refused."""
    import tomllib

    try:
        facts = tomllib.loads(read_text(path, largest=LARGEST, wanted="TOML"))
    except RecursionError:
        raise UserError("nested too deeply", where=str(path)) from None
    except ValueError as error:  # TOMLDecodeError, and a number of thousands of digits
        raise UserError(f"not TOML: {error}", where=str(path)) from None
    settings = {}
    for key, value in facts.items():
        name = key.replace("-", "_")
        if name not in known:
            options = sorted(option.replace("_", "-") for option in known)
            raise UserError(f"unknown key {key!r}", where=str(path), hint=closest(key.replace("_", "-"), options))
        if isinstance(value, dict):
            raise UserError(f"key {key!r} is a table", where=str(path), hint="write the options at the top level")
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, str | int | float):  # a date, a time, a list in a list
                raise UserError(f"key {key!r}: {each} is no text, number or flag", where=str(path))
            if isinstance(each, int | float) and not isinstance(each, bool):
                real(each, f"key {key!r}:", where=str(path))
        settings[name] = value
    return settings
