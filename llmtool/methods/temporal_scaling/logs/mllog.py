"""MLPerf's logs: lines with `:::MLLOG` and an object of one key, its value and metadata, among what else was printed.

Losses stand under `train_loss` and `eval_loss`, or inside a value (`tracked_stats`); a benchmark of a language model
reports its validation loss as `eval_accuracy`, where others report a share of right answers. The axis is
`samples_count`, over `global_batch_size` where that is told: steps of blocks between evaluations begin anew, while some
programs count samples under `step`. Where the file states its schedule (`opt_...`), it has the learning rate as well.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import parse_json
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.logs.columns import SHOWN, Record
from llmtool.methods.temporal_scaling.logs.names import meaning
from llmtool.methods.temporal_scaling.logs.numbers import number

MARK = ":::MLLOG"
ACCURACY = "eval_accuracy"
LANGUAGE = re.compile(r"llama|gpt|mixtral|deepseek|qwen|moe", re.IGNORECASE)
"""Of a benchmark's name: models whose eval_accuracy is a loss."""
SAMPLES = ("samples_count", "consumed_samples")
STEPS = ("step", "step_num", "iteration", "global_step")
LENGTHS = ("max_sequence_length", "sequence_length", "seq_length")


NEAR = 0.1
"""A step that lies so near to the samples that were counted just behind it, or to as many batches, counts these."""
BASE, END = "opt_base_learning_rate", "opt_end_learning_rate"
WARMUP, DECAY = "opt_learning_rate_warmup_steps", "opt_learning_rate_decay_steps"
SHAPE = "opt_learning_rate_decay_schedule"
MAX_STEPS = "max_steps"
KNOTS = 400
"""Steps ahead at which a planned rate is told."""


def is_mllog(text: str) -> bool:
    """Whether a text holds a line of MLPerf's logging."""
    return MARK in text


def read(text: str, name: str) -> tuple[Iterator[Record], int | None, list[str]]:
    """The records, the last step where the run has ended or plans one, and what there is to say of them; a UserError
    lists the keys where none holds a loss."""
    facts: dict[str, Any] = {}
    entries = []
    for line in text.splitlines():
        entry = _entry(line)
        if entry is None:
            continue
        entries.append(entry)
        facts[str(entry.get("key"))] = entry.get("value")
    language = bool(LANGUAGE.search(str(facts.get("submission_benchmark", ""))))
    batch = number(facts.get("global_batch_size")) or None
    length = next((value for key in LENGTHS if (value := number(facts.get(key)))), None)
    records = [held for entry in entries if (held := _record(entry, language, batch, length)) is not None]
    if not records:
        keys = [key for key in facts if key != "None"]
        more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        hint = "eval_accuracy is a loss for language models only" if ACCURACY in facts else None
        found = ", ".join(keys[:SHOWN]) + more
        raise UserError(f"no {MARK} line has a loss and samples_count or a step; keys: {found}", where=name, hint=hint)
    records, told = _of_samples(records, batch, length)
    last = max(record.get("step", 0.0) for record in records)
    planned = number(facts.get(MAX_STEPS)) or 0.0
    end: float | None = None
    if "run_stop" in facts and "step" in records[-1]:
        end = last
        if planned > last:
            told.append(f"the run has stopped at step {last:,.0f}; {MAX_STEPS} planned {planned:,.0f}")
    elif planned >= last and batch:
        end = planned
        told.append(f"{MAX_STEPS} says that the run ends at step {planned:,.0f}")
    if any("lr" in record for record in records) or not (batch and (stated := _stated(facts))):
        return iter(records), None if end is None else int(end), told
    rated, note = _with_rate(records, facts, stated, end or last)
    return iter(rated), None if end is None else int(end), [*told, note]


