"""A process for what is not trusted to end: a function of JSON values, within limits of processor time and memory.

    worker = Worker("llmtool.core.train.sft.rendering:open_templates", facts)
    worker.ask({"compile": "default"})          # what the function returned, or a WorkerError of one line

The function is made in the process, once, by MODULE:FACTORY called with `facts`; it may keep what it likes between
questions. A question that takes too long ends the process; the next one starts another.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from llmtool.core.run.dataclass import dataclass


@dataclass(frozen=True)
class Limits:
    """For each question. seconds: of processor time. memory: bytes beyond what the process holds at its start."""

    seconds: float = 5.0
    memory: int = 1 << 30


Kind = Literal["refused", "time", "memory", "died"]


class WorkerError(Exception):
    """No answer. kind: "refused" by the function, or what of the limits was met; `line`: of the source, if known."""

    def __init__(self, kind: Kind, text: str, line: int | None = None) -> None:
        self.kind: Kind = kind
        self.line = line
        super().__init__(text)


class Refusal(Exception):  # noqa: N818 - no failure of the worker but an answer
    """Raised by a worker's function: what is wrong with the question, in words."""

    def __init__(self, text: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(text)


START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from llmtool.core.run.worker import serve; serve(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))"
)


class Worker:
    """One process, started at the first question and ended with this object. Not for several threads at once."""

    def __init__(self, target: str, facts: Any, limits: Limits | None = None) -> None:
        self.target, self.facts, self.limits = target, facts, limits or Limits()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: Any) -> Any:
        """The function's answer."""
        if self._process is None:
            self._start()
            self._exchange(self.facts)
        return self._exchange(question)

    def _start(self) -> None:
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        limits = (str(self.limits.seconds), str(self.limits.memory))
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, path, self.target, *limits],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        weakref.finalize(self, _end, self._process)

    def _exchange(self, value: Any) -> Any:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(value).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            self._process = None
            _end(process)
            raise self._gone(process.returncode)
        answer = json.loads(line)
        if "value" in answer:
            return answer["value"]
        if answer["kind"] == "memory":
            raise WorkerError("memory", f"needs more than {self.limits.memory >> 20:,} MiB of memory")
        raise WorkerError(answer["kind"], answer["text"], answer["line"])

    def _gone(self, status: int) -> WorkerError:
        if status == -signal.SIGPROF:
            return WorkerError("time", f"runs for more than {self.limits.seconds:g} s")
        why = signal.Signals(-status).name if status < 0 else f"status {status}"
        return WorkerError("died", f"ended its process ({why})")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """What reads no more questions ends; what is still at one is killed."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # the rest of a question that nobody reads
                pipe.close()
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(target: str, seconds: float, memory: int) -> None:
    """The process: a line with the facts, then a line for each question, each answered by a line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the asking process's
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, _, name = target.partition(":")
    factory: Callable[[Any], Callable[[Any], Any]] = getattr(import_module(module), name)
    _limit_memory(memory)
    answer: Callable[[Any], Any] = lambda facts: facts  # noqa: E731 - until the facts have come
    for number, line in enumerate(sys.stdin.buffer):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, unhandled, ends the process in whatever code it is
        try:
            if number:
                found = {"value": answer(json.loads(line))}
            else:
                answer, found = factory(json.loads(line)), {"value": None}
            written = json.dumps(found)
        except MemoryError:
            written = json.dumps({"kind": "memory"})
        except Refusal as error:
            written = json.dumps({"kind": "refused", "text": str(error), "line": error.line})
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:1000]
            written = json.dumps({"kind": "refused", "text": text, "line": None})
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(written + "\n")
        sys.stdout.flush()


def _limit_memory(memory: int) -> None:
    """Beyond what is mapped now; a system that does not say how much that is has no such limit."""
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = held + memory
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))
