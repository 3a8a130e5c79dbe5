"""The quick dataclass does what the standard library's does: the same classes are made by both and compared."""

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, fields, replace
from itertools import product
from typing import Any

import pytest

from llmtool.core.run.dataclass import dataclass as quick

OPTIONS = [
    dict(zip(("frozen", "kw_only", "slots"), chosen, strict=True)) for chosen in product((False, True), repeat=3)
]


def made(maker: Callable[..., Any], options: dict[str, bool]) -> tuple[Any, Any, Any]:
    """A class, a class below it, and one that says its own `__eq__` and is made at the end of its `__init__`."""

    @maker(**options)
    class Base:
        """One."""

        a: int
        b: tuple[int, ...] = (1, 2)
        c: list[int] = field(default_factory=list, compare=options["kw_only"])
        d: str = field(default="x", repr=False)

        @property
        def twice(self) -> int:
            """Of a."""
            return 2 * self.a

    @maker(**options)
    class Below(Base):
        """Two."""

        b: tuple[int, ...] = (3,)
        e: str = field(default="e", kw_only=True)

    @maker(**options)
    class Own:
        """Three."""

        a: float = 0.5

        def __post_init__(self) -> None:
            object.__setattr__(self, "a", self.a * 2)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own) and abs(self.a - other.a) < 1

    return Base, Below, Own


def outcome(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a call gives, or the kind of its failure and what it says."""
    try:
        return call(*given, **named)
    except (TypeError, FrozenInstanceError, AttributeError) as error:
        return type(error), str(error)


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: " ".join(k for k, v in options.items() if v) or "plain"
)
def test_both_do_the_same(options: dict[str, bool]) -> None:
    ours, theirs = made(quick, options), made(dataclasses.dataclass, options)
    results = []
    for base, below, own in (ours, theirs):
        one, other = base(a=1, d="y"), below(a=1, e="f")
        results.append(
            [
                repr(one), repr(other), repr(own()), one.c is base(a=1).c, one.c, one.twice,
                [each.name for each in fields(below)], base.__match_args__, base.__init__.__qualname__,
                one == base(a=1, d="y", c=[5]), one == base(a=2), one == other, one == 1, one != base(a=1, d="y"),
                own(a=1.0) == own(a=1.2), own(a=1.0) == own(a=2.0), own.__hash__ is None, one.__hash__ is None,
                outcome(base), outcome(base, 1, 2, 3, 4, 5), outcome(base, a=1, zebra=2), outcome(below, 1),
                outcome(hash, one), outcome(hash, replace(one, c=())) == outcome(hash, base(a=1, d="y", c=())),
                isinstance(outcome(setattr, one, "zebra", 7), tuple), outcome(setattr, replace(one), "a", 7),
                outcome(delattr, below(a=1), "a"), outcome(replace, one, a=9), dataclasses.asdict(below(a=4, c=[1])),
                copy.copy(one) == one, copy.deepcopy(other) == other, hasattr(one, "__dict__"),
            ]
        )  # fmt: skip
    assert [str(each) for each in results[0]] == [str(each) for each in results[1]]
    assert results[0][9:18] == results[1][9:18]


@quick(frozen=True, slots=True)
class Kept:
    """Of a module, as pickles want it."""

    a: int
    b: list[int] = field(default_factory=list)


@quick
class Open:
    """Of a module, not frozen."""

    a: int = 1


@pytest.mark.parametrize("value", [Kept(1, [2]), Open(3)])
def test_goes_through_a_pickle(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value


def test_no_class_may_mix_with_the_standard_ones() -> None:
    """The standard library refuses a frozen class below one that it takes for an open one: seen at import."""
    with pytest.raises(TypeError, match="frozen"):
        dataclasses.dataclass(frozen=True)(type("Below", (Kept,), {"__annotations__": {}}))


def test_no_method_is_written_before_it_is_needed() -> None:
    code = "import llmtool.commands.tokenizer.settings as s; print(s.EncodeSettings.__init__.__name__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "first"


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("maker", [dataclasses.dataclass, quick])
def test_fields_that_no_call_gives_and_names_of_any_kind(maker: Callable[..., Any], frozen: bool) -> None:
    class Odd:
        put: int
        MISSING: int = 2
        item: list[int] = field(default_factory=list)
        make_item: int = 3
        default_item: int = 4
        fixed: int = field(default=5, init=False)
        fresh: list[int] = field(default_factory=list, init=False)
        later: int = field(init=False)

    made_of: Any = maker(frozen=frozen)(Odd)
    odd = made_of(1)
    facts = (odd.put, odd.MISSING, odd.item, odd.make_item, odd.default_item, odd.fixed, odd.fresh)
    assert facts == (1, 2, [], 3, 4, 5, [])
    assert odd.fresh is not made_of(1).fresh
    assert not hasattr(odd, "later")
    with pytest.raises(TypeError, match="fixed"):
        made_of(1, fixed=6)
