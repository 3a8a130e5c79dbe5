"""`llmtool generate`: prompts from the command line, stdin or a file, text, ids or conversations, continued."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.generation.spelling import Cut, SpelledIds, write_stream
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps
from llmtool.model import Model, Settings, load_model, read_ids

if TYPE_CHECKING:
    from llmtool.commands.generation.chat import Chat

TOGETHER = 8
"""Prompts of a file that are decoded together."""


@dataclass(frozen=True)
class Prompt:
    """What is continued, and what its row of the output names it by."""

    ids: list[int]
    shown: dict[str, Any]


@dataclass
class Writer:
    """How answers are made and shown: one model, one set of stops."""

    model: Model
    max_new_tokens: int
    sampling: dict[str, Any]
    stop: frozenset[int]
    stops: Sequence[str]
    as_ids: bool
    compiled: bool
    special: bool
    """Whether special tokens are shown."""
    made: int = field(default=0)
    """Tokens so far."""

    def answer(self, prompts: Sequence[Prompt], *, shown: bool) -> tuple[list[list[int]], list[str]]:
        """New ids and their text for each prompt; with `shown` a single one's is written to stdout as it grows."""
        from llmtool.core.model.generate import Sampling

        steps = self.model.generate(
            [prompt.ids for prompt in prompts], max_new_tokens=self.max_new_tokens, compiled=self.compiled,
            sampling=Sampling(**self.sampling), stop=self.stop,
        )  # fmt: skip
        spellings = [
            Cut(SpelledIds() if self.as_ids else self.model.tokenizer.decode_stream(skip_special=not self.special),
                self.stops)
            for _ in prompts
        ]  # fmt: skip
        new, texts = write_stream(steps, spellings, self.stop, shown=shown)
        self.made += sum(map(len, new))
        return new, texts


def generate_texts(
    path: Path,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    settings: dict[str, Any],
    inputs: Sequence[str] = (),
    chat: bool = False,
    system: str | None = None,
    template: str | None = None,
    stops: Sequence[str] = (),
    ids: bool = False,
    dtype: str | None = None,
    device: str = "auto",
    kernels: str = "auto",
    compiled: bool | None = None,
    threads: int | None = None,
    ignore_eos: bool = False,
    method_settings: Settings | None = None,
    override: Sequence[str] = (),
    as_json: bool = False,
    console: Console,
) -> None:
    """One prompt streams to stdout; several are decoded together and printed one after the other.

    inputs: files of rows {"prompt"} or {"messages"}. chat: prompts are a user's messages; without any, each line of
    stdin is a turn of one conversation.
    """
    _refuse_contradictions(prompts, inputs, chat, system, template, stops, ids)
    require("torch", extra="models", why="to run models")
    from llmtool.core.kernels.cpu import use_threads

    number = use_threads(threads)
    # A compiled step holds no branch on what a gate says, as the CPU's own code has.
    wish = "torch" if compiled and kernels == "auto" else kernels
    model = load_model(path, dtype, device, wish, settings=method_settings, changed=override)
    if model.note:
        console.info(model.note)
    compiled = model.device.type == "cuda" and model.kernels == "torch" if compiled is None else compiled
    kind = str(model.decoder.lm_head.weight.dtype).removeprefix("torch.")
    console.detail(f"{path}: {kind} on {model.device}{', compiled' if compiled else ''}; kernels {model.kernels}")
    console.detail(f"{number} thread{'s' if number > 1 else ''}")
    talk = _chat(model, template, system) if chat else None
    stop = frozenset[int]() if ignore_eos else model.stop_ids | (talk.stops if talk else frozenset())
    writer = Writer(model, max_new_tokens, settings, stop, stops, ids, compiled, ignore_eos)
    started = time.perf_counter()
    if talk and not prompts and not inputs:
        _converse(writer, talk, as_json=as_json, console=console)
    else:
        given = prompts or ([] if inputs else ["-"])
        wanted = [*_given(given, model, talk, ids), *_read(inputs, model, talk, template, system)]
        _warn_too_long(wanted, writer, console)
        together = TOGETHER if inputs else max(1, len(wanted))
        for first in range(0, len(wanted), together):
            _print(writer, wanted[first : first + together], shown=len(wanted) == 1 and not as_json, as_json=as_json)
    seconds = time.perf_counter() - started
    console.info(f"{writer.made} tokens in {seconds:.2f} s, {writer.made / seconds:.1f} tokens/s")


