"""Models side by side, one layer in memory: rows of text as residual streams, moved through half a block at a time.

Memory holds each stream and, while a follower may still read them, leaders' q and k, for all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Block, Parts, make_ropes, prepare
from llmtool.core.model.embedding import embed, finish_logits
from llmtool.core.model.loading import as_weight
from llmtool.core.model.norm import make_norm


@dataclass
class Stream:
    """Hidden states [B, T, d] of one model after some layer, a batch of rows each, and what travels with them."""

    h: list[torch.Tensor]
    carries: list[Carry]

    def copy(self, first: int = 0) -> "Stream":
        """The same states, from this batch on, for another model."""
        return Stream(self.h[first:], [carry.fork() for carry in self.carries[first:]])


@dataclass(frozen=True)
class Model:
    """What makes the blocks of one model: its config and its parts."""

    config: Config
    parts: Parts


def start(checkpoint: CheckpointReader, model: Model, batches: list[torch.Tensor], dtype: torch.dtype) -> Stream:
    """Batches of ids [B, T] as embeddings."""
    device, length = batches[0].device, batches[0].shape[1]
    weight = checkpoint.read("model.embed_tokens.weight").to(device, dtype)
    ropes, slots = make_ropes(model.config, model.parts), torch.arange(length, device=device)
    carries = [prepare(model.config, ropes, slots, length, dtype, plain=True, ids=ids) for ids in batches]
    return Stream([embed(model.config, ids, weight) for ids in batches], carries)


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
    """What an attention part gives for a batch [B, T, ..]; the batch's carry goes on from there."""
    carry = stream.carries[number].fork()
    delta = attention(block.attention_input(stream.h[number]), carry)
    stream.carries[number] = carry
    return delta


def feed_forward(block: Block, stream: Stream) -> None:
    """Second half of a block, in place. Auxiliary losses are of no use here."""
    for number, h in enumerate(stream.h):
        stream.h[number] = block.add_ffn(h, block.mlp(block.ffn_input(h), h, stream.carries[number]))
        stream.carries[number].losses.clear()


def row_losses(
    checkpoint: CheckpointReader, config: Config, streams: list[Stream], batches: list[torch.Tensor]
) -> list[list[float]]:
    """Nats a predicted token of each row, for each stream after the last layer; batches: the rows' ids [B, T]."""
    like = streams[0].h[0]
    norm = make_norm(config, config.hidden_size)
    state = {name: checkpoint.read(f"model.norm.{name}") for name in norm.state_dict()}
    norm.load_state_dict(
        {name: as_weight(value, like.dtype, like.device) for name, value in state.items()}, assign=True
    )
    head = checkpoint.read("model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight")
    weight = as_weight(head, like.dtype, like.device)
    found: list[list[float]] = []
    for stream in streams:
        losses: list[float] = []
        for h, ids in zip(stream.h, batches, strict=True):
            for row, labels in zip(h, ids, strict=True):
                logits = finish_logits(config, F.linear(norm(row[:-1]), weight))
                losses.append(float(F.cross_entropy(logits.float(), labels[1:])))
        found.append(losses)
    return found
