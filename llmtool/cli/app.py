"""The command tree, and what happens to failures on the way out: one line and an exit status, or a bug's traceback."""

import errno
import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llmtool.cli import bench, convert, data, environment, model, posttrain, scaling, tokenizer, train
from llmtool.cli import eval as evaluation
from llmtool.cli.group import Group
from llmtool.core.run.errors import CompleteError, ExitCode, UserError, explain_os_error
from llmtool.core.run.json_file import dumps
from llmtool.version import __version__

MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EINTR, errno.EMFILE, errno.ENFILE)
"""What the machine lacks, in whichever temporary file it shows: no bug of ours."""


class Root(TyperGroup):
    """The root group: turns expected failures into exit statuses."""

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
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what the exit still waits for
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


def _say_complete(done: CompleteError, given: list[str]) -> None:
    """Success without work: a line for people, an object for those who asked for one."""
    if not {"-q", "--quiet"} & set(given):
        print(done, file=sys.stderr)
    if "--json" in given:
        print(dumps({"schema": "llmtool.complete/1", "complete": True, "output": str(done.output)}))


def _drop_stdout() -> None:
    """Whatever is still buffered must go somewhere at exit, or Python complains on stderr."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


app = Group(cls=Root)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"llmtool {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Published methods for building language models, on real text, real checkpoints and real GPUs."""


def build() -> typer.Typer:
    """The app with every command group."""
    app.command("methods")(environment.methods)
    app.command("doctor")(environment.doctor)
    app.command("generate")(model.generate)
    app.command("verify")(model.verify)
    app.command("train")(train.train)
    app.add_typer(tokenizer.app, name="tokenizer")
    app.add_typer(scaling.app, name="scaling")
    app.add_typer(convert.app, name="convert")
    app.add_typer(evaluation.app, name="eval")
    app.add_typer(data.app, name="data")
    app.add_typer(posttrain.app, name="posttrain")
    app.add_typer(bench.app, name="bench")
    return app
