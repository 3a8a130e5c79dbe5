"""Every file that is read, made hostile: a UserError or the right answer, within 5 s and 1 GB.

    python -m tests.hostile [--tries N | --seconds N] [--every-cut] [NAME...]     by hand; a line a reader

One process imports everything, makes the files, and forks a child for each reader. The child makes the cases by their
numbers, so each can be had again. One that takes more than SECONDS of processor time ends the child, and the parent,
which has been told the number, begins another behind it.
"""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from llmtool.core.run.errors import UserError
from tests.faults.trial import Trial, import_everything
from tests.hostile.answers import MADE
from tests.hostile.mutations import mutate
from tests.hostile.readers import PREPARE, READERS, Reader
from tests.hostile.reading_runs import TRAIN
from tests.hostile.rows import ROWS
from tests.hostile.seeds import seeds

SECONDS, MEMORY = 5, 1 << 30
LOOP = 0.05
"""Seconds that `slowness` takes where 5 s are the limit; a machine on which it takes longer is given as much more."""
STEADY = 30
WAIT = 900
"""Seconds of a clock after which a case waits for ever; what works is ended by its processor time."""
LONGEST = 3000
"""Characters of an error: one line, whatever a file holds."""
CUTS = 6000
"""Bytes of a small file, which is cut at every one of them."""


@dataclass
class Outcome:
    """What became of a reader's cases. taken: those that gave an answer; wrong: by what went wrong, the first case."""

    name: str
    cases: int = 0
    taken: int = 0
    seconds: float = 0.0
    wrong: dict[str, str] = field(default_factory=dict)


ROW, SPECIAL = 1 << 40, 1 << 41
"""Numbers from which on a case is a row of rows.py, or a special file in the place of the one that is read."""
SPECIALS = ("pipe", "device", "socket", "directory", "nothing")


def case(reader: Reader, seed: bytes, number: int) -> bytes:
    """Case `number`: the file itself, then mutations; negative: the first -number - 1 bytes of it."""
    if number == 0 or number >= SPECIAL:
        return seed
    if number >= ROW:
        return ROWS[number - ROW].apply(seed)
    return seed[: -number - 1] if number < 0 else mutate(reader.kind, seed, Random(f"{reader.name} {number}"))


def always(reader: Reader) -> list[int]:
    """The cases that are tried whatever the sample is."""
    rows = [ROW + number for number, row in enumerate(ROWS) if row.reader == reader.name]
    return rows + [SPECIAL + number for number, kind in enumerate(SPECIALS) if not (reader.stream and kind == "pipe")]


def put_special(path: Path, kind: str) -> None:
    """Something that is no file in the place of one."""
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        case "directory":
            path.mkdir()


def try_one(reader: Reader, root: Path, data: bytes, special: str | None = None) -> tuple[bool, str]:
    """(whether it was taken, what is wrong); the files that a reader changes have been put back."""
    shutil.rmtree(root / MADE, ignore_errors=True)
    (root / MADE).mkdir()
    if reader.again:
        shutil.rmtree(root / reader.again)
        shutil.copytree(root / "saved" / reader.again, root / reader.again)
    path = root / reader.file
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    if special is not None:
        put_special(Path(reader.file), special)
    try:
        reader.read(Path(reader.file))
    except UserError as error:
        text = str(error)
        if special is None and data == (root / "saved" / reader.file).read_bytes():
            return False, text
        if len(text) > LONGEST or not text.isprintable():
            return False, f"an error of {len(text):,} characters that are not all printable: {text[:80]!r}"
        return False, ""
    except MemoryError as error:
        return False, f"needs too much memory, at {_where(error)}"
    except Exception as error:
        return False, f"{type(error).__name__} at {_where(error)}"
    return True, ""


def _where(error: BaseException) -> str:
    """The last line of ours that it came through."""
    passed = [each for each in traceback.extract_tb(error.__traceback__) if "/llmtool/" in each.filename]
    return f"{Path(passed[-1].filename).relative_to(ROOT)}:{passed[-1].lineno}" if passed else "the test itself"


ROOT = Path(__file__).parents[2]


def examine(trial: Trial, reader: Reader, numbers: list[int]) -> Outcome:
    """Try cases in a child, in another one where it ends."""
    outcome = Outcome(reader.name)
    clock = _cpu()
    limit = SECONDS * slowness(int(time.monotonic() / STEADY))
    while numbers:
        said, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(said)
            _serve(trial.root, reader, numbers, told, limit)
        os.close(told)
        last, warned = 0, ""
        with os.fdopen(said, "rb") as pipe:
            for line in pipe:
                message = json.loads(line)
                last = message["number"]
                if "wrong" not in message:
                    continue
                warned = message["wrong"]
                outcome.cases += 1
                outcome.taken += message["taken"]
                if warned:
                    outcome.wrong.setdefault(warned, f"case {last}")
                numbers = numbers[1:]
        _, status = os.waitpid(child, 0)
        if code := os.waitstatus_to_exitcode(status):
            why = {-signal.SIGPROF: f"takes more than {SECONDS} s", -signal.SIGALRM: "waits"}.get(
                code, f"ended by {code}"
            )
            outcome.wrong.setdefault(why, f"case {last}")
            outcome.cases, numbers = outcome.cases + 1, numbers[1:]
    shutil.rmtree(trial.root / "in")
    shutil.copytree(trial.root / "saved" / "in", trial.root / "in", symlinks=True)
    outcome.seconds = _cpu() - clock
    return outcome


