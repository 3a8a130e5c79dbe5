"""Small models for the tests: a dense checkpoint on disk, one layer in memory."""

import json
import sysconfig
from pathlib import Path
from typing import Any

import torch

from llmtool import Tokenizer, catalog
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, parse_config
from llmtool.core.model.decoder import Decoder
from llmtool.core.run.console import Console
from llmtool.core.run.manifest import Run
from llmtool.methods.dsmoe.part import Settings, SparseSwiGLU

QUIET = Console(verbosity=-1)
RAW: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "rope_theta": 1e4, "tie_word_embeddings": True,
}  # fmt: skip


def library(count: int) -> list[str]:
    """Real text: files of Python's standard library."""
    return [str(path) for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:count]]


def tokenizer(directory: Path) -> None:
    """A byte tokenizer beside a checkpoint."""
    Tokenizer.train(library(2), vocab_size=290).save(directory / "llmtool.json")


def save_dense(
    directory: Path, *, dtype: torch.dtype = torch.float32, std: float = 0.2, seed: int = 0, **changes: Any
) -> Path:
    """A dense checkpoint; its residual stream grows by amounts that differ between blocks."""
    raw = {**RAW, **changes}
    torch.manual_seed(seed)
    decoder = Decoder(parse_config(raw))
    state = decoder.state_dict()
    for name, tensor in state.items():
        tensor.normal_(1.0 if "norm" in name else 0.0, std)
    tied = raw["tie_word_embeddings"]
    tensors = ((n, x.to(dtype)) for n, x in state.items() if not (tied and n == "lm_head.weight"))
    write_checkpoint(directory, tensors, raw, run=Run("test", {}))
    return directory


def settings(experts: int = 8, layers: int = 3, scale: float = 1.0, **changes: Any) -> Settings:
    """Settings of all layers."""
    return Settings(experts, tuple(range(layers)), (scale,) * layers, **changes)


def entry(directory: Path) -> dict[str, Any]:
    """The method's object in a checkpoint's config.json."""
    found: dict[str, Any] = json.loads((directory / "config.json").read_text())["llmtool"]["methods"][0]
    return found


def layer(
    given: Settings, *, dtype: torch.dtype = torch.float64, std: float = 0.5, seed: int = 1, **changes: Any
) -> SparseSwiGLU:
    """One layer with random weights, router and bias included."""
    part = SparseSwiGLU(parse_config({**RAW, **changes}), 0, given)
    generator = torch.Generator().manual_seed(seed)
    for parameter in part.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return part.to(dtype)


def carry() -> Carry:
    """For a feed-forward part alone."""
    empty = torch.zeros(0)
    return Carry(empty, {}, {})


def build(config: Config) -> Decoder:
    """A decoder with the methods of its config."""
    from llmtool.model import build as make

    assert catalog.options(catalog.ARCHITECTURE)
    return make(config)
