"""The finished model: its weights and files, the figure, the table, and run.json last."""

from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from llmtool.commands.train.before import replaced
from llmtool.commands.train.job import METRICS, PLOT, Job
from llmtool.core.run.atomic import explained, sync_tree
from llmtool.core.run.console import Console
from llmtool.core.run.journal import sync_directory
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run, manifest_path

if TYPE_CHECKING:
    from llmtool.core.train.parallel import Trainee


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
    replaced(output).drop()
    console.info(f"{output}: written")
