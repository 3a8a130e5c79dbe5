"""How alike the layers' attention maps are, and which layers should lead: a plan found by dynamic programming."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch

from llmtool.core.model.attention import Attention, capped
from llmtool.core.model.decoder import Block, Decoder, prepare
from llmtool.core.run.errors import UserError
from llmtool.methods.uniattn.heads import Scores
from llmtool.methods.uniattn.plan import Groups

Measure = Literal["cosine", "js"]


@torch.inference_mode()
def attention_maps(decoder: Decoder, ids: torch.Tensor) -> torch.Tensor:
    """Probabilities of every layer for one row of ids [T]: [L, H, T, T] in float32, T^2 numbers a head."""
    h = decoder.model.embed_tokens(ids[None])
    slots = torch.arange(len(ids), device=ids.device)
    carry = prepare(decoder.config, decoder.ropes, slots, len(ids), h.dtype, plain=True, ids=ids[None])
    maps = []
    for block in decoder.model.layers:
        attention = block.self_attn
        assert isinstance(block, Block)
        assert isinstance(attention, Attention)
        q, k, _, mask = attention.project(block.attention_input(h), carry)
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
        scores = capped((q @ k.transpose(-1, -2)).float() * attention.scale, attention.cap)
        seen = slots[:, None] >= slots if mask is None else mask
        maps.append(scores.masked_fill(~seen, -torch.inf).softmax(-1)[0])
        h, carry = block(h, carry)
    return torch.stack(maps)


def similarity(maps: torch.Tensor, measure: Measure) -> torch.Tensor:
    """[L, H, T, T] -> [L, L], 1 for equal maps: mean over heads and queries, head by head.

    cosine: of the two distributions as vectors. js: 1 - Jensen-Shannon divergence / ln 2. The first query, which sees
    itself alone in every layer, is left out.
    """
    rows = maps[:, :, 1:].flatten(1, 2)
    layers, queries, _ = rows.shape
    if measure == "cosine":
        unit = torch.nn.functional.normalize(rows, dim=-1).flatten(1)
        return unit @ unit.T / queries
    found = torch.ones(layers, layers, device=maps.device)
    for one in range(layers):
        for other in range(one + 1, layers):
            found[one, other] = found[other, one] = 1 - float(_divergence(rows[one], rows[other]).mean()) / math.log(2)
    return found


def head_similarity(maps: torch.Tensor, measure: Measure) -> torch.Tensor:
    """[L, H, T, T] -> [L, H, L, H], each head with each: as `similarity`. js looks at every pair, and is slow."""
    layers, heads, queries, _ = maps[:, :, 1:].shape
    rows = maps[:, :, 1:].flatten(0, 1)
    if measure == "cosine":
        unit = torch.nn.functional.normalize(rows, dim=-1).flatten(1)
        return (unit @ unit.T / queries).view(layers, heads, layers, heads)
    found = torch.ones(len(rows), len(rows), device=maps.device)
    for one in range(len(rows)):
        for other in range(one + 1, len(rows)):
            found[one, other] = found[other, one] = 1 - float(_divergence(rows[one], rows[other]).mean()) / math.log(2)
    return found.view(layers, heads, layers, heads)


def _divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in nats of each row, p and q [N, T] -> [N]."""
    middle = (p + q) / 2
    entropy = [-torch.special.xlogy(x, x).sum(-1) for x in (middle, p, q)]
    divergence: torch.Tensor = entropy[0] - (entropy[1] + entropy[2]) / 2
    return divergence


def mean_similarity(decoder: Decoder, rows: Iterable[torch.Tensor], measure: Measure) -> Scores:
    """(layer, earlier layer) -> [H, H], the mean over rows of ids [T]."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        total, count = total + head_similarity(attention_maps(decoder, row), measure).double().cpu(), count + 1
    layers = len(total)
    return {(layer, source): total[layer, :, source] / count for layer in range(layers) for source in range(layer)}


def followers_for(saving: float, layers: int) -> int:
    """How many followers save this share of the cache, half a layer's each; the nearest number."""
    most = (layers - 1) / (2 * layers)
    if not 0 < saving <= most + 1e-9:
        raise UserError(
            f"--kv-saving {saving:.1%}: {layers} layers can save more than 0 and at most {most:.1%}",
            hint="a follower saves its keys, and one layer must lead",
        )
    return max(1, min(layers - 1, round(saving * 2 * layers)))


def best_groups(
    alike: Sequence[Sequence[float]], followers: int, windows: Sequence[int | None] | None = None
) -> tuple[Groups, float]:
    """Neighbouring layers in groups with so many followers in all, and the sum of their likeness to their leaders.

    best[i][f]: the most that the first i layers reach with f followers; a group of m layers from i on adds m - 1 and
    the likeness of each to layer i. Exact, in L^2 F steps. Layers of different windows are not grouped.
    """
    layers = len(alike)
    windows = windows or [None] * layers
    best = [[-math.inf] * (followers + 1) for _ in range(layers + 1)]
    taken = [[0] * (followers + 1) for _ in range(layers + 1)]
    best[0][0] = 0.0
    for first in range(layers):
        gain = 0.0
        for size in range(1, min(layers - first, followers + 1) + 1):
            last = first + size - 1
            if windows[last] != windows[first]:
                break
            gain += alike[first][last] if size > 1 else 0.0
            for before in range(followers - size + 2):
                value = best[first][before] + gain
                if value > best[last + 1][before + size - 1]:
                    best[last + 1][before + size - 1] = value
                    taken[last + 1][before + size - 1] = size
    if best[layers][followers] == -math.inf:
        raise UserError(f"no plan with {followers} followers: layers of different windows cannot share a softmax")
    groups: Groups = []
    end, left = layers, followers
    while end:
        size = taken[end][left]
        groups.append(list(range(end - size, end)))
        end, left = end - size, left - size + 1
    return [group for group in reversed(groups) if len(group) > 1], best[layers][followers]
