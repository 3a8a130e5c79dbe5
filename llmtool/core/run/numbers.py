"""Every number that is read, from options, settings and files, is read here: checked, bounded, one line if it is wrong.

Python's own int() takes `1_000`, ` 7 `, `٣` and, up to a limit, thousands of digits; float() takes `inf` and `nan`, and
makes an infinity of 1e999; bool is an int. None of that is a number that somebody meant.
"""

import math
import os
import re
from typing import Any

from llmtool.core.run.errors import UserError

EXACT = 1 << 53
"""The largest whole number that JSON readers, and floats, hold exactly."""
LONGEST = 40
"""Characters of a number; a float that round-trips has 24."""
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_COUNT = re.compile(r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?P<unit>[KMGBT]?)(?P<binary>i?)", re.IGNORECASE)


def find_real(text: str, *, words: bool = False) -> float | None:
    """The finite number that a text is, decimal; None where it is none. words: `nan` and `inf` are numbers too."""
    if words and _WORD.fullmatch(bare := text.strip()):
        return float(bare)
    if len(text) > LONGEST or not _REAL.fullmatch(text):
        return None
    number = float(text)
    return number if words or math.isfinite(number) else None


def from_environment(name: str, default: int) -> int:
    """A whole number that whoever started this process set: RANK, WORLD_SIZE."""
    return whole(os.environ.get(name, default), name, high=1 << 31)


def whole(value: Any, name: str, *, low: float = 0, high: float = EXACT, where: str | None = None) -> int:
    """A whole number between `low` and `high`, from text or from JSON, where 3.0 is one too."""
    number: int | None = None
    if isinstance(value, str):
        number = int(value) if len(value) <= LONGEST and _WHOLE.fullmatch(value) else None
    elif isinstance(value, float):
        number = int(value) if value.is_integer() else None
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if number is None:
        raise UserError(f"{name} {shown(value)}: not a whole number", where=where)
    if not low <= number <= high:
        raise UserError(f"{name} {shown(value)}: wanted {_between(low, high, number)}", where=where)
    return number


def real(
    value: Any, name: str, *, low: float = -math.inf, high: float = math.inf, where: str | None = None
) -> float:  # fmt: skip
    """A finite number between `low` and `high`, from text or from JSON; `25%` is 0.25."""
    number: float | None = None
    if isinstance(value, str):
        text = value.removesuffix("%")
        found = find_real(text)
        number = None if found is None else found / (100 if text != value else 1)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
        number = float(value) if isinstance(value, float) or abs(value) < 1 << 1023 else math.inf
    if number is None or not math.isfinite(number):
        raise UserError(f"{name} {shown(value)}: not a number", where=where)
    if not low <= number <= high:
        raise UserError(f"{name} {shown(value)}: wanted {_between(low, high, number)}", where=where)
    return number


def amount(value: Any, name: str, *, low: float = 1, high: float = EXACT, where: str | None = None) -> int:
    """A number of things as people write it: 300, 1.5M, 2b, 128Ki; a part of a thing is refused."""
    if not isinstance(value, str):
        return whole(value, name, low=low, high=high, where=where)
    found = _COUNT.fullmatch(value) if len(value) <= LONGEST else None
    if found is None or (found["binary"] and not found["unit"]):
        raise UserError(f"{name} {shown(value)}: not a number such as 300 or 1.5M", where=where)
    whole_part, _, decimals = found["number"].partition(".")
    digits = (whole_part if whole_part not in ("", "+", "-") else f"{whole_part}0") + decimals
    number, part = divmod(int(digits) * _scale(found), int(10 ** len(decimals)))
    if part:
        raise UserError(f"{name} {shown(value)}: not a whole number", where=where)
    if not low <= number <= high:
        raise UserError(f"{name} {shown(value)}: wanted {_between(low, high, number)}", where=where)
    return number


def quantity(value: Any, name: str, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A number as `real` reads it, or with a unit: 0.5, 25%, 3e-4, 20K."""
    found = _COUNT.fullmatch(value) if isinstance(value, str) and len(value) <= LONGEST else None
    if found is None or not found["unit"]:
        return real(value, name, low=low, high=high)
    return real(float(found["number"]) * _scale(found), name, low=low, high=high)


def _scale(found: re.Match[str]) -> int:
    """What the unit of a count stands for: thousands, or 1024s with an i."""
    power: int = UNITS[found["unit"].upper()]
    return 1024 ** (len(str(power)) // 3) if found["binary"] else power


def shown(value: Any) -> str:
    """A value as an error quotes it: short, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**LONGEST:
        return f"of {int(abs(value).bit_length() * 0.30103) + 1:,} digits"
    text = value if isinstance(value, str) else repr(value)
    text = text if text.isprintable() else repr(text)
    return f"{text[:LONGEST]}..." if len(text) > LONGEST else text or "(nothing)"


def _between(low: float, high: float, number: float) -> str:
    """The bounds that an error names; one that is none in effect only where the number is beyond it."""
    if low == -math.inf and high == math.inf:
        return "a number"
    if number > high == EXACT:
        return f"{EXACT:,} at most"
    if high in (math.inf, EXACT):
        return f"{low:g} at least" if low != -math.inf and abs(low) < 1e6 else f"{low:,} at least"
    if low == -math.inf:
        return f"{high:g} at most"
    return f"{low:,} to {high:,}" if isinstance(high, int) else f"{low:g} to {high:g}"
