"""The directory of a run: where one may be, whether one goes on there, and what it begins with."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from llmtool.commands.train.before import STATES, replaced
from llmtool.commands.train.job import BEGUN, METRICS, SCHEMA, Job
from llmtool.commands.train.texts import FOLDER
from llmtool.core.run.atomic import atomic_file, explained, sweep
from llmtool.core.run.before import BEFORE
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.files import require_plain
from llmtool.core.run.journal import lock
from llmtool.core.run.json_file import dumps, parse_json, read_json_object
from llmtool.core.run.manifest import changes, manifest_path
from llmtool.core.run.outputs import refuse_damaged, refuse_overlap, tidy
from llmtool.core.run.settings import describe
from llmtool.core.run.wording import counted, encodable

SPELLED = {"weights": "the model's weights", "architecture": "the model's config.json:"}
"""Options of settings that are called otherwise."""


def check_place(output: Path, read: Sequence[str | Path], console: Console) -> bool:
    """Whether a run was begun in OUT; a place where none may be is refused. Text may have been tokenised before."""
    if output.exists() and not output.is_dir():
        raise UserError("not a directory", where=str(output), hint="name another place")
    if (name := str(output)) != encodable(name):
        what = "its name is not UTF-8, and the states of a run could not be read again"
        raise UserError(what, where=encodable(name), hint="another name, or PYTHONUTF8=1 where the locale is C")
    refuse_overlap([output], read)
    tidy(output, [output], console)
    removed = sweep(output)
    with explained(output):
        replaced(output).settle()
    if not output.is_dir() or not any(entry.name != FOLDER for entry in output.iterdir()):
        return False
    for name in (METRICS, "run.json"):
        if os.path.lexists(output / name):
            require_plain(output / name)
    if not (output / BEGUN).is_file():
        what = "exists already, and is no run of training that was begun"
        raise UserError(what, where=str(output), hint="write elsewhere")
    if removed.number:
        console.info(f"{output}: {removed}")
    return True


def check_board(folder: Path, read: Sequence[str | Path]) -> None:
    """Refuse a directory that events may not be written into."""
    if folder.exists() and not folder.is_dir():
        raise UserError("not a directory", where=str(folder), hint="name another place")
    refuse_overlap([folder], read)


def check_output(job: Job, begun: dict[str, Any], console: Console) -> bool:
    """Whether a run stands in OUT that this one continues; one that differs, or is complete, is refused."""
    output = job.output
    if not check_place(output, job.read, console) or job.settings.force:
        return False
    before = read_json_object(output / BEGUN)
    if before.get("command") != job.command:
        what = f"was begun by `llmtool {before.get('command')}`"
        raise UserError(what, where=str(output), hint="use --force to start over, or write elsewhere")
    spelled = SPELLED | {field.name: field.flags[0].partition("/")[0] for field in describe(type(job.settings))}
    told = changes(before.get("config"), job.config, spelled, type(job.settings).defaults())
    changed = _as_given(before, begun, _as_asked(before, begun, told))
    if before.get("data") != parse_json(dumps(begun["data"])):
        changed.append("the data's content")
    if changed:
        raise UserError(
            f"was begun with other settings or data: {'; '.join(changed)}",
            where=str(output),
            hint="use --force to start over, or write elsewhere",
        )
    if not (finished := manifest_path(output)).is_file():
        return True
    refuse_damaged(output, read_json_object(finished))
    raise CompleteError(job.output)


def beginning(job: Job) -> dict[str, Any]:
    """train.json: what a run is, and what was asked for that comes to its steps."""
    asked = {name: getattr(job.settings, name, None) for name in ("tokens", "epochs")}
    return {
        "schema": SCHEMA, "command": job.command, "config": job.config, "data": job.data.fingerprint(), "asked": asked,
        "derived": list(job.derived),
    }  # fmt: skip


def _as_asked(before: dict[str, Any], begun: dict[str, Any], changed: list[str]) -> list[str]:
    """`--tokens: 100K -> 200K` in the place of the steps that they come to."""
    was = before.get("asked")
    told = changes(was, begun["asked"]) if isinstance(was, dict) else []
    steps = next((line for line in changed if line.startswith("--steps:")), None)
    if not told or steps is None:
        return changed
    old, _, new = steps.removeprefix("--steps: ").partition(" -> ")
    spelled = [
        line.replace(": not given ->", f": --steps {old} ->").replace("-> not given", f"-> --steps {new}")
        for line in told
    ]
    return [*spelled, *(line for line in changed if line != steps)]


def _as_given(before: dict[str, Any], begun: dict[str, Any], changed: list[str]) -> list[str]:
    """Only what a user can give: not what followed from it in both runs, nor the hashes of held-out text.

    What is left of a difference that nothing given explains (another version's default) stays as it is.
    """
    was = before.get("derived")
    both = set(was if isinstance(was, list) else ()) & set(begun["derived"])
    followed = tuple(f"--{name.replace('_', '-')}: " for name in both)
    given = [line for line in changed if not line.startswith(followed)] if followed else changed
    if any(line.startswith("--model: ") for line in given):
        given = [line for line in given if not line.startswith((SPELLED["architecture"], SPELLED["weights"]))]
    held = [line for line in given if line.startswith("--valid")]
    if held:
        old, new = (_sets(facts.get("config")) for facts in (before, begun))
        what = f"{old} -> {new}" if old != new else "other text"
        given = [f"--valid: {what}", *(line for line in given if line not in held)]
    return given or changed


def _sets(config: Any) -> str:
    """How many held-out sets a run has."""
    valid = config.get("valid") if isinstance(config, dict) else None
    return counted(len(valid) if isinstance(valid, list) else int(bool(valid)), "held-out set")


@contextmanager
def alone(output: Path, begun: dict[str, Any], resumable: bool, console: Console) -> Iterator[None]:
    """Begin or go on in OUT, as the only run there; one that ends before it has made anything leaves nothing new."""
    fresh = not output.exists() or {entry.name for entry in output.iterdir()} == {FOLDER}
    with explained(output):
        output.mkdir(exist_ok=True)
        handle = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not lock(handle):
            raise UserError("another process is training there", where=str(output), hint="wait, or write elsewhere")
        if not resumable:
            with explained(output):
                begin(output, begun)
                if (output / BEFORE).is_dir():
                    console.info(f"{output / BEFORE}: keeps the run that stood here until this one is finished")
        yield
    except UserError:
        if not any((output / name).exists() for name in (STATES, "run.json")) and not _rows(output):
            if fresh:
                for entry in output.iterdir():  # tokens stay for the next try
                    if entry.name != FOLDER:
                        rmtree(entry) if entry.is_dir() else entry.unlink()
                if not any(output.iterdir()):
                    output.rmdir()
            else:
                replaced(output).put_back()
        raise
    finally:
        os.close(handle)


def _rows(output: Path) -> int:
    metrics = output / METRICS
    return metrics.stat().st_size if metrics.is_file() else 0


def begin(output: Path, begun: dict[str, Any]) -> None:
    """Make OUT: a finished run that stands there is put aside, what is left of an unfinished one goes."""
    rmtree(output / ".finished.partial", ignore_errors=True)
    old = replaced(output)
    if not old.put_aside():
        old.clear()
    with atomic_file(output / BEGUN) as file:
        file.write(dumps(begun, indent=2, default=str).encode() + b"\n")
