"""A group of commands: how every Typer app of the command line is set up."""

from collections.abc import Callable
from typing import Any

import typer

from llmtool.cli.command import Command, Commands
from llmtool.cli.signature import spread

SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,  # rich help costs 60 ms
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class Group(typer.Typer):
    """`llmtool NAME`: add its commands with `@app.command("verb")`; their settings objects become options."""

    def __init__(self, summary: str | None = None, cls: type[Commands] = Commands) -> None:
        named: dict[str, Any] = {"help": summary} if summary else {}  # without it Typer takes the callback's docstring
        super().__init__(cls=cls, no_args_is_help=True, **named, **SETTINGS)

    def command(  # type: ignore[override]
        self, name: str | None = None, **kwargs: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add a command; the function itself stays as it is written, for callers in Python."""
        add = super().command(name, cls=Command, **kwargs)

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            add(spread(function))
            return function

        return register
