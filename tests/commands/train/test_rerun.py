"""What a run that was begun says to another command: the options that differ, as they were typed."""

from typing import Any

import pytest

from llmtool.commands.train.place import _as_asked, _as_given
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


def begun(derived: Any = (), valid: Any = None) -> dict[str, Any]:
    return {"derived": list(derived), "config": {"valid": [{"sha256": "a"}] if valid is None else valid}}


@pytest.mark.parametrize(
    ("was", "now", "changed", "told"),
    [
        # the warm-up is a tenth of the steps where it is not given
        (["warmup"], ["warmup"], ["--steps: 50 -> 20", "--warmup: 5 -> 2"], ["--steps: 50 -> 20"]),
        ([], ["warmup"], ["--steps: 50 -> 20", "--warmup: 7 -> 2"], ["--steps: 50 -> 20", "--warmup: 7 -> 2"]),
        (["eval_every"], ["eval_every"], ["--eval-every: 4 -> 3", "--lr: 1 -> 2"], ["--lr: 1 -> 2"]),
        (["lr"], ["lr"], ["--lr: 1 -> 2"], ["--lr: 1 -> 2"]),  # another version's default
        (None, ["warmup"], ["--warmup: 5 -> 2"], ["--warmup: 5 -> 2"]),  # begun by a version that did not say
        ([], [], ["--model: 1M -> 2M", "the model's config.json: hidden_size: 96 -> 128"], ["--model: 1M -> 2M"]),
        ([], [], ["--valid: sha256=a -> sha256=b"], ["--valid: other text"]),
    ],
)
def test_only_what_can_be_given_is_told(was: Any, now: list[str], changed: list[str], told: list[str]) -> None:
    before = begun() | {"derived": was}
    assert _as_given(before, begun(now), changed) == told


def test_held_out_sets_are_counted() -> None:
    assert _as_given(begun(valid=[]), begun(), ["--valid: none -> sha256=a"]) == [
        "--valid: 0 held-out sets -> 1 held-out set"
    ]


def test_settings_inside_others_are_spelled_as_they_are_typed() -> None:
    spelled = {"set": "--set", "reading.size": "--chunk"}
    assert changes({"set": []}, {"set": {}}, spelled) == []
    assert changes({"set": {}}, {"set": {"dsmoe": {"tau": "0.5"}}}, spelled) == ["--set dsmoe.tau: not given -> 0.5"]
    assert changes({"reading": {"size": 512}}, {"reading": {"size": 256}}, spelled) == ["--chunk: 512 -> 256"]
    assert changes({"a": {}}, {"a": None}, spelled) == ["--a: none -> not given"]
