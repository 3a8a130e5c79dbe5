"""Conversations as prompts: a checkpoint's chat template, the system's message, and the ids that end an answer."""

from collections.abc import Sequence
from dataclasses import replace

from llmtool.core.run.errors import UserError
from llmtool.core.train.sft.conversation import Message, Row
from llmtool.core.train.sft.examples import Counts, count_fields
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
        self.counts = Counts()
        """Fields of the conversations, and whether the template speaks of them."""

    def ids(self, messages: Sequence[Message], where: str = "--chat") -> list[int]:
        """Ids of these turns with the beginning of an answer."""
        return self.ids_of(Row(where, tuple(messages)))

    def ids_of(self, row: Row) -> list[int]:
        """Ids of a conversation with the beginning of an answer; --system comes first where it has no system's own."""
        if self.first and not (row.messages and row.messages[0].role == "system"):
            row = replace(row, messages=(*self.first, *row.messages))
        text = self.template.prompt(row)
        count_fields(row, self.template, self.counts)
        return self.tokenizer.encode(text, allow_special=True)

    def unread(self) -> list[str]:
        """Fields that nothing has read, in words."""
        first = self.counts.first
        return [f"field {name}: {count:,}, the first at {first[f'unread {name}']}: not read"
                for name, count in self.counts.unread.items()]  # fmt: skip

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
