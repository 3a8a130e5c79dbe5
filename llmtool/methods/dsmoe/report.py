"""What a DSMoE checkpoint does on text: active blocks by layer and by source, tokens without any, loss against tau."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from llmtool.core.model.decoder import Decoder
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import token_losses
from llmtool.methods.dsmoe.part import GATES, SparseSwiGLU

SCHEMA = "llmtool.eval-experts/1"
BINS = 20
"""Of the histogram of gates between 0 and 1 (those that are on)."""


@dataclass
class Usage:
    """Sums over the tokens of one source at one tau."""

    layers: tuple[int, ...]
    experts: int
    tokens: int = 0
    predicted: int = 0
    loss_sum: float = 0.0
    active: torch.Tensor = field(init=False)
    """Tokens for which a block was on [layers, n]."""
    none: torch.Tensor = field(init=False)
    """Tokens without any block [layers]."""

    def __post_init__(self) -> None:
        self.active = torch.zeros(len(self.layers), self.experts, dtype=torch.float64)
        self.none = torch.zeros(len(self.layers), dtype=torch.float64)

    @property
    def loss(self) -> float:
        """Nats a predicted token."""
        return self.loss_sum / max(1, self.predicted)

    @property
    def share(self) -> list[float]:
        """Share of active blocks, by layer."""
        return (self.active.mean(1) / max(1, self.tokens)).tolist()

    def merged(self, other: "Usage") -> "Usage":
        """Both together."""
        both = Usage(self.layers, self.experts, self.tokens + other.tokens, self.predicted + other.predicted,
                     self.loss_sum + other.loss_sum)  # fmt: skip
        both.active, both.none = self.active + other.active, self.none + other.none
        return both

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        share = self.share
        return {
            "tokens": self.tokens,
            "loss": self.loss,
            "active": sum(share) / len(share),
            "active_by_layer": share,
            "active_by_expert": (self.active / max(1, self.tokens)).tolist(),
            "no_expert": float(self.none.mean()) / max(1, self.tokens),
            "no_expert_by_layer": (self.none / max(1, self.tokens)).tolist(),
        }


def sparse_parts(decoder: Decoder, where: str) -> dict[int, SparseSwiGLU]:
    """The converted layers of a model; refused where there are none."""
    found = {part.layer: part for part in decoder.modules() if isinstance(part, SparseSwiGLU)}
    if not found:
        raise UserError("holds no DSMoE layer", where=where, hint="llmtool convert dsmoe makes some")
    return found


@torch.inference_mode()
def use(decoder: Decoder, rows: Sequence[Sequence[int]], where: str = "the model") -> Usage:
    """Run rows of ids, one at a time."""
    parts = sparse_parts(decoder, where)
    usage = Usage(tuple(parts), next(iter(parts.values())).settings.experts)
    device = decoder.lm_head.weight.device
    for row in rows:
        ids = torch.tensor([list(row)], device=device)
        h, carry = decoder.hidden(ids)
        losses = token_losses(decoder, h[0, :-1], ids[0, 1:])
        usage.loss_sum += float(losses.double().sum())
        usage.predicted += len(row) - 1
        usage.tokens += len(row)
        for place, layer in enumerate(parts):
            on = carry.shared[f"{GATES}{layer}"][0] > 0
            usage.active[place] += on.double().sum(0).cpu()
            usage.none[place] += float((~on.any(-1)).sum())
    return usage


@torch.inference_mode()
def loss_of(decoder: Decoder, rows: Sequence[Sequence[int]]) -> float:
    """Nats a predicted token, of any model."""
    total, count = 0.0, 0
    for row in rows:
        ids = torch.tensor([list(row)], device=decoder.lm_head.weight.device)
        h, _ = decoder.hidden(ids)
        total += float(token_losses(decoder, h[0, :-1], ids[0, 1:]).double().sum())
        count += len(row) - 1
    return total / max(1, count)


def set_tau(decoder: Decoder, tau: float) -> None:
    """Change the threshold of a model that is in memory."""
    from dataclasses import replace

    for part in decoder.modules():
        if isinstance(part, SparseSwiGLU):
            part.settings = replace(part.settings, tau=tau)


def evaluate(
    decoder: Decoder,
    sources: Mapping[str, Sequence[Sequence[int]]],
    taus: Sequence[float],
    *,
    where: str,
    dense: Decoder | None = None,
    console: Console,
) -> dict[str, Any]:
    """Usage by source at the checkpoint's own tau, and loss and active share of all sources at every other."""
    parts = sparse_parts(decoder, where)
    own = next(iter(parts.values())).settings.tau
    grid = sorted({own, *taus})
    rows_in_all = sum(map(len, sources.values()))
    by_source: dict[str, Usage] = {}
    curve = []
    with console.progress("running", rows_in_all * (len(grid) + (dense is not None)), "rows") as bar:
        for tau in grid:
            set_tau(decoder, tau)
            usages = {}
            for name, rows in sources.items():
                usages[name] = use(decoder, rows, where)
                bar.advance(len(rows))
            if tau == own:
                by_source = usages
            curve.append({"tau": tau, **_all(usages.values()).to_json()})
        set_tau(decoder, own)
        rows = [row for rows in sources.values() for row in rows]
        dense_loss = loss_of(dense, rows) if dense is not None else None
    every = _all(by_source.values())
    config = decoder.config
    ffn = 6 * config.hidden_size * config.intermediate_size * len(parts)
    means = next(iter(parts.values())).settings.off_mean  # as many again: each block's mean times whether it is closed
    router = 2 * config.hidden_size * every.experts * len(parts) * (2 if means else 1)
    return {
        "schema": SCHEMA,
        "checkpoint": where,
        "tau": own,
        "experts": every.experts,
        "layers": list(parts),
        "all": every.to_json(),
        "sources": {name: usage.to_json() for name, usage in by_source.items()},
        "curve": [
            {key: point[key] for key in ("tau", "loss", "active", "no_expert", "active_by_layer")} for point in curve
        ],
        "dense_loss": dense_loss,
        "ffn_flops_per_token": {"dense": ffn, "active": router + ffn * every.to_json()["active"]},
    }