def _refuse_contradictions(
    prompts: Sequence[str],
    inputs: Sequence[str],
    chat: bool,
    system: str | None,
    template: str | None,
    stops: Sequence[str],
    ids: bool,
) -> None:
    if ids and (chat or inputs):
        raise UserError("--ids with --chat or --input: ids are given as prompts", hint="leave one out")
    if prompts and inputs:
        raise UserError("prompts both as arguments and in --input", hint="leave one out")
    if (system is not None or template is not None) and not (chat or inputs):
        raise UserError(f"{'--system' if system is not None else '--template'} without --chat")
    if not all(stops):
        raise UserError("--stop with an empty text would stop at once")


def _chat(model: Model, template: str | None, system: str | None) -> "Chat":
    from llmtool.commands.generation.chat import Chat

    return Chat(model, template, system)


def _given(prompts: Sequence[str], model: Model, talk: "Chat | None", ids: bool) -> Iterator[Prompt]:
    """Prompts of the command line; - is stdin, whole."""
    from llmtool.core.train.sft.formats import Message

    for word in prompts:
        text = sys.stdin.read() if word == "-" else word
        if talk:
            yield Prompt(talk.ids([Message("user", text)]), {"prompt": text})
        else:
            yield Prompt(read_ids(text) if ids else model.tokenizer.encode_prompt(text), {"prompt": text})


def _read(
    inputs: Sequence[str], model: Model, talk: "Chat | None", template: str | None, system: str | None
) -> Iterator[Prompt]:
    """Rows of files: {"prompt": text}, a user's message where --chat asks for it, or {"messages": [...]}."""
    if not inputs:
        return
    from llmtool.commands.generation.chat import messages_of
    from llmtool.core.train.sft.formats import Message
    from llmtool.core.train.sft.rows import read_rows

    for source, number, row in read_rows(inputs):
        where = f"{source}:{number}"
        name = {"id": row["id"]} if "id" in row else {}
        if "messages" in row:
            talk = talk or _chat(model, template, system)
            yield Prompt(talk.ids(messages_of(row, where), where), {**name, "messages": row["messages"]})
            continue
        text = row.get("prompt")
        if not isinstance(text, str):
            raise UserError("a row without prompt or messages", where=where, hint='{"prompt": "..."}')
        ids = talk.ids([Message("user", text)], where) if talk else model.tokenizer.encode_prompt(text)
        yield Prompt(ids, {**name, "prompt": text})


def _warn_too_long(prompts: Sequence[Prompt], writer: Writer, console: Console) -> None:
    longest = max((len(prompt.ids) for prompt in prompts), default=0) + writer.max_new_tokens
    limit = writer.model.config.max_position_embeddings
    if longest > limit:
        console.warn(f"{longest:,} tokens, but the model was made for {limit:,}")


def _print(writer: Writer, prompts: Sequence[Prompt], *, shown: bool, as_json: bool) -> None:
    new, texts = writer.answer(prompts, shown=shown)
    if shown:
        return
    for prompt, made, text in zip(prompts, new, texts, strict=True):
        row = {"schema": "llmtool.generate/1", **prompt.shown, "text": text, "ids": made}
        print(dumps(row, ensure_ascii=False) if as_json else text)


def _converse(writer: Writer, talk: "Chat", *, as_json: bool, console: Console) -> None:
    """Each line of stdin is a turn; the answers stream to stdout and stay in the conversation."""
    from llmtool.core.train.sft.formats import Message

    if sys.stdin.isatty():
        console.info("a line is a turn; Ctrl-D ends")
    messages: list[Message] = []
    for line in sys.stdin:
        if not line.strip():
            continue
        messages.append(Message("user", line.strip()))
        prompt = Prompt(talk.ids(messages), {"prompt": line.strip()})
        _warn_too_long([prompt], writer, console)
        new, texts = writer.answer([prompt], shown=not as_json)
        if as_json:
            row = {"schema": "llmtool.generate/1", **prompt.shown, "text": texts[0], "ids": new[0]}
            print(dumps(row, ensure_ascii=False), flush=True)
        messages.append(Message("assistant", texts[0]))
