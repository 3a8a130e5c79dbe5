"""Chat templates: a conversation as one text, and where its answers stand in it.

A template is Jinja, from the tokenizer or a file. It is data of a model, not a program of ours: it runs in a process
of its own, in a sandbox, within limits of time and memory (rendering.py).

Where an answer stands, `{% generation %}` says, or else two more renderings: the conversation up to the answer with the
prompt for one, and with the answer. Both must be how the whole text begins; an answer that the whole text has otherwise
(a thought that is taken out once the talk goes on) is not what the model would meet, and is not trained. The last
answer of a talk is, behind the prompt for it as the model will be given that, whatever the whole text makes of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.worker import Limits, Worker, WorkerError
from llmtool.core.train.sft.conversation import REASONING, Message, Row
from llmtool.core.train.sft.search import behind, hidden_turns, shared_length

MARKED = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
CONTENT = ("tool_calls", "tools", "documents", REASONING[0])
"""Fields that a model is to learn from: a template that does not read one cannot train on its rows."""

REWRITTEN = "written otherwise later on"
UNMET = "not written behind the prompt for it"
REFUSED = "the template refuses the talk up to it"
UNMARKED = "not in a {% generation %} block"
"""Why a template leaves an answer untrained."""


@dataclass(frozen=True)
class Specials:
    """The texts of a tokenizer's tokens that templates name; "" where there is none. more: "pad_token" and so on."""

    bos: str = ""
    eos: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, str]:
        """By the names in templates; what a tokenizer does not have is not defined there."""
        own = {"bos_token": self.bos, "eos_token": self.eos}
        return {**self.more, **{name: text for name, text in own.items() if text}}


@dataclass(frozen=True)
class Answer:
    """Characters [start, end) of a text; untrained: why not, "" where it is.

    loose: what stands behind `end` is not the answer's though it may begin within its last token.
    """

    start: int = 0
    end: int = 0
    untrained: str = ""
    loose: bool = False


@dataclass(frozen=True)
class Rendered:
    """The text of a conversation, its answers in order, and what is to be said of it.

    unprompted: answers that do not begin as the prompt for one says. thoughtless: answers that are trained without
    their thought. hidden: roles of turns whose text the template does not show. Where turns behind the last answer
    change how it is written, the text ends with the answer; where the prompt for it is not what stands before it, the
    text begins with that prompt.
    """

    text: str
    answers: tuple[Answer, ...]
    unprompted: int = 0
    hidden: tuple[str, ...] = ()
    thoughtless: int = 0


