"""A job is run: begun or resumed, watched, finished."""

from contextlib import ExitStack
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from llmtool.commands.train.finish import finish
from llmtool.commands.train.job import METRICS, PLOT, SCHEMA, TOKENIZER, Job, plan_line
from llmtool.commands.train.place import alone, beginning, check_output
from llmtool.commands.train.watch import stop_signals, watch
from llmtool.core.run.atomic import explained, new_directories, require_space
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError
from llmtool.core.run.manifest import Run
from llmtool.core.run.page import Page
from llmtool.core.run.wording import prefixed

if TYPE_CHECKING:
    from llmtool.core.train.world import World


def run_job(job: Job, console: Console) -> dict[str, Any]:
    """Train, and write the finished model; `stopped` in the report says that a signal came first."""
    from llmtool.core.checkpoint.dtypes import element_type, torch_dtype
    from llmtool.core.model.cost import training_flops
    from llmtool.core.train.loop import train
    from llmtool.core.train.optimizers import Optimizers, freeze
    from llmtool.core.train.parallel import Trainee
    from llmtool.core.train.state import Checkpoints, Progress
    from llmtool.core.train.summary import show
    from llmtool.core.train.world import World

    begun = beginning(job)
    try:
        resumable = check_output(job, begun, console)
    except CompleteError:
        if isinstance(console, Page) and console.missing:  # the run ended, its page was not written
            console.figure(job.output / PLOT)
            show(job.output / METRICS, console)
        raise
    world = World(job.device)
    with ExitStack() as cleanup:
        cleanup.enter_context(new_directories(job.output.parent))
        size = sum(p.numel() for p in job.decoder.parameters())
        require_space(job.output, 4 * size * (1 + 3 * (job.settings.keep + 1)))
        console = console if world.leader else Console(verbosity=-1)
        facts = {**job.config, TOKENIZER: job.tokenizer} if job.tokenizer else job.config
        run = Run(job.command, facts, seed=job.settings.seed, backend=f"{job.kernels} on {world.device}")
        moving, total = freeze(
            job.decoder.named_parameters(), lambda name: job.objective.trainable(name) and job.trainable(name)
        )
        how = job.settings
        flops = training_flops(job.decoder, job.length) if job.length else None
        trainee = Trainee(
            job.decoder, job.objective, world, dtype=torch_dtype(element_type(how.dtype)), parallel=how.parallel,
            recompute=how.recompute, compiled=how.compiled, rows=job.rows,
        )  # fmt: skip
        optimizers = Optimizers(job.decoder.named_parameters(), job.optimizer, job.objective.vector)
        states = Checkpoints(job.output, world, job.settings.keep)
        world.barrier()
        if world.leader:
            cleanup.enter_context(alone(job.output, begun, resumable, console))
        world.barrier()
        found = states.latest(console) if resumable else None
        progress = Progress() if found is None else states.load(found, trainee, optimizers)
        for name, state in progress.terms.items():
            if name in job.objective.terms:
                job.objective.terms[name].restore(state)
        share = "" if moving == total else f", {moving:,} of them move"
        where = f"{world.size} processes ({trainee.kind})" if world.distributed else str(world.device)
        console.info(
            f"{total:,} parameters{share}; {plan_line(job)}; {job.settings.dtype} on {where}; kernels: {job.kernels}"
        )
        if progress.step:
            console.info(f"{job.output}: resumed after step {progress.step:,}")
        with (
            explained(job.output), watch(job, world.leader, progress.step, console) as record,
            stop_signals() as stopped,
        ):  # fmt: skip
            finished = train(
                trainee, job.data, optimizers, job.plan, progress, record=record,
                save=lambda now: states.save(trainee, optimizers, now),
                evaluate=lambda: job.evaluate(trainee), stopped=stopped,
            )  # fmt: skip
        report = {"schema": SCHEMA, "output": str(job.output), "parameters": total, "stopped": not finished}
        if world.leader:
            report |= last_row(job.output)
            if flops:
                report |= speed(job, flops, world, console)
        if finished:
            finish(job, trainee, run, console)
            say_end(job, console)
        else:
            again = "the same command without --force" if job.settings.force else "the same command"
            console.info(f"{job.output}: stopped after step {progress.step:,}; {again} goes on from there")
        return report


def say_end(job: Job, console: Console) -> None:
    """What the methods of the objective were asked for and have reached, over the last steps."""
    from llmtool.core.train.metrics import read_rows
    from llmtool.core.train.summary import MEAN

    rows = [row["figures"] for row in read_rows(job.output / METRICS)[-MEAN:] if "figures" in row]
    figures = {name: [fmean(values) for values in zip(*(_listed(row[name]) for row in rows), strict=True)]
               for name in (rows[-1] if rows else ()) if all(name in row for row in rows)}  # fmt: skip
    for term in job.objective.terms.values():
        if (found := term.at_end(figures)) is not None:
            line, reached = found
            console.info(line) if reached else console.warn(line)


def _listed(value: Any) -> list[float]:
    return value if isinstance(value, list) else [value]


def speed(job: Job, flops: int, world: "World", console: Console) -> dict[str, Any]:
    """FLOPs a token and a second and their share of the datasheet's, of the median step: said, and for the report.

    flops: a token, as training_flops counts them.
    """
    import torch

    from llmtool.core.kernels.peaks import datasheet
    from llmtool.core.train.metrics import read_rows

    rows = read_rows(job.output / METRICS)
    if not rows:
        return {}
    rate = flops * job.fill * median(row["tokens_per_s"] for row in rows[len(rows) // 10 :])
    name = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else world.device.type
    peak = datasheet(name, job.settings.dtype)
    share = rate / (peak * world.size) if peak else None
    of = f", {share:.1%} of what {world.size} x {name} can do by the datasheet" if peak and share is not None else ""
    console.info(f"{prefixed(flops)}FLOPs a token, {prefixed(rate)}FLOP/s{of}")
    return {"flops_per_token": flops, "flops_per_s": rate, "mfu": share}


def last_row(output: Path) -> dict[str, Any]:
    """The figures of the last step, without the lists."""
    from llmtool.core.train.metrics import read_rows

    rows = read_rows(output / METRICS)
    row = {key: value for key, value in rows[-1].items() if key != "schema"} if rows else {}
    if "eval" in row:
        row["eval"] = {
            name: {k: v for k, v in found.items() if k != "positions"} for name, found in row["eval"].items()
        }
    return row
