"""What a run that was begun says to another command: the options that differ, as they were typed."""

from typing import Any

import pytest

from llmtool.commands.train.place import _as_asked
from llmtool.core.run.manifest import changes


@pytest.mark.parametrize(
    ("was", "now", "steps", "told"),
    [
        ({"tokens": "1K", "epochs": None}, {"tokens": "2K", "epochs": None}, (5, 10), ["--tokens: 1K -> 2K"]),
        ({"tokens": "1K", "epochs": None}, {"tokens": None, "epochs": None}, (5, 20), ["--tokens: 1K -> --steps 20"]),
        ({"tokens": None, "epochs": None}, {"tokens": "2K", "epochs": None}, (5, 10), ["--tokens: --steps 5 -> 2K"]),
        ({"tokens": None, "epochs": None}, {"tokens": None, "epochs": None}, (5, 10), ["--steps: 5 -> 10"]),
        ({"tokens": None, "epochs": 1.0}, {"tokens": None, "epochs": 2.0}, (5, 10), ["--epochs: 1 -> 2"]),
        ({"tokens": "1K", "epochs": None}, {"tokens": "1000", "epochs": None}, (5, 5), []),
        (None, {"tokens": "2K", "epochs": None}, (5, 10), ["--steps: 5 -> 10"]),
    ],
)
def test_a_rerun_names_what_was_typed(was: Any, now: dict[str, Any], steps: tuple[int, int], told: list[str]) -> None:
    before, config = {"asked": was, "config": {"steps": steps[0], "lr": 0.1}}, {"steps": steps[1], "lr": 0.1}
    found = _as_asked(before, {"asked": now}, changes(before["config"], config))
    assert found == told
    assert _as_asked(before, {"asked": now}, [*changes(before["config"], config), "--lr: 1 -> 2"]) == [
        *told,
        "--lr: 1 -> 2",
    ]
