"""Where the stages and their output stand: what may be written to, by one process at a time, what a failure leaves."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from llmtool.core.corpus.shards import AGAIN, DONE, SETTINGS, Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.alone import alone
from llmtool.core.run.atomic import NOTHING, PARTIAL, STAYS, explained, refuse_stdout
from llmtool.core.run.before import BEFORE, Before
from llmtool.core.run.errors import UserError
from llmtool.core.run.manifest import Run
from llmtool.core.run.outputs import claim_directory, refuse_other_kind, refuse_overlap
from llmtool.core.run.seal import read_sealed
from llmtool.methods.nextlong.chunking import Reading
from llmtool.methods.nextlong.output import FILES
from llmtool.methods.nextlong.recipe import Recipe
from llmtool.methods.nextlong.replacing import stopped

WORK = "work"
"""Where the stages of `data nextlong` stand in its output, if nothing else is said."""

_OTHERWISE = {
    "size": "--chunk", "form": "--format", "caps": "--cap", "licence_field": "--license-field",
    "decontaminate_fields": "--decontaminate-field", "text_mode": "--documents",
}  # fmt: skip
SPELLED = {
    each.name: f"--{each.name.replace('_', '-')}" for kind in (Recipe, Reading) for each in fields(kind)
    if each.name != "reading"
} | {"tokenizer": "--tokenizer"} | _OTHERWISE  # fmt: skip
"""Options of the settings that decide the bytes; in a run.json those of the reading stand inside it."""
SPELLED |= {f"reading.{each.name}": SPELLED[each.name] for each in fields(Reading)}


def check_place(path: Path, read: Sequence[str | Path]) -> None:
    """Refuse an output that cannot be a directory of its own."""
    refuse_stdout(path)
    if path.exists() and not path.is_dir():
        raise UserError("is a file", where=str(path), hint="name a directory")
    refuse_overlap([path], read)
    if not path.absolute().parent.is_dir():
        raise UserError("the directory to write into does not exist", where=str(path.absolute().parent))


def replaced(path: Path, *, work: bool) -> Before:
    """The finished samples that --force replaces; work: with the stages that stand in their directory."""

    def made(output: Path) -> Iterator[Path]:
        for pattern in (DONE, *FILES, *([WORK] if work else [])):
            for found in output.glob(pattern):
                if found.is_file() or pattern == WORK:
                    yield found.relative_to(output)

    return Before(path, SETTINGS, made)


def open_output(path: Path, run: Run, inputs: Callable[[], list[dict[str, Any]]], means: Means, old: Before) -> Stage:
    """The output directory: what is complete already is said, begun runs are gone on with, all else is refused.

    --force starts over; what was finished stays aside until the new one is, and a new one that was begun so goes on.
    """
    held = [name for name in path.iterdir() if not name.name.endswith(PARTIAL)]
    if held and not (path / SETTINGS).exists():  # a run killed at its start leaves a partial file
        raise UserError("exists already and is not ours", where=str(path), hint="name an empty directory")
    if (path / "run.json").exists() and not means.force:
        claim_directory(path, run, found=inputs, console=means.console)
    stage = Stage(path, run.config, owned=False, spelled=SPELLED)
    if means.force and held:
        _refuse_stage(path, run)
        if not old.put_aside() and (not old.stands or stage.changed(force=True)):
            old.clear()
        if old.stands:
            means.console.info(f"{path / BEFORE}: keeps the samples that stood here until the new ones are finished")
    stage.begin(force=means.force)
    return stage


def _refuse_stage(path: Path, run: Run) -> None:
    """--force replaces samples: not what else has settings.json, such as shards of tokens or a stage."""
    refuse_other_kind(path, run)
    found: dict[str, Any] = {}
    with suppress(UserError):  # damaged: replaced
        found = read_sealed(path / SETTINGS, AGAIN)
    if "stage" in found:
        what = f"is of the stage {found['stage']!r}, and --force replaces only samples"
        raise UserError(what, where=str(path), hint="remove it yourself, or write elsewhere")


@contextmanager
def nothing_left(path: Path, old: Before | None = None) -> Iterator[None]:
    """Work in a directory alone. A run that ends with an error leaves none that it made; what was there before stays.

    So does the work of one that a full disk or a killed worker has stopped: the same command goes on from there.
    old: what is put back where a new one fails.
    """
    with explained(path):
        path.mkdir(exist_ok=True)
    with alone(path):
        with explained(path):
            if old:
                old.settle()
        fresh, whole = not any(path.iterdir()), (path / "run.json").exists()
        try:
            with explained(path):
                yield
        except UserError as error:
            goes_on = stopped(error) and any(BEFORE not in done.parts for done in path.rglob("*.done"))
            if path.is_dir() and not (path / "run.json").exists() and not goes_on:
                if fresh:
                    shutil.rmtree(path)
                elif whole and old:
                    with explained(path):
                        old.put_back()
                if fresh or whole:
                    error.hint = error.hint and error.hint.replace(STAYS, NOTHING)
            raise
