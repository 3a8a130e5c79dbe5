"""What stands beside a tokenizer.json: the names of BOS and EOS, and the chat template.

tokenizer_config.json speaks first, then special_tokens_map.json, then generation_config.json (by id).
Of several chat templates the one named "default" is carried; a chat_template.jinja goes before the settings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.json_file import read_json_object

CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
GENERATION = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"

LARGEST_TEMPLATE = 1 << 24
"""Bytes of the largest chat template read."""


def read_settings_beside(directory: Path, special: Mapping[str, int]) -> dict[str, Any]:
    """Fields of a Definition: bos, eos, add_bos, chat_template."""
    config = _optional(directory / CONFIG)
    where = str(directory / CONFIG)
    _refuse_changed_ids(config, special, where)
    found: dict[str, Any] = {
        role: _named(directory, config, role, special) or _numbered(directory, role, special) for role in ("bos", "eos")
    }
    found["add_bos"] = bool(config.get("add_bos_token")) and found["bos"] is not None
    found["chat_template"] = _chat_template(directory, config)
    return found


def _optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _refuse_changed_ids(config: dict[str, Any], special: Mapping[str, int], where: str) -> None:
    """Settings by which `transformers` would change what tokenizer.json says."""
    if config.get("auto_map"):
        hint = "code is never run from a tokenizer's directory"
        raise UserError("auto_map: the tokenizer is custom code", where=where, hint=hint)
    for key in ("add_prefix_space", "add_eos_token"):
        if config.get(key):
            raise UserError(f"{key} is not implemented", where=where, hint="set it to false")
    added = config.get("added_tokens_decoder") or {}
    if not isinstance(added, dict):
        raise UserError("added_tokens_decoder is not an object", where=where)
    for number, token in added.items():
        content = _content(token)
        if content is None or str(special.get(content)) != number:
            what = f"added_tokens_decoder[{number!r}] is not an added token of tokenizer.json"
            raise UserError(what, where=where, hint="save the tokenizer again with `transformers`")


def _content(token: Any) -> str | None:
    """A token is written as its text, or as an object that holds it."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _named(directory: Path, config: dict[str, Any], role: str, special: Mapping[str, int]) -> str | None:
    key = f"{role}_token"
    for name, facts in ((CONFIG, config), (SPECIAL_TOKENS, _optional(directory / SPECIAL_TOKENS))):
        if facts.get(key) is None:
            continue
        content = _content(facts[key])
        if content not in special:
            what = f"{key} {content!r:.100} is not an added token of tokenizer.json"
            raise UserError(what, where=str(directory / name), hint="save the tokenizer again with `transformers`")
        return content
    return None


def _numbered(directory: Path, role: str, special: Mapping[str, int]) -> str | None:
    """By generation_config.json: an id, or a list of which the first is meant; ids of other tokens are left alone."""
    number = _optional(directory / GENERATION).get(f"{role}_token_id")
    if isinstance(number, list):
        number = number[0] if number else None
    return next((text for text, known in special.items() if type(number) is int and known == number), None)


def _chat_template(directory: Path, config: dict[str, Any]) -> str | None:
    path = directory / CHAT_TEMPLATE
    if path.is_file():
        try:
            if path.stat().st_size > LARGEST_TEMPLATE:
                raise UserError("too large for a chat template", where=str(path))
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot read: {explain_os_error(error)}", where=str(path)) from None
        except UnicodeDecodeError:
            raise UserError("not UTF-8", where=str(path)) from None
    template = config.get("chat_template")
    if isinstance(template, list):
        entries = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = entries[0].get("template") if entries else None
    if template is not None and not isinstance(template, str):
        raise UserError("chat_template is not a text", where=str(directory / CONFIG))
    return template
