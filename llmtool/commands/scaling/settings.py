"""The settings of `llmtool scaling`, each said once: how logs are looked at, and what is made of a fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from llmtool.commands.options import Force, Plot
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings

if TYPE_CHECKING:
    from llmtool.methods.temporal_scaling.look import Look

Law = Literal["auto", "temporal", "cooldown", "mpl", "annealing", "power", "shifted", "log", "hyperbola"]
Horizon = Annotated[
    float | None, Option("Last step of the run; else that of the known schedule.", min=1, metavar="STEPS")
]
Schedule = Annotated[
    Literal["cosine", "linear", "wsd", "wsd-sqrt", "inverse-sqrt", "power", "constant"] | None,
    Option("Learning rate where the log does not hold it; wsd-sqrt falls as 1 - sqrt."),
]
Peak = Annotated[
    float | None, Option("Peak of --schedule; Adam's tells more of what a fall takes off.", min=0, metavar="RATE")
]
EndRate = Annotated[float | None, Option("Last rate of --schedule; else a tenth of the peak.", min=0)]
Decay = Annotated[float | None, Option("Share of the steps in which wsd decays; else 0.2.", min=0.001, max=1)]
Warmup = Annotated[float | None, Option("Steps of warm-up; else seen in the log.", min=0, metavar="STEPS")]


@dataclass(frozen=True, kw_only=True)
class LogSettings(Settings):
    """How logs are looked at: which loss, up to where, by which law, and what is known of the schedule."""

    law: Annotated[Law, Option("Law of the loss; auto chooses by back-test and says why.")] = "auto"
    metric: Annotated[
        str | None, Option("Loss to look at: train, val, or an evaluation set's name.", metavar="NAME")
    ] = None
    fit_until: Annotated[
        str | None, Option("Look at no more than this: a step, or a share such as 30%.", metavar="STEP")
    ] = None
    horizon: Horizon = None
    schedule: Schedule = None
    peak: Peak = None
    end_lr: EndRate = None
    decay: Decay = None
    warmup: Warmup = None
    smooth: Annotated[int, Option("Average this many rows first.", min=1, metavar="N")] = 1
    step_column: Annotated[str | None, Option("Column of the step, if not seen by its name.", metavar="NAME")] = None
    loss_column: Annotated[str | None, Option("Column of the loss, if not seen by its name.", metavar="NAME")] = None
    lr_column: Annotated[str | None, Option("Column of the learning rate, if not seen.", metavar="NAME")] = None
    like: Annotated[
        Sequence[str], Option("Finished run of the same project to learn from; may be given again.", metavar="LOG")
    ] = ()

    def look(self) -> "Look":
        """The same as the method's code has it."""
        from llmtool.methods.temporal_scaling.look import Look

        return Look(
            metric=self.metric, until=self.fit_until, horizon=self.horizon, shape=self.schedule, peak=self.peak,
            end=self.end_lr, decay=self.decay, warmup=self.warmup, smooth=self.smooth,
            step_column=self.step_column, loss_column=self.loss_column, rate_column=self.lr_column,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FitSettings(LogSettings):
    """And what is made of a fit."""

    joint: Annotated[bool, Option("One law for runs that differ in their schedules.", "--joint")] = False
    target_loss: Annotated[
        Sequence[float], Option("When is this loss reached? May be given again.", metavar="LOSS")
    ] = ()
    follow: Annotated[bool, Option("Fit again while the run goes on.", "--follow")] = False
    every: Annotated[float, Option("Seconds between looks with --follow.", min=0.1)] = 30.0
    require_confident: Annotated[bool, Option("Exit 3 if the forecast is not confident.", "--require-confident")] = (
        False
    )
    max_predicted_loss: Annotated[float | None, Option("Exit 3 if the end is above this.", metavar="LOSS")] = None
    certainty: Annotated[
        float | None, Option("P(above the bar) that fails; else 0.5, with --follow 0.9.", min=0.5, max=1)
    ] = None
    stop: Annotated[
        bool,
        Option("With --follow: exit 3 as soon as the bar is missed, or two rows on end have no number.", "--stop"),
    ] = False
    notify: Annotated[
        str | None, Option("With --follow: run this with each alarm as an argument.", metavar="COMMAND")
    ] = None
    plot: Plot = None
    output: Annotated[
        Path | None, Option("File to write instead of stdout.", "--output -o", metavar="FILE", matters=False)
    ] = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """What is asked of a saved fit, or of a saved law over sizes."""

    at: Annotated[Sequence[float], Option("Step; may be given again. Else the horizon.", metavar="STEP")] = ()
    schedule: Schedule = None
    schedule_of: Annotated[str | None, Option("Take the learning rate of this log.", metavar="LOG")] = None
    peak: Peak = None
    end_lr: EndRate = None
    decay: Decay = None
    warmup: Warmup = None
    horizon: Horizon = None
    params: Annotated[str | None, Option("Of a law over sizes: parameters, such as 7B.", metavar="N")] = None
    tokens: Annotated[str | None, Option("Of a law over sizes: tokens, such as 1T.", metavar="D")] = None
    unique: Annotated[
        str | None, Option("Of a data-constrained law: unique tokens among them. Default: all.", metavar="U")
    ] = None

    @property
    def of_sizes(self) -> bool:
        """Whether a law over sizes is asked."""
        return any(asked is not None for asked in (self.params, self.tokens, self.unique))

    def look(self) -> "Look":
        """The other schedule as the method's code has it."""
        return LogSettings(
            horizon=self.horizon, schedule=self.schedule, peak=self.peak, end_lr=self.end_lr, decay=self.decay,
            warmup=self.warmup,
        ).look()  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CompareSettings(LogSettings):
    """And what a comparison overlooks."""

    force: Annotated[
        bool, Option("Compare in spite of other horizons or tokenizers; replace an output that exists.", "--force")
    ] = False
    plot: Plot = None


@dataclass(frozen=True, kw_only=True)
class PositionsSettings(LogSettings):
    """The command line shows a few of them."""

    set: Annotated[Sequence[str], Option("Evaluation set; may be given again.", metavar="NAME")] = ()
    plot: Plot = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class SizeSettings(Settings):
    """Which law over sizes, and what is made of it."""

    law: Annotated[Literal["chinchilla", "kaplan", "data-constrained", "critical-batch"], Option("Which law.")] = (
        "chinchilla"
    )
    bootstrap: Annotated[int, Option("Resamples for intervals.", min=0, metavar="N")] = 100
    compute: Annotated[
        Sequence[float], Option("Best sizes for this many FLOPs; may be given again.", min=1, metavar="FLOPS")
    ] = ()
    seed: Annotated[int, Option("Seed of the bootstrap.", min=0)] = 0
    params_column: Annotated[
        str | None, Option("Column of the parameters, if not seen by its name.", metavar="NAME")
    ] = None
    tokens_column: Annotated[str | None, Option("Column of the tokens, if not seen by its name.", metavar="NAME")] = (
        None
    )
    loss_column: Annotated[str | None, Option("Column of the loss, if not seen by its name.", metavar="NAME")] = None
    plot: Plot = None
    output: Annotated[
        Path | None, Option("File to write instead of stdout.", "--output -o", metavar="FILE", matters=False)
    ] = None
    force: Force = False
