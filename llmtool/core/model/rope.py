"""Rotary position embeddings: tables of [1 or B, 1 or key-value heads, T, turned / 2], turned mostly head_dim.

That shape is the general case, not a branch: left padding and packing need rows, per-head bases (HARPE) need heads.
Nothing is stored: a table follows from positions and a few numbers in 6 to 25 small operations a forward pass. A
buffer would be rounded by `.to(bfloat16)` and lost by an initialisation on the meta device.
"""

import math
from typing import Protocol

import torch

from llmtool.core.model.config import Config
from llmtool.core.model.rope_settings import RopeSettings

Tables = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines."""


class RopePart(Protocol):
    """What a rope part is."""

    fixed: bool
    """Whether a position always has the same angles: a cache then keeps the table of all its places."""

    def __call__(self, positions: torch.Tensor, dtype: torch.dtype) -> Tables:
        """positions [1 or B, T] -> tables [1 or B, 1 or key-value heads, T, turned / 2] in `dtype`."""
        ...


class Rope:
    """The base part: one set of frequencies for every head, scaled as the config says."""

    def __init__(self, config: Config) -> None:
        self.settings = config.rope
        self.size = int(config.head_dim * config.rope.partial)
        self.positions = config.max_position_embeddings
        self.amplitude = attention_factor(config.rope)
        self.fixed = config.rope.kind not in ("dynamic", "longrope")
        self.precise = config.precise_rope

    def __call__(self, positions: torch.Tensor, dtype: torch.dtype) -> Tables:
        """positions [1 or B, T] -> tables [1 or B, 1, T, size / 2] in `dtype`, computed in float32."""
        angles = positions[:, None, :, None].float() * self.frequencies(positions)
        dtype = torch.float32 if self.precise else dtype
        return (angles.cos() * self.amplitude).to(dtype), (angles.sin() * self.amplitude).to(dtype)

    def frequencies(self, positions: torch.Tensor) -> torch.Tensor:
        """Radians per position, [size / 2] float32."""
        settings, device = self.settings, positions.device
        if settings.kind == "dynamic":
            return inverse_powers(self._stretched_base(positions), self.size, device)
        plain = inverse_powers(settings.theta, self.size, device)
        if settings.kind == "linear":
            return plain / settings.factor
        if settings.kind == "llama3":
            return _llama3(plain, settings)
        if settings.kind == "yarn":
            return _yarn(settings, self.size, device)
        if settings.kind == "longrope":
            return _longrope(settings, self.size, positions)
        return plain

    def _stretched_base(self, positions: torch.Tensor) -> torch.Tensor:
        """NTK-aware base for the length seen so far; keys in a cache keep the angles they were turned by."""
        length = (positions.max() + 1).clamp(min=self.positions)
        factor = self.settings.factor
        stretch = factor * length / self.positions - (factor - 1)
        return self.settings.theta * stretch ** (self.size / (self.size - 2))


def inverse_powers(base: float | torch.Tensor, size: int, device: torch.device) -> torch.Tensor:
    """base^(-2i / size) for i < size / 2."""
    powers: torch.Tensor = 1.0 / base ** (torch.arange(0, size, 2, device=device).float() / size)
    return powers


def rotate(x: torch.Tensor, tables: Tables, neighbours: bool = False) -> torch.Tensor:
    """Turn the pairs (i, i + D / 2) of x [B, H, T, D], or (2i, 2i + 1) where neighbours are pairs; tables of several
    heads are repeated for H / heads each.

    Tables of a wider type are worked with as they are; the result has the type of x.
    """
    cos, sin = tables
    if cos.shape[1] not in (1, x.shape[1]):
        repeats = x.shape[1] // cos.shape[1]
        cos, sin = cos.repeat_interleave(repeats, 1), sin.repeat_interleave(repeats, 1)
    a, b = (x[..., ::2], x[..., 1::2]) if neighbours else x.chunk(2, -1)
    turned = (a * cos - b * sin, b * cos + a * sin)
    return (torch.stack(turned, -1).flatten(-2) if neighbours else torch.cat(turned, -1)).to(x.dtype)


def rotate_together(q: torch.Tensor, k: torch.Tensor, tables: Tables) -> tuple[torch.Tensor, torch.Tensor]:
    """Both [B, heads, T, D] in one go where the tables are the same for all heads: half the kernels at decode."""
    if tables[0].shape[1] > 1 or q.shape[2] > 1:
        return rotate(q, tables), rotate(k, tables)
    turned = rotate(torch.cat((q, k), 1), tables)
    return turned[:, : q.shape[1]], turned[:, q.shape[1] :]


def rotate_pair(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As rotate_together, with the tables as two tensors: the shape of a kernel."""
    return rotate_together(q, k, (cos, sin))