def _serve(root: Path, reader: Reader, numbers: list[int], told: int, limit: float) -> None:
    """The child: never returns. limit: seconds of processor time that a case may take."""
    status = 1
    try:
        os.chdir(root)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        seed = (root / "saved" / reader.file).read_bytes()
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        for number in numbers:
            data = case(reader, seed, number)  # a mutation that fails ends the child, and is told so
            os.write(told, json.dumps({"number": number}).encode() + b"\n")
            signal.setitimer(signal.ITIMER_PROF, limit)
            signal.alarm(WAIT)
            special = SPECIALS[number - SPECIAL] if number >= SPECIAL else None
            taken, wrong = try_one(reader, root, data, special)
            if special in ("pipe", "device", "socket") and taken and not reader.optional:
                wrong = wrong or f"a {special} is read"
            if number == 0 and not taken:
                wrong = f"the file as it was made is refused: {wrong}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(told, json.dumps({"number": number, "taken": taken, "wrong": wrong}).encode() + b"\n")
        status = 0
    finally:
        os._exit(status)


@lru_cache(1)
def slowness(now: int) -> float:
    """How many times slower than that this machine is `now`, at least 1; asked anew every STEADY seconds."""

    def loop() -> float:
        begun = time.process_time()
        for _ in range(1_000_000):
            pass
        return time.process_time() - begun

    return max(1.0, min(loop() for _ in range(3)) / LOOP)


def prepare(root: Path) -> Trial:
    """The files, and a copy of them."""
    trial = Trial(root)
    root.mkdir()
    import_everything()
    trial.prepare()
    for words in PREPARE:
        status, _, said = trial.run(words)
        if status:
            raise RuntimeError(f"llmtool {words}: {status}\n{said}")
    for name, data in seeds():
        (root / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "in" / name).write_bytes(data)
    _stop_in_the_middle(trial)
    shutil.copytree(root / "in", root / "saved" / "in", symlinks=True)
    return trial


def _stop_in_the_middle(trial: Trial) -> None:
    """in/run: a training of which two of four steps are done; in/finished: the whole one."""
    words = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in TRAIN.items())
    status, _, said = trial.run(f"train in/ids.bin -o in/finished {words}")
    if status:
        raise RuntimeError(said)
    run = trial.root / "in" / "run"
    shutil.copytree(trial.root / "in" / "finished", run)
    for name in ("run.json", "config.json", "model.safetensors"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints" / "00000004")


def run_all(names: list[str], tries: int | None, seconds: float, cuts: bool) -> Iterator[Outcome]:
    """A share of the tries, or of the time, for each reader."""
    with tempfile.TemporaryDirectory(prefix="llmtool-hostile-") as folder:
        trial = prepare(Path(os.path.realpath(folder)) / "w")
        for reader in READERS:
            if names and reader.name not in names:
                continue
            seed = trial.root / "saved" / reader.file
            if reader.kind == "bytes" and "gguf" in reader.file and not seed.exists():  # without the package
                continue
            numbers = [-1 - cut for cut in range(seed.stat().st_size)] if cuts and seed.stat().st_size <= CUTS else []
            if tries is not None:
                yield examine(trial, reader, [*range(max(2, tries // reader.cost)), *numbers, *always(reader)])
                continue
            yield _timed(trial, reader, numbers, seconds)


def _timed(trial: Trial, reader: Reader, numbers: list[int], seconds: float) -> Outcome:
    """As many as fit into some seconds of processor time."""
    whole, at = examine(trial, reader, numbers), 0
    while whole.seconds < seconds:
        part = examine(trial, reader, list(range(at, at := at + max(4, 200 // reader.cost))))
        whole.cases, whole.taken = whole.cases + part.cases, whole.taken + part.taken
        whole.seconds += part.seconds
        for what, first in part.wrong.items():
            whole.wrong.setdefault(what, first)
    return whole


ROUND = 50
"""Cases of a reader in a round of the longest form; fewer where one takes long."""


def cases_of_a_round(readers: list[Reader]) -> int:
    """How many cases a round tries."""
    return sum(max(1, ROUND // reader.cost) for reader in readers)


def run_rounds(names: list[str], first: int, count: int, jobs: int) -> Iterator[tuple[int, list[Outcome]]]:
    """Round `first` and `count` - 1 more in several processes: (round, outcomes of its readers), in their order.

    Round k tries the cases k * ROUND .. of every reader, so what was tried once need not be tried again.
    """
    with tempfile.TemporaryDirectory(prefix="llmtool-hostile-") as folder:
        root = Path(os.path.realpath(folder))
        trial = prepare(root / "0")
        for number in range(1, jobs):
            shutil.copytree(trial.root, root / str(number), symlinks=True)
        context = multiprocessing.get_context("fork")
        free = context.SimpleQueue()
        for number in range(jobs):
            free.put(root / str(number))
        readers = [each for each in READERS if (not names or each.name in names) and (trial.root / each.file).exists()]
        with context.Pool(jobs, _settle, (free, readers)) as pool:
            yield from pool.imap(_round, range(first, first + count))


_settled: dict[str, Any] = {}
"""Of a worker: where it tries, and what."""


def _settle(free: Any, readers: list[Reader]) -> None:
    _settled.update(trial=Trial(free.get()), readers=readers)


def _round(number: int) -> tuple[int, list[Outcome]]:
    shares = ((reader, max(1, ROUND // reader.cost)) for reader in _settled["readers"])
    return number, [examine(_settled["trial"], reader, [*range(number * share, (number + 1) * share)])
                    for reader, share in shares]  # fmt: skip


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Outcomes as JSON, one a line; asked for by the environment."""
    asked: dict[str, Any] = json.loads(os.environ["LLMTOOL_HOSTILE"])
    began = time.time()
    for outcome in run_all(**asked):
        print(json.dumps(outcome.__dict__), flush=True)
    print(f"{time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
