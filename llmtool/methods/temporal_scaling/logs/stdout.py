"""What training programs print, read by its form: a step, and names with numbers beside them.

`step:125/5625 val_loss:6.18`, `iter 10: loss 4.1, lr 1e-3`, `[2025-01-01] iteration 10/ 1000 | lm loss: 1.07E+01 |`,
`{'loss': 2.5, 'epoch': 0.1}`, `250 val 6.43`, OLMo's step in one line with indented `name=value` lines below it, bars
(`Epoch 1:  3%|#  | 20/640 [00:10<05:00, loss=2.5]`), and Keras' `Epoch 1/10` with its bar in the next line.
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
_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)(?-i:[KMBTk])?"
_PAIR = re.compile(
    r"(?P<name>[A-Za-z_][\w/.-]*(?: (?:\()?[A-Za-z_][\w/.-]*(?:\))?){0,3}?)['\"]?\s*[:=]?\s*['\"]?"
    rf"(?P<number>{_NUMBER})(?P<unit>ms|m|s)?(?:\s*/\s*(?P<total>\d+))?(?=['\"\s,|;:)\]}}%]|$)",
    re.IGNORECASE,
)
_BARE = re.compile(r"^\s*(\d+)\s*(?:\||(?=(?:train|val)\s))")
"""llama2.c and build-nanogpt begin a line with the step, without its name."""
_OF = re.compile(r"\[\s*(\d{1,15})/\s*(\d{1,15})\]|(?<![\w.])(\d{1,15})/(\d{1,15})(?= \[\d+:\d\d)")
"""How far a program is, without a name: `[ 20/640]`, and tqdm's `20/640 [00:10<...`."""
_EPOCH = re.compile(r"\s*Epoch:? (\d+)/\d+\s*")
_ASIDE = re.compile(r"\s*\((?!(?:ms|s|sec)\))[^()=:]*\)(?=\s*[=:])")
"""OLMo-core's `optim/LR (group 0)=`, verl's `lr(1e-3):`; a unit of time is none."""
_FIRST = re.compile(r"(?<=[=:])\s*\[\s*([-+.\deE]+)(?:,[^\]]*)?\]")
"""DeepSpeed's `lr=[0.1, 0.1]`, one for each group of parameters."""
_SHORT = {"s": "step", "val": "val loss", "train": "train loss"}
"""Names that say enough in print only."""
_ELAPSED = frozenset({"train time", "total time", "elapsed time", "elapsed"})
"""Others are the time of one step."""
_UNITS = {"ms": 1e-3, "m": 60.0}
_CONTEXT = HELD_OUT - {"test", "dev"}
OF = "of"
"""The length of an epoch, kept beside a step within it until all is read."""
MOST_EPOCHS = 1e6
"""A count of epochs from here on is none."""
LONGEST = 4000
"""Characters of a line that is looked at."""


def read(text: str, name: str) -> tuple[Iterator[Record], int | None]:
    """The records, and the number of steps planned where the lines say `step:125/5625`."""
    records: list[dict[str, Any]] = []
    horizon, above, begun = 0, None, None
    for line in text.splitlines():
        line = _FIRST.sub(r"\1 ", _ASIDE.sub("", _COLOUR.sub("", line)[:LONGEST]))
        if header := _EPOCH.fullmatch(line):
            above, begun = {"epoch": header[1]}, header[1]
            continue
        inside = line[:1].isspace() or begun is not None
        record, total = _record(line, above if inside else None)
        horizon = max(horizon, total)
        if record is not None:
            above = {key: value for key, value in record.items() if (held := meaning(key)) and held.role == "axis"}
            if len(record) == len(above):
                continue
            if (begun or OF in record) and records and _at(records[-1], above):
                records.pop()  # a bar is drawn again and again
            records.append(record)
        elif not inside:
            above = None
    if not records:
        raise UserError(
            "not a training log that can be read",
            where=name,
            hint="JSONL, trainer_state.json, a table with a step in its header, TensorBoard events, or a printed log",
        )
    return iter(_counted_on(records)), horizon or None


def _at(record: dict[str, Any], axes: dict[str, Any]) -> bool:
    """Whether a record is of some step."""
    return all(record.get(key) == value for key, value in axes.items())


def _counted_on(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps that begin anew with each epoch, as bars count them, as steps of the run."""
    within = [record for record in records if OF in record]
    epochs = [known(str(record.get(_epoch(record), 0)).replace(",", "")) for record in within]
    counted = {epoch for epoch in epochs if 0 <= epoch < MOST_EPOCHS and epoch == round(epoch)}
    first = min(counted, default=0.0)
    for record, epoch in zip(within, epochs, strict=True):
        length = record.pop(OF)
        if epoch in counted:
            record["step"] += round(epoch - first) * length
    return records


def _epoch(record: dict[str, Any]) -> str:
    """The name under which a record counts epochs; empty where it does not."""
    return next((key for key in record if (held := meaning(key)) and held.unit == "epoch"), "")


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
    held_by = [each for key in record if (each := meaning(key)) is not None]
    roles = {each.role for each in held_by}
    counts = any(each.role == "axis" and not each.unit for each in held_by)
    if not counts and "loss" in roles and (of := _OF.search(line)):
        step, length = (whole(each, "step") for each in (of[1] or of[3], of[2] or of[4]))
        return {**record, "step": step, OF: length}, 0 if _epoch(record) else length
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
