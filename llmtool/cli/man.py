"""Manual pages, one a command, from the same tree as help: `man llmtool-tokenizer-train`.

python -m llmtool.cli.man man
"""

import re
from collections.abc import Iterable, Iterator

from llmtool.cli.help import explain, grouped, paragraphs, shown_standin, usage
from llmtool.cli.pages import links, pages, settings_lines
from llmtool.cli.tree import Command, Option

PROGRAM = "llmtool"
STATUSES = (
    ("0", "done"), ("1", "expected failure, told in one line"), ("2", "the command line cannot be read"),
    ("3", "a check failed"), ("4", "stopped, and the same command goes on"), ("130", "interrupted"),
    ("141", "the pipe was closed"),
)  # fmt: skip


def name(command: Command) -> str:
    """`llmtool-tokenizer-train`."""
    return command.path.replace(" ", "-")


def manual(command: Command) -> str:
    """The page in man's own macros."""
    return "\n".join(_lines(command)) + "\n"


def manuals(root: Command) -> dict[str, str]:
    """File name -> page, of every command."""
    return {f"{name(command)}.1": manual(command) for command in root.walk()}


def _lines(command: Command) -> Iterator[str]:
    yield f'.TH "{name(command).upper()}" "1" "" "{PROGRAM}" "{PROGRAM} manual"'
    yield from (".SH NAME", f"{_text(name(command))} \\- {_text(command.help.rstrip('.'))}")
    yield from (".SH SYNOPSIS", f".B {_text(command.path)}", _text(usage(command).removeprefix(command.path).strip()))
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(paragraphs(command.text)):
        yield from ([".PP"] if number else [])
        yield _text(paragraph)
    if command.arguments:
        yield from (".SH ARGUMENTS", *_items((each.standin, explain(each)) for each in command.arguments))
    if command.commands:
        yield from (".SH COMMANDS", *_items((each.name, each.help) for each in command.commands))
    for title, group in grouped(command.options, command.path):
        yield from (f".SH {_text(title.upper())}", *_items((_spelled(each), explain(each)) for each in group))
    keys = settings_lines(command)
    if keys:
        yield from (".SH KEYS OF \\-\\-set", *_items(keys))
    page = pages().get(command.path)
    if page:
        yield ".SH EXAMPLES"
        for example in page.examples:
            yield from (".PP", _text(example.does), ".PP", ".nf", ".RS", _text(example.command), ".RE", ".fi")
    if not command.path.count(" "):
        yield from (".SH EXIT STATUS", *_items(STATUSES))
    also = [f"https://arxiv.org/abs/{link.rpartition('/')[2]}" for link in (links(page) if page else [])]
    above = command.path.rpartition(" ")[0]
    also += [f"{above.replace(' ', '-')}(1)"] if above else []
    also += [f"{name(each)}(1)" for each in command.commands]
    if also:
        yield from (".SH SEE ALSO", _text(", ".join(also)))


def _spelled(option: Option) -> str:
    return f"{', '.join(option.names)} {shown_standin(option)}".rstrip()


def _items(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for left, right in rows:
        yield from (".TP", f".B {_text(left)}", _text(right))


def _text(text: str) -> str:
    """Text as troff takes it: hyphens that can be copied, no line that begins as a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped)
