"""The decoder: embedding, blocks of attention and feed-forward parts, norm, output. One for every family and method.

Parameters carry Hugging Face's own names, so state_dict keys are checkpoint keys and there is no converter. A method
supplies parts and never edits this file:

    make_attention(config, layer) -> module called as part(x, carry) -> delta
    make_ffn(config, layer)       -> module called as part(x, h, carry) -> delta
    rope(config)                  -> callable as rope(positions, dtype) -> tables, with `fixed` (rope.RopePart);
                                     made once for each rotation in use, with that as config.rope

with x [B, T, d] the normed input, h [B, T, d] the residual stream (parts with norms and residuals of their own need
it), delta [B, T, d] what is added to h, and carry everything else (carry.py).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from llmtool.core.model.attention import Attention
from llmtool.core.model.cache import StaticCache
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.embedding import Embedding, finish_logits
from llmtool.core.model.experts import feed_forward
from llmtool.core.model.mask import positions_of_documents, positions_of_padded, visible
from llmtool.core.model.norm import make_norm
from llmtool.core.model.rope import Rope, RopePart, Tables
from llmtool.core.model.rope_settings import RopeSettings


@dataclass(frozen=True)
class Parts:
    """What a method may replace; the defaults make the families of the config."""

    make_attention: Callable[[Config, int], nn.Module] = Attention
    make_ffn: Callable[[Config, int], nn.Module] = feed_forward
    rope: Callable[[Config], RopePart] = Rope
    kernels: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Op (a folder of core/kernels) -> the function that the builder chose for it; empty: torch's operators, as exports
    always have. A module whose class names an `op` gets its kernel as `compute`, one that names `ops` all of them as
    `kernels`; a method's part takes its own here."""


NORMS = {
    "before": ("input_layernorm", "", "post_attention_layernorm", ""),
    "after": ("", "post_attention_layernorm", "", "post_feedforward_layernorm"),
    "both": (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    ),
    "around": ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"),
}  # fmt: skip
"""Config.norms -> names of the norms before and after attention, before and after the feed-forward part."""


