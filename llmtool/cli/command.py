"""A command as Typer makes it, with what ours do beyond: one page of help, all that is missing said at once, a template
of a settings file, and at the end what to type next."""

import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from llmtool.cli.values import UsageError
from llmtool.cli.waiting import prepare
from llmtool.core.run.atomic import refuse_stdout
from llmtool.core.run.errors import CompleteError, UserError, followable

PRINT = "--print-config"
GIVEN = "words given"
"""The words of the command line, beside the values of its parameters."""


class Paged:
    """Help is our own page."""

    def get_help(self, ctx: Any) -> str:
        """The page of this command or group."""
        from llmtool.cli.help import page  # a command that is run does not pay for its page
        from llmtool.cli.tree import describe

        return page(describe(self, ctx.command_path, below=False))


class Command(Paged, TyperCommand):
    """`llmtool ... VERB`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; what is missing is said all at once."""
        given = ctx.meta[GIVEN] = list(args)
        if PRINT in given and self.has(PRINT):
            self.print_template(ctx, [word for word in given if word != PRINT])
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            missing = self.missing(ctx, given) if type(error).__name__ == "MissingParameter" else []
            if not missing:
                raise
            raise UsageError(f"missing: {', '.join(missing)}", ctx) from None

    def has(self, flag: str) -> bool:
        """Whether the command has such an option."""
        return any(flag in parameter.opts for parameter in self.params)

    def missing(self, ctx: Any, given: list[str]) -> list[str]:
        """Arguments and options that must be given, and are not: `INPUT...`, `--add N`."""
        from llmtool.cli.tree import describe

        read, _, _ = self.make_parser(ctx).parse_args(args=list(given))
        absent = [
            each for each in self.params if each.required and each.value_is_missing(each.consume_value(ctx, read)[0])
        ]
        nodes = describe(self, ctx.command_path)
        spelled = {node.field: node for node in (*nodes.arguments, *nodes.options)}
        found = []
        for parameter in absent:
            node = spelled[parameter.name or ""]
            found.append(f"{node.names[-1]} {node.standin}" if node.names else node.standin)
        return found

    def print_template(self, ctx: Any, given: list[str]) -> None:
        """Print a settings file of this command with what was given, and end."""
        from llmtool.cli.template import template
        from llmtool.cli.tree import describe

        read, _, _ = self.make_parser(ctx).parse_args(args=given)
        if read.get("config") is not None:
            next(each for each in self.params if each.name == "config").handle_parse_result(ctx, read, [])
        values = {**(ctx.default_map or {}), **{name: value for name, value in read.items() if value is not None}}
        print(template(describe(self, ctx.command_path), values))
        raise typer.Exit

    def invoke(self, ctx: Any) -> Any:
        """Do it, and say what comes next, where it has written something."""
        words = ctx.command_path.split()[1:]
        prepare(words, ctx.params)
        for each in self.params:
            standin: str | None = getattr(each, "metavar", None)
            if standin == "[OUT]" or (standin == "DIR" and "-o" in each.opts):
                refuse_stdout(Path(ctx.params.get(each.name or "") or "."))
        given = {**ctx.params, GIVEN: ctx.meta.get(GIVEN, [])}
        try:
            result = super().invoke(ctx)
        except typer.Exit as ended:
            if ended.exit_code == 0:
                say_next(words, given)
            raise
        except CompleteError as done:
            from llmtool.cli.next import after

            done.next = after(words, given)
            done.quiet, done.as_json = bool(given.get("quiet")), bool(given.get("as_json"))
            raise
        except UserError as error:
            if error.hint:
                known = {name for each in self.params for name in (*each.opts, *each.secondary_opts)}
                error.hint = followable(error.hint, known)
            raise
        say_next(words, given)
        return result


def say_next(words: list[str], given: dict[str, Any]) -> None:
    """The last line, for people: on stderr, and not with --quiet."""
    from llmtool.cli.next import after  # a page of help needs no command

    line = after(words, given)
    if line and not given.get("quiet"):
        sys.stdout.flush()
        print(f"next: {line}", file=sys.stderr)
