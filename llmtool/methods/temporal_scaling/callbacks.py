"""Callbacks that forecast while others train: `hugging_face(...)` for the Trainer, `lightning(...)` for Lightning.

Imported by nobody here, and importing neither framework until one of the two is called:

    trainer.add_callback(hugging_face(bar=2.9, stop=True))

The last step is the framework's own, so that a linear or cosine schedule is told by the rates that were logged.
"""

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.alarms import odds_above, of_run
from llmtool.methods.temporal_scaling.forecast import Forecast, forecast
from llmtool.methods.temporal_scaling.logs import NotYetError
from llmtool.methods.temporal_scaling.logs.axis import LARGEST_STEP
from llmtool.methods.temporal_scaling.logs.log import assemble
from llmtool.methods.temporal_scaling.report import brief
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import Plan, Shape


class Watcher:
    """Records as a program logs them, forecast again after every so many; `missed` once the bar is out of reach.

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
        self.refused: set[str] = set()

    def planned(self, steps: float) -> None:
        """The framework's own last step, which one given by hand goes before; none where it does not know (-1, inf)."""
        if self.horizon is None and 0 < steps < LARGEST_STEP:
            self.horizon = float(steps)

    def record(self, values: dict[str, Any], step: int) -> Forecast | None:
        """Take one record; the forecast, where it was time for one and the run tells enough."""
        self.records.append({**values, "step": step})
        if len(self.records) % self.every:
            return None
        try:
            whole = None if self.horizon is None else max(self.horizon, step)
            log = assemble(self.records, "this run", None if whole is None else round(whole))
            run = prepare(log, metric=self.metric, horizon=whole, warmup=self.warmup, plan=self.plan)
            for alarm in of_run(run):
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
        if self.bar is not None and not run.open_end:
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


def lightning(*, stop: bool = False, **settings: Any) -> Any:
    """A Lightning Callback; settings are Watcher's. stop: end the training once the bar is missed."""
    try:
        base: Any = import_module("lightning.pytorch").Callback
    except ImportError:
        base = import_module("pytorch_lightning").Callback

    class Forecasts(base):  # type: ignore[misc]
        """Forecasts every few batches."""

        watcher = Watcher(**settings)

        def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
            """A batch is done; what the module logged stands in callback_metrics."""
            held = {key: float(value) for key, value in trainer.callback_metrics.items()}
            if held and trainer.is_global_zero:
                self.watcher.planned(getattr(trainer, "estimated_stepping_batches", -1))
                self.watcher.record(held, trainer.global_step)
                if stop and self.watcher.missed:
                    trainer.should_stop = True

    return Forecasts()
