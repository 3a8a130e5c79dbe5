"""`llmtool generate`: prompts from the command line, stdin or a file, text, ids or conversations, continued."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from llmtool.commands.generation.settings import GenerateSettings
from llmtool.commands.generation.spelling import Cut, SpelledIds, write_stream
from llmtool.commands.options import method_settings
from llmtool.core.run.console import QUIET, Console, binary_stdout
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps
from llmtool.core.run.wording import counted
from llmtool.model import Model, load_model, read_ids

if TYPE_CHECKING:
    from llmtool.commands.generation.chat import Chat
    from llmtool.core.model.generate import Sampling

SCHEMA = "llmtool.generate/1"
TURNS = ("messages", "conversation", "conversations")
"""Fields of a row that hold turns."""
TOGETHER = 8
"""Prompts of a file that are decoded together."""


def generate(
    checkpoint: str | Path,
    prompts: Sequence[str] = (),
    settings: GenerateSettings | None = None,
    *,
    out: IO[bytes] | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> list[dict[str, Any]]:
    """Continue texts, decoded together: {"prompt", "text", "ids"} for each.

    input: files of rows {"prompt"} or {"messages"}, as post-training reads them. chat: prompts are a user's messages.
    ids: the prompts are token ids with spaces between. out: where the text of a single prompt is written as it grows.

    >>> import llmtool
    >>> [row] = llmtool.generate("model", ["the cat"], max_tokens=3, ignore_eos=True)
    >>> len(row["ids"])
    3
    """
    asked = GenerateSettings.of(settings, named_settings)
    _refuse_contradictions(prompts, asked)
    with _open(checkpoint, asked, console) as writer:
        wanted = [*writer.given(prompts), *writer.read(asked.input)]
        return list(writer.rows(wanted, out, together=bool(asked.input)))


def print_texts(
    checkpoint: Path, prompts: Sequence[str], asked: GenerateSettings, *, as_json: bool, console: Console
) -> None:
    """One prompt streams to stdout; several are decoded together and printed one after the other. "-" is stdin.

    A chat without prompts takes each line of stdin for a turn of one conversation.
    """
    _refuse_contradictions(prompts, asked)
    inputs = asked.input
    with _open(checkpoint, asked, console) as writer, binary_stdout() as out:
        if asked.chat and not prompts and not inputs:
            rows: Iterable[dict[str, Any]] = writer.converse(sys.stdin, None if as_json else out)
            streamed = not as_json
        else:
            words = list(prompts) or ([] if inputs else ["-"])
            given = writer.given(sys.stdin.read() if word == "-" else word for word in words)
            wanted = [*given, *writer.read(inputs)]
            streamed = len(wanted) == 1 and not as_json
            rows = writer.rows(wanted, out if streamed else None, together=bool(inputs))
        for row in rows:
            if not streamed:
                print(dumps({"schema": SCHEMA, **row}, ensure_ascii=False) if as_json else row["text"], flush=True)


def _refuse_contradictions(prompts: Sequence[str], asked: GenerateSettings) -> None:
    inputs, chat, system = asked.input, asked.chat, asked.system
    if asked.ids and (chat or inputs):
        raise UserError("--ids with --chat or --input: ids are given as prompts", hint="leave one out")
    if prompts and inputs:
        raise UserError("prompts both as arguments and in --input", hint="leave one out")
    if (system is not None or asked.template is not None) and not (chat or inputs):
        raise UserError(f"{'--system' if system is not None else '--template'} without --chat")
    if not all(asked.stop):
        raise UserError("--stop with an empty text would stop at once")


def _open(checkpoint: str | Path, asked: GenerateSettings, console: Console) -> "Writer":
    """Load the model and say how it computes."""
    require("torch", extra="models", why="to run models")
    from llmtool.commands.generation.chat import Chat
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.generate import Sampling

    number = use_threads(asked.threads)
    model = load_model(
        checkpoint, asked.dtype, asked.device, asked.kernels, settings=method_settings(asked.set),
        changed=asked.override,
    )  # fmt: skip
    if model.note:
        console.info(model.note)
    console.detail(f"kernels: {model.kernels}; {number} thread{'s' if number > 1 else ''}")
    compiled = model.device.type == "cuda" if asked.compiled is None else asked.compiled
    kind = str(model.decoder.lm_head.weight.dtype).removeprefix("torch.")
    console.detail(f"{checkpoint}: {kind} on {model.device}{', compiled' if compiled else ''}; kernels {model.kernels}")
    sampling = Sampling(asked.temperature, asked.top_k, asked.top_p, asked.seed)
    talk = Chat(model, asked.template, asked.system) if asked.chat else None
    ends = frozenset[int]() if asked.ignore_eos else model.stop_ids | (talk.stops if talk else frozenset())
    return Writer(model, asked, talk, sampling, ends, compiled, console)


@dataclass(frozen=True)
class Prompt:
    """What is continued, and what its row of the output names it by."""

    ids: list[int]
    shown: dict[str, Any]


@dataclass
class Writer:
    """How answers are made: one model, one set of stops. As a context it says at its end how fast it was."""

    model: Model
    asked: GenerateSettings
    talk: "Chat | None"
    """Also made for rows of messages where --chat is not given."""
    sampling: "Sampling"
    ends: frozenset[int]
    compiled: bool
    console: Console
    made: int = 0
    """Tokens so far."""
    started: float = 0.0

    def __enter__(self) -> "Writer":
        self.started = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            seconds = time.perf_counter() - self.started
            self.console.info(f"{counted(self.made, 'token')} in {seconds:.2f} s, {self.made / seconds:.1f} tokens/s")

    def given(self, texts: Iterable[str]) -> Iterator[Prompt]:
        """Prompts of the command line."""
        from llmtool.core.train.sft.conversation import Message

        for text in texts:
            if self.talk:
                yield Prompt(self.talk.ids([Message("user", text)]), {"prompt": text})
            else:
                encoded = read_ids(text) if self.asked.ids else self.model.tokenizer.encode_prompt(text)
                yield Prompt(encoded, {"prompt": text})

    def read(self, inputs: Sequence[str]) -> Iterator[Prompt]:
        """Rows of files: {"prompt": text}, a user's message where --chat asks for it, or a conversation."""
        if not inputs:
            return
        from llmtool.commands.generation.chat import Chat
        from llmtool.core.train.sft.formats import read_plain_prompt, read_prompt, read_rows

        ignored = self.asked.ignore
        for source, number, row in read_rows(inputs):
            where = f"{source}:{number}"
            name = {"id": row["id"]} if "id" in row else {}
            field = next((field for field in (*TURNS, "prompt") if row.get(field) is not None), None)
            if field is None or field in ignored:
                raise UserError("a row without prompt or messages", where=where, hint='{"prompt": "..."}')
            if self.asked.chat or field in TURNS or isinstance(row[field], list):
                self.talk = self.talk or Chat(self.model, self.asked.template, self.asked.system)
                ids = self.talk.ids_of(read_prompt(row, where, ignored))
            else:
                ids = self.model.tokenizer.encode_prompt(read_plain_prompt(row, where, ignored))
            yield Prompt(ids, {**name, field: row[field]})
        for line in self.talk.unread() if self.talk else []:
            self.console.info(line)

    def rows(self, prompts: Sequence[Prompt], out: IO[bytes] | None, *, together: bool) -> Iterator[dict[str, Any]]:
        """The answers in order, all decoded at once or some `together`; out: where a single one's text is written."""
        self._warn_too_long(prompts)
        size = TOGETHER if together else max(1, len(prompts))
        for first in range(0, len(prompts), size):
            group = prompts[first : first + size]
            new, texts = self._answer(group, out)
            for prompt, text, made in zip(group, texts, new, strict=True):
                yield {**prompt.shown, "text": text, "ids": made}

    def converse(self, lines: Iterable[str], out: IO[bytes] | None) -> Iterator[dict[str, Any]]:
        """Each line is a turn; the answers stay in the conversation."""
        from llmtool.core.train.sft.conversation import Message

        assert self.talk is not None
        if sys.stdin.isatty():
            self.console.info("a line is a turn; Ctrl-D ends")
        messages: list[Message] = []
        for line in lines:
            if not line.strip():
                continue
            messages.append(Message("user", line.strip()))
            prompt = Prompt(self.talk.ids(messages), {"prompt": line.strip()})
            (row,) = self.rows([prompt], out, together=False)
            messages.append(Message("assistant", row["text"]))
            yield row

    def _answer(self, prompts: Sequence[Prompt], out: IO[bytes] | None) -> tuple[list[list[int]], list[str]]:
        steps = self.model.generate(
            [prompt.ids for prompt in prompts], max_new_tokens=self.asked.max_tokens, compiled=self.compiled,
            sampling=self.sampling, stop=self.ends,
        )  # fmt: skip
        decode = self.model.tokenizer.decode_stream if not self.asked.ids else None
        hide = not self.asked.ignore_eos
        spellings = [Cut(decode(skip_special=hide) if decode else SpelledIds(), self.asked.stop) for _ in prompts]
        new, texts = write_stream(steps, spellings, self.ends, out if len(prompts) == 1 else None)
        self.made += sum(map(len, new))
        return new, texts

    def _warn_too_long(self, prompts: Sequence[Prompt]) -> None:
        longest = max((len(prompt.ids) for prompt in prompts), default=0) + self.asked.max_tokens
        limit = self.model.config.max_position_embeddings
        if longest > limit:
            self.console.warn(f"{counted(longest, 'token')}, but the model was made for {limit:,}")
