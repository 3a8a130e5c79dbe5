"""Every write, rename, fsync, mkdir and unlink of a command fails once, or the process dies there: SQLite's way.

    python -m tests.faults [NAME]      every call, every way; minutes
    LLMTOOL_FAULTS=all pytest tests/faults

One process imports everything and forks: a try costs what the command itself costs, without its imports. shim.c is
preloaded and counts the calls below the directory of the trial; which one fails is told to the fork alone. After each
try the old output stands, or the new one, whole; and the same command again gives the bytes of a run that nothing
disturbed.
"""

import ctypes
import errno
import hashlib
import importlib
import importlib.util
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.commands import COMMANDS, CONFIG, INPUTS, Command

SHIM = Path(__file__).with_name("shim.c")
KILL = -1
WAYS = {"killed": KILL, "full disk": errno.ENOSPC, "broken disk": errno.EIO, "interrupted": errno.EINTR}
SECONDS = 60
"""After which a try counts as one that hangs."""
KINDS = {"w": "write", "o": "open", "m": "mkdir", "r": "rename", "l": "link", "u": "unlink", "s": "fsync",
         "t": "truncate", "c": "chmod"}  # fmt: skip
VARYING = ("started", "git", "wall_seconds", "cpu_seconds", "argv", "time", "tokens_per_s", "seconds")
"""Keys of JSON that no two runs have the same."""

Tree = dict[str, str]


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


