"""`llmtool posttrain sft` and `posttrain uniattn`: jobs of the one training loop on instruction data."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.posttrain.data import DataOptions, Reader, count_lines, open_reader
from llmtool.commands.posttrain.start import (
    LoraOptions,
    Start,
    build_on_meta,
    only_adapters,
    only_compensation,
    open_start,
)
from llmtool.commands.sources import count
from llmtool.commands.train.command import make_objective
from llmtool.commands.train.job import BEGUN, SCHEMA, Job, anything, run_job
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, read_json_object
from llmtool.core.run.manifest import manifest_path
from llmtool.model import find_device

if TYPE_CHECKING:
    from llmtool.core.train.parallel import Trainee
    from llmtool.core.train.sft.batches import PackedExamples


@dataclass(frozen=True)
class Options:
    """How post-training goes; the defaults are UniAttn's (page 5 of the paper): one epoch, cosine, AdamW, no decay."""

    batch: str | int = 48 * 1024
    """Tokens in a step."""
    micro: int | None = None
    epochs: float = 1.0
    steps: int | None = None
    """Updates, instead of epochs."""
    lr: float = 2e-5
    warmup: float = 0.03
    """Share of the steps."""
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = 1.0
    schedule: str = "cosine"
    final_lr: float = 0.0
    eval_every: int | None = None
    save_every: int | None = None
    keep: int = 2
    max_loss_jump: float | None = None
    dtype: str = "fp32"
    device: str = "cpu"
    parallel: str = "auto"
    recompute: bool = False
    compiled: bool = False
    seed: int = 0
    force: bool = False
    dry_run: bool = False


