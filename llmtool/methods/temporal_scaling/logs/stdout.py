"""What training programs print, read by its form: a step, and names with numbers beside them.

`step:125/5625 val_loss:6.18`, `iter 10: loss 4.1, lr 1e-3`, `[2025-01-01] iteration 10/ 1000 | lm loss: 1.07E+01 |`,
`{'loss': 2.5, 'epoch': 0.1}`, `250 val 6.43`, and OLMo's step in one line with indented `name=value` lines below it.
What a name means is names.py's matter; lines without a step and a number that matters are skipped.
"""

import re
from collections.abc import Iterator
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import whole
from llmtool.methods.temporal_scaling.logs.columns import Record
from llmtool.methods.temporal_scaling.logs.names import AXES, HELD_OUT, Meaning, meaning, words
from llmtool.methods.temporal_scaling.logs.numbers import known

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)(?-i:[KMBT])?"
_PAIR = re.compile(
    r"(?P<name>[A-Za-z_][\w/.-]*(?: (?:\()?[A-Za-z_][\w/.-]*(?:\))?){0,3}?)['\"]?\s*[:=]?\s*['\"]?"
    rf"(?P<number>{_NUMBER})(?P<unit>ms|m|s)?(?:\s*/\s*(?P<total>\d+))?(?=['\"\s,|;:)\]}}%]|$)",
    re.IGNORECASE,
)
_BARE = re.compile(r"^\s*(\d+)\s*(?:\||(?=(?:train|val)\s))")
"""llama2.c and build-nanogpt begin a line with the step, without its name."""
_SHORT = {"s": "step", "val": "val loss", "train": "train loss"}
"""Names that say enough in print only."""
_ELAPSED = frozenset({"train time", "total time", "elapsed time", "elapsed"})
"""Others are the time of one step."""
_UNITS = {"ms": 1e-3, "m": 60.0}
_CONTEXT = HELD_OUT - {"test", "dev"}
LONGEST = 4000
"""Characters of a line that is looked at."""


def read(text: str, name: str) -> tuple[Iterator[Record], int | None]:
    """The records, and the number of steps planned where the lines say `step:125/5625`."""
    records: list[dict[str, Any]] = []
    horizon, above = 0, None
    for line in text.splitlines():
        record, total = _record(_COLOUR.sub("", line)[:LONGEST], above if line[:1].isspace() else None)
        horizon = max(horizon, total)
        if record is not None:
            above = {key: value for key, value in record.items() if (held := meaning(key)) and held.role == "axis"}
            if len(record) > len(above):
                records.append(record)
        elif not line[:1].isspace():
            above = None
    if not records:
        raise UserError(
            "not a training log that can be read",
            where=name,
            hint="JSONL, trainer_state.json, CSV with a step column, TensorBoard events, or a printed log",
        )
    return iter(records), horizon or None


def _record(line: str, above: dict[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
    """What a line says, and the number of steps planned; `above` is the step of an indented line."""
    record: dict[str, Any] = {}
    total, held_out = 0, False
    if bare := _BARE.match(line):
        record["step"], line = bare[1], line[bare.end() :]
    place = 0
    for match in _PAIR.finditer(line):
        held_out = held_out or bool(_CONTEXT.intersection(words(line[place : match.start()])))
        place = match.end()
        key, held = _named(match["name"])
        if held is None:
            continue
        if held.role == "axis":
            held_out = held_out or bool(_CONTEXT.intersection(words(match["name"])))
            if match["total"] and not held.unit:
                total = max(total, whole(match["total"], "step") if len(match["total"]) < 16 else 0)
        elif held.role == "seconds" and " ".join(words(key)) not in _ELAPSED:
            continue
        elif held.role == "loss" and held_out and held.metric in ("train", "train_ppl"):
            key = f"val {key}"
        value: Any = match["number"]
        if held.role == "seconds" and match["unit"] and match["unit"].lower() in _UNITS:
            value = known(value.replace(",", "")) * _UNITS[match["unit"].lower()]
        record.setdefault(key, value.strip(",") if isinstance(value, str) else value)
    roles = {each.role for key in record if (each := meaning(key)) is not None}
    if "axis" not in roles and above:
        return {**above, **record}, 0
    return (record, total) if roles & {"axis", "tokens"} else (None, 0)


def _named(name: str) -> tuple[str, Meaning | None]:
    """A printed name as names.py knows it: whole, or without words before it ("completed step")."""
    name = _SHORT.get(name.lower(), name)
    parts = name.split()
    if parts[-1].lower() in AXES:
        return parts[-1].lower(), meaning(parts[-1])
    for start in range(len(parts)):
        rest = " ".join(parts[start:])
        if (held := meaning(rest)) is not None:
            return rest, held
    return name, None
