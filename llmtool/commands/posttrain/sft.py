"""`llmtool posttrain sft` and `posttrain uniattn`: jobs of the one training loop on instruction data."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.places import beside
from llmtool.commands.posttrain.data import Reader, count_lines, open_reader
from llmtool.commands.posttrain.kept import keep, tidy
from llmtool.commands.posttrain.result import result
from llmtool.commands.posttrain.settings import DataOptions, SftSettings, UniattnSettings
from llmtool.commands.posttrain.start import (
    Start,
    on_meta,
    only_adapters,
    only_compensation,
    open_start,
)
from llmtool.commands.sources import count
from llmtool.commands.train.command import make_objective
from llmtool.commands.train.job import BEGUN, SCHEMA, Job, anything, only
from llmtool.commands.train.place import beginning, check_place
from llmtool.commands.train.run import run_job
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, parse_json, read_json_object
from llmtool.core.run.manifest import manifest_path
from llmtool.core.run.processes import leads, rank_and_size
from llmtool.core.run.settings import describe
from llmtool.core.run.wording import counted
from llmtool.model import find_device

if TYPE_CHECKING:
    from llmtool.core.train.parallel import Trainee
    from llmtool.core.train.sft.batches import PackedExamples
    from llmtool.core.train.sft.examples import Counts


def sft(
    model: str | Path,
    data: Sequence[str],
    output: str | Path | None = None,
    settings: SftSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Standard supervised fine-tuning of every weight, or of adapters.

    settings: as on the command line (`llmtool posttrain sft --help`), as an object or by their names.

    >>> import llmtool
    >>> report = llmtool.posttrain.sft("model", ["chat.jsonl"], "tuned", template="plain", steps=2, batch=64)
    >>> report["step"]
    2
    """
    settings, output = SftSettings.of(settings, named_settings), beside(model, "sft", output)
    model = Path(model)
    start = open_start(model, settings.adapters(), settings.set)
    trained = Data.read(start, data, output, settings.reading(model, day_of(output)), settings, console)
    moving = only_adapters if is_adapted(start) else anything
    job = make_job("posttrain sft", output, start, trained, settings, moving, console)
    if settings.dry_run:
        return plan(job, trained)
    report = run_job(job, console)
    trained.tidy(output, report)
    return report


