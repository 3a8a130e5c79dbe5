"""The byte strings that the C++ engine takes and gives for lists of numbers."""

import array
import itertools
from collections.abc import Iterable
from typing import Any


def u32(numbers: Iterable[int]) -> bytes:
    return array.array("I", numbers).tobytes()


def ends_of(items: Iterable[Any]) -> bytes:
    return array.array("Q", itertools.accumulate(len(item) for item in items)).tobytes()


def numbers(data: bytes) -> list[int]:
    return array.array("I", data).tolist()
