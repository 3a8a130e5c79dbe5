"""Where the stages and their output stand: what may be written to, by one process at a time, what a failure leaves."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from llmtool.core.corpus.shards import SETTINGS, Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.alone import alone
from llmtool.core.run.atomic import NOTHING, PARTIAL, STAYS, explained, refuse_stdout
from llmtool.core.run.errors import UserError
from llmtool.core.run.manifest import Run
from llmtool.core.run.outputs import claim_directory, refuse_overlap
from llmtool.methods.nextlong.chunking import Reading
from llmtool.methods.nextlong.recipe import Recipe

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


def open_output(path: Path, run: Run, inputs: Callable[[], list[dict[str, Any]]], means: Means) -> Stage:
    """The output directory: what is complete already is said, begun runs are gone on with, all else is refused."""
    held = [name for name in path.iterdir() if not name.name.endswith(PARTIAL)]
    if held and not (path / SETTINGS).exists():  # a run killed at its start leaves a partial file
        raise UserError("exists already and is not ours", where=str(path), hint="name an empty directory")
    if (path / "run.json").exists() and not means.force:
        claim_directory(path, run, found=inputs, console=means.console)
    (path / "run.json").unlink(missing_ok=True)
    stage = Stage(path, run.config, owned=False, spelled=SPELLED)
    stage.begin(force=means.force)
    return stage


@contextmanager
def nothing_left(path: Path) -> Iterator[None]:
    """Work in a directory alone. A run that ends with an error leaves none that it made; what was there before stays.

    So does the work of one that a full disk or a killed worker has stopped: the same command goes on from there.
    """
    with explained(path):
        path.mkdir(exist_ok=True)
    with alone(path):
        fresh = not any(path.iterdir())
        try:
            with explained(path):
                yield
        except UserError as error:
            stopped = error.goes_on or isinstance(error.__context__, OSError | BrokenExecutor)
            stopped = stopped and any(path.rglob("*.done"))
            if fresh and path.is_dir() and not (path / "run.json").exists() and not stopped:
                shutil.rmtree(path)
                error.hint = error.hint and error.hint.replace(STAYS, NOTHING)
            raise
