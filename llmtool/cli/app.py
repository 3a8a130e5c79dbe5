"""The command tree, and what happens to failures on the way out: one line and an exit status, or a bug's traceback."""

import errno
import os
import sys
from typing import Annotated, Any

import typer

from llmtool.cli import again, bench, convert, data, environment, model, posttrain, scaling, tokenizer, train
from llmtool.cli import eval as evaluation
from llmtool.cli.command import Commands
from llmtool.cli.group import SETTINGS, Group
from llmtool.cli.values import UsageError
from llmtool.core.run.errors import CompleteError, ExitCode, UserError, explain_os_error
from llmtool.core.run.json_file import dumps

MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EINTR, errno.EMFILE, errno.ENFILE)
"""What the machine lacks, in whichever temporary file it shows: no bug of ours."""
UNREADABLE: Any = typer.BadParameter.__base__
"""Typer's own UsageError, which it does not export: every way in which a command line can be wrong."""


class Root(Commands):
    """The root group: turns expected failures into exit statuses."""

    def main(self, args: Any = None, *, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run the words and end the process; a command line that cannot be read is one line and status 2."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **kwargs)
        try:
            status = super().main(args, standalone_mode=False, **kwargs)
        except typer.Abort:
            sys.exit(ExitCode.INTERRUPT)
        except UNREADABLE as error:
            _say_unreadable(error)
            sys.exit(ExitCode.USAGE)
        sys.exit(status or ExitCode.OK)

    def run(self, words: list[str]) -> None:
        """Run other words in the same process, and end it as they end."""
        self.main(words, prog_name="llmtool")

    def invoke(self, ctx: Any) -> Any:
        """Run the command and flush stdout while a closed pipe can still be told from success."""
        given = [*ctx._protected_args, *ctx.args]
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except CompleteError as done:
            _say_complete(done, given)
            return None
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(ExitCode.FAILURE) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(ExitCode.INTERRUPT) from None
        except BrokenPipeError:
            _drop_stdout()
            raise typer.Exit(ExitCode.CLOSED_PIPE) from None
        except OSError as error:
            if error.errno in MACHINE and error.filename is not None:
                print(f"error: {error.filename}: {explain_os_error(error)}", file=sys.stderr)
                raise typer.Exit(ExitCode.FAILURE) from None
            if error.filename is not None:
                raise
            _drop_stdout()  # a write without a file name is one to stdout: files are written by name
            print(f"error: stdout: {explain_os_error(error)}", file=sys.stderr)
            raise typer.Exit(ExitCode.FAILURE) from None
        return result


def _say_unreadable(error: Any) -> None:
    """What is wrong with the command line, and where its help is."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)
        return
    said = error.format_message().rstrip(".")
    context = error.ctx
    words = context.command_path if context else "llmtool"
    print(f"error: {said[0].lower()}{said[1:]} ({words} --help)", file=sys.stderr)


def _say_complete(done: CompleteError, given: list[str]) -> None:
    """Success without work: a line for people, an object for those who asked for one."""
    if not {"-q", "--quiet"} & set(given):
        print(done, file=sys.stderr)
        if done.next:
            print(f"next: {done.next}", file=sys.stderr)
    if "--json" in given:
        print(dumps({"schema": "llmtool.complete/1", "complete": True, "output": str(done.output)}))


def _drop_stdout() -> None:
    """Whatever is still buffered must go somewhere at exit, or Python complains on stderr."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


app = Group(cls=Root)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, the engine, torch and the GPU.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --version: as JSON.")] = False,
) -> None:
    """Published methods for building language models, on real text, real checkpoints and real GPUs."""
    if version:
        again.say_version(as_json)
        raise typer.Exit
    if as_json or context.invoked_subcommand is None:
        raise UsageError(
            "missing: COMMAND" if context.invoked_subcommand is None else "--json goes behind the command", context
        )


def build() -> typer.Typer:
    """The app with every command group."""
    app.command("methods")(environment.methods)
    app.command("doctor")(environment.doctor)
    app.command("generate")(model.generate)
    app.command("verify")(model.verify)
    app.command("train")(train.train)
    app.command("rerun", context_settings={**SETTINGS["context_settings"], **again.PASSED_ON})(again.rerun)
    app.command("completions")(again.completions)
    app.command("help")(again.help_)
    app.add_typer(tokenizer.app, name="tokenizer")
    app.add_typer(scaling.app, name="scaling")
    app.add_typer(convert.app, name="convert")
    app.add_typer(evaluation.app, name="eval")
    app.add_typer(data.app, name="data")
    app.add_typer(posttrain.app, name="posttrain")
    app.add_typer(bench.app, name="bench")
    return app
