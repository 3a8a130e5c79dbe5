"""What training programs print, read by its form: a step, and names with numbers beside them.

`step:125/5625 val_loss:6.18`, `iter 10: loss 4.1, lr 1e-3`, `[2025-01-01] iteration 10/ 1000 | lm loss: 1.07E+01 |`,
`{'loss': 2.5, 'epoch': 0.1}`, `250 val 6.43`, OLMo's step in one line with indented `name=value` lines below it, bars
(`Epoch 1:  3%|#  | 20/640 [00:10<05:00, loss=2.5]`), Keras' `Epoch 1/10` with its bar in the next line, and
`Epoch [1/10], Step [20/640]`, whose steps axis.py counts on through the epochs.
What a name means is names.py's matter; lines without a step and a number that matters are skipped.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs.bars import Drawn, drawn, give_steps
from llmtool.methods.temporal_scaling.logs.columns import Record, halves
from llmtool.methods.temporal_scaling.logs.headerless import Printed
from llmtool.methods.temporal_scaling.logs.names import (
    AXES,
    BAR,
    HELD_OUT,
    LINE,
    TOTAL,
    TRAIN,
    Meaning,
    meaning,
    words,
)
from llmtool.methods.temporal_scaling.logs.numbers import known
from llmtool.methods.temporal_scaling.logs.phases import Phases
from llmtool.methods.temporal_scaling.logs.ranks import one_rank

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)(?-i:[KMBTk])?"
_PAIR = re.compile(
    r"(?P<name>[A-Za-z_][\w/.-]*(?: (?:\()?[A-Za-z_][\w/.-]*(?:\))?){0,3}?)['\"]?\s*[:=]?\s*['\"]?"
    rf"(?P<number>{_NUMBER})(?P<unit>ms|m|s)?(?:\s*/\s*(?P<total>\d+))?(?=['\"\s,|;:)\]}}%]|$)",
    re.IGNORECASE,
)
_BARE = re.compile(r"^\s*(\d+)\s*(?:\||(?=(?:train|val)\s))")
"""llama2.c and build-nanogpt begin a line with the step, without its name."""
_OF_BARE = re.compile(r"^\s*(?:\d+\.\d+\s+)?(\d{1,15}/\d{1,15})(?=\s+\w*(?:loss|bpb|ppl))")
"""Or with how far the program is, perhaps behind the time: `500/20000 train_loss: 2.5698`."""
_OF = re.compile(
    r"\[\s*(\d{1,15})/\s*(\d{1,15})\]|(?<![\w.])(\d{1,15})/(\d{1,15})(?= \[\d+:\d\d)"
    r"|(?i:\bepoch)\W{1,3}\d{1,9}(?:/\d{1,9})?(?:\s*[|,]\s*|\s+)(\d{1,15})/(\d{1,15})(?=\s*[|,]|\s)"
    r"|(?<!\w)\(\s*(\d{1,15})\s*/\s*(\d{1,15})\s*\)"
)
"""How far a program is, without a name: `[ 20/640]`, tqdm's `20/640 [00:10<...`, `Epoch 1 | 143/573 |`, minimind's
`Epoch:[1/2](143/573)`."""
_EPOCH_AND_STEP = re.compile(
    r"^(?P<before>(?:(?!epoch).)*?)"
    r"(?:\[\s*(?P<epoch>\d{1,9}\s*/\s*\d{1,9})\s*\]\s*\[|(?<=train: )(?P<timm>\d{1,9})\s+\[)"
    r"\s*(?P<step>\d{1,15})\s*/\s*(?P<of>\d{1,15})\s*(?:\(\s*\d{1,3}%\)\s*)?\]",
    re.IGNORECASE,
)
"""Two counts without a name, of which the first is the epoch: `[1/2][143/573]`, timm's `Train: 1 [ 143/573 ( 25%)]`."""
_EPOCH = re.compile(r"(?:.*\bINFO\b)?[\W_]*epoch\b[\s:#]*(\d{1,9})(?:\s*(?:/|of)\s*(\d{1,9}))?[\W_]*", re.IGNORECASE)
"""A line of its own, above those of an epoch: `Epoch 1/10`, ` > EPOCH: 84/1000`, `==== epoch 3 ====`."""
_BRACKETS = re.compile(
    r"\b(epoch|step|iter|iteration|batch|update)\s*:?\s*\[\s*(\d{1,15})\s*/\s*(\d{1,15})\s*\]", re.IGNORECASE
)
_STEPS = re.compile(r'"step": \[(\d{1,9}), (\d{1,15})(, \d{1,15})?\]')
"""DLLogger's epoch, step in it, and how many it has."""
_ESPNET = re.compile(r"\b(\d{1,9})epoch:(?:(train|valid):)?\d+-(\d{1,15})batch:")
_PERCENT = re.compile(r"(?<!\d)\d{1,3}(?:\.\d+)?%(?=\|)")
"""How far a bar is: with the name before it (`Train:  7%|`) it is no loss."""
_ASIDE = re.compile(r"\s*\((?!(?:ms|s|sec|\s*\d+\s*/\s*\d+\s*)\))[^()=:]*\)(?=\s*[=:])")
"""OLMo-core's `optim/LR (group 0)=`, verl's `lr(1e-3):`; a unit of time is none, nor is how far a program is."""
_FIRST = re.compile(r"(?<=[=:])\s*\[\s*([-+.\deE]+)(?:,[^\]]*)?\]")
"""DeepSpeed's `lr=[0.1, 0.1]`, one for each group of parameters."""
_SHORT = {"s": "step", "val": "val loss", "train": "train loss",
          "ep.": "epoch", "up.": "updates", "cost": "loss", "l.r.": "lr"}  # fmt: skip
