"""A group of commands, whose options are made when a command is asked for: `llmtool --help` pays for no option.

app = Group("Training data: check it, make long contexts.")

@app.command("check")
def check(...) -> None: ...
"""

from collections.abc import Callable, ItemsView, Mapping
from inspect import getdoc
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_from_info, get_group
from typer.models import CommandInfo

from llmtool.cli.command import Command, Paged
from llmtool.cli.signature import spread
from llmtool.cli.values import UsageError
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import closest

SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,  # rich help costs 60 ms
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


@dataclass(frozen=True)
class Leaf:
    """A command or group that is not made yet: what the help of the group above says of it, and what makes it."""

    summary: str
    make: Callable[[], Any]


class Commands(dict[str, Any]):
    """The commands of a group by name, each made at first use. Names cost nothing; `items` makes them all."""

    def __init__(self, leaves: Mapping[str, Leaf]) -> None:
        super().__init__(dict.fromkeys(leaves))
        self.leaves = leaves

    def get(self, name: str, default: Any = None) -> Any:
        """The command of that name."""
        if name in self.leaves and self[name] is None:
            self[name] = self.leaves[name].make()
        return super().get(name, default)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """All of them, made."""
        for name in self:
            self.get(name)
        return super().items()


class Branch(Paged, TyperGroup):
    """What Typer makes of a Group."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of their making."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of a name; of one that is unknown, the nearest is named."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            names = list(self.commands)
            hint = closest(args[0], names) or f"one of {', '.join(names)}"
            raise UsageError(f"no such command: {args[0]}. {hint[0].upper()}{hint[1:]}", ctx)
        return super().resolve_command(ctx, args)


class Group(typer.Typer):
    """`llmtool NAME`: add its commands with `@app.command("verb")`; their settings objects become options."""

    def __init__(self, summary: str | None = None, cls: type[Branch] = Branch) -> None:
        named: dict[str, Any] = {"help": summary} if summary else {}  # without it Typer takes the callback's docstring
        super().__init__(cls=cls, no_args_is_help=True, **named, **SETTINGS)
        self.leaves: dict[str, Leaf] = {}

    def command(  # type: ignore[override]
        self, name: str, **kwargs: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add a command; the function itself stays as it is written, for callers in Python."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.leaves[name] = Leaf(summary_of(function), lambda: leaf_command(name, function, **kwargs))
            return function

        return register

    def branch(self, name: str | None = None) -> Branch:
        """The group as a command of the tree."""
        made = get_group(self)
        made.name, made.commands = name, Commands(self.leaves)
        assert isinstance(made, Branch)
        return made


def leaf_command(name: str, function: Callable[..., Any], **kwargs: Any) -> Any:
    """A function as a command of the tree."""
    info = CommandInfo(name=name, cls=Command, callback=spread(function), **kwargs)
    return get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)


def summary_of(function: Callable[..., Any]) -> str:
    """The first paragraph of its docstring, on one line."""
    return " ".join((getdoc(function) or "").partition("\n\n")[0].split())