def rotate_neighbours(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As rotate_pair, for a family whose pairs are neighbours."""
    return rotate(q, (cos, sin), neighbours=True), rotate(k, (cos, sin), neighbours=True)


def query_growth(positions: torch.Tensor, settings: RopeSettings, dtype: torch.dtype) -> torch.Tensor:
    """positions [1 or B, T] -> what queries are multiplied by, [1 or B, 1, T, 1]: 1 below original_positions."""
    grown = 1 + settings.llama_4_scaling_beta * torch.log(1 + torch.floor(positions / settings.original_positions))
    return grown[:, None, :, None].to(dtype)


def attention_factor(settings: RopeSettings) -> float:
    """What YaRN and LongRoPE multiply both tables with unless the config says otherwise; else 1.

    YaRN: 0.1 ln(factor) + 1. LongRoPE: sqrt(1 + ln(factor) / ln(original positions)).
    """
    if settings.kind not in ("yarn", "longrope"):
        return 1.0
    if settings.attention_factor is not None:
        return settings.attention_factor
    if settings.kind == "longrope":
        stretched = settings.factor > 1
        return math.sqrt(1 + math.log(settings.factor) / math.log(settings.original_positions)) if stretched else 1.0
    if settings.mscale and settings.mscale_all_dim:
        return _mscale(settings.factor, settings.mscale) / _mscale(settings.factor, settings.mscale_all_dim)
    return _mscale(settings.factor, 1.0)


def _mscale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _llama3(plain: torch.Tensor, settings: RopeSettings) -> torch.Tensor:
    """Llama 3.1: long wavelengths are divided by `factor`, short ones kept, those between are blended."""
    low, high, length = settings.low_freq_factor, settings.high_freq_factor, settings.original_positions
    wavelength = 2 * math.pi / plain
    scaled = torch.where(wavelength > length / low, plain / settings.factor, plain)
    smooth = (length / wavelength - low) / (high - low)
    blended = (1 - smooth) * scaled / settings.factor + smooth * scaled
    between = (wavelength >= length / high) & (wavelength <= length / low)
    return torch.where(between, blended, scaled)


def _longrope(settings: RopeSettings, size: int, positions: torch.Tensor) -> torch.Tensor:
    """LongRoPE (arXiv 2402.13753): a divisor for each pair, another set once a pass reaches beyond the original length.

    Keys that are in a cache then keep the angles of the short set: not the same as one long pass, in transformers too.
    """
    short = torch.tensor(settings.short_factors, device=positions.device)
    long = torch.tensor(settings.long_factors, device=positions.device)
    factors = torch.where(positions.max() + 1 > settings.original_positions, long, short)
    powers = torch.arange(0, size, 2, device=positions.device).float() / size
    frequencies: torch.Tensor = 1.0 / (factors * settings.theta**powers)
    return frequencies


def _yarn(settings: RopeSettings, size: int, device: torch.device) -> torch.Tensor:
    """YaRN (arXiv 2309.00071): interpolate slow dimensions, keep fast ones, a linear ramp between.

    The factor is the one in the config, as in transformers 4.57 and 5.x.
    """

    def dimension(turns: float) -> float:
        """Dimension that makes this many turns over the original length."""
        return size * math.log(settings.original_positions / (turns * 2 * math.pi)) / (2 * math.log(settings.theta))

    low, high = dimension(settings.beta_fast), dimension(settings.beta_slow)
    if settings.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(size // 2, device=device).float() - low) / (high - low)).clamp(0, 1)
    powers = settings.theta ** (torch.arange(0, size, 2, device=device).float() / size)
    kept = 1 - ramp
    frequencies: torch.Tensor = 1.0 / (settings.factor * powers) * (1 - kept) + 1.0 / powers * kept
    return frequencies