def _all(usages: Any) -> Usage:
    first, *rest = usages
    for usage in rest:
        first = first.merged(usage)
    total: Usage = first
    return total


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    every, flops = facts["all"], facts["ffn_flops_per_token"]
    dense = "" if facts["dense_loss"] is None else f", dense model {facts['dense_loss']:.4f}"
    yield f"{every['tokens']:,} tokens at tau {facts['tau']:g}: loss {every['loss']:.4f} nats{dense}"
    yield (
        f"active blocks {every['active']:.1%}, tokens without any {every['no_expert']:.2%} (mean over the layers); "
        f"feed-forward FLOPs a token {flops['active'] / flops['dense']:.1%} of the dense layers'"
    )
    names = list(facts["sources"])
    width = max(8, *(len(name) for name in names)) if names else 8
    yield ""
    yield "active by layer  " + "  ".join(f"{name:>{width}}" for name in (*names, "all"))
    for place, layer in enumerate(facts["layers"]):
        shares = [facts["sources"][name]["active_by_layer"][place] for name in names]
        yield f"{layer:>15}  " + "  ".join(f"{x:>{width}.1%}" for x in (*shares, every["active_by_layer"][place]))
    yield f"{'loss':>15}  " + "  ".join(
        f"{x:>{width}.4f}" for x in (*(facts["sources"][name]["loss"] for name in names), every["loss"])
    )
    yield ""
    yield "tau      loss    active  without any"
    for point in facts["curve"]:
        mark = "  <- the checkpoint's" if point["tau"] == facts["tau"] else ""
        yield f"{point['tau']:<5g}  {point['loss']:.4f}  {point['active']:>7.1%}  {point['no_expert']:>11.2%}{mark}"