def uniattn(
    model: str | Path,
    data: Sequence[str],
    output: str | Path | None = None,
    settings: UniattnSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Stage 1 trains the compensations alone, into OUT.stage1; stage 2 everything, from there into OUT.

    settings: as on the command line (`llmtool posttrain uniattn --help`), as an object or by their names.

    >>> import llmtool
    >>> converted = llmtool.convert.uniattn("model", "start", groups="2:0:2", init="zero")
    >>> report = llmtool.posttrain.uniattn("start", ["chat.jsonl"], "both", template="plain", steps=2, batch=64)
    >>> report["stage1"]["step"], report["step"]
    (2, 2)
    """
    settings, output = UniattnSettings.of(settings, named_settings), beside(model, "posttrained", output)
    model = Path(model)
    start = open_start(model, settings.adapters(), settings.set)
    method = next((m for m in start.config.methods if m["name"] == "uniattn"), None)
    if method is None:
        raise UserError("has no shared softmax", where=str(model), hint="llmtool convert uniattn makes one")
    compensated = method.get("compensation") != "none"
    stage = output.with_name(output.name + ".stage1")
    day = day_of(output) or day_of(stage)
    trained = Data.read(start, data, output, settings.reading(model, day), settings, console)
    first = settings.first_stage()
    moving = only_adapters if is_adapted(start) else anything
    before: dict[str, Any] | None = None
    if compensated and (first.steps or first.epochs):
        job = make_job("posttrain uniattn, stage 1", stage, start, trained, first, only_compensation, console)
        if settings.dry_run:
            before = plan(job, trained)
        elif is_finished(job):
            console.info(f"{stage}: complete already, taken as it is")
        else:
            console.info("stage 1: the compensations alone")
            before = run_job(job, console)
            if before["stopped"]:
                return before
        if not settings.dry_run:
            start = open_start(stage, None, settings.set)
        console.info("stage 2: everything" if moving is anything else "stage 2: adapters and compensations")
    job = make_job("posttrain uniattn", output, start, trained, settings, moving, console)
    report = plan(job, trained) if settings.dry_run else run_job(job, console)
    trained.tidy(output, report)
    return {**report, "stage1": before} if before else report


@dataclass(frozen=True)
class Data:
    """Training rows, held-out rows, and how they were read."""

    packed: "PackedExamples"
    valid: "PackedExamples | None"
    reader: Reader
    inputs: tuple[str, ...]
    counts: "Counts"
    paths: tuple[str | Path, ...]
    """All that the command reads."""

    @classmethod
    def read(
        cls, start: Start, data: Sequence[str], output: Path, reading: DataOptions, settings: SftSettings,
        console: Console,
    ) -> "Data":  # fmt: skip
        """Read everything, say what was lost, refuse data of which nothing would be trained.

        The leading process reads, into OUT/tokens; every one maps what it finds there.
        """
        from llmtool.core.train.sft.batches import PackedExamples

        reading = reading.within(start.config.max_position_embeddings)
        tokens = count(settings.batch, "--batch")
        if tokens < reading.places:
            raise UserError(f"--batch {tokens:,} is less than a row of {reading.places:,}", hint="a larger --batch")
        reader = open_reader(data, reading)
        rows = tokens // reading.places
        leader, place = leads(), None if settings.dry_run else output
        read: list[str | Path] = [start.checkpoint.path, *data, *settings.valid, reading.tokenizer]
        read += [named for named in (reading.template,) if named and Path(named).is_file()]
        if leader and place is not None:
            check_place(place, read, console)
        made: list[PackedExamples | None] = []
        for inputs in (data, settings.valid):
            if not inputs:
                made.append(None)
                continue
            examples, counts = keep(reader, inputs, place, leader, console)
            if examples.largest >= start.config.vocab_size:
                what = f"id {examples.largest} is out of range: the model has {start.config.vocab_size:,} tokens"
                raise UserError(what, where=str(reading.tokenizer), hint="is it the tokenizer of this model?")
            if inputs is data:
                kept = counts
                for name, text in count_lines(counts):
                    console.info(f"{name}: {text}")
                for warning in reader.warnings(counts):
                    console.warn(warning)
            made.append(PackedExamples(examples, reading.places, rows, settings.seed, packing=reading.packing))
        packed, valid = made
        assert packed is not None
        if valid is not None and valid.examples.digest() == packed.examples.digest():
            console.warn("--valid: the same conversations as those that are trained on: their loss is not held out")
        console.info(f"packed: {counted(len(packed.packed), 'row')} of {reading.places:,}, {packed.fill:.1%} full")
        return cls(packed, valid, reader, (*data, *settings.valid), kept, tuple(read))

    def tidy(self, output: Path, report: dict[str, Any]) -> None:
        """After a finished run, leave its own examples alone in OUT/tokens."""
        if leads() and report.get("stopped") is False:
            tidy(output, [packed.examples.folder for packed in (self.packed, self.valid) if packed])

    def evaluate(self, trainee: "Trainee", micro: int) -> dict[str, Any]:
        """Nats a trained token of the held-out rows; processes take turns, and each calls the model equally often."""
        import torch

        from llmtool.core.train.objective import IGNORED, Batch

        if self.valid is None:
            return {}
        world, rows = trainee.world, len(self.valid.packed)
        sums = torch.zeros(2, dtype=torch.float64)
        for first in range(0, rows, micro * world.size):
            begin = first + micro * world.rank
            numbers = range(min(begin, rows), min(begin + micro, rows)) or range(1)
            found = [self.valid.row(number) for number in numbers]
            batch = Batch(*(torch.stack(parts) for parts in zip(*found, strict=True)))
            if begin >= rows:
                batch.labels.fill_(IGNORED)
            sums[0] += trainee.losses(batch).double().sum().cpu()
            sums[1] += (batch.labels != IGNORED).sum()
        total, tokens = world.total(sums.to(world.device)).tolist()
        return {"valid": {"loss": total / max(1, tokens), "positions": [], "tokens": int(tokens)}}


def day_of(output: Path) -> str | None:
    """The day that the templates of a run wrote which was begun in OUT: it goes on with that."""
    config = read_json_object(output / BEGUN).get("config") if (output / BEGUN).is_file() else None
    day = config.get("date") if isinstance(config, dict) else None
    return day if isinstance(day, str) else None


def is_adapted(start: Start) -> bool:
    """Whether the model has adapters, now or from before."""
    return any(method["name"] == "lora" for method in start.config.methods)


def make_job(
    command: str, output: Path, start: Start, data: Data, settings: SftSettings, moving: Callable[[str], bool],
    console: Console,
) -> Job:  # fmt: skip
    """A run of the loop."""
    from llmtool.core.checkpoint.written import written_types
    from llmtool.core.corpus.provenance import InputHashes
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.train.evaluations import plan as evaluations_of
    from llmtool.core.train.loop import Plan
    from llmtool.core.train.optimizers import OptimizerSettings
    from llmtool.core.train.schedules import Schedule

    use_threads(settings.threads, by_load=False)
    steps = settings.steps or data.packed.steps(settings.epochs)
    rates = OptimizerSettings(
        "adamw", settings.lr, None, settings.weight_decay, settings.beta1, settings.beta2
    ).check()  # fmt: skip
    shape = Schedule(settings.schedule, steps, round(settings.warmup * steps), settings.final_lr).check()
    rows = data.packed.rows
    wanted = min(rows, settings.micro or max(1, 8192 // data.packed.length))
    _, processes = rank_and_size()
    fitting = [size for size in range(wanted, 0, -1) if rows % (size * processes) == 0]
    micro = settings.micro or next(iter(fitting), 1)  # what does not fit is refused by the loop
    held = data.valid
    sizes = [] if held is None else [len(held.packed) * held.length]
    every = evaluations_of(settings.eval_every, sum(sizes) or None, sizes, steps, rows * data.packed.length).every
    saved = max(1, steps // 5) if settings.save_every is None else settings.save_every
    used = replace(settings, length=data.packed.length, batch=rows * data.packed.length, steps=steps, eval_every=every)
    weights = start.checkpoint.fingerprint()
    facts = {
        **used.facts(), "template": data.reader.template.source if data.reader.template else None,
        "date": data.reader.day, "set": start.options, "weights": weights["sha256"], "architecture": start.raw,
        "counts": data.counts.facts(),
        "valid": data.valid.fingerprint() if data.valid else None,
    }  # fmt: skip

    def inputs() -> list[dict[str, Any]]:
        with InputHashes(data.inputs) as hashes:
            return [weights, *hashes.wait()]

    empty, decoder, values = on_meta(start.config), None, None
    limited = only(settings.only, dict(empty.named_parameters()))
    if settings.dry_run:
        pass
    elif settings.parallel == "fsdp":
        decoder, values = start.shards(settings.seed)
    else:
        decoder = start.decoder(settings.seed)
    objective = make_objective(start.config, start.options)
    for name, term in objective.terms.items():
        if name not in start.options:
            term.keep()
    made = result(start, data.reader, data.counts, foreign=settings.tokenizer is not None)
    for text in made.said:
        console.info(text)
    return Job(
        command=command, output=output, settings=used, config=facts, decoder=decoder, raw=made.raw,  # type: ignore[arg-type]
        data=data.packed, objective=objective, optimizer=rates,
        plan=Plan(shape, micro, settings.clip, settings.max_loss_jump, every, saved),
        trainable=lambda name: moving(name) and limited(name),
        evaluate=lambda trainee: data.evaluate(trainee, micro), files=made.files, inputs=inputs, read=data.paths,
        device=find_device(settings.device), kernels="torch",
        derived=[each.name for each in describe(type(settings)) if getattr(settings, each.name) is None],
        written=written_types(start.checkpoint, settings.save_dtype), tokenizer=data.reader.tokenizer.fingerprint(),
        rows=values, length=data.packed.length, fill=data.packed.fill,
    )  # fmt: skip


def plan(job: Job, data: Data) -> dict[str, Any]:
    """What would be done."""
    steps = job.plan.schedule.steps
    return {
        "schema": SCHEMA, "dry_run": True, "output": str(job.output), "steps": steps,
        "tokens": steps * job.data.tokens, "rows": len(data.packed.packed), "fill": data.packed.fill,
        "counts": data.counts.to_json(),
    }  # fmt: skip


def is_finished(job: Job) -> bool:
    """Whether OUT holds the finished run of the very same settings and data."""
    if job.settings.force or not (manifest_path(job.output).is_file() and (job.output / BEGUN).is_file()):
        return False
    return bool(read_json_object(job.output / BEGUN) == parse_json(dumps(beginning(job), default=str)))
