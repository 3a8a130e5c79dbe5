"""The command tree, and what happens to failures on the way out: one line and an exit status, or a bug's traceback."""

import errno
import os
import sys
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import typer

from llmtool.cli.group import Branch, Commands, Group, Leaf, leaf_command
from llmtool.core.run.errors import CompleteError, ExitCode, UserError, explain_os_error
from llmtool.core.run.json_file import dumps
from llmtool.version import __version__

COMMANDS = {
    "methods": ("environment:methods", "Print the catalog of methods."),
    "doctor": ("environment:doctor", "Say what is installed, what machine this is, and which engine runs."),
    "generate": ("model:generate", "Continue text; a single prompt streams to stdout."),
    "verify": (
        "model:verify",
        "Compare the logits of two checkpoints: KL divergence, largest difference, same likeliest token.",
    ),
    "train": (
        "train:train",
        "Train a model. The same command goes on where a stopped run was; exit status 4: stopped, and can go on.",
    ),
    "tokenizer": ("tokenizer", "Byte-level BPE, Scaffold-BPE and LBPE tokenizers."),
    "scaling": ("scaling", "Say early where a training run will end."),
    "convert": ("convert", "Checkpoints: inspect, copy, convert."),
    "eval": ("eval", "What a checkpoint knows and does on text."),
    "data": ("data", "Training data: check it, make long contexts."),
    "posttrain": ("posttrain", "Train checkpoints on instruction data."),
    "bench": ("bench", "Measure kernels, models, tokenizers and this machine."),
}
"""Name -> a module of llmtool.cli (its `app`), or one of its functions, and what the first help page says of it.

Only the module that a command line names is imported: `--help` took 240 ms with all of them, and takes 70 without."""

MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EINTR, errno.EMFILE, errno.ENFILE)
"""What the machine lacks, in whichever temporary file it shows: no bug of ours."""


class Root(Branch):
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


def build() -> Root:
    """The command tree."""
    made = app.branch()
    assert isinstance(made, Root)
    made.commands = Commands({name: Leaf(summary, partial(_load, name)) for name, (_, summary) in COMMANDS.items()})
    return made


def _load(name: str) -> Any:
    module, _, function = COMMANDS[name][0].partition(":")
    found = import_module(f"llmtool.cli.{module}")
    return leaf_command(name, getattr(found, function)) if function else found.app.branch(name)
