"""--threads stands wherever a model computes, and is what torch then takes."""

import os
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmtool.commands.convert import settings as convert  # noqa: E402
from llmtool.commands.eval import activations, experts, loss, niah  # noqa: E402
from llmtool.commands.eval import settings as evaluation  # noqa: E402
from llmtool.commands.generation import settings as generation  # noqa: E402
from llmtool.commands.posttrain import settings as posttrain  # noqa: E402
from llmtool.commands.train import settings as training  # noqa: E402
from llmtool.commands.verify import verify  # noqa: E402
from llmtool.core.kernels.cpu import use_threads  # noqa: E402
from llmtool.core.run.settings import Settings, describe  # noqa: E402

ROOMS = (convert, evaluation, activations, generation, posttrain, training)


def test_whatever_takes_a_device_takes_threads() -> None:
    seen = 0
    for room in ROOMS:
        for kind in vars(room).values():
            if not (isinstance(kind, type) and issubclass(kind, Settings) and is_dataclass(kind)):
                continue
            names = {field.name for field in describe(kind)}
            assert "device" not in names or "threads" in names, kind.__name__
            seen += "device" in names
    assert seen > 10


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What torch is asked to take; it does not take it."""
    found: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    return found


def test_commands_hand_it_on_before_they_read_anything(asked: list[int], tmp_path: Path) -> None:
    missing = tmp_path / "no model"
    calls: list[Any] = [
        lambda: loss.loss(missing, ["x"], threads=3), lambda: niah.needles(missing, threads=3),
        lambda: verify(missing, missing, threads=3), lambda: experts.experts(missing, [], threads=3),
        lambda: activations.activations(missing, [], threads=3),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(Exception):  # noqa: B017 - there is no such model, whatever it is called
            call()
    assert asked == [3] * len(calls)


def test_what_is_written_does_not_depend_on_how_busy_the_machine_is(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "getloadavg", lambda: (20.0, 0.0, 0.0))
    assert use_threads(None, by_load=False) == 8
    assert asked == []
    assert use_threads(None) == 1
    assert use_threads(5, by_load=False) == 5
    assert asked == [1, 5]
