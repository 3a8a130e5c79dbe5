"""Help pages as plain text, 80 columns at most: usage, what it does, options in groups, examples, the paper.

rich would draw boxes and costs 60 ms of a start.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from llmtool.cli.groups import ORDER, heading
from llmtool.cli.pages import Example, links, pages, settings_lines
from llmtool.cli.tree import Command, Option

WIDEST = 80
COLUMN = 30
"""Where the text beside options begins, and how long the choices of an option may be that stand before it."""
CHOICES = 24


def width() -> int:
    """Columns of the page: the terminal's (COLUMNS), 80 at most."""
    return max(40, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def page(command: Command, columns: int | None = None) -> str:
    """The page of a command or a group."""
    columns = columns or width()
    lines = [*_wrapped(f"Usage: {usage(command)}", columns, "       "), ""]
    for paragraph in paragraphs(command.text):
        lines += [*_wrapped(paragraph, columns, "  ", "  "), ""]
    if command.arguments:
        lines += ["Arguments:", *_table([(each.standin, explain(each)) for each in command.arguments], columns), ""]
    if command.commands:
        lines += ["Commands:", *_table([(each.name, each.help) for each in command.commands], columns), ""]
    for title, group in grouped(command.options, command.path):
        lines += [f"{title}:", *_table([(spelled(each), explain(each)) for each in group], columns), ""]
    keys = settings_lines(command)
    if keys:
        lines += ["Keys of --set:", *_table(keys, columns), ""]
    found = pages().get(command.path)
    if found and found.examples:
        lines += ["Examples:", *(line for example in found.examples for line in example_lines(example, columns)), ""]
    if found and links(found):
        lines += ["Papers:" if len(links(found)) > 1 else "Paper:", *(f"  {link}" for link in links(found)), ""]
    if command.commands:
        lines += [f"`{command.path.replace('llmtool', 'llmtool help', 1)} COMMAND` says more of a command.", ""]
    return "\n".join(lines).rstrip()


def usage(command: Command) -> str:
    """`llmtool tokenizer train INPUT... [options]`."""
    words = [command.path, *(each.standin for each in command.arguments)]
    words += [f"{long_name(each)} {each.standin}" for each in command.options if each.required]
    return " ".join([*words, "COMMAND ..." if command.commands else "[options]"])


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a docstring, each one line."""
    for block in re.split(r"\n\s*\n", text):
        yield " ".join(block.split())


def grouped(options: Sequence[Option], path: str) -> Iterator[tuple[str, list[Option]]]:
    """The options under their headings."""
    for title in ORDER:
        group = [option for option in options if heading(option.field, path) == title]
        if group:
            yield title, group


def spelled(option: Option) -> str:
    """`-o, --output FILE`."""
    names = ", ".join(option.names) if not _is_pair(option) else " / ".join(option.names)
    return f"{names} {shown_standin(option)}".rstrip()


def _is_pair(option: Option) -> bool:
    return any(name.startswith("--no-") for name in option.names) and len(option.names) > 1


def shown_standin(option: Option) -> str:
    """The choices where they are few; NAME where they are many, and `explain` lists them."""
    return "NAME" if _is_long(option) else option.standin


def _is_long(option: Option) -> bool:
    return bool(option.choices) and option.standin == "|".join(option.choices) and len(option.standin) > CHOICES


def explain(option: Option) -> str:
    """What an option does, its choices, default and bounds."""
    text = option.help
    if _is_long(option):
        text += f" One of {', '.join(option.choices)}."
    notes = [f"default: {option.default}"] if option.default else []
    notes += ["required"] if option.required else []
    notes += [option.bounds] if option.bounds else []
    return f"{text} [{'; '.join(notes)}]" if notes else text


def long_name(option: Option) -> str:
    """`--output` of -o, --output."""
    return next((name for name in option.names if name.startswith("--")), option.names[0])


def example_lines(example: Example, columns: int) -> list[str]:
    """A command as it is typed, with what it does above it; a long one goes on behind a backslash."""
    said = _wrapped(f"# {example.does}", columns, "  # ", "  ")
    typed = wrap(example.command, columns - 4, initial_indent="  ", subsequent_indent="      ",
                 break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return [*said, *(f"{line} \\" for line in typed[:-1]), typed[-1]]


def _wrapped(text: str, columns: int, further: str = "", first: str = "") -> list[str]:
    return wrap(text, columns, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def _table(rows: Iterable[tuple[str, str]], columns: int) -> list[str]:
    """Names to the left, what they are to the right; a name that is too long stands on a line of its own."""
    rows = list(rows)
    longest = max(len(name) for name, _ in rows)
    column = min(COLUMN, longest + 4)
    lines = []
    for name, text in rows:
        beside = wrap(text, columns - column, break_on_hyphens=False) or [""]
        if len(name) + 4 <= column:
            lines.append(f"  {name:<{column - 2}}{beside[0]}".rstrip())
            beside = beside[1:]
        else:
            lines += _wrapped(name, columns, "    ", "  ")
        lines += [f"{'':{column}}{line}" for line in beside]
    return lines
