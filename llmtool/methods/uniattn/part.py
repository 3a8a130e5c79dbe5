"""The attention part: leaders share their softmax, followers use it. Exported with checkpoints.

config.json: {"name": "uniattn", "version": 1, "groups": [[leader, follower, ...], ...], "compensation": C} with C
"linear", {"rank": R} or "none". A follower has no q_proj, no k_proj and no keys in the cache:

    h' = h + o_proj(P_leader V) + W_c norm(h)

with P_leader [B, H, T, S] the leader's probabilities, head by head: the paper's. Version 2, which is ours, adds
"head_map": {follower: [[layer, head], ...]}, the head that each head of a follower reads, of any earlier layer that has
a softmax of its own: the order of heads is arbitrary, and head h of one layer is no kin of head h of another.

In training and prefill P V is computed as SDPA(q_leader, k_leader, v): exact, no O(T^2) memory, and autograd sums the
gradients of q and k. In decoding a layer that is read makes P once, softmax in float32, and followers only multiply.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from llmtool.core.model.attention import Attention, attend_of, capped
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Parts

NAME, VERSIONS = "uniattn", (1, 2)
OP = "shared_softmax_attention"
"""The kernel (core/kernels) that may take the place of `weigh` in decoding."""

Heads = Sequence[tuple[int, int]]
"""(layer, head) that each head of a follower reads."""
Weigh = Callable[..., torch.Tensor]
"""(P [B, H, 1, S], V [B, key-value heads, S, D]) -> P V [B, H, 1, D]; a third argument, int32 [H], is the head of P
that each head weighs with."""


WIDE = hasattr(torch.ops.aten.bmm, "dtype") and torch.version.cuda is not None
"""Whether torch (from 2.8) gives products of bf16 and fp16 in float32 as its GPU kernels have them, keys uncopied."""
WIDENED = 512
"""Keys that are widened at a time elsewhere: 8 heads of 8,192 all at once take 19 ms of a core, so 4 ms."""


def products(rows: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """rows [B, G, R, D], k [B, G, S, D] -> rows k^T [B, G, R, S] in float32 (float64 for float64).

    A score of 30 rounded to bf16 is wrong by up to 0.06, and its probability by as much.
    """
    exact = torch.promote_types(rows.dtype, torch.float32)
    if rows.dtype == exact:
        return rows @ k.transpose(-1, -2)
    with torch.autocast(rows.device.type, enabled=False):
        if WIDE and rows.is_cuda and not torch.is_grad_enabled():
            flat = torch.bmm(rows.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), out_dtype=exact)
            return flat.view(*rows.shape[:3], -1)
        wide = rows.to(exact)
        parts = (k[:, :, at : at + WIDENED] for at in range(0, k.shape[2], WIDENED))
        return torch.cat([wide @ part.to(exact).transpose(-1, -2) for part in parts], -1)


def probabilities(
    q: torch.Tensor,
    k: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None = None,
    cap: float | None = None,
) -> torch.Tensor:
    """softmax(scale q k^T) for one token: q [B, H, 1, D], k [B, key-value heads, S, D] -> [B, H, 1, S] as q.

    scale None is D^-0.5; cap as in attention.capped. Products, scores and softmax in float32 (float64 for float64), P
    alone rounded. The query heads of a key-value head are the rows of one product: no key is repeated.
    """
    batch, heads, _, size = q.shape
    rows = q.view(batch, k.shape[1], heads // k.shape[1], size)
    scores = capped(products(rows, k) * (size**-0.5 if scale is None else scale), cap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    p: torch.Tensor = scores.softmax(-1).to(q.dtype).view(batch, heads, 1, -1)
    return p


def weigh(p: torch.Tensor, v: torch.Tensor, heads: torch.Tensor | None = None) -> torch.Tensor:
    """P V for one token, grouped: p [B, H, 1, S], v [B, key-value heads, S, D] -> [B, H, 1, D].

    heads [H]: the head of p that each head weighs with, gathered here, which a kernel need not.
    """
    if heads is not None:
        p = p.index_select(1, heads)
    batch, count, _, places = p.shape
    rows = p.view(batch, v.shape[1], count // v.shape[1], places)
    return (rows @ v).view(batch, count, 1, v.shape[3])


def gathered(tensors: Mapping[int, torch.Tensor], heads: Heads) -> torch.Tensor:
    """Heads of several layers' tensors [B, heads, ..] as one, [B, H, ..]: views and one copy."""
    return torch.stack([tensors[layer][:, head] for layer, head in heads], 1)


