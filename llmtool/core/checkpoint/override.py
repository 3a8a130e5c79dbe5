"""`--override KEY=VALUE`: fields of a config.json given anew, for files that say something else than they mean."""

from collections.abc import Iterable, Mapping
from typing import Any

from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.json_file import parse_json


def overridden(config: Mapping[str, Any], words: Iterable[str], where: str) -> dict[str, Any]:
    """The config with fields as `words` say, each KEY=VALUE with VALUE in JSON; what is no JSON is a text.

    KEY=null says that the field is null, which is not absence. A key that is neither in the file nor given a value is
    a slip of the pen.
    """
    changed = dict(config)
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UserError(f"--override {word}: wanted KEY=VALUE", hint="--override sliding_window=null")
        try:
            value = parse_json(text)
        except ValueError:
            value = text
        if value is None and key not in config and (near := closest(key, list(config))):
            raise UserError(f"--override {word}: config.json has no {key}", where=where, hint=near)
        changed[key] = value
    return changed
