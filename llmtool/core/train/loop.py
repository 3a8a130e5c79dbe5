"""The loop: batches in, updates out. All that a run does from step to step stands in `train`.

It knows no method: what is minimised is the Objective's, which rows come is the Batches'. What is written where is the
caller's: `record` takes a row for metrics.jsonl, `save` a state, `evaluate` gives losses on held-out text.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.train.data import Batches
from llmtool.core.train.objective import Figures
from llmtool.core.train.optimizers import Optimizers
from llmtool.core.train.parallel import Trainee
from llmtool.core.train.schedules import Schedule
from llmtool.core.train.state import Progress
from llmtool.core.train.world import World

Row = dict[str, Any]
SETTLED = 20
"""Updates before the running mean of the loss says what is a jump."""


@dataclass(frozen=True)
class Plan:
    """How often things happen, in steps; 0: never but at the end. clip: largest gradient norm; 0: any."""

    schedule: Schedule
    micro: int = 8
    """Rows in a forward pass."""
    clip: float = 1.0
    max_loss_jump: float | None = None
    """Nats above its running mean at which the loss stops the run."""
    eval_every: int = 0
    save_every: int = 0


def train(
    trainee: Trainee,
    data: Batches,
    optimizers: Optimizers,
    plan: Plan,
    progress: Progress,
    *,
    record: Callable[[Row], None],
    save: Callable[[Progress], object],
    evaluate: Callable[[], dict[str, Any]],
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Train from `progress` to the schedule's end; False if `stopped` came first, with the state saved."""
    world, terms, steps = trainee.world, trainee.objective.terms, plan.schedule.steps
    own = world.own(data.rows, plan.micro)
    trainee.decoder.train()
    began = time.perf_counter() - progress.seconds
    for step in range(progress.step, steps):
        clock = time.perf_counter()
        for term in terms.values():
            term.before_step(trainee.decoder, step, steps)
        batches = [data.batch(step, rows).to(world.device) for rows in own]
        counts = torch.stack([torch.stack((batch.targets, batch.counted.sum())) for batch in batches])
        totals = world.total(counts.sum(0)).clamp(min=1)
        sums = Sums()
        for number, batch in enumerate(batches):
            # The step's loss is a mean over all its targets, what a method adds one over all its tokens.
            target_share, share = counts[number] / totals
            batch = replace(batch, scale=target_share / share.clamp(min=torch.finfo(share.dtype).tiny))
            with trainee.micro_batch(last=number == len(batches) - 1):
                loss, figures = trainee.loss(batch)
                (loss * (share * world.size)).backward()  # DDP and FSDP2 average over processes
            sums.add(figures, share)
        averages = sums.over(world)
        norm = float(trainee.clip(optimizers.parameters, plan.clip))
        mean = averages.pop("loss")
        refuse_broken(step, mean, norm, progress, plan.max_loss_jump)
        optimizers.step(plan.schedule(step))
        for term in terms.values():
            term.after_step(averages)

        took = time.perf_counter() - clock
        progress.step = step + 1
        progress.mean = mean if progress.mean is None else progress.mean + (mean - progress.mean) / SETTLED
        row: Row = {
            "step": step + 1, "tokens": (step + 1) * data.tokens, "time": time.perf_counter() - began,
            "lr": optimizers.peak * plan.schedule(step), "loss": mean, "grad_norm": norm,
            "tokens_per_s": data.tokens / took,
        }  # fmt: skip
        if averages:
            row["figures"] = averages
        end = step + 1 == steps
        if end or due(step + 1, plan.eval_every):
            trainee.decoder.eval()
            clock = time.perf_counter()
            if found := evaluate():
                row["eval"], row["eval_seconds"] = found, time.perf_counter() - clock
            trainee.decoder.train()
        record(row)
        progress.seconds = time.perf_counter() - began
        stop = not end and world.any(stopped())
        if end or stop or due(step + 1, plan.save_every):
            progress.terms = {name: term.state() for name, term in terms.items()}
            save(progress)
        if stop:
            return False
    return True


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps happens now."""
    return every > 0 and step % every == 0


def refuse_broken(step: int, loss: float, norm: float, progress: Progress, jump: float | None) -> None:
    """Stop before an update that would spoil the weights; the last state saved is from before."""
    hint = "the last state saved is intact; a lower --lr or --clip may help"
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise UserError(f"step {step + 1}: loss {loss:g}, gradient norm {norm:g}: not numbers to go on with", hint=hint)
    if jump is not None and progress.mean is not None and step >= SETTLED and loss > progress.mean + jump:
        what = f"step {step + 1}: loss {loss:.4f} is more than {jump:g} above its mean of {progress.mean:.4f}"
        raise UserError(what, hint=hint)


class Sums:
    """Figures of micro-batches, weighed by their shares of the step's targets."""

    def __init__(self) -> None:
        self._sums: Figures = {}

    def add(self, figures: Mapping[str, torch.Tensor], share: torch.Tensor) -> None:
        """Add a micro-batch."""
        for name, value in figures.items():
            weighed = value.detach().double() * share
            self._sums[name] = self._sums[name] + weighed if name in self._sums else weighed

    def over(self, world: World) -> dict[str, Any]:
        """Averages over all processes: numbers, and lists of numbers; one message and one wait for the device."""
        flat = torch.cat([value.reshape(-1) for value in self._sums.values()])
        numbers = world.total(flat).tolist()
        averages: dict[str, Any] = {}
        for name, value in self._sums.items():
            taken, numbers = numbers[: value.numel()], numbers[value.numel() :]
            averages[name] = taken if value.dim() else taken[0]
        return averages
