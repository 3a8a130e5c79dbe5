"""`--config FILE` and `--print-config`, which every command has that has settings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmtool.core.run.config import read_config
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps


def _config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        names = {parameter.name or "": parameter.name or "" for parameter in context.command.params}
        for parameter in context.command.params:  # a flag may be called otherwise than what it sets: --set, --compile
            names |= {flag.strip("-").replace("-", "_"): parameter.name or "" for flag in parameter.opts}
        known = {name for name in names if len(name) > 1} - {"config"}
        settings = {names[key]: (key, value) for key, value in read_config(path, known).items()}
        taken = {each.name or "": each for each in context.command.params}
        settings = {name: _fitting(taken[name], key, value, path) for name, (key, value) in settings.items()}
        context.default_map = {**(context.default_map or {}), **settings}
    return path


def _fitting(parameter: Any, key: str, value: Any, path: Path) -> Any:
    """A value of the file as the command line would have it; one of another kind is refused by its key.

    A single text stands for a list of one, and a number for the text that the command line has there (model = 300000).
    """
    kind, several = type(parameter.type).__name__, getattr(parameter, "multiple", False) or parameter.nargs != 1
    texts = kind == "TyperPath" or (kind == "StringParamType" and several)
    wanted = "true or false" if kind == "BoolParamType" else "a text" if texts else "a text or a number"
    if isinstance(value, list) and not several:
        raise _wrong(key, "one value, not a list", path)
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, bool) != (kind == "BoolParamType") or (texts and not isinstance(each, str)):
            raise _wrong(key, f"{wanted}, not {dumps(each)}", path)
        if isinstance(each, str) and "\0" in each and not key.endswith("separator"):  # which no command line can hold
            raise _wrong(key, "a text without a zero byte", path)
    if several:
        return value if isinstance(value, list) else [value]
    return str(value) if kind == "StringParamType" else value


def _wrong(key: str, wanted: str, path: Path) -> UserError:
    return UserError(f"key {key.replace('_', '-')!r}: wanted {wanted}", where=str(path))


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
