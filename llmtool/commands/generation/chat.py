"""Conversations as prompts: a checkpoint's chat template, the system's message, and the ids that end an answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.train.sft.conversation import Message
from llmtool.core.train.sft.template_files import find_specials, find_template
from llmtool.model import Model

ANSWER = "\u2060answer\u2060"
"""An answer that no template holds: what a template writes behind it ends a turn."""


class Chat:
    """The template of a model; `stops` are the ids that end its answers beside the checkpoint's own."""

    def __init__(self, model: Model, template: str | None = None, system: str | None = None) -> None:
        self.tokenizer = model.tokenizer
        own = self.tokenizer.definition
        names = {**own.beside.roles, "bos_token": own.bos, "eos_token": own.eos}
        specials = find_specials(model.path, names)
        held = {**own.beside.templates, **({"default": own.chat_template} if own.chat_template is not None else {})}
        self.template = find_template(template, model.path, specials, held)
        self.first = [] if system is None else [Message("system", system)]
        self.stops = self._turn_end()

    def ids(self, messages: Sequence[Message], where: str = "--chat") -> list[int]:
        """Ids of a conversation with the beginning of an answer; --system comes first where it has no system's own."""
        given = list(messages)
        if self.first and not (given and given[0].role == "system"):
            given = [*self.first, *given]
        return self.tokenizer.encode(self.template.render(given, prompt=True, where=where), allow_special=True)

    def _turn_end(self) -> frozenset[int]:
        """The id that the template writes behind an answer, where that is one token: <|im_end|>."""
        try:
            text = self.template.render(
                [Message("user", "."), Message("assistant", ANSWER)], prompt=False, where=self.template.where
            )
        except UserError:  # a template that wants more of a conversation says so when it is used
            return frozenset()
        rest = text.rpartition(ANSWER)[2].strip()
        ids = self.tokenizer.encode(rest, allow_special=True) if rest else []
        special = set(self.tokenizer.special_tokens.values())
        return frozenset(ids[:1]) if ids and ids[0] in special else frozenset()


def messages_of(row: Mapping[str, Any], where: str) -> list[Message]:
    """The messages of a row {"messages": [{"role", "content"}, ...]}."""
    given = row.get("messages")
    if not isinstance(given, list) or not given:
        raise UserError("messages is not a list of messages", where=where, hint='{"role": "user", "content": "..."}')
    found = []
    for message in given:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise UserError("a message without the texts role and content", where=where)
        found.append(Message(role, content))
    if found[-1].role == "assistant":
        raise UserError("the last message is an answer already", where=where, hint="end with the user's")
    return found
