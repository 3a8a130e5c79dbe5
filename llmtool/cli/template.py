"""`--print-config`: a settings file of a command, every option with what it does; what was not given is commented."""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from llmtool.cli.help import explain, grouped, long_name
from llmtool.cli.tree import Command, Option

WIDTH = 100
LEFT_OUT = {"help", "config", "print_config", "version"}
TO_FILL = "..."
"""What stands where an option has no default."""


def template(command: Command, given: Mapping[str, Any]) -> str:
    """TOML that `--config` reads. given: values by the settings' names, as words or as a settings file holds them."""
    lines = [f"# {command.path} --config FILE", "# Lines without # count; the command line goes before them."]
    groups = [("Arguments", list(command.arguments)), *grouped(command.options, command.path)]
    for title, options in groups:
        shown = [option for option in options if option.field not in LEFT_OUT]
        if shown:
            lines += ["", f"# --- {title}"]
        for option in shown:
            lines += ["", *_entry(option, given.get(option.field))]
    return "\n".join(lines)


def key(option: Option) -> str:
    """The option's name in the file."""
    return long_name(option).removeprefix("--") if option.names else option.field.replace("_", "-")


def _entry(option: Option, value: Any) -> Iterator[str]:
    for line in wrap(explain(option), WIDTH - 2):
        yield f"# {line}"
    if value is None or value == ():
        yield f"# {key(option)} = {_default(option)}"
    else:
        yield f"{key(option)} = {toml(value)}"


def _default(option: Option) -> str:
    if not option.takes and option.names:
        return "true" if option.default and not option.default.startswith("no-") else "false"
    if not option.default:
        return TO_FILL
    words = option.default.split(", ")
    return toml([*words]) if len(words) > 1 else toml(option.default)


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    number = text.replace(",", "")
    if number.isdecimal() and len(number) < 16 and (number == "0" or number[0] != "0"):
        return number
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