class Leader(Attention):
    """Attention that leaves what its followers need in carry.shared: q, k and mask, or P where one token is decoded."""

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
    """Values of its own, weighted by probabilities of earlier layers, and the compensation."""

    weigh: Weigh = staticmethod(weigh)

    def __init__(
        self, config: Config, layer: int, heads: Heads, *, last: Collection[int], compensation: nn.Module | None
    ) -> None:
        """last: the layers that nobody reads after this one."""
        super().__init__()
        self.layer, self.window, self.head_dim = layer, config.windows[heads[0][0]], config.head_dim
        self.last, self.group = frozenset(last), config.num_attention_heads // config.num_key_value_heads
        self.read(heads)
        self.attend: Callable[..., torch.Tensor] = attend_of(config)
        hidden = config.hidden_size
        inner, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.v_proj = nn.Linear(hidden, shared, bias=config.qkv_bias)
        self.o_proj = nn.Linear(inner, hidden, bias=config.o_bias)
        if compensation is not None:
            self.compensation = compensation

    def read(self, heads: Heads) -> None:
        """Which head of which layer each head reads; the same head of one layer needs no copy."""
        self.heads, self.layers = tuple(heads), tuple(dict.fromkeys(layer for layer, _ in heads))
        self.keys = tuple((layer, head // self.group) for layer, head in heads)
        self.plain = self.heads == tuple(identity_heads(self.layers[0], len(heads)))
        self.index: torch.Tensor | None = None

    def _index(self, device: torch.device) -> torch.Tensor | None:
        """The head of one leader that each head reads, int32 [H] on the device; None: its own.

        No buffer: it is no number of the checkpoint, and a part that is made on the meta device would lose it. Made by
        the first decoded token, so that later ones, and a graph that is captured after it, copy nothing to the device.
        """
        if self.plain:
            return None
        if self.index is None or self.index.device != device:
            self.index = torch.tensor([head for _, head in self.heads], dtype=torch.int32, device=device)
        return self.index

    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] -> delta [B, T, d]."""
        delta = self.unified(x, carry)
        return delta + self.compensation(x) if hasattr(self, "compensation") else delta

    def unified(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """o_proj(P V) alone, [B, T, d]."""
        out: torch.Tensor = self.o_proj(self.weighted(x, carry))
        return out

    def weighted(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        """P V with the heads side by side, [B, T, H D]: what o_proj reads."""
        v = self.v_proj(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
        if carry.cache is not None:
            _, v = carry.cache.update(self.layer, None, v)
        if f"{NAME}.{self.layers[0]}.p" in carry.shared:
            p = self._taken(carry, "p")
            if len(self.layers) == 1:
                y = self.weigh(p[self.layers[0]], v, self._index(v.device))
            else:
                y = self.weigh(gathered(p, self.heads), v)
        else:
            qs, ks = self._taken(carry, "q"), self._taken(carry, "k")
            q, k = qs[self.layers[0]], ks[self.layers[0]]
            if not self.plain:  # every query head gets a key and a value of its own
                q, k, v = gathered(qs, self.heads), gathered(ks, self.keys), v.repeat_interleave(self.group, 1)
            mask = carry.masks[self.window]
            if mask is not None and k.shape[2] < mask.shape[-1]:  # a cache that dropped what no window reaches
                mask = mask[..., -k.shape[2] :]
            y = self.attend(q, k, v, mask, **carry.options)
        return y.transpose(1, 2).flatten(2)

    def _taken(self, carry: Carry, kind: str) -> dict[int, torch.Tensor]:
        """Layer -> its tensor. The last reader lets it go; each block works on a copy of the dictionary."""
        found = {layer: carry.shared[f"{NAME}.{layer}.{kind}"] for layer in self.layers}
        for layer in self.last:
            carry.shared.pop(f"{NAME}.{layer}.{kind}", None)
        return found


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


def identity_heads(leader: int, heads: int) -> list[tuple[int, int]]:
    """Head by head of one layer: the paper's."""
    return [(leader, head) for head in range(heads)]


def check_heads(found: Any, groups: list[list[int]], config: Config) -> dict[int, list[tuple[int, int]]]:
    """Follower -> (layer, head) for each of its heads, from a `head_map`; keys may be numbers or JSON's strings."""
    count, followers = config.num_attention_heads, {layer for group in groups for layer in group[1:]}
    if not isinstance(found, Mapping):
        raise ConfigError("head_map is not an object of lists")
    heads = {int(key) if str(key).isdecimal() else key: pairs for key, pairs in found.items()}
    other = sorted(followers ^ heads.keys(), key=str)
    if other:
        raise ConfigError(f"head_map {'lacks' if other[0] in followers else 'names'} layer {other[0]}: "
                          f"it is for the followers, {sorted(followers)}")  # fmt: skip
    for layer, pairs in heads.items():
        if not isinstance(pairs, list | tuple) or len(pairs) != count:
            raise ConfigError(f"head_map of layer {layer} is not a list of {count} [layer, head], one for each head")
        for pair in pairs:
            if not isinstance(pair, list | tuple) or [type(x) for x in pair] != [int, int]:
                raise ConfigError(f"head_map of layer {layer}: {pair!r} is not [layer, head]")
            source, head = pair
            if not 0 <= source < layer or source in followers:
                raise ConfigError(f"head_map of layer {layer}: layer {source} is no earlier one with its own softmax")
            if not 0 <= head < count:
                raise ConfigError(f"head_map of layer {layer}: there is no head {head}, layers have {count}, from 0")
            if config.windows[source] != config.windows[layer]:
                raise ConfigError(f"head_map of layer {layer}: it has a sliding window of {config.windows[layer]}, "
                                  f"layer {source} of {config.windows[source]}")  # fmt: skip
    return {layer: [(pair[0], pair[1]) for pair in heads[layer]] for layer in sorted(heads)}


def check_windows(groups: list[list[int]], windows: tuple[int | None, ...]) -> None:
    """One softmax cannot look through two windows."""
    for group in groups:
        other = next((layer for layer in group if windows[layer] != windows[group[0]]), None)
        if other is not None:
            raise ConfigError(
                f"group {group}: layer {other} has a sliding window of {windows[other]}, layer {group[0]} of "
                f"{windows[group[0]]}"
            )


def heads_of_entry(settings: Mapping[str, Any], config: Config) -> dict[int, list[tuple[int, int]]]:
    """Follower -> (layer, head) for each of its heads, from the method's entry in config.json, checked."""
    groups = check_groups(settings.get("groups"), config.num_hidden_layers)
    check_windows(groups, config.windows)
    if settings["version"] > 1:
        return check_heads(settings.get("head_map"), groups, config)
    count = config.num_attention_heads
    return {layer: identity_heads(group[0], count) for group in groups for layer in group[1:]}


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
        version = settings.get("version")
        if type(version) is not int or version not in VERSIONS:
            raise ConfigError(f"uniattn: version {version!r} is not supported: only 1 and 2 are")
        known = {"name", "version", "groups", "compensation"} | ({"head_map"} if version > 1 else set())
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise ConfigError(f"uniattn: {unknown[0]} is not understood")
        before = parts.make_attention

        def make(config: Config, layer: int) -> nn.Module:
            heads = heads_of_entry(settings, config)
            last = {source: follower for follower in sorted(heads) for source, _ in heads[follower]}
            part: Leader | Follower
            if layer in heads:
                extra = make_compensation(config, settings.get("compensation"))
                gone = [source for source, follower in last.items() if follower == layer]
                part = Follower(config, layer, heads[layer], last=gone, compensation=extra)
            elif layer in last:
                part = Leader(config, layer)
            else:
                return before(config, layer)
            part.weigh = parts.kernels.get(OP, weigh)
            return part

        return replace(parts, make_attention=make)
