"""Which head of an earlier layer stands in best for each head of a follower, on calibration text.

Head h of one layer has no kinship with head h of another: the order of heads is arbitrary. Two ways to score a pair, as
matrices [H, H] for a follower (rows: its heads) and an earlier layer (columns: the heads that may be read):

    similarity: cosine of the two heads' rows of P, mean over queries and rows of text; 1 at best
    error:      -|o_proj_h (P_other - P_h) V_h|^2 / |h|^2, mean over tokens, h the residual stream after attention: what
                reading the other map does to the stream; 0 at best

One pass through the base model, one layer in memory; q and k of the earlier layers that are compared are kept.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.attention import Attention, capped
from llmtool.core.run.console import Console
from llmtool.methods.uniattn.part import Heads
from llmtool.methods.uniattn.plan import Groups, followers_of
from llmtool.methods.uniattn.streaming import Model, Stream, feed_forward, load_block, start

Criterion = Literal["similarity", "error"]
Reach = Literal["group", "earlier", "any"]
"""Whose heads may be read: the group's leader's, those of all leaders so far, of all layers with a softmax so far."""
Scores = dict[tuple[int, int], torch.Tensor]
"""(follower, earlier layer) -> [H, H]."""


def readable(groups: Groups, reach: Reach, windows: Sequence[int | None]) -> dict[int, list[int]]:
    """Follower -> the layers whose heads it may read, nearest first; its leader is among them."""
    followers, leaders = followers_of(groups), {group[0] for group in groups}
    found = {}
    for layer, leader in followers.items():
        earlier = [other for other in range(layer - 1, -1, -1) if other not in followers]
        allowed = {"group": [leader], "earlier": [x for x in earlier if x in leaders], "any": earlier}[reach]
        found[layer] = [other for other in allowed if windows[other] == windows[layer]]
    return found


def best_heads(scores: Scores, pairs: Mapping[int, Sequence[int]]) -> dict[int, Heads]:
    """Follower -> (layer, head) for each head: the highest score, of equal ones the first named layer's lowest head."""
    found: dict[int, Heads] = {}
    for layer, sources in pairs.items():
        table = torch.cat([scores[layer, source] for source in sources], 1)
        width = table.shape[1] // len(sources)
        found[layer] = [(sources[int(at) // width], int(at) % width) for at in table.argmax(1)]
    return found


def layer_scores(scores: Scores, layers: int, criterion: Criterion, *, matched: bool) -> list[list[float]]:
    """[L, L], the score of each pair of layers as leader and follower: mean over the follower's heads of the likeness,
    or sum of the errors, with the best head for each or head by head. Both halves are filled alike."""
    best = 1.0 if criterion == "similarity" else 0.0
    found = [[best] * layers for _ in range(layers)]
    for (layer, source), table in scores.items():
        chosen = table.amax(1) if matched else table.diagonal()
        value = float(chosen.mean() if criterion == "similarity" else chosen.sum())
        found[source][layer] = found[layer][source] = value
    return found


@torch.inference_mode()
def score_heads(
    checkpoint: CheckpointReader,
    model: Model,
    rows: torch.Tensor,
    pairs: Mapping[int, Sequence[int]],
    criterion: Criterion,
    console: Console,
    dtype: torch.dtype = torch.float32,
) -> Scores:
    """[H, H] for each layer of `pairs` and each earlier layer that it names; rows: ids [N, T], run one at a time."""
    pieces = [row[None] for row in rows]
    stream = start(checkpoint, model, pieces, dtype)
    last_use = {source: layer for layer in sorted(pairs) for source in pairs[layer]}
    held: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    found: Scores = {}
    with console.progress("comparing heads", max(pairs) + 1, "layers") as bar:
        for layer in range(max(pairs) + 1):
            block = load_block(checkpoint, model, layer, stream.h[0])
            attention = block.self_attn
            assert isinstance(attention, Attention)
            inputs = [block.attention_input(h) for h in stream.h]
            made = [attention.project(x, carry) for x, carry in zip(inputs, stream.carries, strict=True)]
            after = [
                block.add_attention(h, attention(x, carry.fork()))
                for h, x, carry in zip(stream.h, inputs, stream.carries, strict=True)
            ]
            for source in pairs.get(layer, ()):
                total = torch.zeros(made[0][0].shape[1], made[0][0].shape[1], dtype=torch.float64)
                for number, (q, k, v, mask) in enumerate(made):
                    own, other = (maps_of(attention, *qk, mask) for qk in ((q, k), held[source][number]))
                    if criterion == "similarity":
                        total += likeness(own, other)
                    else:
                        total -= output_error(attention, own, other, v[0], after[number][0])
                found[layer, source] = total / len(made)
            if layer in last_use:
                held[layer] = [(q, k) for q, k, _, _ in made]
            held = {source: kept for source, kept in held.items() if last_use[source] > layer}
            stream = Stream(after, stream.carries)
            feed_forward(block, stream)
            bar.advance(1)
    return found


def maps_of(attention: Attention, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """P [H, T, T] of one row, q [1, H, T, D], k [1, key-value heads, T, D]; all layers have one scale and one cap."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = capped((q @ k.transpose(-1, -2)).to(torch.promote_types(q.dtype, torch.float32)) * attention.scale,
                    attention.cap)  # fmt: skip
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril() if mask is None else mask
    maps: torch.Tensor = scores.masked_fill(~seen, -torch.inf).softmax(-1)[0]
    return maps


def likeness(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean cosine of rows, [H, T, T] each -> [H, H]; the first query, which sees itself alone, is left out."""
    rows = [torch.nn.functional.normalize(maps[:, 1:], dim=-1).flatten(1) for maps in (own, other)]
    return (rows[0] @ rows[1].T).double().cpu() / (own.shape[1] - 1)


def output_error(
    attention: Attention, own: torch.Tensor, other: torch.Tensor, v: torch.Tensor, stream: torch.Tensor
) -> torch.Tensor:
    """The error that each head makes with each head of another layer, as a share of the stream's energy: [H, H].

    own, other: P [H, T, T]; v [key-value heads, T, D]; stream [T, d], the residual stream after attention.
    """
    heads, group, size = len(own), len(own) // len(v), v.shape[-1]
    weight = 1 / stream.norm(dim=-1).clamp(min=1e-9)  # [T]
    out = attention.o_proj.weight.view(-1, heads, size)  # [d, H, D]
    made = own @ v.repeat_interleave(group, 0)  # [H, T, D]
    errors = own.new_zeros(heads, heads)
    for head in range(heads):
        root = torch.linalg.qr(out[:, head])[1]  # |out x| = |root x|
        lacking = (other @ v[head // group] - made[head]) * weight[:, None]  # [H, T, D]
        errors[head] = (lacking @ root.T).square().sum((1, 2)) / len(stream)
    return errors.double().cpu()
