"""A process with limits: what it answers, what it refuses, and that it goes on after what it could not do."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from llmtool.core.run.worker import Limits, Refusal, Worker, WorkerError


def make(facts: Any) -> Callable[[Any], Any]:
    """The function of these tests."""

    def answer(question: Any) -> Any:
        if question == "loop":
            while True:
                pass
        if question == "memory":
            return len(bytearray(1 << 32))
        if question == "refuse":
            raise Refusal("no", 7)
        if question == "fail":
            raise KeyError("gone")
        if question == "die":
            import os

            os.abort()
        return [facts, question]

    return answer


def test_answers_refusals_and_limits() -> None:
    worker = Worker("tests.core.run.test_worker:make", {"ä": 1}, Limits(seconds=0.2, memory=1 << 26))
    assert worker.ask("q\n\ud800") == [{"ä": 1}, "q\n\ud800"]
    for question, kind, text, line in (
        ("refuse", "refused", "no", 7),
        ("fail", "refused", "KeyError: 'gone'", None),
        ("memory", "memory", "needs more than 64 MiB of memory", None),
        ("loop", "time", "runs for more than 0.2 s", None),
        ("die", "died", r"ended its process \(SIGABRT\)", None),
    ):
        with pytest.raises(WorkerError, match=text) as caught:
            worker.ask(question)
        assert (caught.value.kind, caught.value.line) == (kind, line)
        assert worker.ask("on") == [{"ä": 1}, "on"]


def test_a_worker_ends_with_its_object() -> None:
    worker = Worker("tests.core.run.test_worker:make", None)
    worker.ask(1)
    process = worker._process
    assert process is not None
    assert process.poll() is None
    del worker
    assert process.returncode in (0, -signal.SIGKILL)  # by itself, or killed where it takes long for that
