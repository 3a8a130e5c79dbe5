"""A run in a directory: what is trained, on what, and where it goes.

OUT/train.json       the settings and the data, written first: a resumed run must find the same
OUT/metrics.jsonl    a row a step
OUT/checkpoints/     states to resume from
OUT/config.json, model.safetensors, tokenizer files, loss.png, and run.json last: the finished model
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.train.settings import Running
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.wording import counted

if TYPE_CHECKING:
    from llmtool.core.checkpoint.written import Written
    from llmtool.core.model.decoder import Decoder
    from llmtool.core.train.data import Batches
    from llmtool.core.train.loop import Plan
    from llmtool.core.train.objective import Objective
    from llmtool.core.train.optimizers import OptimizerSettings
    from llmtool.core.train.parallel import Trainee
    from llmtool.core.train.sharding import Rows

TOKENIZER = "tokenizer_hash"
"""Key of the tokenizer's hash in the first row of metrics.jsonl, and in run.json's config."""
BEGUN, METRICS, PLOT = "train.json", "metrics.jsonl", "loss.png"
SCHEMA = "llmtool.train/1"


def anything(name: str) -> bool:  # noqa: ARG001 - a `trainable`
    """Every parameter may move."""
    return True


def only(patterns: Sequence[str], names: Collection[str]) -> Callable[[str], bool]:
    """A `trainable` for --only: the parameters, of these names, that a pattern names; each must name one at least."""
    moving: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            hint = closest(pattern, sorted(names)) or f"a key of the checkpoint, or a pattern: {max(names, key=len)}"
            raise UserError(f"--only {pattern}: the model has no parameter of this name", hint=hint)
        moving |= found
    return moving.__contains__ if patterns else anything


def _nothing(trainee: "Trainee") -> dict[str, Any]:  # noqa: ARG001 - an `evaluate`
    return {}


@dataclass
class Job:
    """What is trained, on what, how, and where it goes. `config`: all settings that change the result."""

    command: str
    output: Path
    settings: Running
    config: dict[str, Any]
    decoder: "Decoder"
    raw: Mapping[str, Any]
    """config.json of the model."""
    data: "Batches"
    objective: "Objective"
    optimizer: "OptimizerSettings"
    plan: "Plan"
    device: str
    kernels: str
    """The code that computes, for people and run.json."""
    written: "Written"
    """Element types of the finished model."""
    rows: "Rows | None" = None
    """Where the values of a decoder on the meta device come from."""
    trainable: Callable[[str], bool] = anything
    """Beside what the objective's terms say."""
    evaluate: "Callable[[Trainee], dict[str, Any]]" = _nothing
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Further files of the finished model: its tokenizer."""
    read: Sequence[str | Path] = ()
    """All that the run reads, as the user named it."""
    inputs: Callable[[], list[dict[str, Any]]] = list
    """Entries of run.json; asked for at the end."""
    tokenizer: str | None = None
    """Hash of the tokenizer that made the data, where it is known: losses of other tokens cannot be compared."""
    derived: Sequence[str] = ()
    """Settings that nobody gave and that follow from others: they are no difference to be told of."""
    tensorboard: Path | None = None
    length: int | None = None
    """Places of a row, where all are alike: FLOPs are counted by it."""
    fill: float = 1.0
    """Share of these places that hold a token: padding is no work that was asked for."""


def plan_line(job: Job) -> str:
    """What will be done, in a line."""
    schedule = job.plan.schedule
    return (
        f"{counted(schedule.steps, 'step')} of {job.data.tokens:,} tokens, {job.optimizer.name} at "
        f"{job.optimizer.lr:g}, {schedule.shape}"
    )
