"""Numbers as people and programs write them: 1,000; 3,25; 1.05M; 0:01:30. What is none is counted, never dropped in
silence."""

import math
import re
from typing import Any

from llmtool.core.run.numbers import find_real

_GROUPED = re.compile(r"[-+]?\d{1,3}(?:[,_ ]\d{3})+(?:\.\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
_SUFFIXED = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*([kKmMbBgGtT])")
_CLOCK = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")
SUFFIX = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
LONGEST = 64
"""Characters of a cell that may be a number."""


def number(value: Any, *, decimal_comma: bool = False) -> float | None:
    """The number that a JSON value or a cell holds, NaN included; None where it holds none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) or abs(value) < 1 << 1023 else None
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    return _spelled(value.strip(), decimal_comma)


def _spelled(text: str, decimal_comma: bool) -> float | None:
    if decimal_comma and "," in text:
        text = text.replace(".", "").replace(" ", "").replace(",", ".")
    elif _GROUPED.fullmatch(text):
        text = re.sub(r"[,_ ]", "", text)
    if match := _SUFFIXED.fullmatch(text):
        return known(match[1]) * SUFFIX[match[2].lower()]
    if match := _CLOCK.fullmatch(text):
        return 86400.0 * known(match[1] or "0") + 3600.0 * known(match[2]) + 60.0 * known(match[3]) + known(match[4])
    return find_real(text.rstrip("%"), words=True)


def known(text: str) -> float:
    """The number that a pattern has found."""
    found = find_real(text, words=True)
    return math.nan if found is None else found


def has_decimal_comma(cells: list[str], *, semicolons: bool) -> bool:
    """Whether the commas of a column are decimal: one stands where no thousands do, or cells are cut at semicolons."""
    commas = [cell.strip() for cell in cells if "," in cell]
    if not commas or not all(_DECIMAL_COMMA.fullmatch(cell) for cell in commas):
        return False
    return semicolons or any(not _GROUPED.fullmatch(cell) for cell in commas)
