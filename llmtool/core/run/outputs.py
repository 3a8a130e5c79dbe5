"""Where a command may write: the one rule of every writer, asked before any work is done.

- No output, what stands beside it included, is an input, contains one, or lies inside one.
- --force replaces only what a run.json of ours, of the same kind, stands for: never a file or a directory of somebody
  else's, nor a file that somebody has put into a directory of ours. Figures bear a mark instead (figures.py).
- Without --force: what is complete already, from the same inputs and settings, is success (`CompleteError`, exit 0);
  anything else that exists is refused, with the options that differ.

What killed processes have left in this place is finished or removed first, and counted. The question is asked again
(`run.allowed`) right before the output is put in its place: what has appeared there meanwhile, of whomever, stays.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.run import journal
from llmtool.core.run.atomic import Swept, check_directory, check_output, is_stream, sweep
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.manifest import SCHEMA, Run, changes, manifest_path, named_changes
from llmtool.core.run.numbers import shown

Entries = list[dict[str, Any]]
OTHERS = ("__pycache__", ".DS_Store")
"""Names that other programs put anywhere, and that nobody misses."""


def claim_file(
    output: Path,
    run: Run,
    *,
    read: Iterable[str | Path] = (),
    beside: Sequence[Path] = (),
    force: bool = False,
    found: Callable[[], Entries] | None = None,
    console: Console | None = None,
) -> None:
    """Refuse a file that may not be written, or need not be.

    read: all that the command reads, as the user named it, its tokenizer too. beside: files that will be written along
    with it. found: the entries of `run.inputs`, asked for only if they have to be compared.
    """
    check_output(output)
    refuse_overlap([output], read)
    if is_stream(output):
        return
    manifest = manifest_path(output)
    refuse_overlap([manifest, *beside], read)
    tidy(output, [output, manifest, *beside], console)
    _judge_file(output, run, beside, force, found)
    run.allowed = _again(lambda: _judge_file(output, run, beside, force, found))


def _judge_file(
    output: Path, run: Run, beside: Sequence[Path], force: bool, found: Callable[[], Entries] | None
) -> None:
    made = _made(manifest_path(output))
    listed = {Path(name).name for name in outputs_of(made or {})}
    for place in beside:
        if os.path.lexists(place) and place.name not in listed:
            what = f"stands in the way: it would be written along with {output.name}, and is not of a run of ours"
            raise UserError(what, where=str(place), hint="move it away, or write elsewhere")
    if not output.exists() or (made is None and not output.stat().st_size):
        return
    if force:
        _refuse_foreign(output, run, made)
    else:
        _refuse_existing(output, run, made, found)


def claim_directory(
    output: Path,
    run: Run,
    *,
    read: Iterable[str | Path] = (),
    force: bool = False,
    found: Callable[[], Entries] | None = None,
    console: Console | None = None,
) -> None:
    """Refuse a directory that may not be made or replaced, whole, or need not be; arguments as for `claim_file`."""
    check_directory(output)
    refuse_overlap([output], read)
    tidy(output, [output], console)
    _judge_directory(output, run, force, found)
    run.allowed = _again(lambda: _judge_directory(output, run, force, found))


def refuse_other_kind(output: Path, run: Run) -> None:
    """Refuse a finished directory that is not of the run's kind; one that has no run.json is not judged."""
    if (made := _made(output / "run.json")) is not None:
        _refuse_foreign(output, run, made)


def _judge_directory(output: Path, run: Run, force: bool, found: Callable[[], Entries] | None) -> None:
    check_directory(output)
    if not output.is_dir() or not any(output.iterdir()):
        return
    made = _made(output / "run.json")
    if not force:
        _refuse_existing(output, run, made, found)
    _refuse_foreign(output, run, made)
    known = {*outputs_of(made or {}), "run.json"}
    for name in _files(output):
        if name.as_posix() not in known and not any(part in OTHERS for part in name.parts):
            what = f"holds {name.as_posix()!r}, which its run.json does not name"
            raise UserError(what, where=str(output), hint="move it away, or write elsewhere")


def _again(judge: Callable[[], None]) -> Callable[[], None]:
    def allowed() -> None:
        try:
            judge()
        except CompleteError:  # somebody has made the same
            raise
        except UserError as error:
            what = f"{error.what}; it has come there while this was being made"
            raise UserError(what, where=error.where, hint=error.hint) from None

    return allowed


def refuse_overlap(outputs: Iterable[Path], read: Iterable[str | Path]) -> None:
    """An output that is also read would be lost, or read as an input the next time.

    Places are told apart by what they are, not by how they are spelled: links, `..`, case and mounts do not matter.
    """
    outputs = list(outputs)
    for number, output in enumerate(outputs):
        if any(_is_same(output, other) for other in outputs[:number]):
            raise UserError("two outputs would be written there", where=str(output), hint="name another place")
        above = set(_identities(output.absolute()))
        itself = _identity(output)
        for name in read:
            source = Path(name)
            identity = _identity(source)
            if identity is None or is_stream(source):
                continue
            if identity == itself or _is_same(output, source):
                raise UserError("is also an input", where=str(output), hint="write elsewhere")
            if source.is_dir() and identity in above:
                raise UserError(f"lies inside the input {source}", where=str(output), hint="write elsewhere")
            if itself is not None and itself in _identities(source.absolute()):
                raise UserError(f"contains the input {source}", where=str(output), hint="write elsewhere")