class Template:
    """A chat template, or several by name, of which rows with tools take "tool_use".

    `where` says whence it comes, for errors. now: what strftime_now goes by, an ISO time; None: the clock.
    """

    def __init__(
        self, source: str | Mapping[str, str], specials: Specials, where: str, *, now: str | None = None,
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        require("jinja2", extra="sft", why="for chat templates")
        self.sources = {"default": source} if isinstance(source, str) else dict(source)
        self.specials, self.where, self.now = specials, where, now
        facts = {"sources": self.sources, "specials": specials.to_json(), "now": now}
        self._worker = Worker("llmtool.core.train.sft.rendering:open_templates", facts, limits)
        for name in self.sources:
            try:
                self._worker.ask({"compile": name})
            except WorkerError as error:
                line = f" at line {error.line}" if error.line else ""
                raise UserError(f"chat template: {error}{line}", where=where) from None

    @property
    def source(self) -> str:
        """The one that most rows take."""
        return self.sources["default"]

    @property
    def dated(self) -> bool:
        """Whether it may write the day of the run."""
        return any("strftime_now" in source for source in self.sources.values())

    def of(self, row: Row) -> str:
        """The name of the template that a row takes."""
        return "tool_use" if row.tools is not None and "tool_use" in self.sources else "default"

    def reads(self, name: str, of: str = "default") -> bool:
        """Whether the source speaks of a field or a role."""
        return _speaks_of(self.sources[of], name)

    def reads_field(self, name: str, of: str = "default") -> bool:
        """As `reads`; a thought goes by several names."""
        return any(self.reads(other, of) for other in (REASONING if name in REASONING else [name]))

    def render(self, messages: Sequence[Message], *, prompt: bool, where: str) -> str:
        """The text of these messages, with the beginning of an answer if `prompt`. where: file and row."""
        text, _ = self._ask({"name": "default", "conversation": self._facts(Row(where, tuple(messages))),
                             "prompt": prompt}, where)  # fmt: skip
        return str(text)

    def prompt(self, row: Row) -> str:
        """The text of a conversation with the beginning of an answer, what cannot be shown refused as in `answers`."""
        self._refuse_unread(row)
        text, _ = self._ask({"name": self.of(row), "conversation": self._facts(row), "prompt": True}, row.where)
        return str(text)

    def answers(self, row: Row) -> Rendered:
        """The text of a conversation with its answers; a field that the template should show and cannot is refused."""
        self._refuse_unread(row)
        facts = self._facts(row)
        text, spans = self._ask({"name": self.of(row), "conversation": facts, "prompt": False}, row.where)
        numbers = [number for number, message in enumerate(row.messages) if message.role == "assistant"]
        unprompted = 0
        if MARKED.search(self.sources[self.of(row)]):
            found = self._marked(row, numbers, spans)
        else:
            found = []
            for number in numbers:
                answer, prompted = self._between(row, number, text)
                found.append(answer)
                unprompted += not prompted
            if found and found[-1].untrained in (REWRITTEN, UNMET) and (last := self._last(row, numbers[-1])):
                text = last[0]
                earlier = [self._between(row, number, text) for number in numbers[:-1]]
                found = [*(answer for answer, _ in earlier), last[1]]
                unprompted = sum(not prompted for _, prompted in earlier)
        reasons = [row.messages[number].untrained for number in numbers]
        if len(found) == len(reasons):
            found = [Answer(a.start, a.end, why or a.untrained, a.loose)
                     for a, why in zip(found, reasons, strict=True)]  # fmt: skip
        thoughtless = sum(
            not answer.untrained
            and any(part not in text[answer.start : answer.end] for part in row.messages[n].thoughts)
            for n, answer in zip(numbers, found, strict=False)
        )
        return Rendered(text, tuple(found), unprompted, tuple(hidden_turns(row, text)), thoughtless)

    def _ask(self, question: dict[str, Any], where: str) -> Any:
        try:
            return self._worker.ask(question)
        except WorkerError as error:
            line = f" (line {error.line} of the template)" if error.line else ""
            verb = "refuses it: " if error.kind == "refused" else ""
            raise UserError(f"the chat template {verb}{error}{line}", where=where) from None

    def _facts(self, row: Row) -> dict[str, Any]:
        """What the template is given of a row."""
        of = self.of(row)
        messages = [self._shown(message.to_json(), of) for message in row.messages]
        return {**row.arguments, "messages": messages, "tools": row.tools, "documents": row.documents}

    def _shown(self, message: dict[str, Any], of: str) -> dict[str, Any]:
        """A turn in the words that the template knows: its role of system, and its parts put together."""
        if message["role"] == "developer" and not self.reads("developer", of):
            message["role"] = "system"
        if isinstance(message.get("content"), list) and not _takes_parts(self.sources[of]):
            message["content"] = "".join(part["text"] for part in message["content"])
        return message

    def _refuse_unread(self, row: Row) -> None:
        of = self.of(row)
        for name in ("tools", "documents"):
            if getattr(row, name) and not self.reads(name, of):
                self._refuse(row, name)
        for number, message in enumerate(row.messages):
            facts = message.to_json()
            for name in CONTENT:
                if facts.get(name) and not self.reads_field(name, of):
                    self._refuse(row, f"messages[{number}].{name}")

    def _refuse(self, row: Row, field: str) -> None:
        name = field.rpartition(".")[2]
        what = f"{field}: the chat template ({self.where}) does not read it"
        raise UserError(what, where=row.where, hint=f"another --template, or --ignore {name}")

    def _marked(self, row: Row, numbers: list[int], spans: list[list[int]]) -> list[Answer]:
        """What `{% generation %}` says."""
        marked = [Answer(start, end) if end > start else Answer(untrained=UNMARKED) for start, end in spans]
        if len(spans) == len(numbers):
            return marked
        if any(row.messages[number].untrained for number in numbers):
            what = (
                f"the chat template marks {len(spans)} answers of {len(numbers)}: which of them are not to be trained"
            )
            raise UserError(what, where=row.where, hint="leave weights out with --ignore, or take another --template")
        return marked + [Answer(untrained=UNMARKED)] * (len(numbers) - len(spans))

    def _first(self, row: Row, messages: int, *, prompt: bool) -> str | None:
        """The text of the first messages; None where the template refuses them."""
        try:
            return str(self._worker.ask({"first": messages, "prompt": prompt}))
        except WorkerError as error:
            if error.kind == "refused":
                return None
            raise UserError(f"the chat template {error}", where=row.where) from None

    def _between(self, row: Row, number: int, text: str) -> tuple[Answer, bool]:
        """The answer in message `number` within the whole text, and whether it begins as the prompt says."""
        before = self._first(row, number, prompt=True)
        after = self._first(row, number + 1, prompt=False)
        if before is None or after is None:
            return Answer(untrained=REFUSED), True
        start, prompted = len(before), text.startswith(before)
        said = row.messages[number].texts
        if not prompted:
            bare = self._first(row, number, prompt=False)
            start = shared_length(text, before)
            if bare is None or not text.startswith(bare) or start < len(bare):
                return Answer(untrained=UNMET if text.startswith(after) else REWRITTEN), True
            place = text.find(said[0].strip(), len(bare)) if said and said[0].strip() else -1
            start = min(start, place) if place >= 0 else start
        if text.startswith(after):
            return (Answer(start, len(after)) if len(after) >= start else Answer(untrained=REWRITTEN)), prompted
        # What is written behind the last turn alone: the answer is the same if its whole text lies in what is shared.
        shared = shared_length(text, after)
        content = "".join(said).strip()
        place = text.find(content, start) if content else -1
        if place < 0 or place + len(content) > shared:
            return Answer(untrained=REWRITTEN), True
        return Answer(start, shared, loose=True), prompted

    def _last(self, row: Row, number: int) -> tuple[str, Answer] | None:
        """The last answer behind the prompt for it, where the whole text has it otherwise; None where it has no place.

        Turns behind it may change how it is written; and the prompt may hold what the whole text does not: the thought
        of the answer before (LFM2.5), a system turn that goes into the last question (Mistral's).
        """
        before = self._first(row, number, prompt=True)
        after = self._first(row, number + 1, prompt=False)
        if before is None or after is None:
            return None
        start = len(before) if after.startswith(before) else behind(before, after, row.messages[number])
        if start is None:
            return None
        text = before + after[start:]
        return text, Answer(len(before), len(text))


@lru_cache(maxsize=256)
def _speaks_of(source: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", source) is not None


@lru_cache(maxsize=16)
def _takes_parts(source: str) -> bool:
    """Whether a template looks into a content that is a list: `part.text`, `part['text']`."""
    return re.search(r"""\[\s*['"]text['"]\s*\]|\.text\b""", source) is not None
