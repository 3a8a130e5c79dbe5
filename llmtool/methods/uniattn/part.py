"""The attention part: leaders share their softmax, followers use it. Exported with checkpoints.

config.json: {"name": "uniattn", "version": 1, "groups": [[leader, follower, ...], ...], "compensation": C} with C
"linear", {"rank": R} or "none". A follower has no q_proj, no k_proj and no keys in the cache:

    h' = h + o_proj(P_leader V) + W_c norm(h)

with P_leader [B, H, T, S] the leader's probabilities, head by head. In training and prefill P V is computed as
SDPA(q_leader, k_leader, v): exact, no O(T^2) memory, and autograd sums the gradients of q and k. In decoding the leader
makes P once, softmax in float32, and each layer of the group only multiplies.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from llmtool.core.model.attention import Attention, attend_of, capped
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Parts

NAME, VERSION = "uniattn", 1
OP = "shared_softmax_attention"
"""The kernel (core/kernels) that may take the place of `weigh` in decoding."""

Weigh = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(P [B, H, 1, S], V [B, key-value heads, S, D]) -> P V [B, H, 1, D]."""


def probabilities(
    q: torch.Tensor,
    k: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None = None,
    cap: float | None = None,
) -> torch.Tensor:
    """softmax(scale q k^T) for one token: q [B, H, 1, D], k [B, key-value heads, S, D] -> [B, H, 1, S] as q.

    scale None is D^-0.5; cap as in attention.capped. Scores and softmax in float32 (float64 for float64). The query
    heads of a key-value head are the rows of one product: no key is repeated.
    """
    exact = torch.promote_types(q.dtype, torch.float32)
    batch, heads, _, size = q.shape
    rows = q.view(batch, k.shape[1], heads // k.shape[1], size)
    scores = capped((rows @ k.transpose(-1, -2)).to(exact) * (size**-0.5 if scale is None else scale), cap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    p: torch.Tensor = scores.softmax(-1).to(q.dtype).view(batch, heads, 1, -1)
    return p


def weigh(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """P V for one token, grouped: p [B, H, 1, S], v [B, key-value heads, S, D] -> [B, H, 1, D]."""
    batch, heads, _, places = p.shape
    rows = p.view(batch, v.shape[1], heads // v.shape[1], places)
    return (rows @ v).view(batch, heads, 1, v.shape[3])


class Leader(Attention):
    """Attention that leaves what its group needs in carry.shared: q, k and mask, or P where one token is decoded."""

    weigh: Weigh = staticmethod(weigh)

    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] -> delta [B, T, d]."""
        q, k, v, mask = self.project(x, carry)
        name = f"{NAME}.{self.layer}"
        if carry.cache is not None and q.shape[2] == 1:
            p = probabilities(q, k, mask, self.scale, self.cap)
            carry.shared[f"{name}.p"] = p
            y = self.weigh(p, v)
        else:
            carry.shared[f"{name}.q"], carry.shared[f"{name}.k"] = q, k
            y = self.attend(q, k, v, mask, **carry.options)
        delta: torch.Tensor = self.o_proj(y.transpose(1, 2).flatten(2))
        return delta


class Follower(nn.Module):
    """Values of its own, weighted by the leader's probabilities, and the compensation."""

    weigh: Weigh = staticmethod(weigh)

    def __init__(self, config: Config, layer: int, leader: int, *, last: bool, compensation: nn.Module | None) -> None:
        super().__init__()
        self.layer, self.window, self.head_dim = layer, config.windows[leader], config.head_dim
        self.leader, self.last = leader, last
        self.attend: Callable[..., torch.Tensor] = attend_of(config)
        hidden = config.hidden_size
        inner, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.v_proj = nn.Linear(hidden, shared, bias=config.qkv_bias)
        self.o_proj = nn.Linear(inner, hidden, bias=config.o_bias)
        if compensation is not None:
            self.compensation = compensation

    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] -> delta [B, T, d]."""
        delta = self.unified(x, carry)
        return delta + self.compensation(x) if hasattr(self, "compensation") else delta

    def unified(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """o_proj(P_leader V) alone, [B, T, d]."""
        v = self.v_proj(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
        if carry.cache is not None:
            _, v = carry.cache.update(self.layer, None, v)
        name = f"{NAME}.{self.leader}"
        # The last of a group lets its tensors go; each block works on a copy of the dictionary.
        take = carry.shared.pop if self.last else carry.shared.__getitem__
        if f"{name}.p" in carry.shared:
            y = self.weigh(take(f"{name}.p"), v)
        else:
            q, k = take(f"{name}.q"), take(f"{name}.k")
            mask = carry.masks[self.window]
            if mask is not None and k.shape[2] < mask.shape[-1]:  # a cache that dropped what no window reaches
                mask = mask[..., -k.shape[2] :]
            y = self.attend(q, k, v, mask, **carry.options)
        out: torch.Tensor = self.o_proj(y.transpose(1, 2).flatten(2))
        return out


class LowRank(nn.Module):
    """up(down(x)), [B, T, d] -> the same: a linear map of rank R."""

    def __init__(self, size: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(size, rank, bias=False), nn.Linear(rank, size, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, d]."""
        out: torch.Tensor = self.up(self.down(x))
        return out


def make_compensation(config: Config, kind: Any) -> nn.Module | None:
    """The module that a `compensation` entry of config.json asks for."""
    size = config.hidden_size
    if kind == "none":
        return None
    if kind == "linear":
        return nn.Linear(size, size, bias=config.o_bias)
    rank = kind.get("rank") if isinstance(kind, Mapping) and kind.keys() == {"rank"} else None
    if type(rank) is not int or not 1 <= rank <= size:
        raise ConfigError(f'uniattn: compensation {kind!r} is not "linear", "none" or {{"rank": 1 to {size}}}')
    return LowRank(size, rank, bias=config.o_bias)


def check_groups(groups: Any, layers: int) -> list[list[int]]:
    """The groups of a plan or a config.json, each [leader, follower, ...] in the order of the layers."""
    if not isinstance(groups, list) or not all(isinstance(g, list) and all(type(x) is int for x in g) for g in groups):
        raise ConfigError("groups is not a list of lists of layer numbers")
    seen: dict[int, list[int]] = {}
    for group in groups:
        if len(group) < 2:
            raise ConfigError(f"group {group} has no follower: wanted [leader, follower, ...]")
        for layer in group:
            if not 0 <= layer < layers:
                raise ConfigError(f"group {group}: there is no layer {layer}, the model has {layers}, from 0")
            if layer in seen:
                raise ConfigError(f"groups overlap: layer {layer} is in {seen[layer]} and in {group}")
            seen[layer] = group
        early = next((follower for follower in group[1:] if follower < group[0]), None)
        if early is not None:
            raise ConfigError(f"group {group}: follower {early} stands before its leader {group[0]}")
        if group != sorted(group):
            raise ConfigError(f"group {group} is not in the order of the layers")
    return groups


def check_windows(groups: list[list[int]], windows: tuple[int | None, ...]) -> None:
    """One softmax cannot look through two windows."""
    for group in groups:
        other = next((layer for layer in group if windows[layer] != windows[group[0]]), None)
        if other is not None:
            raise ConfigError(
                f"group {group}: layer {other} has a sliding window of {windows[other]}, layer {group[0]} of "
                f"{windows[group[0]]}"
            )


class UniAttn:
    """change(parts, settings) -> parts with leaders and followers."""

    serving = (
        "vLLM: cannot serve it. Its attention functions return weighted values and keep the probabilities to\n"
        "  themselves, and its paged cache holds keys and values of every layer; a follower here has no keys and\n"
        "  needs its leader's probabilities."
    )
    """What the model card says of serving engines."""

    def __call__(self, parts: Parts, settings: Mapping[str, Any]) -> Parts:
        """settings: the method's entry in config.json."""
        if settings.get("version") != VERSION:
            raise ConfigError(f"uniattn: version {settings.get('version')!r} is not supported: only {VERSION} is")
        unknown = sorted(settings.keys() - {"name", "version", "groups", "compensation"})
        if unknown:
            raise ConfigError(f"uniattn: {unknown[0]} is not understood")
        before = parts.make_attention

        def make(config: Config, layer: int) -> nn.Module:
            groups = check_groups(settings.get("groups"), config.num_hidden_layers)
            check_windows(groups, config.windows)
            group = next((group for group in groups if layer in group), None)
            if group is None:
                return before(config, layer)
            if layer == group[0]:
                part: Leader | Follower = Leader(config, layer)
            else:
                extra = make_compensation(config, settings.get("compensation"))
                part = Follower(config, layer, group[0], last=layer == group[-1], compensation=extra)
            part.weigh = parts.kernels.get(OP, weigh)
            return part

        return replace(parts, make_attention=make)