def tidy(output: Path, places: Sequence[Path], console: Console | None = None) -> None:
    """Finish or remove what killed processes have left of these places, and say so."""
    journal.recover(output)
    removed = Swept()
    for directory in {Path(os.path.realpath(place)).parent for place in places}:
        swept = sweep(directory, {Path(os.path.realpath(place)).name for place in places})
        removed = Swept(removed.number + swept.number, removed.bytes + swept.bytes)
    if removed.number and console:
        console.info(str(removed))


def _is_same(one: Path, other: Path) -> bool:
    known = _identity(one)
    return (known is not None and known == _identity(other)) or os.path.realpath(one) == os.path.realpath(other)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _identities(path: Path) -> Iterator[tuple[int, int]]:
    """What the directories above a place are, links followed; those that exist."""
    for place in Path(os.path.realpath(path)).parents:
        if (identity := _identity(place)) is not None:
            yield identity


def _made(manifest: Path) -> dict[str, Any] | None:
    """The run.json that stands there; None where none does. Somebody else's is never overwritten."""
    if not os.path.lexists(manifest):
        return None
    what, hint = f"is not a run.json of llmtool ({SCHEMA})", "move it away, or write elsewhere"
    try:
        facts = read_json_object(manifest)
    except UserError as error:
        raise UserError(f"{what}: {error.what}", where=str(manifest), hint=hint) from None
    if facts.get("schema") != SCHEMA:
        raise UserError(what, where=str(manifest), hint=hint)
    return facts


def outputs_of(made: dict[str, Any]) -> list[str]:
    """Names of the outputs in a run.json, whatever it holds."""
    entries = made.get("outputs")
    listed = entries if isinstance(entries, list) else []
    names = [entry.get("path") if isinstance(entry, dict) else entry for entry in listed]
    return [str(name) for name in names if name is not None]


def _files(directory: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(directory):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in sorted([*names, *links]):
            yield (Path(place) / name).relative_to(directory)


def _refuse_foreign(output: Path, run: Run, made: dict[str, Any] | None) -> None:
    if made is None:
        what = "has no run.json of llmtool, and --force replaces only what has one"
        raise UserError(what, where=str(output), hint="remove it yourself, or write elsewhere")
    if (kind := made.get("kind", made.get("command"))) != run.kind:
        what = f"is a {kind}, made by `llmtool {made.get('command')}`, and --force replaces only its like"
        raise UserError(what, where=str(output), hint="remove it yourself, or write elsewhere")


def _refuse_existing(output: Path, run: Run, made: dict[str, Any] | None, found: Callable[[], Entries] | None) -> None:
    """Always raises: CompleteError where there is nothing to do."""
    if made is None:
        raise UserError("exists already, and has no run.json of llmtool", where=str(output), hint="write elsewhere")
    if made.get("command") != run.command:
        what = f"exists already, made by `llmtool {made.get('command')}`"
        raise UserError(what, where=str(output), hint="use --force to replace it, or write elsewhere")
    now = found() if found else run.inputs
    changed = changes(made.get("config"), run.config, run.spelled, run.defaults)
    if changed and run.options and "options" in made:
        named = named_changes(made["options"], run.options)
        changed = named or (changed if made.get("inputs") == now else [])  # else it follows from what was read
    if made.get("inputs") != now:
        changed.append("the inputs' content")
    if changed:
        what = f"exists already, made with other settings: {'; '.join(changed)}"
        raise UserError(what, where=str(output), hint="use --force to replace it, or write elsewhere")
    if not all(entry.get("sha256") for entry in now):
        raise UserError("exists already; its inputs cannot be compared", where=str(output), hint="use --force")
    refuse_damaged(output, made)
    raise CompleteError(output)


def refuse_damaged(output: Path, made: dict[str, Any]) -> None:
    """What run.json names must be there, as long as it was."""
    where = output if output.is_dir() else output.parent
    entries = made.get("outputs")
    for entry in entries if isinstance(entries, list) else []:
        name, size = (entry.get("path"), entry.get("bytes")) if isinstance(entry, dict) else (entry, None)
        place = where / str(name)
        try:
            held = place.stat().st_size
        except (OSError, ValueError):  # ValueError: a NUL in what is no name
            raise UserError(
                "is not whole: it is missing", where=str(place), hint="use --force to make it again"
            ) from None
        if size is not None and held != size:
            what = f"is not whole: {held} bytes, and run.json says {shown(size)}"
            raise UserError(what, where=str(place), hint="use --force to make it again")
