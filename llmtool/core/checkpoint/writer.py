"""A stream of tensors -> a checkpoint directory that appears whole or not at all.

tensors = convert(checkpoint.tensors())          # lazy: one layer in memory
write_checkpoint("out", tensors, config, source=checkpoint, run=Run("convert", settings))
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.checkpoint.directory import CONFIG, TOKENIZER, CheckpointReader
from llmtool.core.checkpoint.dtypes import ElementType, element_type
from llmtool.core.checkpoint.layout import put_together
from llmtool.core.checkpoint.shards import ShardWriter
from llmtool.core.run.atomic import atomic_directory, require_space
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run, file_entry, manifest_path
from llmtool.core.run.outputs import claim_directory

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint"
"""What run.json calls such an output: --force replaces one by another, whichever command made it."""
DEFAULT_SHARD = 5_000_000_000
"""Bytes of data in a shard; what save_pretrained of transformers 4.x takes too."""


@dataclass(frozen=True)
class Written:
    """What was written; `shards` as run.json lists them ({"path", "bytes", "sha256"})."""

    path: Path
    tensors: int
    parameters: int
    shards: tuple[dict[str, Any], ...]


def write_checkpoint(
    path: str | Path,
    tensors: Iterable[tuple[str, "torch.Tensor"]],
    config: Mapping[str, Any],
    *,
    run: Run,
    source: CheckpointReader | None = None,
    files: Mapping[str, bytes] | None = None,
    dtype: str | None = None,
    max_shard_size: int = DEFAULT_SHARD,
    read: Iterable[str | Path] = (),
    tokenizer: bool = True,
    force: bool = False,
    console: Console | None = None,
) -> Written:
    """Write a checkpoint directory.

    tensors: consumed one at a time; each is written and let go before the next is asked for. NaN is refused.
    source: checkpoint whose tokenizer, generation defaults and licence go along, and which run.json names as input.
    files: further files, relative name -> content; they win over those of source.
    dtype: convert floating tensors ("bf16", "fp16", "fp32", "fp64") and say so in config.json.
    tokenizer: whether that of source goes along; `files` may bring another.
    run: saved as run.json, last, with the sha256 of each shard.
    read: what else the command reads, beside `source`: calibration text, a plan.
    An existing directory is replaced, whole, only with force, and only by the rule of core/run/outputs.py.
    """
    path, read, kind = Path(path), list(read), element_type(dtype) if dtype else None
    claim_checkpoint(path, run, source, read=read, force=force, console=console)
    expected = expected_size(source, kind) if source else None
    if expected:
        require_space(path, expected)
    console = console or Console(verbosity=-1)
    with atomic_directory(path, run.allowed) as work:
        with ShardWriter(work, max_shard_size, kind) as writer, console.progress("writing", expected, "B") as bar:
            for name, tensor in put_together(tensors, config):
                bar.advance(writer.add(name, tensor))
                del tensor  # or it would live until the next one is complete
            shards = writer.finish()
        if source:
            _carry(source, work, tokenizer)
            run.inputs = [source.fingerprint(), *map(file_entry, read)]
        for name, content in (files or {}).items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(content)
        facts = with_dtype(without_lost_code(config, work), kind)
        (work / CONFIG).write_text(dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        others = sorted(file.relative_to(work) for file in work.rglob("*") if file.is_file())
        written = {shard["path"] for shard in shards}
        run.save(manifest_path(work), [*shards, *(file for file in others if str(file) not in written)])
    return Written(path, len(writer.shard_of), writer.parameters, tuple(shards))


def claim_checkpoint(
    path: Path,
    run: Run,
    source: CheckpointReader | None,
    *,
    read: Iterable[str | Path] = (),
    force: bool = False,
    console: Console | None = None,
) -> None:
    """Refuse a place where `write_checkpoint` would not write; for a command that has much to compute before."""
    run.kind, read = CHECKPOINT, list(read)

    def found() -> list[dict[str, Any]]:
        return [source.fingerprint(), *map(file_entry, read)] if source else run.inputs

    everything = [*read, *([source.path] if source else [])]
    claim_directory(path, run, read=everything, force=force, found=found, console=console)


def expected_size(source: CheckpointReader, kind: ElementType | None) -> int:
    """Bytes that the source's tensors take when written as `kind`."""
    entries = [source.entry(name) for name in source.names()]
    return sum(e.elements * (kind.size if kind and e.kind.floating else e.kind.size) for e in entries)


def with_dtype(config: Mapping[str, Any], kind: ElementType | None) -> dict[str, Any]:
    """The config with the type of its weights, in the spelling it uses: `dtype` (5.x) or `torch_dtype` (4.x)."""
    if kind is None:
        return dict(config)
    spellings = [key for key in ("dtype", "torch_dtype") if key in config] or ["torch_dtype"]
    return {**config, **dict.fromkeys(spellings, kind.torch_name)}


def without_lost_code(config: Mapping[str, Any], work: Path) -> Mapping[str, Any]:
    """The config without an auto_map whose code is not in the directory: transformers would look for it, and fail."""
    named = config.get("auto_map")
    if not isinstance(named, Mapping):
        return config
    files = {f"{str(target).rpartition('--')[2].partition('.')[0]}.py" for target in named.values()}
    here = all((work / file).is_file() for file in files) or any("--" in str(target) for target in named.values())
    return config if here else {key: value for key, value in config.items() if key != "auto_map"}


def _carry(source: CheckpointReader, work: Path, tokenizer: bool) -> None:
    for name in source.carried_files:
        if not tokenizer and any(name.match(pattern) for pattern in TOKENIZER):
            continue
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / name, work / name)
