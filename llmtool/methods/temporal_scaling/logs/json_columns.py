"""A log as one JSON object of columns: lists side by side, in one place or in sections, each with its own axis."""

from collections.abc import Iterator, Mapping
from typing import Any

from llmtool.methods.temporal_scaling.logs.columns import Record
from llmtool.methods.temporal_scaling.logs.names import loss, meaning

DEPTH = 3
"""Objects in objects that are looked into: `{"history": {"val": {"iter": [...], "val_loss": [...]}}}`."""


def records(whole: Mapping[str, Any]) -> Iterator[Record] | None:
    """The rows of an object that holds columns; None where it is a row itself, or anything else."""
    if (found := _rows(whole)) is not None:
        return iter(found[1])
    if any(_axis(key) and not isinstance(each, dict | list) for key, each in whole.items()):
        return None  # a row, whatever else it holds
    sections = list(_sections(whole, DEPTH))
    if not sections:
        return None
    # Of all sections in the order of their steps: one behind the other would pass for a run that began anew.
    placed = [(place, row) for axis, rows in sections for row in rows if isinstance(place := row[axis], int | float)]
    return (row for _, row in sorted(placed, key=lambda each: each[0]))


def _sections(whole: Mapping[str, Any], depth: int) -> Iterator[tuple[str, list[Record]]]:
    """The columns below an object, with the axis of each section; its name stands before its other columns."""
    for key, each in whole.items():
        if not isinstance(each, dict):
            continue
        if (found := _rows(each)) is not None:
            axis, rows = found
            yield (
                axis,
                [{name if name == axis else f"{key}/{name}": value for name, value in row.items()} for row in rows],
            )
        elif depth > 1:
            yield from _sections(each, depth - 1)


def _rows(whole: Mapping[str, Any]) -> tuple[str, list[Record]] | None:
    """The axis and the rows of columns that are lists or, by pandas, objects."""
    columns = {key: list(each.values()) if isinstance(each, dict) else each for key, each in whole.items()}
    lists = {key: each for key, each in columns.items() if isinstance(each, list)}
    axes = [key for key in lists if _axis(key)]
    if not axes and len(lists) == len(whole):  # the history that Keras keeps: losses, an epoch each, and no axis
        axes = [key for key in lists if loss(key) is not None]
    if not axes or not lists[axes[0]] or any(isinstance(each, dict | list) for each in lists[axes[0]]):
        return None
    rows = len(lists[axes[0]])
    used = {key: each for key, each in lists.items() if len(each) == rows}
    return axes[0], [dict(zip(used, row, strict=True)) for row in zip(*used.values(), strict=True)]


def _axis(name: str) -> bool:
    return (held := meaning(name)) is not None and held.role in ("axis", "tokens")