"""Names that say enough in print only; the second line are Marian's."""
_ELAPSED = frozenset({"train time", "total time", "elapsed time", "elapsed"})
"""Others are the time of one step."""
_UNITS = {"ms": 1e-3, "m": 60.0}
_CONTEXT = HELD_OUT - {"test", "dev"}
_EVALUATES = HELD_OUT | {"testing", "validating", "evaluating"}
_SAVED = "Saving dict for global step"
"""TensorFlow's Estimator ends an evaluation with a line in which `loss` is that of the evaluation, too."""
LONGEST = 4000
"""Characters of a line that is looked at."""


def read(text: str, name: str) -> tuple[Iterator[Record], list[str]]:
    """The records, and what there is to say of them; the other half of `step:125/5625` stands beside the step, as
    names.py says."""
    numbered = [(at, line) for at, whole in enumerate(text.split("\n"), start=1) for line in whole.splitlines() or [""]]
    records, places, told = one_rank([line for _, line in numbered], _rows)
    if not records:
        if (alone := _losses_alone(numbered)) is not None:
            raise UserError(
                f"no line tells a step, or an epoch, beside a loss; the first of several with one: {alone[1]!r}",
                where=f"{name}:{alone[0]}",
                hint="`step 10 loss 3.2` is read; of a table with a header, or of JSONL, each row counts",
            )
        raise UserError(
            "not a training log that can be read",
            where=name,
            hint="JSONL, trainer_state.json, a table with a step in its header, TensorBoard events, or a printed log",
        )
    return ({**each, LINE: numbered[at][0]} for each, at in zip(records, places, strict=True)), [told] * bool(told)


