"""Chat templates: a conversation as text, in pieces that are trained or not.

A template is Jinja, from the tokenizer or a file, run in jinja2's sandbox: it is data of a model, not a program. What
is trained is each assistant turn, found by rendering the conversation up to it with the prompt for an answer, and with
the answer. A piece is tokenized by itself, as it is when the model answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import read_json_object
from llmtool.core.train.sft.formats import Message

Piece = tuple[str, bool]
"""Text, and whether it is trained."""

BUILT_IN = {
    "plain": (
        "{{ bos_token }}{% for m in messages %}{{ m.role | capitalize }}: "
        "{{ m.content }}{{ eos_token if m.role == 'assistant' else '' }}\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant: {% endif %}"
    ),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}
"""Templates by name. plain wants no tokens of its own; chatml wants them in the tokenizer."""

LARGEST = 1 << 20


@dataclass(frozen=True)
class Specials:
    """The texts of a tokenizer's tokens that templates name; "" where there is none."""

    bos: str = ""
    eos: str = ""


class Template:
    """A chat template; `where` says whence it comes, for errors."""

    def __init__(self, source: str, specials: Specials, where: str) -> None:
        require("jinja2", extra="sft", why="for chat templates")
        from jinja2.exceptions import TemplateSyntaxError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self.source, self.specials, self.where = source, specials, where
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _refuse
        # No strftime_now: the same data would give other tokens tomorrow. Templates fall back on a date of their own.
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise UserError(f"chat template: {error.message} at line {error.lineno}", where=where) from None

    def render(self, messages: Sequence[Message], *, prompt: bool, where: str) -> str:
        """The text of these messages, with the beginning of an answer if `prompt`. where: file and row."""
        from jinja2.exceptions import TemplateError

        try:
            return self._template.render(
                messages=[{"role": m.role, "content": m.content} for m in messages], add_generation_prompt=prompt,
                bos_token=self.specials.bos, eos_token=self.specials.eos, tools=None,
            )  # fmt: skip
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(f"the chat template refuses it: {error}", where=where) from None

    def pieces(self, messages: Sequence[Message], where: str) -> list[Piece]:
        """The conversation in pieces. A template that rewrites earlier turns lets only the last answer be trained."""
        whole = self.render(messages, prompt=False, where=where)
        found: list[Piece] = []
        done = 0
        answers = [number for number, message in enumerate(messages) if message.role == "assistant"]
        for number in answers:
            before = self.render(messages[:number], prompt=True, where=where)
            after = self.render(messages[: number + 1], prompt=False, where=where)
            if not (len(before) >= done and whole.startswith(before) and whole.startswith(after)):
                if number == answers[-1] and after.startswith(before):  # earlier turns read otherwise at the end
                    return [(before, False), (after[len(before) :], True)]
                continue
            found += [(whole[done : len(before)], False), (whole[len(before) : len(after)], True)]
            done = len(after)
        return [piece for piece in [*found, (whole[done:], False)] if piece[0]]


def _refuse(message: str) -> None:
    from jinja2.exceptions import TemplateError

    raise TemplateError(message)


def find_template(named: str | None, tokenizer: Path, specials: Specials, own: str | None = None) -> Template:
    """named: a built-in name or a file; None: the one that lies beside the tokenizer, or that it holds itself."""
    if named in BUILT_IN:
        return Template(BUILT_IN[named], specials, f"--template {named}")
    if named is not None:
        return Template(_read(Path(named)), specials, named)
    folder = tokenizer if tokenizer.is_dir() else tokenizer.parent
    file = folder / "chat_template.jinja"
    if file.is_file():
        return Template(_read(file), specials, str(file))
    settings = folder / "tokenizer_config.json"
    found = read_json_object(settings).get("chat_template") if settings.is_file() else None
    if isinstance(found, list):  # several, by name
        found = next((t.get("template") for t in found if isinstance(t, dict) and t.get("name") == "default"), None)
    if not isinstance(found, str) and own is not None:
        return Template(own, specials, str(tokenizer))
    if not isinstance(found, str):
        hint = f"give --template FILE, or one of {', '.join(BUILT_IN)}"
        raise UserError("the tokenizer has no chat template", where=str(folder), hint=hint)
    return Template(found, specials, str(settings))


def find_specials(folder: Path, own: dict[str, str | None] | None = None) -> Specials:
    """bos and eos of tokenizer_config.json, else those that the tokenizer itself names."""
    settings = folder / "tokenizer_config.json"
    facts: dict[str, Any] = read_json_object(settings) if settings.is_file() else {}
    texts = {}
    for key in ("bos_token", "eos_token"):
        value = facts.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        texts[key] = value if isinstance(value, str) else (own or {}).get(key) or ""
    return Specials(texts["bos_token"], texts["eos_token"])


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"larger than {LARGEST >> 20} MiB: not a chat template", where=str(path))
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read: {explain_os_error(error)}", where=str(path)) from None
    except UnicodeDecodeError:
        raise UserError("not UTF-8, so not a chat template", where=str(path)) from None
