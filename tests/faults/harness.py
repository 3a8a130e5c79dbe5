"""Every write, rename, fsync, mkdir and unlink of a command fails once, or the process dies there: SQLite's way.

    python -m tests.faults [NAME...]               every call, every way; minutes
    python -m tests.faults --seconds 60 [NAME...]  as many calls as so much processor time pays for
    LLMTOOL_FAULTS=all pytest tests/faults

After each try (trial.py) the old output stands, or the new one, whole; and the same command again gives the bytes of
a run that nothing disturbed. NAME: a command's first words, or a part of its line in commands.py.
"""

import ctypes
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.commands import COMMANDS, Command
from tests.faults.trial import Tree, Trial, difference, hidden, import_everything, tree

SHIM = Path(__file__).with_name("shim.c")
KILL = -1
DEAR = 0.25
"""Seconds of CPU of a run from which on a sample is two tries, not four."""
WAYS = {"killed": KILL, "full disk": errno.ENOSPC, "broken disk": errno.EIO, "interrupted": errno.EINTR}
KINDS = {"w": "write", "o": "open", "m": "mkdir", "r": "rename", "l": "link", "u": "unlink", "s": "fsync",
         "t": "truncate", "c": "chmod"}  # fmt: skip


@dataclass
class Outcome:
    """What became of a command: `calls` of a run that nothing disturbed, `tries`, and what went wrong."""

    name: str
    words: str
    scenario: str
    calls: int = 0
    tries: int = 0
    stood: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Ends:
    """The old output and the new one. known: what the command came to, by Trial.state() when it began.

    From the very same bytes it is not run again.
    """

    old: Tree
    new: Tree
    known: dict[str, tuple[int, Tree, str]]


def examine(
    trial: Trial, command: Command, *, replace: bool, no_exchange: bool = False, budget: float | None
) -> Outcome:
    """Try a command over nothing, or over an old output with --force; `budget`: seconds of CPU, None for every call."""
    scenario = ("replace" if replace else "fresh") + (", no exchange" if no_exchange else "")
    outcome = Outcome(command.name, command.words, scenario)
    began = _cpu()
    saved = trial.root.with_name(trial.root.name + ".saved")
    shutil.rmtree(saved, ignore_errors=True)
    shutil.rmtree(trial.root / "out")
    (trial.root / "out").mkdir()
    words = command.words.format(command.new) + (" --force" if replace else "")
    if not _begin(trial, command.before, outcome):
        return outcome
    if replace and not _plain(trial, command.words.format(command.old), outcome):
        return outcome
    old, started = trial.outputs(), trial.state()
    shutil.copytree(trial.root / "out", saved, symlinks=True)
    clock = _cpu()
    status, kinds, said = trial.run(words, no_exchange=no_exchange)
    cost = _cpu() - clock
    new = trial.outputs()
    ends = Ends(old, new, {started: (status, new, said)})
    if status or not kinds or new == old:
        outcome.wrong.append(f"undisturbed: status {status}, {len(kinds)} calls\n{said}")
        return outcome
    outcome.calls = len(kinds)
    for number, way in choose(kinds, cost, budget):
        trial.restore(saved)
        status, _, said = trial.run(
            words, number, WAYS[way], sticky=way == "full disk", no_exchange=no_exchange
        )  # fmt: skip
        outcome.tries += 1
        where = f"{way} at call {number} of {len(kinds)}, a {KINDS[kinds[number - 1]]}"
        kept = lost(trial, old, new) if replace and command.aside else []
        grows = command.grows and not (replace and command.exchanged)
        for what in judge(trial, words, status, said, way, ends, outcome, grows=grows):
            outcome.wrong.append(f"{where}: {what}")
        outcome.wrong += [f"{where}: {what}" for what in kept]
    shutil.rmtree(saved)
    outcome.seconds = _cpu() - began
    return outcome


def judge(
    trial: Trial, words: str, status: int, said: str, way: str, ends: Ends, outcome: Outcome, *, grows: bool
) -> Iterator[str]:
    """What is wrong after a try; an empty iterator if nothing is."""
    old, new = ends.old, ends.new
    if "Traceback" in said:
        yield f"a traceback\n{said}"
    if way == "killed" and status not in (-signal.SIGKILL, 0):
        yield f"status {status}\n{said}"
    if way != "killed" and status not in (0, 1):
        yield f"status {status}\n{said}"
    if status == 1 and sum(line.startswith("error: ") for line in said.splitlines()) != 1:
        yield f"not one line\n{said}"
    if way == "full disk" and status == 1 and "no space left on device" not in said:
        yield f"a full disk is not said\n{said}"
    stands = settled(trial)
    if status == 0 and not grows and stands != new:
        yield f"success, but {difference(new, stands)}"
    kind = "old" if stands == old else "new" if stands == new else "between"
    outcome.stood[kind] = outcome.stood.get(kind, 0) + 1
    if kind == "between" and not grows:
        yield f"neither the old output nor the new one: {difference(old, stands)}; {difference(new, stands)}"
    if (begins := trial.state()) not in ends.known:
        again, _, said = trial.run(words)
        ends.known[begins] = again, trial.outputs(), said
    again, after, said = ends.known[begins]
    if again or "Traceback" in said:
        yield f"the same command again: status {again}\n{said}"
    elif after != new:
        yield f"the same command again: {difference(new, after)}"


