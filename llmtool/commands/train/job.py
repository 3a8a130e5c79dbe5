"""A run in a directory: begun or resumed, watched, finished.

OUT/train.json       the settings and the data, written first: a resumed run must find the same
OUT/metrics.jsonl    a row a step
OUT/checkpoints/     states to resume from
OUT/config.json, model.safetensors, tokenizer files, loss.png, and run.json last: the finished model
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from llmtool.commands.train.settings import Running
from llmtool.commands.train.texts import FOLDER
from llmtool.core.run.atomic import atomic_file, explained, require_space, sweep, sync_tree
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.files import require_plain
from llmtool.core.run.journal import lock, sync_directory
from llmtool.core.run.json_file import dumps, parse_json, read_json_object
from llmtool.core.run.manifest import Run, changes, manifest_path
from llmtool.core.run.outputs import refuse_damaged, refuse_overlap, tidy
from llmtool.core.run.settings import describe

if TYPE_CHECKING:
    from llmtool.core.checkpoint.written import Written
    from llmtool.core.model.decoder import Decoder
    from llmtool.core.train.data import Batches
    from llmtool.core.train.loop import Plan, Row
    from llmtool.core.train.objective import Objective
    from llmtool.core.train.optimizers import OptimizerSettings
    from llmtool.core.train.parallel import Trainee
    from llmtool.core.train.sharding import Rows

TOKENIZER = "tokenizer_hash"
"""Key of the tokenizer's hash in the first row of metrics.jsonl, and in run.json's config."""
BEGUN, METRICS, PLOT = "train.json", "metrics.jsonl", "loss.png"
SCHEMA = "llmtool.train/1"
SPELLED = {"weights": "the model's weights"}
"""Options of settings that are called otherwise."""


def anything(name: str) -> bool:  # noqa: ARG001 - a `trainable`
    """Every parameter may move."""
    return True


def _nothing(trainee: "Trainee") -> dict[str, Any]:  # noqa: ARG001 - an `evaluate`
    return {}


def _ignore(row: "Row") -> None:
    """Where another process keeps the record."""


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
    tensorboard: Path | None = None


def run_job(job: Job, console: Console) -> dict[str, Any]:
    """Train, and write the finished model; `stopped` in the report says that a signal came first."""
    from llmtool.core.checkpoint.dtypes import element_type, torch_dtype
    from llmtool.core.train.loop import train
    from llmtool.core.train.optimizers import Optimizers, freeze
    from llmtool.core.train.parallel import Trainee
    from llmtool.core.train.state import Checkpoints, Progress
    from llmtool.core.train.world import World

    begun = beginning(job)
    resumable = check_output(job, begun, console)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    require_space(job.output, 4 * sum(p.numel() for p in job.decoder.parameters()) * (1 + 3 * (job.settings.keep + 1)))
    world = World(job.device)
    cleanup = ExitStack()
    try:
        console = console if world.leader else Console(verbosity=-1)
        facts = {**job.config, TOKENIZER: job.tokenizer} if job.tokenizer else job.config
        run = Run(job.command, facts, seed=job.settings.seed, backend=f"{job.kernels} on {world.device}")
        moving, total = freeze(
            job.decoder.named_parameters(), lambda name: job.objective.trainable(name) and job.trainable(name)
        )
        how = job.settings
        trainee = Trainee(
            job.decoder, job.objective, world, dtype=torch_dtype(element_type(how.dtype)), parallel=how.parallel,
            recompute=how.recompute, compiled=how.compiled, rows=job.rows,
        )  # fmt: skip
        optimizers = Optimizers(job.decoder.named_parameters(), job.optimizer, job.objective.vector)
        states = Checkpoints(job.output, world, job.settings.keep)
        world.barrier()
        if world.leader:
            cleanup.enter_context(alone(job.output, begun, resumable))
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
        with watch(job, world.leader, progress.step, console) as record, stop_signals() as stopped:
            finished = train(
                trainee, job.data, optimizers, job.plan, progress, record=record,
                save=lambda now: states.save(trainee, optimizers, now),
                evaluate=lambda: job.evaluate(trainee), stopped=stopped,
            )  # fmt: skip
        report = {"schema": SCHEMA, "output": str(job.output), "parameters": total, "stopped": not finished}
        report |= last_row(job.output) if world.leader else {}
        if finished:
            finish(job, trainee, run, console)
        else:
            console.info(f"{job.output}: stopped after step {progress.step:,}; the same command goes on from there")
        return report
    finally:
        cleanup.close()


def plan_line(job: Job) -> str:
    """What will be done, in a line."""
    schedule = job.plan.schedule
    return (
        f"{schedule.steps:,} steps of {job.data.tokens:,} tokens, {job.optimizer.name} at {job.optimizer.lr:g}, "
        f"{schedule.shape}"
    )


def check_place(output: Path, read: Sequence[str | Path], console: Console) -> bool:
    """Whether a run was begun in OUT; a place where none may be is refused. Text may have been tokenised before."""
    if output.exists() and not output.is_dir():
        raise UserError("not a directory", where=str(output), hint="name another place")
    refuse_overlap([output], read)
    tidy(output, [output], console)
    removed = sweep(output)
    if not output.is_dir() or not any(entry.name != FOLDER for entry in output.iterdir()):
        return False
    for name in (METRICS, "run.json"):
        if os.path.lexists(output / name):
            require_plain(output / name)
    if not (output / BEGUN).is_file():
        what = "exists already, and is no run of training that was begun"
        raise UserError(what, where=str(output), hint="write elsewhere")
    if removed.number:
        console.info(f"{output}: {removed}")
    return True


def check_output(job: Job, begun: dict[str, Any], console: Console) -> bool:
    """Whether a run stands in OUT that this one continues; one that differs, or is complete, is refused."""
    output = job.output
    if not check_place(output, job.read, console) or job.settings.force:
        return False
    before = read_json_object(output / BEGUN)
    if before.get("command") != job.command:
        what = f"was begun by `llmtool {before.get('command')}`"
        raise UserError(what, where=str(output), hint="use --force to start over, or write elsewhere")
    spelled = SPELLED | {field.name: field.flags[0].partition("/")[0] for field in describe(type(job.settings))}
    changed = _as_asked(before, begun, changes(before.get("config"), job.config, spelled))
    if before.get("data") != parse_json(dumps(begun["data"])):
        changed.append("the data's content")
    if changed:
        raise UserError(
            f"was begun with other settings or data: {'; '.join(changed)}",
            where=str(output),
            hint="use --force to start over, or write elsewhere",
        )
    if not (finished := manifest_path(output)).is_file():
        return True
    refuse_damaged(output, read_json_object(finished))
    raise CompleteError(job.output)


def beginning(job: Job) -> dict[str, Any]:
    """train.json: what a run is, and what was asked for that comes to its steps."""
    asked = {name: getattr(job.settings, name, None) for name in ("tokens", "epochs")}
    return {
        "schema": SCHEMA, "command": job.command, "config": job.config, "data": job.data.fingerprint(), "asked": asked,
    }  # fmt: skip


def _as_asked(before: dict[str, Any], begun: dict[str, Any], changed: list[str]) -> list[str]:
    """`--tokens: 100K -> 200K` in the place of the steps that they come to; `--tokens: 100K -> --steps 20`."""
    was = before.get("asked")
    told = changes(was, begun["asked"]) if isinstance(was, dict) else []
    steps = next((line for line in changed if line.startswith("--steps:")), None)
    if not told or steps is None:
        return changed
    old, _, new = steps.removeprefix("--steps: ").partition(" -> ")
    spelled = [
        line.replace(": not given ->", f": --steps {old} ->").replace("-> not given", f"-> --steps {new}")
        for line in told
    ]
    return [*spelled, *(line for line in changed if line != steps)]


@contextmanager
def alone(output: Path, begun: dict[str, Any], resumable: bool) -> Iterator[None]:
    """Begin or go on in OUT, as the only run there; one that ends before it has made anything leaves nothing."""
    fresh = not output.exists() or {entry.name for entry in output.iterdir()} == {FOLDER}
    with explained(output):
        output.mkdir(exist_ok=True)
        handle = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not lock(handle):
            raise UserError("another process is training there", where=str(output), hint="wait, or write elsewhere")
        if not resumable:
            with explained(output):
                begin(output, begun)
        yield
    except UserError:
        if fresh and not any((output / name).exists() for name in ("checkpoints", "run.json")) and not _rows(output):
            for entry in output.iterdir():  # tokens stay for the next try
                if entry.name != FOLDER:
                    rmtree(entry) if entry.is_dir() else entry.unlink()
            if not any(output.iterdir()):
                output.rmdir()
        raise
    finally:
        os.close(handle)


def _rows(output: Path) -> int:
    metrics = output / METRICS
    return metrics.stat().st_size if metrics.is_file() else 0


def begin(output: Path, begun: dict[str, Any]) -> None:
    """Make OUT, without what an earlier run left there; run.json goes first, or half would pass for whole."""
    manifest_path(output).unlink(missing_ok=True)
    for name in ("checkpoints", ".finished.partial"):
        rmtree(output / name, ignore_errors=True)
    for pattern in (METRICS, PLOT, "config.json", "model*.safetensors*"):
        for path in output.glob(pattern):
            path.unlink()
    with atomic_file(output / BEGUN) as file:
        file.write(dumps(begun, indent=2, default=str).encode() + b"\n")


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM or Ctrl-C has come; a second Ctrl-C does what it always does."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(came)
        return

    def note(number: int, _: object) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def watch(job: Job, leader: bool, resumed: int, console: Console) -> "Iterator[Callable[[Row], None]]":
    """What a row goes to: metrics.jsonl, the bar, TensorBoard; nothing but in the leading process."""
    from llmtool.core.train.jumps import Jumps
    from llmtool.core.train.metrics import Metrics, read_rows
    from llmtool.core.train.summary import Board

    if not leader:
        yield _ignore
        return
    total = job.plan.schedule.steps * job.data.tokens
    with Metrics(job.output / METRICS, resumed) as metrics, console.progress("training", total, "tokens") as bar:
        board = Board(job.tensorboard) if job.tensorboard else None
        bar.update(resumed * job.data.tokens)
        jumps = Jumps(row["loss"] for row in read_rows(metrics.path))
        told = False

        def record(row: "Row") -> None:
            nonlocal told
            if row["step"] == 1 and job.tokenizer:
                row = {**row, TOKENIZER: job.tokenizer}
            metrics.write(row)
            mean, above = jumps.mean, jumps.above(row["loss"])
            if above is not None and not told:
                told = True
                console.warn(jump_line(row, mean, above, job.optimizer.lr))
            bar.update(row["tokens"])
            bar.describe(f"loss {row['loss']:.4f}")
            if board:
                board.write(row)
            for name, found in row.get("eval", {}).items():
                console.detail(f"step {row['step']:,}: {name} {found['loss']:.4f}")

        try:
            yield record
        finally:
            if board:
                board.close()


def jump_line(row: "Row", mean: float, above: float, rate: float) -> str:
    """What a jump of the loss says, and what to do."""
    return (
        f"step {row['step']:,}: the loss is {row['loss']:.2f}, {above:.2f} above its mean so far ({mean:.2f}); --lr "
        f"{rate:g} may be too high for these weights: a lower one, more --warmup, or --max-loss-jump to stop by itself"
    )


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


def finish(job: Job, trainee: "Trainee", run: Run, console: Console) -> None:
    """Write the model, the figure, the table, and run.json last; every process takes part in gathering weights."""
    from llmtool.core.train.parallel import whole_tensors

    output, leader = job.output, trainee.world.leader
    if not leader:
        for _ in whole_tensors(trainee):
            pass
        trainee.world.barrier()
        return
    with explained(output):
        _finish(job, trainee, run, console)
    trainee.world.barrier()


def _finish(job: Job, trainee: "Trainee", run: Run, console: Console) -> None:
    from llmtool.core.checkpoint.layout import put_together
    from llmtool.core.checkpoint.shards import ShardWriter
    from llmtool.core.checkpoint.writer import DEFAULT_SHARD, with_dtype
    from llmtool.core.train import summary
    from llmtool.core.train.parallel import whole_tensors

    output = job.output
    work = output / ".finished.partial"
    rmtree(work, ignore_errors=True)
    work.mkdir()
    one = None if job.written.others else job.written.usual
    tensors = whole_tensors(trainee) if one else job.written.typed(whole_tensors(trainee))
    with ShardWriter(work, DEFAULT_SHARD, one) as writer:
        for name, tensor in put_together(tensors, job.raw):
            writer.add(name, tensor)
        shards = writer.finish()
    raw = with_dtype(job.raw, job.written.usual)
    files = {**job.files, "config.json": dumps(raw, indent=2, ensure_ascii=False).encode() + b"\n"}
    for name, content in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content)
    written = sorted(path.relative_to(work) for path in work.rglob("*") if path.is_file())
    sync_tree(work)
    for path in written:
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).replace(output / path)
    rmtree(work)
    sync_directory(output)
    drawn = summary.draw(output / METRICS, output / PLOT, console)
    summary.show(output / METRICS, console)
    run.inputs = job.inputs()
    others = [path for path in written if str(path) not in {shard["path"] for shard in shards}]
    run.save(manifest_path(output), [*shards, *others, Path(METRICS), *([Path(PLOT)] if drawn else [])])
    console.info(f"{output}: written")
