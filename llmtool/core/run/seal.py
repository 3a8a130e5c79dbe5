"""Files of our own work that carry a checksum of themselves: what was changed since is told, not believed.

A state of training and the markers of a stage are numbers by which work goes on; a flipped bit in one is no error that
a type would show.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, read_json_object

KEY = "sha256"


def sealed(facts: Mapping[str, Any], indent: int = 2) -> str:
    """The facts as JSON with their checksum."""
    return dumps({**facts, KEY: seal_of(facts)}, indent=indent) + "\n"


def seal_of(facts: Mapping[str, Any]) -> str:
    """The checksum of facts, whatever order they stand in; one that they carry does not count."""
    text = dumps({key: value for key, value in facts.items() if key != KEY}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_sealed(path: Path, hint: str) -> dict[str, Any]:
    """The facts in a file, without their checksum."""
    facts = read_json_object(path)
    if facts.get(KEY) != seal_of(facts):
        raise UserError("is damaged: its checksum differs", where=str(path), hint=hint)
    return {key: value for key, value in facts.items() if key != KEY}