def sft(
    model: Path,
    data: Sequence[str],
    output: Path,
    *,
    reading: DataOptions | None = None,
    valid: Sequence[str] = (),
    lora: LoraOptions | None = None,
    options: Options | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Standard supervised fine-tuning of every weight, or of adapters."""
    console = console or Console(verbosity=-1)
    start = open_start(model, lora)
    trained = Data.read(start, data, valid, reading or DataOptions(model), options or Options(), console)
    moving = only_adapters if is_adapted(start) else anything
    job = make_job("posttrain sft", output, start, trained, options or Options(), moving)
    return plan(job, trained) if (options or Options()).dry_run else run_job(job, console)


def uniattn(
    model: Path,
    data: Sequence[str],
    output: Path,
    *,
    reading: DataOptions | None = None,
    valid: Sequence[str] = (),
    lora: LoraOptions | None = None,
    first_epochs: float | None = None,
    first_steps: int | None = None,
    first_lr: float | None = None,
    options: Options | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Stage 1 trains the compensations alone, into OUT.stage1; stage 2 everything, from there into OUT.

    first_epochs, first_steps, first_lr: stage 1's own; first_epochs 0 leaves it out.
    """
    console, options = console or Console(verbosity=-1), options or Options()
    start = open_start(model, lora)
    method = next((m for m in start.config.methods if m["name"] == "uniattn"), None)
    if method is None:
        raise UserError("has no shared softmax", where=str(model), hint="llmtool convert uniattn makes one")
    compensated = method.get("compensation") != "none"
    trained = Data.read(start, data, valid, reading or DataOptions(model), options, console)
    first = replace(
        options, epochs=options.epochs if first_epochs is None else first_epochs, lr=first_lr or options.lr,
        steps=first_steps or (options.steps if first_epochs is None else None),
    )  # fmt: skip
    moving = only_adapters if is_adapted(start) else anything
    before: dict[str, Any] | None = None
    if compensated and (first.steps or first.epochs):
        stage = output.with_name(output.name + ".stage1")
        job = make_job("posttrain uniattn, stage 1", stage, start, trained, first, only_compensation)
        if options.dry_run:
            before = plan(job, trained)
        elif is_finished(job):
            console.info(f"{stage}: complete already, taken as it is")
        else:
            console.info("stage 1: the compensations alone")
            before = run_job(job, console)
            if before["stopped"]:
                return before
        if not options.dry_run:
            start = open_start(stage, None)
        console.info("stage 2: everything" if moving is anything else "stage 2: adapters and compensations")
    job = make_job("posttrain uniattn", output, start, trained, options, moving)
    report = plan(job, trained) if options.dry_run else run_job(job, console)
    return {**report, "stage1": before} if before else report


@dataclass(frozen=True)
class Data:
    """Training rows, held-out rows, and how they were read."""

    packed: "PackedExamples"
    valid: "PackedExamples | None"
    reader: Reader
    inputs: tuple[str, ...]
    counts: dict[str, Any]

    @classmethod
    def read(
        cls, start: Start, data: Sequence[str], valid: Sequence[str], reading: DataOptions, options: Options,
        console: Console,
    ) -> "Data":  # fmt: skip
        """Read everything, say what was lost, refuse data of which nothing would be trained."""
        from llmtool.core.train.sft.batches import PackedExamples
        from llmtool.core.train.sft.examples import require_trainable

        reading = reading.within(start.config.max_position_embeddings)
        tokens = count(options.batch, "--batch")
        if tokens < reading.places:
            raise UserError(f"--batch {tokens:,} is less than a row of {reading.places:,}", hint="a larger --batch")
        reader = open_reader(data, reading)
        rows = tokens // reading.places
        made: list[PackedExamples | None] = []
        for inputs in (data, valid):
            if not inputs:
                made.append(None)
                continue
            examples, counts = reader.examples(inputs, console)
            require_trainable(counts, ", ".join(inputs))
            largest = int(max(examples[number].ids.max() for number in range(len(examples))))
            if largest >= start.config.vocab_size:
                what = f"id {largest} is out of range: the model has {start.config.vocab_size:,} tokens"
                raise UserError(what, where=str(reading.tokenizer), hint="is it the tokenizer of this model?")
            if inputs is data:
                kept = counts
                for name, text in count_lines(counts):
                    console.info(f"{name}: {text}")
            made.append(PackedExamples(examples, reading.places, rows, options.seed, packing=reading.packing))
        packed = made[0]
        assert packed is not None
        console.info(f"packed: {len(packed.packed):,} rows of {reading.places:,}, {packed.fill:.1%} full")
        return cls(packed, made[1], reader, (*data, *valid), kept.to_json())

    def evaluate(self, trainee: "Trainee", micro: int) -> dict[str, Any]:
        """Nats a trained token of the held-out rows; each process looks at all."""
        import torch

        from llmtool.core.train.objective import IGNORED, Batch

        if self.valid is None:
            return {}
        total, tokens = 0.0, 0
        for first in range(0, len(self.valid.packed), micro):
            numbers = range(first, min(first + micro, len(self.valid.packed)))
            found = [self.valid.row(number) for number in numbers]
            batch = Batch(*(torch.stack(parts) for parts in zip(*found, strict=True)))
            total += float(trainee.losses(batch).double().sum())
            tokens += int((batch.labels != IGNORED).sum())
        return {"valid": {"loss": total / max(1, tokens), "positions": [], "tokens": tokens}}


def is_adapted(start: Start) -> bool:
    """Whether the model has adapters, now or from before."""
    return any(method["name"] == "lora" for method in start.config.methods)


def make_job(
    command: str, output: Path, start: Start, data: Data, options: Options, moving: Callable[[str], bool]
) -> Job:
    """A run of the loop."""
    from llmtool.core.corpus.provenance import InputHashes
    from llmtool.core.train.loop import Plan
    from llmtool.core.train.optimizers import OptimizerSettings
    from llmtool.core.train.schedules import Schedule

    steps = options.steps or data.packed.steps(options.epochs)
    rates = OptimizerSettings(
        "adamw", options.lr, None, options.weight_decay, options.beta1, options.beta2
    ).check()  # fmt: skip
    shape = Schedule(options.schedule, steps, round(options.warmup * steps), options.final_lr).check()
    rows = data.packed.rows
    wanted = min(rows, options.micro or max(1, 8192 // data.packed.length))
    processes = int(os.environ.get("WORLD_SIZE", 1))
    fitting = [size for size in range(wanted, 0, -1) if rows % (size * processes) == 0]
    micro = options.micro or next(iter(fitting), 1)  # what does not fit is refused by the loop
    every = max(1, steps // 20) if options.eval_every is None else options.eval_every
    saved = max(1, steps // 5) if options.save_every is None else options.save_every
    schedule = Plan(shape, micro, options.clip, options.max_loss_jump, every, saved)
    weights = start.checkpoint.fingerprint()
    facts = {
        "weights": weights["sha256"], "architecture": start.raw, "reading": data.reader.options.describe(),
        "template": data.reader.template.source if data.reader.template else None, "counts": data.counts,
        "optimizer": asdict(rates), "plan": asdict(schedule), "seed": options.seed, "dtype": options.dtype,
        "recompute": options.recompute, "compiled": options.compiled,
        "valid": data.valid.fingerprint() if data.valid else None,
    }  # fmt: skip
    del facts["plan"]["save_every"]  # how often a run is saved does not change what comes out
    facts["plan"]["micro"] = options.micro  # else chosen for the number of processes, which may change

    def inputs() -> list[dict[str, Any]]:
        with InputHashes(data.inputs) as hashes:
            return [weights, *hashes.wait()]

    if options.dry_run:
        build_on_meta(start.config)
    import torch

    with torch.device("meta" if options.dry_run else "cpu"):
        decoder = start.decoder(options.seed) if not options.dry_run else None
    return Job(
        command=command, output=output, config=facts, decoder=decoder, raw=start.raw, data=data.packed,  # type: ignore[arg-type]
        objective=make_objective(start.config, {}), optimizer=rates, plan=schedule, trainable=moving,
        evaluate=lambda trainee: data.evaluate(trainee, micro), files=start.files(), inputs=inputs,
        dtype=options.dtype, parallel=options.parallel, recompute=options.recompute,  # type: ignore[arg-type]
        compiled=options.compiled, device=find_device(options.device), keep=options.keep, seed=options.seed,
        force=options.force,
    )  # fmt: skip


def plan(job: Job, data: Data) -> dict[str, Any]:
    """What would be done."""
    steps = job.plan.schedule.steps
    return {
        "schema": SCHEMA, "dry_run": True, "output": str(job.output), "steps": steps,
        "tokens": steps * job.data.tokens, "rows": len(data.packed.packed), "fill": data.packed.fill,
        "counts": data.counts,
    }  # fmt: skip


def is_finished(job: Job) -> bool:
    """Whether OUT holds the finished run of the very same settings and data."""
    if job.force or not (manifest_path(job.output).is_file() and (job.output / BEGUN).is_file()):
        return False
    begun = {"schema": SCHEMA, "command": job.command, "config": job.config, "data": job.data.fingerprint()}
    return bool(read_json_object(job.output / BEGUN) == json.loads(dumps(begun, default=str)))
