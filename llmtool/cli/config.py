"""`--config FILE` and `--print-config`, which every command has that has settings."""

from pathlib import Path
from typing import Annotated

import typer

from llmtool.core.run.config import read_config
from llmtool.core.run.numbers import EXACT, whole


def _config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        names = {parameter.name or "": parameter.name or "" for parameter in context.command.params}
        for parameter in context.command.params:  # a flag may be called otherwise than what it sets: --set, --compile
            names |= {flag.strip("-").replace("-", "_"): parameter.name or "" for flag in parameter.opts}
        known = {name for name in names if len(name) > 1} - {"config"}
        whole_ones = {
            parameter.name or "" for parameter in context.command.params if "int" in (parameter.type.name or "")
        }
        settings = {names[key]: value for key, value in read_config(path, known).items()}
        for name in whole_ones & settings.keys():  # Typer would cut 1.5 to 1
            for each in settings[name] if isinstance(settings[name], list) else [settings[name]]:
                whole(each, f"key {name!r}:", low=-EXACT, where=str(path))
        context.default_map = {**(context.default_map or {}), **settings}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file of options (vocab-size = 8000); the command line overrides it.",
        metavar="FILE",
        is_eager=True,
        callback=_config,
    ),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print such a file of this command, with what is given, and end.")
]
