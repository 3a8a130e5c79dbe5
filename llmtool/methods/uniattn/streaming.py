"""W_c of every follower in one pass through the layers: two residual streams side by side, one layer in memory.

The base model and the unified one read the same rows. At a follower the unified stream lacks e = O_base - O_unified,
with all earlier W_c already at work; its own W_c is found there and applied before the stream goes on. Memory holds
the two streams and, within a group, the leader's q and k, for all rows: about rows x window x 6 d numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Block, Parts, make_ropes, prepare
from llmtool.core.model.embedding import embed
from llmtool.core.model.loading import as_weight
from llmtool.core.run.console import Console
from llmtool.methods.uniattn.compensation import Means, Solution, Sums, low_rank, solve
from llmtool.methods.uniattn.part import Follower, LowRank

Init = Literal["lstsq", "paper", "zero"]
HELD_OUT = 10
"""Every tenth batch is kept from the fit: it chooses the ridge and is what the report is about."""


@dataclass
class Stream:
    """Hidden states [B, T, d] of one model after some layer, a batch of rows each, and what travels with them."""

    h: list[torch.Tensor]
    carries: list[Carry]

    def copy(self) -> "Stream":
        """The same states for another model."""
        return Stream(list(self.h), [carry.fork() for carry in self.carries])


@dataclass(frozen=True)
class Found:
    """W_c of a follower [d, d] (row convention: e ~ x W), and how good it is on rows that were not fitted."""

    follower: int
    leader: int
    weight: torch.Tensor
    factors: tuple[torch.Tensor, torch.Tensor] | None
    """down [d, R] and up [R, d] with W = down up, where a rank was asked for."""
    ridge: float | None
    error: float
    """|e|^2 / |O_base|^2 before compensation."""
    left: float
    """Share of |e|^2 that is left after it."""

    def facts(self) -> dict[str, Any]:
        """For the report."""
        return {
            "layer": self.follower, "leader": self.leader, "ridge": self.ridge, "error": self.error, "left": self.left,
        }  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What makes the blocks of one model: its config and its parts."""

    config: Config
    parts: Parts


def start(checkpoint: CheckpointReader, model: Model, rows: torch.Tensor, batch: int, dtype: torch.dtype) -> Stream:
    """Rows of ids [N, T] as embeddings, `batch` rows at a time."""
    weight = checkpoint.read("model.embed_tokens.weight").to(rows.device, dtype)
    ropes, slots = make_ropes(model.config, model.parts), torch.arange(rows.shape[1], device=rows.device)
    pieces = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    carries = [prepare(model.config, ropes, slots, len(slots), dtype, plain=True, ids=ids) for ids in pieces]
    return Stream([embed(model.config, ids, weight) for ids in pieces], carries)


def load_block(checkpoint: CheckpointReader, model: Model, layer: int, like: torch.Tensor) -> Block:
    """One layer with its weights, in the type of `like`; a compensation that the checkpoint lacks is zero."""
    with torch.device("meta"):
        block = Block(model.config, model.parts, layer)
    prefix, state = f"model.layers.{layer}.", {}
    for name, parameter in block.state_dict().items():
        if prefix + name in checkpoint:
            state[name] = as_weight(checkpoint.read(prefix + name), like.dtype, like.device)
        else:
            state[name] = torch.zeros_like(parameter, device=like.device, dtype=like.dtype)
    block.load_state_dict(state, assign=True)
    return block.eval()


def attend(block: Block, stream: Stream) -> None:
    """First half of a block, in place."""
    for number, h in enumerate(stream.h):
        stream.h[number] = block.add_attention(h, delta_of(block, stream, number, block.self_attn))


def delta_of(block: Block, stream: Stream, number: int, attention: Callable[..., torch.Tensor]) -> torch.Tensor:
    """What an attention part gives for a batch [B, T, d]; the batch's carry goes on from there."""
    carry = stream.carries[number].fork()
    delta = attention(block.attention_input(stream.h[number]), carry)
    stream.carries[number] = carry
    return delta


def feed_forward(block: Block, stream: Stream) -> None:
    """Second half of a block, in place. Auxiliary losses are of no use here."""
    for number, h in enumerate(stream.h):
        stream.h[number] = block.add_ffn(h, block.mlp(block.ffn_input(h), h, stream.carries[number]))
        stream.carries[number].losses.clear()


