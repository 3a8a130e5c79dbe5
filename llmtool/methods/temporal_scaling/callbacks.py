"""Callbacks that forecast while others train: `hugging_face(...)` for the Trainer, `lightning(...)` for Lightning.

Imported by nobody here, and importing neither framework until one of the two is called:

    trainer.add_callback(hugging_face(bar=2.9, stop=True))

The last step is the framework's own, so that a linear or cosine schedule is told by the rates that were logged.
"""

import re
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.alarms import awaited, broken, odds_above, of_run
from llmtool.methods.temporal_scaling.forecast import Forecast, forecast
from llmtool.methods.temporal_scaling.logs import NotYetError
from llmtool.methods.temporal_scaling.logs.axis import LARGEST_STEP
from llmtool.methods.temporal_scaling.logs.log import assemble
from llmtool.methods.temporal_scaling.logs.names import meaning
from llmtool.methods.temporal_scaling.report import brief
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import Plan, Shape

MOST = 20_000
"""Records that are kept; a day of a step a second has four times as many, and no law looks at each."""
WHOLE = 1_000
"""The last of them, which tell the noise and the alarms, stay as they are."""


def thinned(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every other record of those that are alike; evaluations, whose columns few have, stay."""
    counts = Counter(key for record in records for key in record)
    often = {key for key, count in counts.items() if count > len(records) / 2}
    old, new = records[:-WHOLE], records[-WHOLE:]
    kept = [record for at, record in enumerate(old) if at % 2 or record.keys() - often]
    return [*(kept if len(kept) < 0.9 * len(old) else old[1::2]), *new]


class Watcher:
    """Records as a program logs them, forecast again after every so many, and after a tenth of those there are, so that
    all forecasts together take no more than in proportion to the run; `missed` once the bar is out of reach.

    horizon: the last step, None until the framework has told it; schedule: where the rates that are logged do not tell
    it. bar: a final loss not to exceed; certainty: P(above it) from which it counts as missed; say: takes each line.
    """

    def __init__(
        self, horizon: float | None = None, schedule: Shape | None = None, *, warmup: float | None = None,
        end: float = 0.1, metric: str | None = None, every: int = 20, bar: float | None = None, certainty: float = 0.9,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.horizon, self.warmup, self.metric, self.every = horizon, warmup, metric, every
        self.plan = Plan(schedule, end) if schedule else None
        self.bar, self.certainty, self.say = bar, certainty, say
        self.records: list[dict[str, Any]] = []
        self.latest: Forecast | None = None
        self.missed = False
        self.told: set[tuple[str, float]] = set()
        self.refused: set[str] = set()
        self.count, self.next = 0, every

    def planned(self, steps: float) -> None:
        """The framework's own last step, which one given by hand goes before; none where it does not know (-1, inf)."""
        if self.horizon is None and 0 < steps < LARGEST_STEP:
            self.horizon = float(steps)

    def record(self, values: dict[str, Any], step: int) -> Forecast | None:
        """Take one record; the forecast, where it was time for one and the run tells enough."""
        self.records.append({**values, "step": step})
        self.count += 1
        if len(self.records) > MOST:
            self.records = thinned(self.records)
        if self.count < self.next:
            return None
        self.next = self.count + max(self.every, self.count // 10)
        try:
            whole = None if self.horizon is None else max(self.horizon, step)
            log = assemble(self.records, "this run", None if whole is None else round(whole))
            run = awaited(prepare(log, metric=self.metric, horizon=whole, warmup=self.warmup, plan=self.plan))
            for alarm in of_run(run):
                if alarm.key not in self.told:
                    self.told.add(alarm.key)
                    self.say(alarm.text)
            self.latest = forecast(run)
        except NotYetError:
            return None
        except UserError as refusal:  # which is no reason to end somebody's training
            if (kind := re.sub(r"\d", "", refusal.what)) not in self.refused:
                self.refused.add(kind)
                self.say(f"step {step:,}: no forecast: {refusal.what}")
            return None
        text = brief(self.latest)
        if self.bar is not None and (broken(run) or not run.open_end):
            odds = odds_above(self.latest, self.bar)
            self.missed = odds >= self.certainty
            text += f", P(above {self.bar:g}) {odds:.2f}"
        self.say(text if self.latest.confident else f"{text}  NOT CONFIDENT: {'; '.join(self.latest.doubts)}")
        return self.latest


def hugging_face(*, stop: bool = False, **settings: Any) -> Any:
    """A TrainerCallback; settings are Watcher's. stop: end the training once the bar is missed."""
    from transformers import TrainerCallback

    class Forecasts(TrainerCallback):  # type: ignore[misc]
        """Forecasts at every few logs."""

        watcher = Watcher(**settings)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            """The Trainer has logged."""
            if logs and state.is_world_process_zero:
                self.watcher.planned(state.max_steps)
                self.watcher.record(dict(logs), state.global_step)
                if stop and self.watcher.missed:
                    control.should_training_stop = True

    return Forecasts()


def _is_loss(name: str) -> bool:
    return (held := meaning(name)) is not None and held.role == "loss"


def lightning(*, stop: bool = False, **settings: Any) -> Any:
    """A Lightning Callback; settings are Watcher's. stop: end the training once the bar is missed."""
    try:
        base: Any = import_module("lightning.pytorch").Callback
    except ImportError:
        base = import_module("pytorch_lightning").Callback

    class Forecasts(base):  # type: ignore[misc]
        """Forecasts every few measurements."""

        watcher = Watcher(**settings)
        step, held = -1, dict[str, float]()

        def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
            """A batch is done; of several that make a step, one counts."""
            if trainer.global_step != self.step:
                self.step = trainer.global_step
                self.measured(trainer)

        def on_validation_end(self, trainer: Any, *_: Any, **__: Any) -> None:
            """An evaluation is done."""
            if not getattr(trainer, "sanity_checking", False):
                self.measured(trainer)

        def measured(self, trainer: Any) -> None:
            """What the module logged stands in callback_metrics, until something new does: that is no measurement."""
            if not trainer.is_global_zero:
                return
            before, self.held = self.held, {key: float(value) for key, value in trainer.callback_metrics.items()}
            new = {key: value for key, value in self.held.items() if value != before.get(key) or not _is_loss(key)}
            if any(map(_is_loss, new)):
                self.watcher.planned(getattr(trainer, "estimated_stepping_batches", -1))
                self.watcher.record(new, trainer.global_step)
                if stop and self.watcher.missed:
                    trainer.should_stop = True

    return Forecasts()