def _losses_alone(numbered: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    """The number and the beginning of the first line in which a loss has a value that other lines give one, too."""
    found: dict[str, list[tuple[int, str]]] = {}
    for at, line in numbered:
        for match in _PAIR.finditer(line[:LONGEST]):
            name, held = _named(match["name"])
            if held is not None and held.role == "loss" and "." in match["number"]:
                found.setdefault(name, []).append((at, line.strip()[:60]))
    lines = max(found.values(), key=len, default=[])
    return lines[0] if len(lines) > 2 else None


def _rows(lines: Sequence[str]) -> tuple[list[dict[str, Any]], list[int]]:
    """The records, and which of the lines each stands in."""
    records: list[dict[str, Any]] = []
    places: list[int] = []
    bars: list[Drawn] = []
    table, phases = Printed(), Phases(lines)
    above: dict[str, Any] | None = None
    epoch: dict[str, Any] = {}
    for place, whole in enumerate(lines):
        line = _STEPS.sub(_spelled_out, _COLOUR.sub("", whole)[:LONGEST])
        if (bar := drawn(line, len(records))) is not None:
            bars.append(bar)
        row = table.spelled_out(line)
        line = _ESPNET.sub(r"epoch \1 \2 batch \3 ", line)
        line = row or _FIRST.sub(r"\1 ", _ASIDE.sub("", line))
        if header := _EPOCH.fullmatch(line):
            epoch = {"epoch": header[1], **({"epoch" + TOTAL: header[2]} if header[2] else {})}
            above = epoch
            continue
        inside = line[:1].isspace() or bool(epoch)
        line = _EPOCH_AND_STEP.sub(_both, line) if "/" in line and "[" in line else line
        line = phases.spelled_out(_BRACKETS.sub(r"\1 \2/\3 ", line))
        record = _record(_PERCENT.sub(" ", line), above if inside else None)
        if record is not None:
            if epoch.keys() - record.keys():
                record = {**epoch, **record}  # in the order in which they stand there
            above = {key: value for key, value in record.items() if _counts(key)}
            if len(record) == len(above) or (records and record == records[-1] and _whole(above)):
                continue
            same = (row or epoch or "step" + BAR in record) and records and not _new(record, records[-1])
            if same and all(records[-1].get(key) == value for key, value in above.items()):
                records[-1], places[-1] = record, place  # a bar is drawn again and again
            else:
                records.append(record)
                places.append(place)
        elif not inside:
            above = None
    give_steps(records, bars)
    return records, places


def _spelled_out(steps: re.Match[str]) -> str:
    """DLLogger's triple as other programs print it."""
    return f"epoch {steps[1]} " + (f"[{steps[2]}/{steps[3][2:]}] " if steps[3] else f"step {steps[2]} ")


def _both(found: re.Match[str]) -> str:
    """Two counts without a name as other programs print them."""
    return f"{found['before']} epoch {found['epoch'] or found['timm']} [{found['step']}/{found['of']}] "


def _counts(key: str) -> bool:
    """Whether a name tells where in the run a record stands."""
    held = meaning(key)
    return held is not None and held.role in ("axis", "total")


def _whole(counts: dict[str, Any]) -> bool:
    """Whether what counts does so in whole numbers: of two rows alike, one was printed twice."""
    return not any("." in str(value) for value in counts.values())


def _new(record: dict[str, Any], last: dict[str, Any]) -> bool:
    """Whether a record tells other things than the last one, as an evaluation after a step of training does."""
    return not set(last) & {key for key in record if not _counts(key)}


def _record(line: str, above: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a line says; `above` is the step of an indented line."""
    record: dict[str, Any] = {}
    held_out = _SAVED in line
    if bare := _BARE.match(line):
        record["step"], line = bare[1], line[bare.end() :]
    line = _OF_BARE.sub(r"step \1", line)
    place = 0
    for match in _PAIR.finditer(line):
        held_out = held_out or bool(_CONTEXT.intersection(words(line[place : match.start()])))
        place = match.end()
        key, held = _named(match["name"])
        if held is None:
            continue
        if held.role == "axis":
            held_out = held_out or bool(_CONTEXT.intersection(words(match["name"])))
            if match["total"] and len(match["total"]) < 16:
                if (whole := " ".join(match["name"].split()[-2:]).lower()) in AXES:
                    key = whole  # `global step 20/640` is no step of an epoch
                record.setdefault(key + TOTAL, match["total"])
        elif (held.role == "loss" and match["total"]) or (
            held.role == "seconds" and " ".join(words(key)) not in _ELAPSED
        ):
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
        before = set(words(line[: of.start()]))
        if before & _EVALUATES and not before & TRAIN:
            return None  # `Test: [10/242]`: a part of an evaluation, and no step of training
        # a bar of the run goes on beside a part of an epoch, one of an epoch beside its count
        last = TOTAL if "." in str(record.get("epoch", "")) else BAR
        step, total = (each for each in of.groups() if each is not None)
        return {**record, "step": step, "step" + last: total}
    if "axis" not in roles and above:
        return {**above, **record}
    return record if roles & {"axis", "tokens"} else None


def _named(name: str) -> tuple[str, Meaning | None]:
    """A printed name as names.py knows it: whole, or without words before it ("completed step")."""
    name = _SHORT.get(name.lower(), name)
    if "/" in name and (pair := halves(name)):
        return pair[0], meaning(pair[0])  # `'global_step/max_steps': '10/58114'`, whose value names the total itself
    parts = name.split()
    if parts[-1].lower() in AXES:
        return parts[-1].lower(), meaning(parts[-1])
    for start in range(len(parts)):
        rest = " ".join(parts[start:])
        if (held := meaning(rest)) is not None:
            return rest, held
    return name, None
