"""Learning rates: warm-up, then cosine, linear, WSD or constant; a function of the step alone, so resuming needs none.

A schedule gives the share of the peak; each group of parameters has a peak of its own.
"""

from collections.abc import Callable
from math import cos, pi

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted

SHAPES = ("cosine", "linear", "wsd", "constant")


@dataclass(frozen=True)
class Schedule:
    """`schedule(step)` for step 0 .. steps - 1; the first step of a warm-up is not zero, the last step is `final`.

    warmup: steps. final: share of the peak at the end. decay: share of the steps in which WSD goes down, linearly.
    """

    shape: str
    steps: int
    warmup: int = 0
    final: float = 0.1
    decay: float = 0.2

    def check(self) -> "Schedule":
        """Refuse what cannot be followed."""
        if self.shape not in SHAPES:
            raise UserError(f"schedule {self.shape!r} is not known", hint=f"one of {', '.join(SHAPES)}")
        if not 0 <= self.warmup <= self.steps:
            raise UserError(f"{counted(self.warmup, 'step')} of warm-up do not fit into {counted(self.steps, 'step')}")
        if not 0 <= self.final <= 1 or not 0 < self.decay <= 1:
            raise UserError(f"a final rate of {self.final:g} and a decay of {self.decay:g} are no shares of 1")
        return self

    def __call__(self, step: int) -> float:
        """Share of the peak at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.final + (1 - self.final) * SHAPE[self.shape](self, step)

    def part(self, step: int, start: int) -> float:
        """How much of the way from `start` to the last step is done, 0 to 1."""
        return min(1.0, max(0.0, (step - start) / max(1, self.steps - 1 - start)))


def _cosine(plan: Schedule, step: int) -> float:
    return (1 + cos(pi * plan.part(step, plan.warmup))) / 2


def _linear(plan: Schedule, step: int) -> float:
    return 1 - plan.part(step, plan.warmup)


def _wsd(plan: Schedule, step: int) -> float:
    return 1 - plan.part(step, max(plan.warmup, plan.steps - round(plan.decay * plan.steps) - 1))


def _constant(plan: Schedule, step: int) -> float:  # noqa: ARG001 - the shapes' signature
    return 1.0


SHAPE: dict[str, Callable[[Schedule, int], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "wsd": _wsd,
    "constant": _constant,
}
