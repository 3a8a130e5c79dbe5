"""OUT/.before: the finished run that `--force` replaces, until the one in its place is finished too.

It is whole when train.json stands in it, which goes there last, while OUT has one of its own: the new run's. Anything
else was broken off before the new run began, and is put back (`settle`).
"""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

from llmtool.commands.train.job import BEGUN, METRICS, PLOT
from llmtool.core.run.journal import sync_directory
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.manifest import manifest_path
from llmtool.core.run.outputs import outputs_of

BEFORE, GONE = ".before", ".before.finished.partial"
STATES = "checkpoints"
MADE = (METRICS, PLOT, "config.json", "model*.safetensors*", STATES)
"""What a run has made, finished or not; its run.json may name more."""


def settle(output: Path) -> None:
    """Put back what was being put aside when a process died, and remove what a run that has finished since replaced."""
    kept = output / BEFORE
    if not kept.is_dir():
        return
    if not ((kept / BEGUN).is_file() and (output / BEGUN).is_file()):
        put_back(output)
    elif manifest_path(output).is_file():
        drop(output)


def put_aside(output: Path) -> bool:
    """Move the finished run in OUT to OUT/.before; whether there was one."""
    if not (output / "run.json").is_file():
        return False
    kept = output / BEFORE
    kept.mkdir()
    for name in [Path("run.json"), *_made(output), Path(BEGUN)]:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).rename(kept / name)
    sync_directory(kept)
    sync_directory(output)
    return True


def put_back(output: Path) -> None:
    """What put_aside moved stands in OUT again, run.json last."""
    kept = output / BEFORE
    if not kept.is_dir():
        return
    files = [path for path in kept.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path == kept / "run.json"):
        place = output / path.relative_to(kept)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    sync_directory(output)
    rmtree(kept)


def drop(output: Path) -> None:
    """The run in OUT is finished: the one before is let go, by a name first that nobody puts back."""
    if (output / BEFORE).is_dir():
        rmtree(output / GONE, ignore_errors=True)
        (output / BEFORE).rename(output / GONE)
        sync_directory(output)
        rmtree(output / GONE, ignore_errors=True)


def _made(output: Path) -> Iterator[Path]:
    """Names in OUT of what the run has made."""
    found = {path.relative_to(output) for pattern in MADE for path in output.glob(pattern)}
    for name in outputs_of(read_json_object(output / "run.json")):
        place = output / name
        if place.is_file() and place.resolve().is_relative_to(output.resolve()):
            found.add(place.relative_to(output))
    yield from sorted(found - {Path("run.json"), Path(BEGUN)})
