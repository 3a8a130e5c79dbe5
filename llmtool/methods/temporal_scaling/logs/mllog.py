"""MLPerf's logs: lines with `:::MLLOG` and an object of one key, its value and metadata, among what else was printed.

Losses stand under `train_loss` and `eval_loss`, or inside a value (`tracked_stats`); a benchmark of a language model
reports its validation loss as `eval_accuracy`, where others report a share of right answers. The axis is
`samples_count`, over `global_batch_size` where that is told: steps of blocks between evaluations begin anew.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import parse_json
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


def is_mllog(text: str) -> bool:
    """Whether a text holds a line of MLPerf's logging."""
    return MARK in text


def read(text: str, name: str) -> tuple[Iterator[Record], int | None]:
    """The records, and the last step where the run has ended; a UserError lists the keys where none holds a loss."""
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
    if any("samples" in record for record in records):  # where some count samples, the steps of others are of a block
        records = [record for record in records if "samples" in record]
    if not records:
        keys = [key for key in facts if key != "None"]
        more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        hint = "eval_accuracy is a loss for language models only" if ACCURACY in facts else None
        found = ", ".join(keys[:SHOWN]) + more
        raise UserError(f"no {MARK} line has a loss and samples_count or a step; keys: {found}", where=name, hint=hint)
    ended = "run_stop" in facts and "step" in records[-1]
    return iter(records), int(max(record.get("step", 0.0) for record in records)) if ended else None


def _entry(line: str) -> Mapping[str, Any] | None:
    """The object of a line; None where there is none, or it is cut off."""
    _, mark, rest = line.partition(MARK)
    try:
        value = parse_json(rest.strip()) if mark else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _record(entry: Mapping[str, Any], language: bool, batch: float | None, length: float | None) -> Record | None:
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
