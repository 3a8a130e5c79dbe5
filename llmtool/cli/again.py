"""`llmtool help`, `completions`, `rerun`, and what `--version` says."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llmtool.cli.signature import Choice
from llmtool.cli.values import UsageError
from llmtool.core.run.json_file import dumps
from llmtool.version import __version__

if TYPE_CHECKING:
    from llmtool.cli.tree import Command


def help_(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(help="A command, such as: tokenizer train.", metavar="[COMMAND]...")
    ] = None,
) -> None:
    """Print the page of a command, as `llmtool COMMAND --help` does."""
    from llmtool.cli.help import page
    from llmtool.cli.tree import describe
    from llmtool.core.run.errors import closest

    node = describe(context.find_root().command, "llmtool")
    for word in words or []:
        names = [command.name for command in node.commands]
        if word not in names:
            hint = closest(word, names) or f"one of {', '.join(names)}" if names else "it has no commands"
            raise UsageError(f"no such command: {node.path} {word}. {hint[0].upper()}{hint[1:]}", context)
        node = next(command for command in node.commands if command.name == word)
    print(page(node))


def completions(
    context: typer.Context,
    shell: Annotated[Literal["bash", "zsh", "fish"], Choice("SHELL", "bash, zsh or fish.")],
) -> None:
    """Print the completions of a shell; the README says how to switch them on."""
    from llmtool.cli.completion import FILES, scripts
    from llmtool.cli.tree import describe

    print(scripts(describe(context.find_root().command, "llmtool"))[FILES[shell]], end="")


def rerun(
    context: typer.Context,
    manifest: Annotated[Path, typer.Argument(help="F.run.json, or the output that it stands beside.", metavar="RUN")],
) -> None:
    """Run the command that made an output once more: from its run.json.

    Where the output stands it is complete already; words behind RUN are added to the command: -o PLACE makes it
    elsewhere, --force makes it anew. What has changed since is said: inputs, versions.
    """
    from llmtool.commands.rerun import command_of

    root: Any = context.find_root().command
    command = command_of(manifest, [])
    command = replace(command, words=_with(root, command.words, context.args))
    if not {"-q", "--quiet"} & set(context.args):
        print(f"running: {command.shown}", file=sys.stderr)
    for warning in command.warnings():
        print(f"warning: {warning}", file=sys.stderr)
    os.chdir(command.directory)
    root.run(command.words)


def _with(root: Any, words: Sequence[str], more: Sequence[str]) -> list[str]:
    """A command with more words; -o PLACE stands where the command takes its output as an argument."""
    from llmtool.cli.tree import describe

    node, names = root, 0
    while names < len(words) and hasattr(node, "commands") and words[names] in node.commands:
        node, names = node.commands.get(words[names]), names + 1
    command = describe(node, "")
    place = next((n for n, each in enumerate(command.arguments) if each.standin.strip("[]") == "OUT"), None)
    written, rest = _output(more)
    if place is None or written is None:
        return [*words, *more]
    given = [names + n for n in _arguments(words[names:], command)]
    if place < len(given):
        return [*words[: given[place]], written, *words[given[place] + 1 :], *rest]
    behind = given[-1] + 1 if given else names
    return [*words[:behind], written, *words[behind:], *rest]


def _output(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """What -o or --output names, and the other words."""
    rest, found = list(words), None
    for n, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word in ("-o", "--output") and n + 1 < len(words):
            found, rest[n : n + 2] = words[n + 1], []
            break
        if name == "--output" and equals:
            found, rest[n : n + 1] = value, []
            break
    return found, rest


def _arguments(words: Sequence[str], command: "Command") -> list[int]:
    """Places of the words that are arguments: no options, and no values of options."""
    takes = {name: bool(option.takes) for option in command.options for name in option.names}
    found: list[int] = []
    value = False
    for n, word in enumerate(words):
        if word == "--" and not value:
            return [*found, *range(n + 1, len(words))]
        if value or not word.startswith("-") or word == "-":
            found += [] if value else [n]
            value = False
        else:
            value = takes.get(word, False)
    return found


def say_version(as_json: bool) -> None:
    """Version, engine, torch and GPU: in one line, or as an object."""
    from llmtool.core.bpe import engine
    from llmtool.core.run import doctor

    facts = {"engine": engine.NAME, "torch": doctor.version("torch"), "gpu": doctor.gpu()}
    if as_json:
        print(dumps({"schema": "llmtool.version/1", "llmtool": __version__, **facts}))
        return
    torch, gpu = facts["torch"], facts["gpu"]
    said: Sequence[str] = [f"{facts['engine']} engine", f"torch {torch}" if torch else "no torch", gpu or "no GPU"]
    print(f"llmtool {__version__} ({', '.join(said)})")