def _of_samples(
    records: list[dict[str, Any]], batch: float | None, length: float | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of one count. Where some count samples, the steps of others count these, too, or batches, as what stands
    just before the former tells; or else they are of a block, and left out."""
    counts = [record["samples"] for record in records if "samples" in record]
    if not counts and batch and batch > 1 and all(record["step"] % batch == 0 for record in records):
        return records, [f"no row counts samples, and its steps may: all are whole batches of {batch:,.0f}"]
    if not counts or len(counts) == len(records):
        return records, []
    over, above = [], None
    for record in records:
        if "samples" not in record:
            above = record["step"]
        elif above is not None and record["samples"] > 0:
            over.append(above / record["samples"])
    ratio = float(np.median(over)) if over else math.nan
    times = next((each for each in (1.0, batch) if each and abs(ratio * each - 1) <= NEAR), None)
    if times is None:
        out = [record for record in records if "samples" in record]
        losses = sorted({key for record in records if "samples" not in record for key in record} - {"step", "time"})
        left = counted(len(records) - len(out), "row")
        return out, [f"{left} of {', '.join(losses)} left out: their step is no count of samples or of batches"]
    for record in records:
        if "samples" not in record:
            samples = record["step"] * times
            record |= {"step": samples / (batch or 1.0), "samples": samples}
            record |= {"tokens": samples * length} if length else {}
    return records, []


def _stated(facts: Mapping[str, Any]) -> str:
    """What the file states of its learning rate, as flags."""
    flags = {"--peak": BASE, "--end-lr": END, "--warmup": WARMUP, "--horizon": MAX_STEPS}
    held = {flag: value for flag, key in flags.items() if (value := number(facts.get(key))) is not None}
    return " ".join(f"{flag} {value:.10g}" for flag, value in held.items()) if "--peak" in held else ""


def _with_rate(
    records: Sequence[dict[str, Any]], facts: Mapping[str, Any], stated: str, horizon: float
) -> tuple[list[dict[str, Any]], str]:
    """Records with the rate that the file states, to the horizon; as they are where it does not say how that falls."""
    base, end = number(facts.get(BASE)) or 0.0, number(facts.get(END)) or 0.0
    warmup, decay = number(facts.get(WARMUP)) or 0.0, number(facts.get(DECAY)) or 0.0
    shape = re.sub(r"(?:with )?linear[ _-]warm-?up", "", str(facts.get(SHAPE, "")).lower())
    kind = next((each for each in ("cosine", "linear", "constant") if each in shape), "")
    if not kind or (decay <= 0 and kind != "constant") or base <= 0:
        return list(records), f"states {stated}, and not how the rate falls (--schedule)"

    def rate(step: float) -> float:
        done = min(max((step - warmup) / max(decay, 1.0), 0.0), 1.0)
        fallen = {"cosine": (1 - math.cos(math.pi * done)) / 2, "linear": done, "constant": 0.0}[kind]
        return min(step / warmup, 1.0) * base if step < warmup else base - (base - end) * fallen

    last = max(record["step"] for record in records)
    ahead = np.linspace(last, horizon, KNOTS)[1:].tolist() if horizon > last else []
    rows = [record | {"lr": rate(record["step"])} for record in records]
    return (
        [*rows, *({"step": step, "lr": rate(step)} for step in ahead)],
        f"the learning rate is what {SHAPE} states, {kind} from {base:g}"
        + (f" to {end:g}" if kind != "constant" else "")
        + (f" over {decay:,.0f} steps" if kind != "constant" else "")
        + (f", behind a warm-up of {warmup:,.0f}" if warmup else ""),
    )


def _entry(line: str) -> Mapping[str, Any] | None:
    """The object of a line; None where there is none, or it is cut off."""
    _, mark, rest = line.partition(MARK)
    try:
        value = parse_json(rest.strip()) if mark else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _record(
    entry: Mapping[str, Any], language: bool, batch: float | None, length: float | None
) -> dict[str, Any] | None:
    """Losses by name with their place; None where a line holds none."""
    key, value = str(entry.get("key")), entry.get("value")
    about = entry.get("metadata") if isinstance(entry.get("metadata"), dict) else entry
    assert isinstance(about, Mapping)
    inside = {**about, **value} if isinstance(value, Mapping) else {**about, key: value}
    if language and ACCURACY in inside:
        inside["eval_loss"] = inside.pop(ACCURACY)
    record: dict[str, Any] = {
        each: held for each, held in inside.items() if (known := meaning(each)) and known.role in ("loss", "rate")
    }
    if not any((known := meaning(each)) and known.role == "loss" for each in record):
        return None
    samples = next((held for each in SAMPLES if (held := number(inside.get(each))) is not None), None)
    step = next((held for each in STEPS if (held := number(inside.get(each))) is not None), None)
    if samples is None and step is None:
        return None
    if samples is None:
        record["step"] = step
    else:
        record |= {"step": samples / (batch or 1.0), "samples": samples}
        if length:
            record["tokens"] = samples * length
    if (moment := number(entry.get("time_ms"))) is not None:
        record["time"] = moment / 1000
    return record
