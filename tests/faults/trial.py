"""A directory in which commands run in forks of one process that has imported everything.

A try costs what the command itself costs. shim.c is preloaded and counts the calls below the directory; which one
fails is told to the fork alone.
"""

import ctypes
import hashlib
import importlib
import json
import os
import shlex
import shutil
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults.commands import INPUTS
from tests.faults.inputs import write_gguf, write_inputs

SECONDS, WAIT = 60, 900
"""Of processor time, after which a try counts as one that does not end; of a clock, for one that waits for ever."""
VARYING = ("started", "git", "wall_seconds", "cpu_seconds", "argv", "time", "tokens_per_s", "seconds")
"""Keys of JSON that no two runs have the same."""

Tree = dict[str, str]


class Trial:
    """A directory with inputs, in which one command is tried; without a shim nothing can be made to fail."""

    def __init__(self, root: Path, shim: ctypes.CDLL | None = None) -> None:
        self.root, self.shim = root, shim
        if shim is not None:
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
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                signal.alarm(WAIT)
                os.chdir(self.root)
                said = os.open(report.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(said, 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                root = str(self.root).encode() + b"/"
                if self.shim is not None:
                    self.shim.fault_arm(root, ctypes.c_long(number), how, int(sticky), int(no_exchange))
                status = invoke(shlex.split(words))
                if self.shim is not None and number:
                    self.shim.fault_arm(b"/nowhere/", ctypes.c_long(0), 0, 0, 0)
                if not number:
                    report.write_bytes(self.shim.fault_kinds() if self.shim is not None else b"")
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
        return tree(self.root / "out")

    def state(self) -> str:
        """A hash of all that a run could find in out/ and tmp/: names, kinds, modes and every byte."""
        found = hashlib.sha256()
        for path in sorted([*(self.root / "out").rglob("*"), *(self.root / "tmp").rglob("*")]):
            held = path.read_bytes() if path.is_file() else b""
            held = str(path.readlink()).encode() if path.is_symlink() else held
            about = (str(path.relative_to(self.root)), path.lstat().st_mode, len(held))
            found.update(repr(about).encode() + held)
        return found.hexdigest()

    def restore(self, saved: Path) -> None:
        """out/ as it was saved."""
        shutil.rmtree(self.root / "out")
        shutil.copytree(saved, self.root / "out", symlinks=True)
        for left in (self.root / "tmp").iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def tree(place: Path) -> Tree:
    """The files below a place: name -> hash of what no two runs have different."""
    return {str(path.relative_to(place)): _digest(path) for path in sorted(place.rglob("*")) if path.is_file()}


def invoke(words: list[str]) -> int:
    """The command line, in this process."""
    from llmtool.__main__ import main

    sys.argv = ["llmtool", *words]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def import_everything() -> None:
    """What commands would import; without threads, which a fork does not take along."""
    import matplotlib.figure
    import numpy  # noqa: F401
    import scipy.optimize  # noqa: F401
    import torch
    import torch.distributed.checkpoint

    from llmtool.cli.app import build
    from llmtool.core.bpe import agreement
    from llmtool.core.train import loop, optimizers, parallel, state  # noqa: F401

    build().commands.items()  # all of them made, and so imported
    torch.set_num_threads(1)
    save = matplotlib.figure.Figure.savefig

    def save_without_layout(self: Any, *words: Any, **options: Any) -> None:
        self.set_layout_engine(None)  # half the time of a figure, and no call that writes
        save(self, *words, **options)

    matplotlib.figure.Figure.savefig = save_without_layout  # type: ignore[method-assign]
    agreement.__dict__["_readers"] = (
        lambda _: {}
    )  # other libraries read exports back in processes of their own: nothing is written


def hidden(name: str) -> bool:
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


def difference(wanted: Tree, found: Tree) -> str:
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return ", ".join(f"{name} {'is missing' if name not in found else 'differs' if name in wanted else 'is too much'}"
                     for name in names) or "nothing differs"  # fmt: skip
