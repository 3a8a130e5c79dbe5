"""Chat templates run: the code of the worker process (core/run/worker.py), the only importer of jinja2.

What a template finds is what `transformers` 5 gives it: Jinja in the immutable sandbox with blocks trimmed, loop
controls, `{% generation %}`, `raise_exception`, `strftime_now`, and a `tojson` that is json.dumps.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmtool.core.run.worker import Refusal

LONGEST_TEXT = 1 << 26
"""Characters of one conversation."""


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: what the model writes. The blocks of a text that are whole when one
    begins say where it stands; `blocks` is None while nobody listens.
    """

    tags = {"generation"}  # noqa: RUF012 - jinja2's own way

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.blocks: list[str] | None = None
        self.found: list[tuple[int, str]] = []

    def parse(self, parser: Parser) -> nodes.Node:
        """The tag and its body, as a call of `note`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("note"), [], [], body).set_lineno(line)

    def note(self, caller: Callable[[], str]) -> str:
        """The block's text, unchanged."""
        text = caller()
        if self.blocks is not None:
            self.found.append((sum(map(len, self.blocks)), text))
        return text

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """A list for the blocks of one text."""
        self.blocks, self.found = [], []
        try:
            yield self.blocks
        finally:
            self.blocks = None


class Room:
    """Templates by name, and the conversation that was asked about last."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.sources: dict[str, str] = facts["sources"]
        self.specials: dict[str, str] = facts["specials"]
        self.now: str | None = facts["now"]
        self.environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
        )
        self.generation: Any = next(e for e in self.environment.extensions.values() if isinstance(e, Generation))
        self.environment.filters["tojson"] = to_json
        self.environment.globals["raise_exception"] = refuse
        self.environment.globals["strftime_now"] = self.strftime_now
        self.compiled: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}

    def strftime_now(self, form: str) -> str:
        """The time, or the day that was fixed for a run."""
        return (datetime.fromisoformat(self.now) if self.now else datetime.now()).strftime(form)

    def answer(self, question: dict[str, Any]) -> Any:
        """{"compile": NAME}; {"name", "conversation", "prompt"}: [text, spans]; {"first": N, "prompt"}: the text of the
        first messages of the conversation that was asked about last.
        """
        try:
            if "compile" in question:
                self.template(question["compile"])
                return None
            if "first" in question:
                return self.render({**self.asked, "messages": self.asked["messages"][: question["first"]]}, question)
            self.name, self.asked = question["name"], question["conversation"]
            return self.render_marked(question)
        except (MemoryError, Refusal):
            raise
        except Exception as error:
            raise Refusal(explain(error), line_of(error)) from None

    def template(self, name: str) -> Any:
        """Compiled once."""
        if name not in self.compiled:
            self.compiled[name] = self.environment.from_string(self.sources[name])
        return self.compiled[name]

    def render(self, conversation: dict[str, Any], question: dict[str, Any]) -> str:
        """The text alone."""
        text: str = self.template(self.name).render(**self.variables(conversation, question))
        return checked(text)

    def render_marked(self, question: dict[str, Any]) -> tuple[str, list[tuple[int, int]]]:
        """The text, and what lies in `{% generation %}` blocks."""
        with self.generation.listening() as blocks:
            length = 0
            for block in self.template(self.name).generate(**self.variables(self.asked, question)):
                blocks.append(block)
                length += len(block)
                if length > LONGEST_TEXT:
                    break
        text = checked("".join(blocks))
        spans, end = [], 0
        for start, inside in self.generation.found:
            if text[start : start + len(inside)] != inside:  # in a macro or a {% set %} block: nothing told its place
                start = text.find(inside, end)
                if start < 0:
                    raise Refusal("a {% generation %} block is changed by what stands around it")
            end = start + len(inside)
            spans.append((start, end))
        return text, spans

    def variables(self, conversation: dict[str, Any], question: dict[str, Any]) -> dict[str, Any]:
        """Everything that the template sees."""
        return {**self.specials, **conversation, "add_generation_prompt": question["prompt"]}


def open_templates(facts: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """What answers questions about these templates. facts: "sources", "specials", "now" (an ISO time, or None)."""
    return Room(facts).answer


def checked(text: str) -> str:
    """No text beyond all measure."""
    if len(text) > LONGEST_TEXT:
        raise Refusal(f"writes more than {LONGEST_TEXT:,} characters")
    return text


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """The filter: Jinja's own escapes <, >, & and ' for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def refuse(message: str) -> None:
    """The global `raise_exception`."""
    raise TemplateError(message)


def explain(error: Exception) -> str:
    """One line."""
    if isinstance(error, RecursionError):
        return "recurses without end, or is nested too deeply"
    if isinstance(error, SyntaxError):  # of the program that Jinja makes of it, whose lines are its own
        return str(error.msg)
    if isinstance(error, TemplateError):
        return str(error.message or type(error).__name__)[:1000]
    return f"{type(error).__name__}: {error}"[:1000]


def line_of(error: Exception) -> int | None:
    """The line of the template, if it was the template that ran."""
    if isinstance(error, TemplateSyntaxError):
        return int(error.lineno)
    line, trace = None, error.__traceback__ or sys.exc_info()[2]
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in ("<template>", "<unknown>"):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
