"""OUT/checkpoints/STEP: all that a resumed run needs, whole or not there at all.

Tensors go through torch.distributed.checkpoint's safetensors writer, each process its own part: weights, the
optimizer's state, random states. state.json holds the rest, and the checksum of every file. Nothing is a pickle; a run
saved by one number of processes is resumed by any other.
"""

import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from llmtool.core.run.atomic import PARTIAL, sync_tree
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.journal import exchange, stands
from llmtool.core.run.json_file import dumps, parse_json, read_json_object
from llmtool.core.run.numbers import real, whole
from llmtool.core.run.seal import seal_of, sealed
from llmtool.core.train.optimizers import Optimizers
from llmtool.core.train.parallel import Trainee
from llmtool.core.train.world import World

SCHEMA = "llmtool.train-state/1"
STATE, FOLDER = "state.json", "checkpoints"
_STEP = re.compile(r"[0-9]{8}")


@dataclass
class Progress:
    """Where a run is. seconds: of training, restarts left out; mean: running mean of the loss, for the guard."""

    step: int = 0
    seconds: float = 0.0
    mean: float | None = None
    terms: dict[str, Any] = field(default_factory=dict)
    """State of each method's term."""


class Checkpoints:
    """The last `keep` states of a run in OUT/checkpoints."""

    def __init__(self, output: Path, world: World, keep: int = 2) -> None:
        self.folder, self.world, self.keep = output / FOLDER, world, keep

    def latest(self, console: Console) -> Path | None:
        """The newest state that is whole; damaged ones are told, passed over and removed. None where there was none.

        The leading process looks, the others are told.
        """
        found = torch.tensor(-1 if self.world.leader else 0, device=self.world.device)
        damaged: list[Path] = []
        if self.world.leader:
            for path in sorted(self._complete(), reverse=True):
                if (what := damage(path)) is None:
                    found.fill_(int(path.name))
                    break
                damaged.append(path)
                found.fill_(-2)
                console.warn(f"{path}: {what}; the state before is taken")
        step = int(self.world.total(found))
        if step == -2:
            raise UserError("no state is whole", where=str(self.folder), hint="start over with --force")
        if self.world.leader:
            for path in damaged:  # else a later state would be let go for a damaged one
                shutil.rmtree(path)
        return None if step < 0 else self.folder / f"{step:08}"

    def _complete(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if _STEP.fullmatch(path.name) and (path / STATE).is_file()]

    def save(self, trainee: Trainee, optimizers: Optimizers, progress: Progress) -> Path:
        """Write a state beside its place, sync it, exchange it for what stands there, and let the oldest go."""
        final = self.folder / f"{progress.step:08}"
        work = self.folder / f".{final.name}.training{PARTIAL}"
        if self.world.leader:
            with _explained(final):
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True)
        self.world.barrier()
        try:
            with _explained(final):
                _save_tensors(tensors(trainee, optimizers, self.world), work, self.world)
            self.world.barrier()
            if self.world.leader:
                with _explained(final):
                    for shard in work.glob("*.safetensors"):
                        settle_header(shard)
                facts = {"schema": SCHEMA, **asdict(progress), "processes": self.world.size, "files": checksums(work)}
                with _explained(final):
                    (work / STATE).write_text(sealed(facts), encoding="utf-8")
                    sync_tree(work)
                    exchange(work, final)
                for old in sorted(self._complete())[: -self.keep]:
                    shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            if self.world.leader and not stands(final):
                shutil.rmtree(work, ignore_errors=True)
            raise
        self.world.barrier()
        return final

    def load(self, path: Path, trainee: Trainee, optimizers: Optimizers) -> Progress:
        """Read a state into the model and the optimizer; what does not fit is one line."""
        facts = read_json_object(path / STATE)
        if facts.get("schema") != SCHEMA:
            raise UserError(f"not a state of training ({SCHEMA})", where=str(path / STATE))
        optimizers.make_state()
        wanted = tensors(trainee, optimizers, self.world)
        _load_tensors(wanted, path, self.world)
        if (random := wanted.get(f"random/{self.world.rank}")) is not None:
            torch.set_rng_state(random)
        where = str(path / STATE)
        mean, terms = facts.get("mean"), facts.get("terms")
        if not isinstance(terms, dict):
            raise UserError("terms: not an object", where=where)
        return Progress(
            whole(facts.get("step"), "step", where=where),
            real(facts.get("seconds"), "seconds", low=0, where=where),
            None if mean is None else real(mean, "mean", where=where),
            terms,
        )


def tensors(trainee: Trainee, optimizers: Optimizers, world: World) -> dict[str, torch.Tensor]:
    """Every tensor of a state: model/NAME, optimizer/NAME/KEY, random/RANK."""
    tied = trainee.decoder.config.tie_word_embeddings
    state = trainee.decoder.state_dict()
    return {
        **{f"model/{name}": value for name, value in state.items() if not (tied and name == "lm_head.weight")},
        **{f"optimizer/{name}": value for name, value in optimizers.state().items()},
        f"random/{world.rank}": torch.get_rng_state(),
    }


