"""The command tree, and what happens to failures on the way out: one line and an exit status, or a bug's traceback."""

import errno
import os
import signal
import sys
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import typer

from llmtool.cli.group import SETTINGS, Branch, Commands, Group, Leaf, leaf_command
from llmtool.cli.values import UsageError
from llmtool.core.run.errors import CompleteError, ExitCode, UserError, explain_os_error
from llmtool.core.run.json_file import dumps
from llmtool.core.run.processes import leads

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
    "rerun": ("again:rerun", "Run the command that made an output once more: from its run.json."),
    "completions": ("again:completions", "Print the completions of a shell; the README says how to switch them on."),
    "help": ("again:help_", "Print the page of a command, as `llmtool COMMAND --help` does."),
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

PASSED_ON = {
    "context_settings": {**SETTINGS["context_settings"], "allow_extra_args": True, "ignore_unknown_options": True}
}
"""Of `rerun`: options behind a run.json are those of the command in it."""
MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EINTR, errno.EMFILE, errno.ENFILE)
"""What the machine lacks, in whichever temporary file it shows: no bug of ours."""
UNREADABLE: Any = typer.BadParameter.__base__
"""Typer's own UsageError, which it does not export: every way in which a command line can be wrong."""


class Root(Branch):
    """The root group: turns expected failures into exit statuses."""

    def main(  # type: ignore[override]
        self, args: Any = None, *, standalone_mode: bool = True, **kwargs: Any
    ) -> Any:
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
        except OSError as error:  # of the first help page, which is written before any command is invoked
            if error.filename is not None:
                raise
            sys.exit(_say_unwritable(error))
        sys.exit(status or ExitCode.OK)

    def run(self, words: list[str]) -> None:
        """Run other words in the same process, and end it as they end."""
        self.main(words, prog_name="llmtool")

    def invoke(self, ctx: Any) -> Any:
        """Run the command and flush stdout while a closed pipe can still be told from success."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except CompleteError as done:
            _say_complete(done)
            return None
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.status) from None
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what the exit still waits for
            print("interrupted", file=sys.stderr)
            raise typer.Exit(ExitCode.INTERRUPT) from None
        except OSError as error:
            if error.errno in MACHINE and error.filename is not None:
                print(f"error: {error.filename}: {explain_os_error(error)}", file=sys.stderr)
                raise typer.Exit(ExitCode.FAILURE) from None
            if error.filename is not None:
                raise
            raise typer.Exit(_say_unwritable(error)) from None
        return result


def _say_unreadable(error: Any) -> None:
    """What is wrong with the command line, and where its help is."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)
        return
    said = error.format_message().rstrip(".")
    context = error.ctx
    words = context.command_path if context else "llmtool"
    begun = said if said[:2].isupper() else said[0].lower() + said[1:]  # KIND is an argument's name
    print(f"error: {begun} ({words} --help)", file=sys.stderr)


def _say_complete(done: CompleteError) -> None:
    """Success without work: a line for people, an object for those who asked for one."""
    if not leads():
        return
    if not done.quiet:
        print(done, file=sys.stderr)
        if done.next:
            print(f"next: {done.next}", file=sys.stderr)
    if done.as_json:
        print(dumps({"schema": "llmtool.complete/1", "complete": True, "output": str(done.output)}))


def _say_unwritable(error: OSError) -> ExitCode:
    """What a write without a file name met, which is one to stdout: files are written by name. A closed pipe says
    itself that nobody reads on."""
    _drop_stdout()
    if isinstance(error, BrokenPipeError):
        return ExitCode.CLOSED_PIPE
    print(f"error: stdout: {explain_os_error(error)}", file=sys.stderr)
    return ExitCode.FAILURE


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
        from llmtool.cli import again

        again.say_version(as_json)
        raise typer.Exit
    if as_json or context.invoked_subcommand is None:
        raise UsageError(
            "missing: COMMAND" if context.invoked_subcommand is None else "--json goes behind the command", context
        )


def build() -> Root:
    """The command tree."""
    made = app.branch()
    assert isinstance(made, Root)
    made.commands = Commands({name: Leaf(summary, partial(_load, name)) for name, (_, summary) in COMMANDS.items()})
    return made


def _load(name: str) -> Any:
    module, _, function = COMMANDS[name][0].partition(":")
    found = import_module(f"llmtool.cli.{module}")
    more = PASSED_ON if name == "rerun" else {}
    return leaf_command(name, getattr(found, function), **more) if function else found.app.branch(name)
