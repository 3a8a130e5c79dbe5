"""The command tree as plain data: what help, man pages, completions and the golden file of the surface are made of."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

from llmtool.cli.values import Value
from llmtool.core.run.dataclass import dataclass

FILES = {
    "BASES", "CKPT", "CKPT|N", "CORPUS", "DATA", "DIR", "FILE", "FIT", "INPUT", "LOG", "MAP", "MODEL", "OUT", "PATH",
    "PLAN", "REGEX|FILE", "RUN", "TEMPLATE", "TEXT", "TOK",
}  # fmt: skip
"""Standins of what may be a file or a directory; `[INPUT]...` counts as INPUT, and so does a name such as plan.json."""


@dataclass(frozen=True)
class Option:
    """One option, or with `names` empty an argument: what it takes is "" for nothing, "value", "file", or choices."""

    names: tuple[str, ...]
    help: str
    takes: str = ""
    choices: tuple[str, ...] = ()
    standin: str = ""
    default: str = ""
    bounds: str = ""
    required: bool = False
    field: str = ""
    """The settings' name of it, by which it is grouped."""


@dataclass(frozen=True)
class Command:
    """One command of the tree with its path, such as "llmtool tokenizer train"."""

    path: str
    text: str
    """What it does: the first paragraph is one line."""
    options: tuple[Option, ...]
    arguments: tuple[Option, ...] = ()
    commands: tuple["Command", ...] = ()

    @property
    def help(self) -> str:
        """The first line of the text."""
        return self.text.splitlines()[0] if self.text else ""

    @property
    def name(self) -> str:
        """The last word of the path."""
        return self.path.rpartition(" ")[2]

    def walk(self) -> Iterator["Command"]:
        """This command and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


def describe(node: Any, path: str, *, below: bool = True) -> Command:
    """A command of Typer's; below: and those under it, else no more of them than their names and summaries."""
    options = [_option(each) for each in node.params if each.param_type_name == "option" and not each.hidden]
    options.append(Option(("-h", "--help"), "Show this help.", field="help"))
    arguments = [_option(each) for each in node.params if each.param_type_name == "argument" and not each.hidden]
    children: list[Command] = []
    if hasattr(node, "commands"):
        made = node.commands.items() if below else ()
        children = [describe(child, f"{path} {name}") for name, child in made] or [
            Command(f"{path} {name}", leaf.summary, ()) for name, leaf in node.commands.leaves.items()
        ]
    return Command(path, cleandoc(node.help or ""), tuple(options), tuple(arguments), tuple(children))


def _option(parameter: Any) -> Option:
    """An option or an argument of Typer's."""
    argument = parameter.param_type_name == "argument"
    names = () if argument else tuple(sorted((*parameter.opts, *parameter.secondary_opts), key=_shortest_first))
    value = getattr(parameter.type, "func", None)
    value = value if isinstance(value, Value) else None
    choices = value.choices if value else ()
    flag = not argument and parameter.is_flag
    standin = "" if flag else parameter.metavar or ("|".join(choices) or parameter.type.name.upper())
    takes = "" if flag else "file" if _is_file(parameter, standin) else "value"
    return Option(
        names, " ".join((parameter.help or "").split()), takes, choices, standin, _default(parameter),
        _bounds(value), parameter.required, parameter.name or "",
    )  # fmt: skip


def _shortest_first(name: str) -> int:
    return min(len(name), 3)


def _is_file(parameter: Any, standin: str) -> bool:
    word = standin.strip(".[]").removesuffix("...").strip("[]")
    return type(parameter.type).__name__ == "TyperPath" or word in FILES or "." in word


def _default(parameter: Any) -> str:
    """A default as help says it; "" where there is none, or it is none to speak of."""
    default = parameter.default
    if parameter.required or default is None or default is False or default == "" or callable(default):
        return ""
    if default is True:
        return str(parameter.opts[0]).lstrip("-") if parameter.secondary_opts else ""
    if isinstance(default, list | tuple):
        return ", ".join(map(str, default))
    return f"{default:,}" if isinstance(default, int) and default >= 10_000 else str(default)


def _bounds(value: Value | None) -> str:
    option = value.field.option if value else None
    if option is None or (option.min is None and option.max is None):
        return ""
    low, high = ("" if bound is None else f"{bound:,}" for bound in (option.min, option.max))
    return f"{low} to {high}" if low and high else f"{low} or more" if low else f"{high} at most"