def _save_tensors(values: Mapping[str, torch.Tensor], folder: Path, world: World) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    writer = HuggingFaceStorageWriter(str(folder), files_of(values, world), save_distributed=True)
    with _quiet():
        dcp.save(dict(values), storage_writer=writer, no_dist=not world.distributed)  # type: ignore[attr-defined]


PART = 1 << 28
"""Bytes of a file of a state, of one process: the writer holds a file's content twice before it is on the disk, which
took 6 GB beside the 3.2 GB of a model of 0.4B parameters on two processes when a process wrote one file."""


def files_of(values: Mapping[str, torch.Tensor], world: World, most: int = PART) -> dict[str, int]:
    """Number of the file, from 1, that each tensor goes into, the same for every process."""
    places, number, size = {f"random/{rank}": 1 for rank in range(world.size)}, 1, 0
    for name, value in values.items():
        own = value.numel() * value.element_size() // world.size
        if size and size + own > most and name not in places:
            number, size = number + 1, 0
        places.setdefault(name, number)
        size += own
    return places


def _load_tensors(wanted: dict[str, torch.Tensor], folder: Path, world: World) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    where = str(folder)
    try:
        held = HuggingFaceStorageReader(where).read_metadata().state_dict_metadata
        if f"random/{world.rank}" not in held:
            wanted.pop(f"random/{world.rank}")
        check_names(held, wanted, where)
        for name, value in wanted.items():
            if (size := list(getattr(held[name], "size", ()))) != list(value.shape):
                raise UserError(f"{name} has shape {size}, wanted {list(value.shape)}", where=where)
        with _quiet():
            dcp.load(wanted, storage_reader=HuggingFaceStorageReader(where), no_dist=not world.distributed)  # type: ignore[attr-defined]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"the state cannot be read: {error}", where=where, hint="remove it to resume earlier") from None
    except Exception as error:
        if type(error).__name__ != "SafetensorError" and "CheckpointException" not in type(error).__name__:
            raise
        raise UserError(f"the state cannot be read: {error}", where=where, hint="remove it to resume earlier") from None


def check_names(held: Collection[str], wanted: Collection[str], where: str) -> None:
    """Refuse a saved state that is not that of these parameters; random states of other processes are no matter."""
    for name in sorted(set(wanted) ^ set(held)):
        if not name.startswith("random/"):
            what = "is not in the state" if name in wanted else "is in the state, but not in this model's"
            raise UserError(f"{name} {what}", where=where, hint="start over with --force")


@contextmanager
def _quiet() -> Iterator[None]:
    """torch warns that one process is one process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def settle_header(path: Path) -> None:
    """Put the notes of a safetensors header in order, in place: the writer takes them from a hash map, whose order is
    another one in every process, and the same run would give other bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        facts = parse_json(file.read(size))
        facts["__metadata__"] = dict(sorted(facts.get("__metadata__", {}).items()))
        text = dumps(facts, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # spaces pad a header, and an order is no longer than another
            file.seek(8)
            file.write(text.ljust(size))


def checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """{name: {"bytes", "sha256"}} of a state's files, as they are on the disk."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != STATE:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.name] = {"bytes": path.stat().st_size, "sha256": digest}
    return found


def damage(path: Path) -> str | None:
    """What is wrong with a state on the disk; None where every byte is the one that was written."""
    try:
        facts = read_json_object(path / STATE)
        named, held = facts.get("files"), checksums(path)
    except UserError as error:
        return error.what
    except OSError as error:
        return f"cannot be read: {explain_os_error(error)}"
    if facts.get("sha256") != seal_of(facts) or not isinstance(named, dict):
        return f"{STATE} is damaged: its checksum differs"
    for name in sorted({*named, *held}):
        if name not in held or name not in named:
            return f"{name} is {'missing' if name in named else 'not of this state'}"
        if named[name] != held[name]:
            return f"{name} is damaged: its checksum differs"
    return None


def reason_of(error: BaseException) -> str | None:
    """The operating system's reason for a failure, wherever torch or safetensors have put it; None if it is another."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return explain_os_error(cause)
        for failed, _ in getattr(cause, "failures", {}).values():  # a CheckpointException's, by process
            if (reason := reason_of(failed)) is not None:
                return reason
        if number := _NUMBERED.search(str(cause)):
            return os.strerror(whole(number[1], "number of an error")).lower()
        cause = cause.__cause__ or cause.__context__
    return None


_NUMBERED = re.compile(r"(?:os error|Errno) (\d{1,5})\b")
"""As Rust and Python spell the number of an operating system's error."""


class _explained:  # noqa: N801 - reads as a word where it is used
    """Failures of writing as one line; the run goes on from the last state that is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        """The operating system's reason, wherever torch has wrapped it."""
        if error is None or isinstance(error, KeyboardInterrupt | SystemExit | UserError):
            return
        if (reason := reason_of(error)) is None:
            return
        first = "free some space and " if "no space" in reason else ""
        hint = f"the last state is intact: {first}run the same command again"
        raise UserError(f"cannot write: {reason}", where=str(self.path), hint=hint) from error