def lost(trial: Trial, old: Tree, new: Tree) -> list[str]:
    """What of an old output stands neither in its place nor aside while the new one is not whole; tokens may go.

    Outputs are what stands in out/, each for itself: the first of two may be new while the second is old.
    """
    found = trial.outputs()
    missed = []
    for name, digest in old.items():
        output, _, rest = name.partition("/")
        whole = all(found.get(other) == made for other, made in new.items() if other.partition("/")[0] == output)
        if (
            not whole
            and "/tokens/" not in name
            and digest not in (found.get(name), found.get(f"{output}/.before/{rest}"))
        ):
            missed.append(name)
    return [f"lost: {', '.join(missed)}"] if missed else []


def settled(trial: Trial) -> Tree:
    """What a reader finds: journals finished, as the next start does it, and no file that was never finished.

    On a copy: what the next start finds is what was left, or it would never be seen to mend anything itself.
    """
    from llmtool.core.run.journal import recover

    copy = trial.root.with_name(trial.root.name + ".settled")
    shutil.copytree(trial.root / "out", copy, symlinks=True)
    try:
        for path in list(copy.rglob(".*.llmtool-commit")):
            recover(path.with_name(path.name[1:].removesuffix(".llmtool-commit")))
        return {name: digest for name, digest in tree(copy).items() if not hidden(name)}
    finally:
        shutil.rmtree(copy)


def choose(kinds: str, cost: float, budget: float | None) -> list[tuple[int, str]]:
    """Which calls to disturb, and how: all, or as many as `budget` pays for, kinds of calls evenly, ways in turn."""
    every = [(number, way) for number in range(1, len(kinds) + 1) for way in WAYS]
    if budget is None:
        return every
    least = 4 if cost < DEAR else 2
    rng, wanted = random.Random(len(kinds)), max(least, int(budget / (2 * max(cost, 1e-3))))
    if wanted >= len(every):
        return every
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for number, way in every:
        if way != "interrupted" or kinds[number - 1] in "rs":
            groups.setdefault((kinds[number - 1], way), []).append((number, way))
    for members in groups.values():
        rng.shuffle(members)
    order = sorted(groups)
    rng.shuffle(order)
    chosen: list[tuple[int, str]] = []
    while len(chosen) < wanted and any(groups.values()):
        chosen += [groups[key].pop() for key in order if groups[key]]
    return chosen[:wanted]


def named(names: list[str]) -> list[Command]:
    """The commands of these names; all of them if none is given."""
    whole = {command.name for command in COMMANDS}
    found = [c for c in COMMANDS for name in names if name == c.name or (name not in whole and name in c.words)]
    return found if names else list(COMMANDS)


def run_all(names: list[str], budget: float | None, every: bool) -> Iterator[Outcome]:
    """The commands in a directory of their own; `every`: also over an old output, and without an exchange."""
    import tempfile

    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    with tempfile.TemporaryDirectory(prefix="llmtool-faults-") as folder:
        place = Path(os.path.realpath(folder))
        trial = Trial(place / "w", shim)
        trial.root.mkdir()
        os.environ["TMPDIR"] = str(trial.root / "tmp")
        tempfile.tempdir = None
        import_everything()
        trial.prepare()
        for command in named(names):
            if "gguf" in command.words and not (trial.root / "in" / "model.gguf").exists():
                continue
            replaces = "{}" in command.words
            if not every:
                yield examine(
                    trial, command, replace=replaces and (not command.grows or command.exchanged), budget=budget
                )
                continue
            yield examine(trial, command, replace=False, budget=budget)
            if replaces:
                yield examine(trial, command, replace=True, budget=budget)
                yield examine(trial, command, replace=True, no_exchange=True, budget=budget)


def start(names: list[str], budget: float | None, shim: Path, *, every: bool) -> subprocess.Popen[str]:
    """This module as a process of its own, the shim preloaded; one Outcome as JSON a line on its stdout."""
    if not shim.exists():
        compiler = sysconfig.get_config_var("CC").split()[0]
        shim.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, SHIM, "-ldl"], check=True)
    environment = {
        **os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "LLMTOOL_FAULTS_ASKED": json.dumps({"names": names, "budget": budget, "every": every}),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.faults.harness"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )  # fmt: skip


def _begin(trial: Trial, before: tuple[str, ...], outcome: Outcome) -> bool:
    """What is done first, each step once: what comes of it is kept for the commands that follow."""
    kept = trial.root.with_name(f"{trial.root.name}.before-{zlib.crc32(' '.join(before).encode()):08x}")
    if before and kept.exists():
        trial.restore(kept)
        return True
    done = not before or (_begin(trial, before[:-1], outcome) and _plain(trial, before[-1], outcome))
    if before and done:
        shutil.copytree(trial.root / "out", kept, symlinks=True)
    return done


def _plain(trial: Trial, words: str, outcome: Outcome) -> bool:
    status, _, said = trial.run(words)
    if status:
        outcome.wrong.append(f"llmtool {words}: status {status}\n{said}")
    return not status


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Outcomes as JSON, one a line."""
    began = time.time()
    for outcome in run_all(**json.loads(os.environ["LLMTOOL_FAULTS_ASKED"])):
        print(json.dumps(outcome.__dict__), flush=True)
    print(f"{time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
