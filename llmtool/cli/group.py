"""A group of commands: how every Typer app of the command line is set up."""

from typing import Any

import typer

SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,  # rich help costs 60 ms
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class Group(typer.Typer):
    """`llmtool NAME`: add its commands with `@app.command("verb")`."""

    def __init__(self, summary: str) -> None:
        super().__init__(no_args_is_help=True, help=summary, **SETTINGS)
