"""Chat templates: a conversation as one text, and where its answers stand in it.

A template is Jinja, from the tokenizer or a file. It is data of a model, not a program of ours: it runs in a process
of its own, in a sandbox, within limits of time and memory (rendering.py).

Where an answer stands, `{% generation %}` says, or else two more renderings: the conversation up to the answer with the
prompt for one, and with the answer. Both must be how the whole text begins; an answer that the whole text has otherwise
(a thought that is taken out once the talk goes on) is not what the model would meet, and is not trained.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.files import read_text
from llmtool.core.run.json_file import dumps, read_json_object
from llmtool.core.run.worker import Limits, Worker, WorkerError
from llmtool.core.train.sft.conversation import REASONING, Message, Row

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
MARKED = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
CONTENT = ("tool_calls", "tools", "documents", REASONING[0])
"""Fields that a model is to learn from: a template that does not read one cannot train on its rows."""

REWRITTEN = "written otherwise later on"
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

    unprompted: answers that do not begin as the prompt for one says. hidden: roles of turns whose text the template
    does not show. Where turns behind the last answer change how it is written, the text ends with the answer.
    """

    text: str
    answers: tuple[Answer, ...]
    unprompted: int = 0
    hidden: tuple[str, ...] = ()


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
            if found and found[-1].untrained == REWRITTEN and (last := self._last(row, numbers[-1])):
                shared = shared_length(text, last[0])
                found = [answer if answer.untrained or answer.end <= shared else Answer(untrained=REWRITTEN)
                         for answer in found[:-1]]  # fmt: skip
                text = last[0]
                found.append(last[1])
        reasons = [row.messages[number].untrained for number in numbers]
        if len(found) == len(reasons):
            found = [Answer(a.start, a.end, why or a.untrained, a.loose)
                     for a, why in zip(found, reasons, strict=True)]  # fmt: skip
        return Rendered(text, tuple(found), unprompted, tuple(_hidden(row, text)))

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
                return Answer(untrained=REWRITTEN), True
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
        """The last answer in the talk that ends with it, where turns behind it change how it is written."""
        before = self._first(row, number, prompt=True)
        after = self._first(row, number + 1, prompt=False)
        if before is None or after is None or not after.startswith(before):
            return None
        return after, Answer(len(before), len(after))


def shared_length(one: str, other: str) -> int:
    """Characters that both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@lru_cache(maxsize=256)
def _speaks_of(source: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", source) is not None


@lru_cache(maxsize=16)
def _takes_parts(source: str) -> bool:
    """Whether a template looks into a content that is a list: `part.text`, `part['text']`."""
    return re.search(r"""\[\s*['"]text['"]\s*\]|\.text\b""", source) is not None


def _hidden(row: Row, text: str) -> list[str]:
    """Roles of turns whose text is nowhere in what the template wrote."""
    found, place = [], 0
    for message in row.messages:
        for said in message.texts:
            said = said.rpartition("</think>")[2].strip()
            at = text.find(said, place)
            at = text.find(said) if at < 0 else at
            if at < 0 and dumps(said, ensure_ascii=False)[1:-1] not in text and said[:1] not in ("{", "["):
                found.append(message.role)
            place = max(place, at)
    return found


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