class Trial:
    """A directory with inputs, in which one command is tried."""

    def __init__(self, root: Path, shim: ctypes.CDLL) -> None:
        self.root, self.shim = root, shim
        shim.fault_kinds.restype = ctypes.c_char_p
        shim.fault_seen.restype = ctypes.c_long

    def prepare(self) -> None:
        """Make the inputs."""
        for name in ("in", "out", "tmp"):
            (self.root / name).mkdir()
        write_inputs(self.root / "in")
        write_gguf(self.root / "in" / "model.gguf")
        for words in INPUTS:
            status, _, said = self.run(words)
            if status:
                raise RuntimeError(f"llmtool {words}: {status}\n{said}")

    def run(
        self, words: str, number: int = 0, how: int = 0, *, sticky: bool = False, no_exchange: bool = False
    ) -> tuple[int, str, str]:
        """Run `llmtool WORDS` in a fork, call `number` failing: (status, kinds of the calls, stderr)."""
        report = self.root.with_name(self.root.name + ".report")
        child = os.fork()
        if child == 0:
            status = 99
            try:
                signal.alarm(SECONDS)
                os.chdir(self.root)
                said = os.open(report.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(said, 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                root = str(self.root).encode() + b"/"
                self.shim.fault_arm(root, ctypes.c_long(number), how, int(sticky), int(no_exchange))
                status = invoke(shlex.split(words))
                self.shim.fault_arm(b"/nowhere/", ctypes.c_long(0), 0, 0, 0) if number else None
                if not number:
                    report.write_bytes(self.shim.fault_kinds())
                    report.with_suffix(".imported").write_text("\n".join(sys.modules))
            except BaseException:  # whatever it is, the parent is told
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        kinds = report.read_text() if report.exists() and not number else ""
        if not number and (imported := report.with_suffix(".imported")).exists():
            for name in imported.read_text().splitlines():  # so that the next fork need not
                with suppress(Exception):
                    name in sys.modules or importlib.import_module(name)
        report.unlink(missing_ok=True)
        return os.waitstatus_to_exitcode(ended), kinds, report.with_suffix(".err").read_text(errors="replace")

    def outputs(self) -> Tree:
        """What stands in out/, hidden leftovers included: name -> hash of what no two runs have different."""
        found = {}
        for path in sorted((self.root / "out").rglob("*")):
            if path.is_file():
                found[str(path.relative_to(self.root / "out"))] = _digest(path)
        return found

    def restore(self, saved: Path) -> None:
        """out/ as it was saved."""
        shutil.rmtree(self.root / "out")
        shutil.copytree(saved, self.root / "out", symlinks=True)
        for left in (self.root / "tmp").iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def invoke(words: list[str]) -> int:
    """The command line, in this process."""
    from llmtool.__main__ import main

    sys.argv = ["llmtool", *words]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


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
    if not all(_plain(trial, each, outcome) for each in command.before):
        return outcome
    if replace and not _plain(trial, command.words.format(command.old), outcome):
        return outcome
    old = trial.outputs()
    shutil.copytree(trial.root / "out", saved, symlinks=True)
    clock = _cpu()
    status, kinds, said = trial.run(words, no_exchange=no_exchange)
    cost = _cpu() - clock
    new = trial.outputs()
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
        for what in judge(trial, command, words, status, said, way, old, new, outcome):
            outcome.wrong.append(f"{where}: {what}")
    shutil.rmtree(saved)
    outcome.seconds = _cpu() - began
    return outcome


def judge(
    trial: Trial, command: Command, words: str, status: int, said: str, way: str, old: Tree, new: Tree, outcome: Outcome
) -> Iterator[str]:
    """What is wrong after a try; an empty iterator if nothing is."""
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
    if status == 0 and not command.grows and stands != new:
        yield f"success, but {_difference(new, stands)}"
    kind = "old" if stands == old else "new" if stands == new else "between"
    outcome.stood[kind] = outcome.stood.get(kind, 0) + 1
    if kind == "between" and not command.grows:
        yield f"neither the old output nor the new one: {_difference(old, stands)}; {_difference(new, stands)}"
    again, _, said = trial.run(words)
    after = trial.outputs()
    if again or "Traceback" in said:
        yield f"the same command again: status {again}\n{said}"
    elif after != new:
        yield f"the same command again: {_difference(new, after)}"


def settled(trial: Trial) -> Tree:
    """What a reader finds: journals finished, as the next start does it, and no file that was never finished."""
    from llmtool.core.run.journal import recover

    for path in list((trial.root / "out").rglob(".*.llmtool-commit")):
        recover(path.with_name(path.name[1:].removesuffix(".llmtool-commit")))
    return {name: digest for name, digest in trial.outputs().items() if not _hidden(name)}


def choose(kinds: str, cost: float, budget: float | None) -> list[tuple[int, str]]:
    """Which calls to disturb, and how: all, or as many as `budget` pays for, kinds of calls evenly, ways in turn."""
    every = [(number, way) for number in range(1, len(kinds) + 1) for way in WAYS]
    if budget is None:
        return every
    rng, wanted = random.Random(len(kinds)), max(4, int(budget / (2 * max(cost, 1e-3))))
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


def run_all(names: list[str], budget: float | None) -> Iterator[Outcome]:
    """Every command, in a directory of its own."""
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
        for command in COMMANDS:
            if names and command.name not in names:
                continue
            if "gguf" in command.words and not (trial.root / "in" / "model.gguf").exists():
                continue
            replaces = "{}" in command.words
            if budget is not None:
                yield examine(trial, command, replace=replaces and not command.grows, budget=budget)
                continue
            yield examine(trial, command, replace=False, budget=None)
            if replaces:
                yield examine(trial, command, replace=True, budget=None)
                yield examine(trial, command, replace=True, no_exchange=True, budget=None)


def import_everything() -> None:
    """What commands would import; without threads, which a fork does not take along."""
    import matplotlib.figure  # noqa: F401
    import numpy  # noqa: F401
    import scipy.optimize  # noqa: F401
    import torch
    import torch.distributed.checkpoint

    from llmtool.cli.app import build
    from llmtool.core.bpe import agreement
    from llmtool.core.train import loop, optimizers, parallel, state  # noqa: F401

    build().commands.items()  # all of them made, and so imported
    torch.set_num_threads(1)
    agreement.__dict__["_readers"] = (
        lambda _: {}
    )  # other libraries read exports back in processes of their own: nothing is written


def start(names: list[str], budget: float | None, shim: Path) -> subprocess.Popen[str]:
    """This module as a process of its own, the shim preloaded; one Outcome as JSON a line on its stdout."""
    if not shim.exists():
        compiler = sysconfig.get_config_var("CC").split()[0]
        shim.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, SHIM, "-ldl"], check=True)
    environment = {
        **os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "LLMTOOL_FAULTS_BUDGET": "" if budget is None else str(budget),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.faults.harness", *names]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )  # fmt: skip


def write_inputs(place: Path) -> None:
    """Text, a model's config, conversations, a log of losses, documents."""
    words = ["old", "output", "or", "new", "one", "stands", "whole", "rerun", "gives", "same", "bytes", "again"]
    rng = random.Random(0)
    lines = [" ".join(rng.choice(words) for _ in range(12)) for _ in range(200)]
    (place / "text.txt").write_text("\n".join(lines))
    (place / "config.json").write_text(json.dumps(CONFIG))
    chats = [
        {"messages": [{"role": "user", "content": a[:20]}, {"role": "assistant", "content": b[:20]}]}
        for a, b in zip(lines[::2], lines[1::2], strict=True)
    ]
    (place / "chat.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats[:40]))
    rows = [{"step": s, "loss": 2 + 8 * s**-0.4, "lr": 1e-3 * (1 - s / 4200)} for s in range(20, 4001, 20)]
    (place / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    losses = {s: [3 + 2 / (i + 1) + 8 * s**-0.4 for i in range(8)] for s in range(100, 4001, 100)}
    at = "".join(json.dumps({"step": s, "lr": 1e-3, "pos_val": row}) + "\n" for s, row in losses.items())
    (place / "positions.jsonl").write_text(at)
    sizes = [(n, d, 1.7 + 400 * n**-0.34 + 410 * d**-0.28) for n in (1e7, 4e7, 2e8) for d in (1e9, 5e9, 2e10, 1e11)]
    runs = "".join(f"{n:.0f},{d:.0f},{loss}\n" for n, d, loss in sizes)
    (place / "runs.csv").write_text("params,tokens,loss\n" + runs)
    texts = ["\n\n".join(rng.choice(lines) for _ in range(5)) for _ in range(60)]
    (place / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def write_gguf(path: Path) -> None:
    """A model of one layer as other programs write it; nothing without the package."""
    if importlib.util.find_spec("gguf") is None:
        return
    import gguf
    import numpy as np

    rng, size, inner = np.random.default_rng(0), 16, 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<s>", *(chr(33 + n) for n in range(90)), "th"])
    writer.add_token_types([3, *[1] * 91])
    writer.add_token_merges(["t h"])
    shapes = {"token_embd": (92, size), "output_norm": (size,), "blk.0.attn_norm": (size,), "blk.0.ffn_norm": (size,)}
    shapes |= {f"blk.0.attn_{part}": (size, size) for part in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (inner, size), "blk.0.ffn_up": (inner, size), "blk.0.ffn_down": (size, inner)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(0, 0.02, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _plain(trial: Trial, words: str, outcome: Outcome) -> bool:
    status, _, said = trial.run(words)
    if status:
        outcome.wrong.append(f"llmtool {words}: status {status}\n{said}")
    return not status


def _hidden(name: str) -> bool:
    """What writers had not finished: never looked at by a reader, and taken away by the next writer."""
    return any(part.startswith(".") for part in Path(name).parts)


def _digest(path: Path) -> str:
    data = path.read_bytes()
    with suppress(ValueError):
        rows = [_steady(json.loads(line)) for line in (data.splitlines() if path.suffix == ".jsonl" else [data])]
        if path.name == "state.json":  # its own checksum, of its seconds too
            rows = [{key: value for key, value in row.items() if key != "sha256"} for row in rows]
        data = json.dumps(rows, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(inner) for key, inner in value.items() if key not in VARYING}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value


def _difference(wanted: Tree, found: Tree) -> str:
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return ", ".join(f"{name} {'is missing' if name not in found else 'differs' if name in wanted else 'is too much'}"
                     for name in names) or "nothing differs"  # fmt: skip


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Outcomes as JSON, one a line."""
    given = os.environ["LLMTOOL_FAULTS_BUDGET"]
    began = time.time()
    for outcome in run_all(sys.argv[1:], float(given) if given else None):
        print(json.dumps(outcome.__dict__), flush=True)
    print(f"{time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
