"""Numbers that are read: what people mean is taken, anything else is one line."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import parse_json
from llmtool.core.run.numbers import amount, find_real, real, whole

NEVER = [
    "", " ", "x", "1_000", " 7", "٣", "²", "0x10", "1e999", "inf", "-inf", "nan", "Infinity", "9" * 5000,
    "-" + "9" * 99,
    "1" + "0" * 400, 10**5000, -(10**5000), math.inf, -math.inf, math.nan, True, False, None, [], {}, b"1", "1\n",
]  # fmt: skip


@pytest.mark.parametrize("value", NEVER, ids=lambda value: repr(value)[:20] if not isinstance(value, int) else "int")
def test_what_is_no_number_is_one_line(value: Any) -> None:
    for read in (whole, real, amount):
        with pytest.raises(UserError) as refused:
            read(value, "steps", where="file.json")
        assert str(refused.value).startswith("file.json: steps ")
        assert len(str(refused.value)) < 150


@given(st.integers(-(1 << 60), 1 << 60), st.integers(0, 1 << 53), st.integers(0, 1 << 53))
def test_whole_numbers_within_bounds(value: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    for spelled in (value, str(value), json.loads(json.dumps(value))):
        if low <= value <= high:
            assert whole(spelled, "n", low=low, high=high) == value
        else:
            with pytest.raises(UserError, match="wanted"):
                whole(spelled, "n", low=low, high=high)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_real_numbers_come_back(value: float) -> None:
    assert real(repr(value), "x") == value
    assert real(json.loads(json.dumps(value)), "x") == value


def test_forms() -> None:
    assert [whole(v, "n") for v in ("0", "+7", "007", 3.0, 1 << 53)] == [0, 7, 7, 3, 1 << 53]
    assert [real(v, "x") for v in ("25%", ".5", "5.", "-1e-3", 3)] == [0.25, 0.5, 5.0, -0.001, 3.0]
    assert [amount(v, "n") for v in ("300", "1.5M", "2b", "0.5K", "3T", 7)] == [
        300, 1_500_000, 2_000_000_000, 500, 3_000_000_000_000, 7,
    ]  # fmt: skip
    for value in ("0", "0.1", "99999T", "1e3", "-5"):
        with pytest.raises(UserError):
            amount(value, "n")
    with pytest.raises(UserError, match="wanted 0 to 1"):
        real("1.01", "share", low=0, high=1)


@pytest.mark.parametrize("text", [b"\xff", "[" * 100_000, "9" * 5000, "{", ""])
def test_json_that_is_none_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize("text", ["--nan", "+-inf", "- inf", "nan nan", "infinit"])
def test_what_only_looks_like_no_number_is_no_number(text: str) -> None:
    """Two signs before a word ended in a ValueError."""
    assert find_real(text, words=True) is None
    assert find_real(" -Inf ", words=True) == -math.inf
