"""One record of a training log, and the many names under which programs write the same few things."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

STEP = frozenset({"step", "steps", "iter", "iteration", "iterations", "it", "global_step", "trainer/global_step"})
RATE = frozenset({"lr", "learning_rate", "train/lr", "train/learning_rate", "lr-adamw", "optim/lr", "schedule/lr"})
TOKENS = frozenset({"tokens", "tokens_seen", "num_tokens", "total_tokens", "train/tokens", "num_input_tokens_seen"})
SECONDS = frozenset({"time", "seconds", "wall_time", "elapsed", "train_time", "_timestamp", "_runtime"})
TRAIN = frozenset(
    {"loss", "train_loss", "train/loss", "loss/train", "training_loss", "lm_loss", "loss_ema", "train/lm_loss"}
)
VALIDATION = frozenset(
    {"val_loss", "val/loss", "loss/val", "valid_loss", "valid/loss", "validation_loss", "validation/loss",
     "eval_loss", "eval/loss", "loss/eval", "test_loss", "test/loss"}
)  # fmt: skip
_SET_LOSS = re.compile(r"(?:loss_|eval_)([a-z0-9][a-z0-9_-]*?)(?:_loss)?")
_SET_POSITIONS = re.compile(r"(?:pos|per_position_loss|positions)(?:_([a-z0-9_-]+))?")


@dataclass
class Row:
    """What one record says: losses and per-position losses by the name of what they were measured on."""

    step: float
    losses: dict[str, float] = field(default_factory=dict)
    positions: dict[str, list[float]] = field(default_factory=dict)
    rate: float | None = None
    tokens: float | None = None
    seconds: float | None = None

    @property
    def empty(self) -> bool:
        """Whether the record says nothing that a forecast needs."""
        return not self.losses and not self.positions and self.rate is None


def from_mapping(record: Mapping[str, Any]) -> Row | None:
    """A row from a record with any of the known names, nested ones joined by "/"; None without a step."""
    row = Row(step=math.nan)
    runtime = False
    for key, value in _flatten(record):
        name = key.lower().strip()
        if isinstance(value, list):
            _take_positions(row, name, value)
            continue
        number = _number(value)
        if number is None:
            continue
        if name in STEP or (name == "_step" and math.isnan(row.step)):
            row.step = number
        elif name in RATE:
            row.rate = number
        elif name in TOKENS:
            row.tokens = number
        elif name in SECONDS:
            # "_runtime" counts from the start and survives restarts better than the clock beside it.
            if not runtime:
                row.seconds = number
            runtime = runtime or name == "_runtime"
        elif metric := loss_name(name):
            row.losses[metric] = number
    return None if math.isnan(row.step) else row


def loss_name(name: str) -> str | None:
    """What a column measures the loss of: "train", "val", or the name of an evaluation set; None if no loss."""
    if name in TRAIN:
        return "train"
    if name in VALIDATION:
        return "val"
    if match := re.fullmatch(r"eval/([^/]+)/loss", name):
        return match[1]
    if match := _SET_LOSS.fullmatch(name):
        return match[1] if name.startswith("loss_") or name.endswith("_loss") else None
    return None


def _take_positions(row: Row, name: str, values: list[Any]) -> None:
    numbers = [_number(value) for value in values]
    if match := re.fullmatch(r"eval/([^/]+)/positions", name):
        metric = match[1]
    elif match := _SET_POSITIONS.fullmatch(name):
        metric = match[1] or "val"
    else:
        return
    if len(numbers) > 1 and all(number is not None and math.isfinite(number) for number in numbers):
        row.positions[metric] = [number for number in numbers if number is not None]


def _flatten(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < 4:
            yield from _flatten(value, f"{name}/", depth + 1)
        else:
            yield name, value


def _number(value: Any) -> float | None:
    """NaN for what was logged as not a number; None for what is none (booleans, empty cells, words)."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
