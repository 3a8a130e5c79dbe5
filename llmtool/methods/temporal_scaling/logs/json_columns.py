"""A log as one JSON object of columns: lists side by side, in one place or in sections, each with its own axis."""

from collections.abc import Iterator, Mapping
from typing import Any

from llmtool.methods.temporal_scaling.logs.columns import Record
from llmtool.methods.temporal_scaling.logs.names import HELD_OUT, TRAIN, loss, meaning, words

DEPTH = 3
"""Objects in objects that are looked into: `{"history": {"val": {"iter": [...], "val_loss": [...]}}}`."""

POINTS = frozenset({"points", "history", "curve", "values", "series"})
"""Words of a list of pairs that say nothing of what it holds."""


def records(whole: Mapping[str, Any]) -> Iterator[Record] | None:
    """The rows of an object that holds columns; None where it holds none."""
    columns = {key: list(each.values()) if isinstance(each, dict) else each for key, each in whole.items()}  # by pandas
    if axis := _axis(columns):
        return iter(_rows(columns, axis))
    if points := list(_points(whole)):
        return _one_of(points)
    if sections := list(_sections(whole, DEPTH)):
        # In the order of the steps: trackers export rows in any, which would pass for a run that was restarted.
        placed = [(row[axis], row) for axis, rows in sections for row in rows if type(row[axis]) in (int, float)]
        return (row for _, row in sorted(placed, key=lambda each: each[0]))
    inside = [each for each in whole.values() if isinstance(each, dict)]
    alone = [found for each in (whole, *inside) if (found := _losses_alone(each))]
    return iter(alone[0]) if len(alone) == 1 else None


def _points(whole: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """The losses that are lists of pairs of a step and a value: `"train_loss_points": [[1, 11.9], [2, 11.8]]`."""
    for key, each in whole.items():
        held = loss(" ".join(word for word in words(key) if word not in POINTS))
        if held is None or not isinstance(each, list) or len(each) < 2:
            continue
        pairs = [tuple(pair) for pair in each if isinstance(pair, list) and len(pair) == 2]
        if len(pairs) == len(each) and all(type(value) in (int, float) for pair in pairs for value in pair):
            yield " ".join(word for word in words(key) if word not in POINTS), pairs


def _one_of(points: list[tuple[str, list[tuple[float, float]]]]) -> Iterator[Record]:
    """The rows of several such lists in the order of their steps."""
    rows: dict[float, dict[str, float]] = {}
    for name, pairs in points:
        for step, value in pairs:
            rows.setdefault(step, {"step": step})[name] = value
    return (rows[step] for step in sorted(rows))


def _sections(whole: Mapping[str, Any], depth: int) -> Iterator[tuple[str, list[Record]]]:
    """The columns below an object, with the axis of each section. Its name stands before its other columns where it
    says which text they are of, or others stand beside it."""
    found = [(key, each, _axis(each)) for key, each in whole.items() if isinstance(each, dict)]
    several = sum(bool(axis) for *_, axis in found) > 1
    for key, each, axis in found:
        if axis:
            before = f"{key}/" if several or (TRAIN | HELD_OUT).intersection(words(key)) else ""
            yield axis, _rows({name if name == axis else before + name: value for name, value in each.items()}, axis)
        elif depth > 1:
            yield from _sections(each, depth - 1)


def _losses_alone(whole: Mapping[str, Any]) -> list[Record]:
    """Rows of lists that name no axis, as Keras keeps its history: losses, an epoch each."""
    lists = {key: each for key, each in whole.items() if _is_column(each)}
    named = next((key for key in lists if loss(key) is not None), None)
    return [] if named is None or any(map(_is_axis, whole)) else _rows(lists, named)


def _rows(columns: Mapping[str, Any], first: str) -> list[Record]:
    """The rows of all columns that are as long as one of them."""
    used = {key: each for key, each in columns.items() if isinstance(each, list) and len(each) == len(columns[first])}
    return [dict(zip(used, row, strict=True)) for row in zip(*used.values(), strict=True)]


def _axis(columns: Mapping[str, Any]) -> str | None:
    """The name of a column that counts steps or tokens."""
    return next((key for key, each in columns.items() if _is_column(each) and _is_axis(key)), None)


def _is_axis(name: str) -> bool:
    return (held := meaning(name)) is not None and held.role in ("axis", "tokens")


def _is_column(value: object) -> bool:
    return isinstance(value, list) and bool(value) and not any(isinstance(each, dict | list) for each in value)