@torch.inference_mode()
def find_compensations(
    checkpoint: CheckpointReader,
    base: Model,
    unified: Model,
    followers: dict[int, int],
    rows: torch.Tensor,
    *,
    init: Init,
    rank: int | None = None,
    ridge: float | None = None,
    batch: int = 4,
    dtype: torch.dtype = torch.float32,
    console: Console,
) -> Iterator[Found]:
    """W_c of each follower in the order of the layers. rows: ids [N, T]; ridge in units of trace(G)/d, None chooses."""
    norm = start(checkpoint, base, rows, batch, dtype)
    ours = norm
    first, last = min(followers.values()), max(followers)
    with console.progress("calibrating", last + 1, "layers") as bar:
        for layer in range(last + 1):
            block = load_block(checkpoint, base, layer, norm.h[0])
            if layer == first:  # below the first leader the two models are one
                ours = norm.copy()
            changed = load_block(checkpoint, unified, layer, norm.h[0]) if layer >= first else block
            if layer in followers:
                yield _follow(block, changed, norm, ours, layer, followers[layer], init, rank, ridge)
            else:
                for stream, of in ((norm, block), (ours, changed))[: 1 + (layer >= first)]:
                    attend(of, stream)
            if layer < last:
                feed_forward(block, norm)
                if layer >= first:
                    feed_forward(changed, ours)
            bar.advance(1)


def _follow(
    block: Block,
    changed: Block,
    norm: Stream,
    ours: Stream,
    layer: int,
    leader: int,
    init: Init,
    rank: int | None,
    ridge: float | None,
) -> Found:
    """The attention half of a follower in both models, and its compensation between.

    Where attention's output is normed before it is added (OLMo, Gemma), what the stream lacks is no linear map away:
    there the compensation makes up for the part's own output, O in front of that norm.
    """
    follower = changed.self_attn
    assert isinstance(follower, Follower)
    inputs = [changed.attention_input(h) for h in ours.h]
    normed, scale = bool(block.norms[1]), block.residual_scale
    size, length = norm.h[0].shape[-1], norm.h[0].shape[1]
    fitted, held_out = (Sums(size, norm.h[0].device) for _ in range(2))
    means, energy, deltas = Means(length, size, norm.h[0].device), 0.0, []
    for number in range(len(norm.h)):
        wanted = delta_of(block, norm, number, block.self_attn)
        deltas.append(delta_of(changed, ours, number, follower.unified))
        lacking = 0.0 if normed else (norm.h[number] - ours.h[number]) / scale
        error = wanted - deltas[-1] + lacking
        norm.h[number] = block.add_attention(norm.h[number], wanted)
        energy += float((wanted if normed else norm.h[number] / scale).double().square().sum())
        (held_out if is_held_out(number, len(ours.h)) else fitted).add(inputs[number], error)
        if init == "paper":
            means.add(inputs[number], error)
    seen = held_out if held_out.tokens else fitted
    if init == "paper":
        found = means.solve()
    elif init == "lstsq":
        found = solve(fitted, seen, ridge)
    else:
        found = Solution(torch.zeros_like(fitted.gram), None)
    factors = low_rank(found.weight, fitted.gram, rank) if rank else None
    weight = factors[0] @ factors[1] if factors else found.weight
    for number, x in enumerate(inputs):
        ours.h[number] = changed.add_attention(ours.h[number], deltas[number] + x @ weight.to(x.dtype))
    total = (fitted.energy + held_out.energy) / energy
    return Found(layer, leader, weight, factors, found.ridge, total, seen.left(weight))


def is_held_out(number: int, batches: int) -> bool:
    """Whether a batch of calibration rows is kept from the fit; the last of fewer than ten, none of one."""
    return number % HELD_OUT == HELD_OUT - 1 or (1 < batches < HELD_OUT and number == batches - 1)


def compensation_state(module: nn.Module, found: Found | None) -> dict[str, torch.Tensor]:
    """State of a compensation, weights as Linear holds them. None: zero, with a random `down` that lets `up` learn."""
    if isinstance(module, LowRank):
        rank, size = module.down.weight.shape
        drawn = torch.randn(size, rank) / size**0.5, torch.zeros(rank, size)
        down, up = (found.factors if found else None) or drawn
        state = {"down.weight": down.T, "up.weight": up.T}
    elif found is None:
        state = {name: torch.zeros(value.shape) for name, value in module.state_dict().items()}
    else:
        state = {"weight": found.weight.T}
    for name, parameter in module.state_dict().items():
        if name.endswith("bias"):
            state[name] = torch.zeros(parameter.shape)
    return state