class Block(nn.Module):
    """h += attention(norm(h)); h += ffn(norm(h)); with norms where the config has them.

    The four steps around the parts are methods, for those who move a residual stream through half a block.
    """

    def __init__(self, config: Config, parts: Parts, layer: int) -> None:
        super().__init__()
        self.self_attn = parts.make_attention(config, layer)
        self.mlp = parts.make_ffn(config, layer)
        self.norms, self.residual_scale = NORMS[config.norms], config.residual_scale
        for name in filter(None, self.norms):
            self.add_module(name, make_norm(config, config.hidden_size))

    def forward(self, h: torch.Tensor, carry: Carry) -> tuple[torch.Tensor, Carry]:
        """h [B, T, d] -> the same, and the carry for the next block; the carry passed in stays as it is."""
        carry = carry.fork()
        h = self.add_attention(h, self.self_attn(self.attention_input(h), carry))
        return self.add_ffn(h, self.mlp(self.ffn_input(h), h, carry)), carry

    def attention_input(self, h: torch.Tensor) -> torch.Tensor:
        """h [B, T, d] -> what the attention part reads."""
        return self._normed(0, h)

    def add_attention(self, h: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """h [B, T, d] and what the attention part gave -> h."""
        return self._added(h, self._normed(1, delta))

    def ffn_input(self, h: torch.Tensor) -> torch.Tensor:
        """h [B, T, d] -> what the feed-forward part reads."""
        return self._normed(2, h)

    def add_ffn(self, h: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """h [B, T, d] and what the feed-forward part gave -> h."""
        return self._added(h, self._normed(3, delta))

    def _normed(self, place: int, x: torch.Tensor) -> torch.Tensor:
        name = self.norms[place]
        normed: torch.Tensor = getattr(self, name)(x) if name else x
        return normed

    def _added(self, h: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        return added(h, delta, self.residual_scale)


def added(h: torch.Tensor, delta: torch.Tensor, scale: float) -> torch.Tensor:
    """h + scale delta, [B, T, d]; scale: Config.residual_scale, which parts with residuals of their own need too."""
    return h + (delta if scale == 1 else delta * scale)


class Trunk(nn.Module):
    """Everything but the output layer."""

    def __init__(self, config: Config, parts: Parts) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config)
        self.layers = nn.ModuleList(Block(config, parts, layer) for layer in range(config.num_hidden_layers))
        self.norm = make_norm(config, config.hidden_size)


class Decoder(nn.Module):
    """Token ids -> logits."""

    def __init__(self, config: Config, parts: Parts | None = None) -> None:
        super().__init__()
        parts = parts or Parts()
        self.config = config
        self.model = Trunk(config, parts)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.ropes = make_ropes(config, parts)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        inject(self, parts.kernels)

    def forward(
        self,
        ids: torch.Tensor,
        *,
        padding: torch.Tensor | None = None,
        documents: torch.Tensor | None = None,
        cache: StaticCache | None = None,
        last: bool = False,
    ) -> torch.Tensor:
        """ids [B, T] -> logits [B, T, vocabulary], or [B, 1, vocabulary] with `last`.

        padding: bool [B, S], True for real tokens, S counting those in the cache too. documents: [B, T], see Carry.
        """
        h, _ = self.hidden(ids, padding=padding, documents=documents, cache=cache)
        return self.logits(h[:, -1:] if last else h)

    def logits(self, h: torch.Tensor) -> torch.Tensor:
        """Normed states [..., d] -> logits [..., vocabulary]."""
        return finish_logits(self.config, self.lm_head(h))

    def hidden(
        self,
        ids: torch.Tensor,
        *,
        padding: torch.Tensor | None = None,
        documents: torch.Tensor | None = None,
        cache: StaticCache | None = None,
    ) -> tuple[torch.Tensor, Carry]:
        """ids [B, T] -> normed states [B, T, d] before the output layer, and the carry with the auxiliary losses."""
        h = self.model.embed_tokens(ids)
        length = ids.shape[1]
        if cache is None:
            slots, keys = torch.arange(length, device=ids.device), length
        elif cache.whole:
            assert cache.slots is not None
            slots, keys = cache.slots, cache.capacity
        else:
            slots, keys = torch.arange(cache.length, cache.length + length, device=ids.device), cache.length + length
        plain = (keys == length or length == 1) and not (cache is not None and cache.whole)
        tables = None
        if cache is not None and not cache.whole and padding is None and all(r.fixed for r in self.ropes.values()):
            tables = {
                kind: cache.tables(kind, length, partial(rope, dtype=h.dtype), ids.device)
                for kind, rope in self.ropes.items()
            }
        carry = prepare(
            self.config, self.ropes, slots, keys, h.dtype, plain=plain, padding=padding, documents=documents, ids=ids,
            cache=cache, tables=tables,
        )  # fmt: skip
        h, carry = run_blocks(self.model.layers, h, carry)
        if cache is not None:
            cache.advance(length)
        return self.model.norm(h), carry


def make_ropes(config: Config, parts: Parts) -> dict[RopeSettings, RopePart]:
    """A rope part for each rotation in use: one for most models, none for one without positions."""
    kinds = dict.fromkeys(config.rope_of(layer) for layer in range(config.num_hidden_layers))
    return {kind: parts.rope(replace(config, rope=kind)) for kind in kinds if kind is not None}


def prepare(
    config: Config,
    ropes: Mapping[RopeSettings, RopePart],
    slots: torch.Tensor,
    keys: int,
    dtype: torch.dtype,
    *,
    plain: bool,
    padding: torch.Tensor | None = None,
    documents: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
    tables: Mapping[RopeSettings, Tables] | None = None,
    **rest: Any,
) -> Carry:
    """The carry of one pass: positions, tables and a mask for each window in use.

    slots [T]: places of the tokens among `keys` places. positions [1 or B, T] follow from padding and documents
    where they are not given, tables from positions. `rest` goes into the carry as it is.
    """
    if positions is None:
        if padding is not None:
            positions = positions_of_padded(padding)[:, slots]
        elif documents is not None:
            positions = positions_of_documents(documents)
        else:
            positions = slots[None]
    masks = {
        window: visible(slots, keys, window=window, padding=padding, documents=documents, plain=plain)
        for window in set(config.windows)
    }
    if tables is None:
        tables = {kind: rope(positions, dtype) for kind, rope in ropes.items()}
    return Carry(positions, tables, masks, documents=documents, **rest)


def run_blocks(blocks: Iterable[nn.Module], h: torch.Tensor, carry: Carry) -> tuple[torch.Tensor, Carry]:
    """h [B, T, d] through every block."""
    for block in blocks:
        h, carry = block(h, carry)
    return h, carry


def inject(decoder: nn.Module, kernels: Mapping[str, Callable[..., Any]]) -> None:
    """Give every module that computes an op the kernel chosen for it, whichever part or method made the module."""
    for module in decoder.modules():
        if several := getattr(module, "ops", ()):
            setattr(module, "kernels", {op: kernels[op] for op in several if op in kernels})  # noqa: B010 - as below
        kernel = kernels.get(getattr(module, "op", ""))
        if kernel is not None:
            setattr(module, "compute", kernel)  # noqa: B010 - nn.Module declares its attributes to be modules or tensors


def expected_shapes(decoder: Decoder) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of a checkpoint, in the order of the layers; tied names once."""
    tied = decoder.config.tie_word_embeddings
    state = decoder.state_dict()
    return {name: tuple(x.shape) for name, x in state.items() if not (tied and name == "lm_head.weight")}
