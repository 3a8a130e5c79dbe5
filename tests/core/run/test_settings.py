"""Settings as one object: checked when made, from Python as from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from llmtool.core.run.errors import UserError
from llmtool.core.run.settings import Option, Settings, describe


@dataclass(frozen=True)
class Fit(Settings):
    law: Annotated[Literal["auto", "power"], Option("Which law.")] = "auto"
    horizon: Annotated[float | None, Option("Steps of the whole run.", min=0)] = None
    depth: Annotated[Sequence[float], Option("Places.", "--depth -d", min=0, max=1)] = ()
    threads: Annotated[int | None, Option("Threads.", min=1, matters=False)] = None
    momentum: float = 0.9


@dataclass(frozen=True)
class Deeper(Fit):
    step: Annotated[int, Option("Step.", after="law")] = 1


@dataclass(frozen=True)
class Words(Settings):
    words: Annotated[Sequence[str], Option("Words.")] = ()
    size: Annotated[int, Option("Of a chunk.", "--chunk -c")] = 8
    packing: Annotated[bool, Option("Together.", "--join/--no-join")] = True


BAD: list[tuple[dict[str, Any], str]] = [
    ({"law": "powr"}, r"--law powr: no such choice \(did you mean 'power'\?\)"),
    ({"law": "x"}, r"--law x: no such choice \(one of auto, power\)"),
    ({"horizon": -1}, "--horizon -1: wanted 0 at least"),
    ({"horizon": float("nan")}, "--horizon nan: not a number"),
    ({"momentum": float("nan")}, "^momentum nan: not a number"),  # no option of that name is there
    ({"threads": "three"}, "--threads three: not a number such as 300"),
    ({"threads": b"3"}, "--threads b'3': bytes, not a number"),
    ({"depth": [0.5, "one"]}, "--depth one: not a number"),
    ({"depth": [0.5, 1.5]}, "--depth 1.5: wanted 1 at most"),
    ({"threads": 0}, "--threads 0: wanted 1 at least"),
]


@pytest.mark.parametrize("changes, line", BAD)
def test_what_the_command_line_would_refuse_is_refused_in_python(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        Fit(**changes)
    with pytest.raises(UserError, match=line):
        replace(Fit(), **changes)


def test_an_object_keywords_or_both() -> None:
    assert Fit.of(None, {"law": "power"}) == Fit(law="power")
    assert Fit.of(Fit(law="power", horizon=3), {"horizon": 4}) == Fit(law="power", horizon=4)
    with pytest.raises(TypeError, match="lwa"):
        Fit.of(None, {"lwa": "power"})


def test_text_is_read_as_on_the_command_line() -> None:
    assert Fit(threads="1K", horizon="30K", depth=["25%"]) == Fit(threads=1000, horizon=30_000, depth=[0.25])  # type: ignore[arg-type,list-item]


def test_one_item_stands_for_a_list_of_one() -> None:
    assert Fit(depth=0.5).depth == (0.5,)  # type: ignore[arg-type]
    assert [Words(words=given).words for given in ("ab", Path("a/b"), [Path("a/b"), "c"])] == [  # type: ignore[arg-type]
        ("ab",), ("a/b",), ("a/b", "c"),
    ]  # fmt: skip


def test_an_option_is_known_by_its_own_name_too() -> None:
    assert Words.of(None, {"words": "a", "chunk": 3, "join": False}) == Words(words=("a",), size=3, packing=False)
    with pytest.raises(TypeError, match="got 'size' twice"):
        Words.of(None, {"chunk": 3, "size": 3})
    with pytest.raises(TypeError, match="no_join"):
        Words.of(None, {"no_join": True})


def test_facts_are_what_may_change_the_result() -> None:
    assert Fit(depth=[0.5], threads=3).facts() == {"law": "auto", "horizon": None, "depth": (0.5,), "momentum": 0.9}


def test_an_option_of_a_subclass_is_shown_where_it_says() -> None:
    assert [field.name for field in describe(Deeper)] == ["law", "step", "horizon", "depth", "threads", "momentum"]
    assert {field.name: field.flags for field in describe(Fit)}["depth"] == ("--depth", "-d")
    assert [field.name for field in describe(Fit) if not field.shown] == ["momentum"]
