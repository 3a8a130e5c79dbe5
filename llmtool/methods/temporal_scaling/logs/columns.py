"""Columns gathered from records, each with what its name means; columns named by hand win."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.logs.names import BAR, HELD_OUT, LINE, PHASE, TOTAL, Meaning, meaning, words
from llmtool.methods.temporal_scaling.logs.numbers import number

Record = Mapping[str, Any]
TOKENIZER = "tokenizer_hash"
"""The field of a first row of metrics.jsonl that tells runs on other tokens apart."""
SHOWN = 12
"""Columns that an error lists."""
_POSITIONS = re.compile(r"(?:pos|per_position_loss|positions)(?:_([a-z0-9_-]+))?|eval/([^/]+)/positions")
_OF = re.compile(r"\s*(\d{1,15})\s*/\s*(\d{1,15})\s*")


@dataclass(frozen=True)
class Chosen:
    """Columns named by hand, where their names say too little: the step, the loss, the learning rate."""

    step: str | None = None
    loss: str | None = None
    rate: str | None = None


@dataclass
class Column:
    """The values of one name, and the records that they stand in."""

    meaning: Meaning
    places: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


class Reading:
    """Columns gathered from records."""

    def __init__(self, name: str, chosen: Chosen) -> None:
        self.name, self.chosen = name, chosen
        self.columns: dict[str, Column] = {}
        self.known: dict[str, Meaning | None] = {}
        self.lists: dict[str, list[tuple[int, list[float]]]] = {}
        self.runs: set[str] = set()
        self.lines: list[int] = []
        self.closed: list[int] = []
        self.count = self.unread = self.closing = 0
        self.first_unread = ""
        self.tokenizer: str | None = None

    def add(self, record: Record) -> None:
        """One record; its values get the place of its own."""
        values = of_its_set(dict(flatten(record)))
        line = values.pop(LINE, 0)
        self.lines.append(line if type(line) is int else 0)  # a log may have such a name of its own
        if isinstance(held := values.get(TOKENIZER), str):
            self.tokenizer = held
        closing = False
        for key in values:
            held = self.meaning(key)
            closing = closing or (held is not None and held.role == "closing")
        self.closed += [self.count] * closing
        for key, value in values.items():
            held = self.meaning(key)
            if isinstance(value, list):
                self._take_list(key, value)
            elif held is not None and held.role == "run":
                self.runs.add(str(value))
            elif held is not None and closing and held.role == "loss" and held.metric.startswith("train"):
                self.closing += 1
            elif held is not None and held.role != "closing":
                self._take(key, held, value)
        self.count += 1

    def meaning(self, key: str) -> Meaning | None:
        """What a column holds, named by hand or not."""
        if key not in self.known:
            spelled = key.strip().lower()
            by_hand = {(self.chosen.step or "").lower(): Meaning("axis", -1),
                       (self.chosen.rate or "").lower(): Meaning("rate", -1)}  # fmt: skip
            usual = meaning(key)
            if self.chosen.loss and spelled == self.chosen.loss.strip().lower():
                usual = usual if usual is not None and usual.role == "loss" else Meaning("loss", -1, "train")
            self.known[key] = by_hand.get(spelled, usual) if spelled else None
        return self.known[key]

    def _take(self, key: str, held: Meaning, value: Any) -> None:
        parsed = number(value)
        if parsed is None:
            if value is not None and not isinstance(value, bool) and str(value).strip():
                self.unread += 1
                self.first_unread = self.first_unread or f"{key} {str(value)[:40]!r}"
            return
        column = self.columns.setdefault(key, Column(held))
        column.places.append(self.count)
        column.values.append(parsed)

    def _take_list(self, key: str, value: list[Any]) -> None:
        numbers = [number(each) for each in value]
        if (match := _POSITIONS.fullmatch(key.lower().strip())) is None or len(numbers) < 2:
            return
        held = [each for each in numbers if each is not None and math.isfinite(each)]
        if len(held) == len(numbers):
            self.lists.setdefault(match[1] or match[2] or "val", []).append((self.count, held))

    def by_role(self, role: str) -> list[str]:
        """The names with a role, the best first; of one rank, the one with more rows."""
        names = [name for name, column in self.columns.items() if column.meaning.role == role]
        return sorted(names, key=lambda name: (self.columns[name].meaning.rank, -len(self.columns[name].values)))

    def listed(self) -> str:
        """The columns found, for an error."""
        names = [name for name in self.known if not name.endswith((TOTAL, BAR))]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return ", ".join(names[:SHOWN]) + more


def values_of(reading: Reading, key: str) -> NDArray[np.float64]:
    """The values of a column by record, NaN where it has none."""
    out = np.full(reading.count, np.nan)
    if key in reading.columns:
        out[reading.columns[key].places] = reading.columns[key].values
    return out


def flatten(record: Record, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The values of a record, those inside others under the path to them."""
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < 4:
            yield from flatten(value, f"{name}/", depth + 1)
        elif isinstance(value, str) and (pair := _OF.fullmatch(value)) and (held := halves(name)):
            yield from zip(held, pair.groups(), strict=True)
        else:
            yield name, value


def of_its_set(values: dict[str, Any]) -> dict[str, Any]:
    """A record whose losses are of the set that a column beside them names: `split` is "val"."""
    phase = next((value for key, value in values.items() if key.strip().lower() in PHASE), None)
    if not isinstance(phase, str) or not HELD_OUT.intersection(words(phase)):
        return values
    held = {key: meaning(key) for key in values}
    train = {key for key, each in held.items() if each is not None and (each.role, each.metric) == ("loss", "train")}
    return {f"val {key}" if key in train else key: value for key, value in values.items()}


def halves(name: str) -> tuple[str, str] | None:
    """`global_step/max_steps`, whose value is "20/4000", as two names; a plain step's other half is the horizon."""
    step, _, last = name.partition("/")
    held = meaning(step)
    return (step, last or "max_steps") if held is not None and held.role == "axis" and not held.unit else None
