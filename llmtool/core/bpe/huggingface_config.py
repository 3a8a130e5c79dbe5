"""What stands beside a tokenizer.json: named tokens, chat templates, and settings that change no id.

tokenizer_config.json speaks first, then special_tokens_map.json, then generation_config.json (by id). What is not
understood is carried, so that an export says what its source said.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmtool.core.bpe.definition import Beside
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import read_text
from llmtool.core.run.json_file import read_json_object

CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
GENERATION = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
FURTHER_TEMPLATES = "additional_chat_templates"

LARGEST_TEMPLATE = 1 << 24
"""Bytes of the largest chat template read."""

FURTHER_ROLES = (
    "unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "additional_special_tokens",
    "extra_special_tokens", "model_specific_special_tokens",
)  # fmt: skip

NOT_CARRIED = frozenset(
    {
        "tokenizer_class", "auto_map", "added_tokens_decoder", "chat_template", "bos_token", "eos_token",
        "add_bos_token", *FURTHER_ROLES,
        # where a file lay, and which program saved it how
        "name_or_path", "_name_or_path", "tokenizer_file", "special_tokens_map_file", "vocab_file", "merges_file",
        "transformers_version", "backend", "is_local", "local_files_only", "use_fast", "from_slow", "init_inputs",
        # what a call with truncation or padding left behind: transformers resets it, and so it is here
        "max_length", "stride", "truncation_strategy", "pad_to_multiple_of",
    }
)  # fmt: skip
"""Keys of tokenizer_config.json that a definition says itself, or that say nothing of the tokenizer."""


def read_settings_beside(directory: Path, special: Mapping[str, int], cuts: Any = None) -> dict[str, Any]:
    """Fields of a Definition: bos, eos, add_bos, chat_template, beside. cuts: the pre_tokenizer of tokenizer.json."""
    config, named = _optional(directory / CONFIG), _optional(directory / SPECIAL_TOKENS)
    _refuse_changed_ids(config, special, cuts, str(directory / CONFIG))
    found: dict[str, Any] = {
        role: _named(directory, config, role, special) or _numbered(directory, role, special) for role in ("bos", "eos")
    }
    found["add_bos"] = bool(config.get("add_bos_token")) and found["bos"] is not None
    templates = _chat_templates(directory, config)
    found["chat_template"] = templates.pop("default", None)
    roles = {role: facts[role] for role in FURTHER_ROLES for facts in (named, config) if facts.get(role) is not None}
    kept = {key: value for key, value in config.items() if key not in NOT_CARRIED}
    found["beside"] = Beside({role: _texts(value) for role, value in roles.items()}, templates, kept)
    return found


def _texts(value: Any) -> Any:
    """Tokens of a role as their texts: flags stand with the added tokens."""
    if isinstance(value, list):
        return list(map(_texts, value))
    content = _content(value)
    if content is not None:
        return content
    return {key: _texts(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def _optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _refuse_changed_ids(config: dict[str, Any], special: Mapping[str, int], cuts: Any, where: str) -> None:
    """Settings by which `transformers` would change what tokenizer.json says."""
    if config.get("auto_map"):
        hint = "code is never run from a tokenizer's directory"
        raise UserError("auto_map: the tokenizer is custom code", where=where, hint=hint)
    alone = isinstance(cuts, dict) and cuts.get("type") == "ByteLevel"  # only such a one is changed by the setting
    if alone and config.get("add_prefix_space") and not cuts.get("add_prefix_space"):
        what = "add_prefix_space is true, in tokenizer.json false"
        raise UserError(what, where=where, hint="save the tokenizer again with `transformers`")
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


def _chat_templates(directory: Path, config: dict[str, Any]) -> dict[str, str]:
    """By name; files go before the settings."""
    listed = config.get("chat_template")
    found: dict[str, Any] = {} if listed is None else {"default": listed}
    if isinstance(listed, list):
        entries = [entry for entry in listed if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
        found = {entry["name"]: entry.get("template") for entry in entries}
    if not all(isinstance(template, str) for template in found.values()):
        raise UserError("chat_template is not a text", where=str(directory / CONFIG))
    if (directory / CHAT_TEMPLATE).is_file():
        found["default"] = _read_template(directory / CHAT_TEMPLATE)
    for path in sorted((directory / FURTHER_TEMPLATES).glob("*.jinja")):
        found[path.stem] = _read_template(path)
    return found


def _read_template(path: Path) -> str:
    return read_text(path, largest=LARGEST_TEMPLATE, wanted="a chat template")
