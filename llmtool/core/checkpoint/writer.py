"""A stream of tensors -> a checkpoint directory that appears whole or not at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.run.manifest import Run

if TYPE_CHECKING:
    import torch

DEFAULT_SHARD = 5_000_000_000


@dataclass(frozen=True)
class Written:
    """What was written: `shards` as run.json lists them ({"path", "bytes", "sha256"})."""

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
    force: bool = False,
) -> Written:
    """Write a checkpoint directory.

    tensors: consumed one at a time; each is written and let go before the next is asked for.
    source: checkpoint whose tokenizer, generation defaults and licence go along (CheckpointReader.carried_files).
    files: further files, relative name -> content; they win over those of source.
    dtype: convert floating tensors ("bf16", "fp16", "fp32", "fp64") and say so in config.json.
    run: saved as run.json, last, with the sha256 of each shard.
    """
    raise NotImplementedError
