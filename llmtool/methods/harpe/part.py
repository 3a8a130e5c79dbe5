"""The rope part: a base for each key-value head, the same in every layer. Exported with checkpoints.

config.json: {"name": "harpe", "version": 1, "bases": [b_0, ...], "original": {"rope_type", "rope_theta", ...}}. Head h
turns the pair (i, i + d/2) of q and k by m b_h^(-2i/d), m the position; `bases` may be a list for each layer, and a
table is then made for each list in use. `original` is what they took the place of, for the record. No parameters are
added, and with every base the model's old one nothing changes, bit for bit.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Parts
from llmtool.core.model.rope import Tables

NAME, VERSION = "harpe", 1


def refuse_other_rotations(config: Config) -> None:
    """Families whose layers turn in other ways than Llama's are refused by name."""
    if config.local_rope is not None:
        raise ConfigError(f"harpe: {config.family} turns layers with a window by frequencies of their own")
    if config.rope.partial != 1:
        raise ConfigError(f"harpe: {config.family} turns a part of each head only")
    if config.rope.llama_4_scaling_beta:
        raise ConfigError(f"harpe: {config.family} lets queries grow with their position")


def check_entry(settings: Mapping[str, Any]) -> None:
    """Refuse what this version of the entry does not have; its bases are read where layers learn their rotation."""
    if settings.get("version") != VERSION:
        raise ConfigError(f"harpe: version {settings.get('version')!r} is not supported: only {VERSION} is")
    unknown = sorted(settings.keys() - {"name", "version", "bases", "original"})
    if unknown:
        raise ConfigError(f"harpe: {unknown[0]} is not understood")
    if "bases" not in settings:
        raise ConfigError("harpe: bases are missing")


class HarpeRope:
    """rope(positions, dtype) -> tables of every key-value head, for the layers that have these bases."""

    fixed = True

    def __init__(self, config: Config, bases: tuple[float, ...]) -> None:
        self.size, self.bases = config.head_dim, bases
        self.start, self.precise = config.rope.theta, config.precise_rope
        self.share: torch.Tensor | None = None
        """How far training has gone from the model's old base to the bases, 0 to 1; None: they hold."""

    def __call__(self, positions: torch.Tensor, dtype: torch.dtype) -> Tables:
        """positions [1 or B, T] -> tables [1 or B, key-value heads, T, head_dim / 2] in `dtype`."""
        angles = positions[:, None, :, None].float() * self.frequencies(positions.device)[:, None, :]
        dtype = torch.float32 if self.precise else dtype
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def frequencies(self, device: torch.device) -> torch.Tensor:
        """Radians a position, [key-value heads, head_dim / 2] float32; in the operations of the base part's own.

        Computed, never stored: a buffer would be rounded by `.to(bfloat16)`.
        """
        bases = torch.tensor(self.bases, dtype=torch.float32, device=device)[:, None]
        if self.share is not None:
            start = math.log(self.start)
            bases = torch.exp(start + self.share.to(device) * (bases.log() - start))
        powers: torch.Tensor = 1.0 / bases ** (torch.arange(0, self.size, 2, device=device).float() / self.size)
        return powers


class Harpe:
    """change(parts, settings) -> parts whose heads turn by bases of their own."""

    serving = (
        "vLLM, llama.cpp, GGUF: cannot serve it. No stock `rope_type` has a base for each head; the code in this\n"
        "  directory does."
    )
    """What the model card says of serving engines."""

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """settings: the method's entry in config.json."""

        def make(config: Config) -> HarpeRope:
            check_entry(settings)
            refuse_other_rotations(config)
            return HarpeRope(config, config.rope.bases)

        return replace(parts, rope=make)
