"""W_c of every follower in one pass through the layers: the base model's stream and the unified one side by side.

At a follower the unified stream lacks e = O_base - O_unified, with the head map and all earlier W_c already at work;
its own W_c is found there and applied before the stream goes on. With `refit` o_proj is fitted with it: e ~ x W + y D,
y the heads' P V and D what is added to o_proj. A third stream, of the rows that are kept from the fit, goes without
either: at the end the three give the loss of the dense model, of the map alone, and of what is written.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any, Literal

import torch
from torch import nn

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.decoder import Block
from llmtool.core.run.console import Console
from llmtool.methods.uniattn.compensation import Means, Solution, Sums, low_rank, solve
from llmtool.methods.uniattn.part import Follower, Heads, LowRank
from llmtool.methods.uniattn.streaming import (
    Model,
    Stream,
    attend,
    delta_of,
    feed_forward,
    load_block,
    row_losses,
    start,
)

Init = Literal["lstsq", "paper", "zero"]
HELD_OUT = 10
"""Every tenth row of each input is kept from the fit: it chooses the ridge and is what the report is about."""
BATCH = 4
"""Rows that are run together."""


@dataclass(frozen=True)
class Found:
    """W_c of a follower [d, d] (row convention: e ~ x W), and how good it is on rows that were not fitted."""

    follower: int
    heads: Heads
    weight: torch.Tensor | None
    """None: there is no W_c to be had."""
    factors: tuple[torch.Tensor, torch.Tensor] | None
    """down [d, R] and up [R, d] with W = down up, where a rank was asked for."""
    output: torch.Tensor | None
    """What is added to o_proj [H D, d], with refit."""
    ridge: float | None
    error: float
    """|e|^2 / |O_base|^2 before the fit."""
    left: float
    """Share of |e|^2 that is left after it."""

    @property
    def leaders(self) -> list[int]:
        """The layers that are read."""
        return sorted({layer for layer, _ in self.heads})

    def facts(self) -> dict[str, Any]:
        """For the report."""
        return {
            "layer": self.follower, "leaders": self.leaders, "ridge": self.ridge, "error": self.error,
            "left": self.left,
        }  # fmt: skip


SHOWN = 0.001
"""Nats: what the last digit shown counts."""


@dataclass(frozen=True)
class Losses:
    """Nats a predicted token on the rows of one input that were kept from the fit."""

    source: int
    rows: int
    dense: float
    shared: float
    """The map alone: nothing fitted."""
    fitted: float
    noise: float = 0.0
    """Standard error of the mean difference between `fitted` and `shared`, over the rows; 0 of a single one."""

    @property
    def worse(self) -> bool:
        """The fit did harm on this input: more than its rows differ by chance, and more than is shown."""
        return self.fitted - self.shared > max(2 * self.noise, SHOWN)


@dataclass(frozen=True)
class Fit:
    """What is fitted, and how."""

    init: Init = "lstsq"
    compensated: bool = True
    """A W_c; without, and without refit, nothing is fitted."""
    refit: bool = False
    rank: int | None = None
    ridge: float | None = None
    """In units of trace(G) / size; None chooses."""


class Fitting:
    """rows: ids [N, T], sources: the input that each is from."""

    def __init__(
        self,
        checkpoint: CheckpointReader,
        base: Model,
        unified: Model,
        heads: Mapping[int, Heads],
        rows: torch.Tensor,
        sources: Sequence[int],
        fit: Fit,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.checkpoint, self.base, self.unified, self.heads, self.fit = checkpoint, base, unified, heads, fit
        kept = held_out(sources)
        order = [[n for n, is_held in enumerate(kept) if is_held == wanted] for wanted in (False, True)]
        pieces = [part[at : at + BATCH] for part in order for at in range(0, len(part), BATCH)]
        self.batches = [rows[piece] for piece in pieces]
        self.judged = -(-len(order[0]) // BATCH) if order[1] else 0
        """The first batch that is kept from the fit; of one row, which is all there is, the report is about that."""
        self.sources = [sources[n] for piece in pieces[self.judged :] for n in piece]
        self.norm = start(checkpoint, base, self.batches, dtype)
        self.ours, self.bare = self.norm, self.norm
        self.layer = 0

    @torch.inference_mode()
    def run(self, console: Console) -> Iterator[Found]:
        """Each follower in the order of the layers."""
        first, last = min(source for heads in self.heads.values() for source, _ in heads), max(self.heads)
        with console.progress("calibrating", last + 1, "layers") as bar:
            for layer in range(last + 1):
                if layer == first:  # below the first leader the models are one
                    self.ours, self.bare = self.norm.copy(), self.norm.copy(self.judged)
                block = load_block(self.checkpoint, self.base, layer, self.norm.h[0])
                changed = load_block(self.checkpoint, self.unified, layer, self.norm.h[0]) if layer >= first else block
                others = [self.ours, self.bare] if layer >= first else []
                if layer in self.heads:
                    attend_bare(changed, self.bare)
                    yield self._follow(block, changed, layer)
                else:
                    attend(block, self.norm)
                    for stream in others:
                        attend(changed, stream)
                feed_forward(block, self.norm)
                for stream in others:
                    feed_forward(changed, stream)
                self.layer = layer + 1
                bar.advance(1)

    @torch.inference_mode()
    def losses(self, console: Console) -> list[Losses]:
        """Of each input that has rows which were kept from the fit; after `run`."""
        streams = [self.norm.copy(self.judged), self.bare, self.ours.copy(self.judged)]
        layers = self.base.config.num_hidden_layers
        with console.progress("scoring", layers - self.layer, "layers") as bar:
            for layer in range(self.layer, layers):
                block = load_block(self.checkpoint, self.base, layer, streams[0].h[0])
                for stream in streams:
                    attend(block, stream)
                    feed_forward(block, stream)
                bar.advance(1)
            found = row_losses(self.checkpoint, self.base.config, streams, self.batches[self.judged :])
        means = []
        for source in sorted(set(self.sources)):
            of = [[loss for loss, at in zip(losses, self.sources, strict=True) if at == source] for losses in found]
            harm = [after - before for before, after in zip(of[1], of[2], strict=True)]
            noise = stdev(harm) / len(harm) ** 0.5 if len(harm) > 1 else 0.0
            dense, shared, fitted = (sum(losses) / len(losses) for losses in of)
            means.append(Losses(source, len(of[0]), dense, shared, fitted, noise))
        return means

    def _follow(self, block: Block, changed: Block, layer: int) -> Found:
        """The attention half of a follower in the base and the unified model, and what is fitted between.

        Where attention's output is normed before it is added (OLMo, Gemma, GLM-4), the compensation stands in front of
        that norm: what the stream lacks is carried back through it (`before_norm`).
        """
        fit, norm, ours, follower = self.fit, self.norm, self.ours, changed.self_attn
        assert isinstance(follower, Follower)
        inputs = [changed.attention_input(h) for h in ours.h]
        normed, scale = bool(block.norms[1]), block.residual_scale
        width, inner, device = norm.h[0].shape[-1], follower.o_proj.in_features, norm.h[0].device
        size = (width if fit.compensated else 0) + (inner if fit.refit else 0)
        fitted, judged = (Sums(size, device, width) for _ in range(2))
        means, energy, deltas, features = Means(norm.h[0].shape[1], width, device), 0.0, [], []
        for number, x in enumerate(inputs):
            wanted = delta_of(block, norm, number, block.self_attn)
            y = delta_of(changed, ours, number, follower.weighted)
            deltas.append(follower.o_proj(y))
            z = [x] * fit.compensated + [y] * fit.refit
            features.append(torch.cat(z, -1) if z else x[..., :0])
            lacking = (norm.h[number] - ours.h[number]) / scale
            if normed:
                lacking = before_norm(block, wanted, lacking)
            error = wanted - deltas[-1] + lacking
            norm.h[number] = block.add_attention(norm.h[number], wanted)
            energy += float((wanted if normed else norm.h[number] / scale).double().square().sum())
            (judged if self.judged and number >= self.judged else fitted).add(features[-1], error)
            if fit.init == "paper":
                means.add(x, error)
        seen = judged if judged.tokens else fitted
        if fit.init == "paper":
            found = means.solve()
        elif fit.init == "lstsq" and size:
            found = solve(fitted, seen, fit.ridge)
        else:
            found = Solution(torch.zeros_like(fitted.cross), None)
        both, factors = found.weight.clone(), None
        if fit.rank and both[:width].any():  # of zero, factors that could not learn
            factors = low_rank(both[:width], fitted.gram[:width, :width], fit.rank)
            both[:width] = factors[0] @ factors[1]
        for number, delta in enumerate(deltas):
            fix = features[number] @ both.to(delta.dtype)
            ours.h[number] = changed.add_attention(ours.h[number], delta + fix)
        return Found(
            layer, follower.heads, both[:width] if fit.compensated else None, factors,
            both[-inner:] if fit.refit else None, found.ridge, (fitted.energy + judged.energy) / energy,
            seen.left(both),
        )  # fmt: skip


def before_norm(block: Block, wanted: torch.Tensor, lacking: torch.Tensor) -> torch.Tensor:
    """What must be added to `wanted` [B, T, d] for the norm behind it to give `lacking` more, to the first order.

    rms(O) lacking / w. Where a weight w is small there is little to be had, and a large number would shrink all the
    others: hence w / (w^2 + 0.01 mean w^2).
    """
    one = torch.ones_like(wanted[:1, :1])
    weight = block.add_attention(torch.zeros_like(one), one) / block.residual_scale
    size = wanted.square().mean(-1, keepdim=True).sqrt()
    return lacking * size * weight / (weight.square() + 0.01 * weight.square().mean())


def attend_bare(changed: Block, stream: Stream) -> None:
    """First half of a follower's block, nothing fitted, in place."""
    follower = changed.self_attn
    assert isinstance(follower, Follower)
    for number, h in enumerate(stream.h):
        stream.h[number] = changed.add_attention(h, delta_of(changed, stream, number, follower.unified))


def held_out(sources: Sequence[int]) -> list[bool]:
    """Which rows are kept from the fit: every tenth of each input; of fewer than ten the last, of one none."""
    totals, met, kept = Counter(sources), Counter[int](), []
    for source in sources:
        number, rows = met[source], totals[source]
        met[source] += 1
        kept.append(number % HELD_OUT == HELD_OUT - 1 or (1 < rows < HELD_OUT and number == rows - 1))
    return kept


def compensation_state(module: nn.Module, found: Found | None) -> dict[str, torch.Tensor]:
    """State of a compensation, weights as Linear holds them. None: zero, with a random `down` that lets `up` learn."""
    if isinstance(module, LowRank):
        rank, size = module.down.weight.shape
        drawn = torch.randn(size, rank) / size**0.5, torch.zeros(rank, size)
        down, up = (found.factors if found else None) or drawn
        state = {"down.weight": down.T, "up.weight": up.T}
    elif found is None or found.weight is None:
        state = {name: torch.zeros(value.shape) for name, value in module.state_dict().items()}
    else:
        state = {"weight": found.weight.T}
    for name, parameter in module.state_dict().items():
        if name.endswith("bias"):
            state[name] = torch.zeros(parameter.shape)
    return state
