"""Where chat templates are: built in, in files, beside a tokenizer or within it; and the tokens that they name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.files import read_text
from llmtool.core.run.json_file import read_json_object
from llmtool.core.train.sft.template import Specials, Template

BUILT_IN = {
    "plain": (
        "{{ bos_token }}{% for m in messages %}{{ m.role | capitalize }}: "
        "{{ m.content | trim if m.role == 'assistant' else m.content }}"
        "{{ eos_token if m.role == 'assistant' else '' }}\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}
"""Templates by name. plain wants no tokens of its own; its prompt ends before the space, which most tokenizers join
with the answer's first word, and an answer that begins with that space is told without it in the next turn. chatml
wants its tokens in the tokenizer."""

LARGEST = 1 << 20
ROLES_OF_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def find_template(
    named: str | None, tokenizer: Path, specials: Specials, own: str | Mapping[str, str] | None = None, *,
    now: str | None = None,
) -> Template:  # fmt: skip
    """named: a built-in name, a file, or a name among the tokenizer's own; None: those that lie beside the tokenizer,
    or that it holds itself (`own`, one or by name).
    """
    if named in BUILT_IN:
        return Template(BUILT_IN[named], specials, f"--template {named}", now=now)
    folder = tokenizer if tokenizer.is_dir() else tokenizer.parent
    if named is not None and Path(named).is_file():
        return Template(_read(Path(named)), specials, named, now=now)
    where, found = _beside(folder)
    if not found and own:
        where, found = str(tokenizer), {"default": own} if isinstance(own, str) else dict(own)
    if named is not None:
        if named in found:
            return Template(found[named], specials, f"{where}: {named}", now=now)
        Template(_read(Path(named)), specials, named)  # which says that there is no such file
    if not found:
        hint = f"give --template FILE, or one of {', '.join(BUILT_IN)}"
        raise UserError("the tokenizer has no chat template", where=str(folder), hint=hint)
    if "default" not in found:
        hint = f"--template with one of {', '.join(sorted(found))}"
        raise UserError("the tokenizer has several chat templates and no default", where=where, hint=hint)
    return Template(found, specials, where, now=now)


def _beside(folder: Path) -> tuple[str, dict[str, str]]:
    """The templates in a tokenizer's directory by name; files stand before those of tokenizer_config.json."""
    file, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    found = {path.stem: _read(path) for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if file.is_file():
        found["default"] = _read(file)
    if found:
        return str(file if file.is_file() else folder / "additional_chat_templates"), found
    listed = read_json_object(settings).get("chat_template") if settings.is_file() else None
    if isinstance(listed, str):
        return str(settings), {"default": listed}
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    texts = {str(entry.get("name")): entry.get("template") for entry in entries}
    return str(settings), {name: text for name, text in texts.items() if isinstance(text, str)}


def find_specials(folder: Path, own: Mapping[str, Any] | None = None) -> Specials:
    """The tokens that tokenizer_config.json names, or special_tokens_map.json, else those that the tokenizer does."""
    files = (folder / "tokenizer_config.json", folder / "special_tokens_map.json")
    facts: list[Mapping[str, Any]] = [read_json_object(file) for file in files if file.is_file()]
    texts: dict[str, str] = {}
    for key in ROLES_OF_TOKENS:
        for value in (fact.get(key) for fact in (*facts, own or {})):
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text:
                texts.setdefault(key, text)
    return Specials(texts.pop("bos_token", ""), texts.pop("eos_token", ""), texts)


def _read(path: Path) -> str:
    return read_text(path, largest=LARGEST, wanted="a chat template")
