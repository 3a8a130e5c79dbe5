"""Settings as one object: checked when made, from Python as from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


BAD: list[tuple[dict[str, Any], str]] = [
    ({"law": "powr"}, r"--law powr: no such choice \(did you mean 'power'\?\)"),
    ({"law": "x"}, r"--law x: no such choice \(one of auto, power\)"),
    ({"horizon": -1}, "--horizon -1: wanted 0 at least"),
    ({"horizon": float("nan")}, "--horizon nan: not a number"),
    ({"momentum": float("nan")}, "^momentum nan: not a number"),  # no option of that name is there
    ({"threads": "3"}, "--threads 3: str, not a number"),
    ({"depth": [0.5, "1"]}, "--depth 1: str, not a number"),
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


def test_facts_are_what_may_change_the_result() -> None:
    assert Fit(depth=[0.5], threads=3).facts() == {"law": "auto", "horizon": None, "depth": (0.5,), "momentum": 0.9}


def test_an_option_of_a_subclass_is_shown_where_it_says() -> None:
    assert [field.name for field in describe(Deeper)] == ["law", "step", "horizon", "depth", "threads", "momentum"]
    assert {field.name: field.flags for field in describe(Fit)}["depth"] == ("--depth", "-d")
    assert [field.name for field in describe(Fit) if not field.shown] == ["momentum"]
