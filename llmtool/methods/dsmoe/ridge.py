"""Routers of the unit form, fitted to calibration text in closed form, each layer on what the ones before give.

A router predicts each block's part of a token's output by ridge regression, one solve a layer:

    y_ti = ||o_ti||^2 / sum_k ||o_tk||^2      z_t = (x_t - mean) / sd
    W = (Z^T Z / N + decay I)^-1 Z^T (y - mean y) / N

and one threshold for all blocks of the layer opens the wanted share of (token, block) pairs. It is set on the last
quarter of the tokens, which the regression did not see: on its own tokens a regression spreads its predictions wider.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import NORMS, Parts
from llmtool.core.model.ffn import ACTIVATIONS
from llmtool.core.run.console import Console
from llmtool.methods.dsmoe.calibration import Stream, chunked
from llmtool.methods.dsmoe.convert import block_norms
from llmtool.methods.dsmoe.part import Settings
from llmtool.methods.dsmoe.partition import importance, order, reorder
from llmtool.methods.dsmoe.router_init import Router, spreads

DECAY = 0.05
ALWAYS = 30.0
"""Bias of a block that is always on (or, negative, never): exact in bfloat16, and its gate is 1 in float32."""
LOGITS = 1.5
"""Standard deviation of the routed logits: the mask does not depend on it, the slope for training does."""
SEEN = 0.75
"""Part of the tokens that routers and down_proj are fitted to; thresholds and errors are of the rest."""
DAMPING = 0.01, 0.1, 1.0
"""Strengths of the pull toward the old down_proj that are tried on the tokens not seen."""


@dataclass(frozen=True)
class Plan:
    """How layers are fitted, beyond what the entry in config.json says."""

    share: float
    kind: str = "ridge"
    """ridge: routers that look at the token; static: always the first blocks (pruning); order: the order alone."""


@dataclass(frozen=True)
class Fitted:
    """One layer: the order of its channels [I], its router, what down_proj becomes [d, I] (None: reordered only)."""

    order: torch.Tensor
    router: Router | None = None
    down: torch.Tensor | None = None
    facts: dict[str, float] = field(default_factory=dict)


def regression(x: torch.Tensor, y: torch.Tensor, decay: float = DECAY) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression of y [N, n] on x [N, d] -> weight [n, d], bias [n]."""
    mean, sd = x.mean(0), spreads(x)
    z, level = (x - mean) / sd, y.mean(0)
    gram = (z.T @ z / len(x)).double() + decay * torch.eye(x.shape[1], dtype=torch.float64)
    cross = (z.T @ (y - level) / len(x)).double()
    weight = torch.linalg.solve(gram, cross).T.to(x.dtype)
    return weight / sd, level - (weight * (mean / sd)).sum(-1)


def threshold(logits: torch.Tensor, share: float) -> float:
    """The number above which `share` of logits lies, within one of them; midway between two where it can be."""
    flat = logits.flatten().double().sort().values
    wanted = min(len(flat), max(0, round(share * len(flat))))
    if wanted == len(flat):
        return float(flat[0]) - 1
    last = float(flat[len(flat) - wanted - 1])
    return last + 1 if not wanted else (last + float(flat[len(flat) - wanted])) / 2


def routed(x: torch.Tensor, y: torch.Tensor, share: float, always: int, tau: float, seen: int) -> Router:
    """A router for x [N, d] and parts y [N, n]; `share` counts the blocks that are always on."""
    experts = y.shape[1]
    weight, bias = torch.zeros(experts, x.shape[1]), torch.full((experts,), ALWAYS)
    left = experts - always
    if left:
        w, b = regression(x[:seen], y[:seen, always:])
        logits = F.linear(x[seen:], w, b)
        edge = threshold(logits, (share * experts - always) / left)
        scale = LOGITS / max(float(logits.std()), 1e-12)
        tau = min(max(tau, 1e-4), 1 - 1e-4)
        weight[always:] = w * scale
        bias[always:] = (b - edge) * scale + float(torch.tensor(tau, dtype=torch.float64).logit())
    return Router(weight, bias, 1.0)


def constant(experts: int, hidden: int, count: int) -> Router:
    """The first `count` blocks for every token, and no other: pruning by importance."""
    bias = torch.full((experts,), -ALWAYS)
    bias[:count] = ALWAYS
    return Router(torch.zeros(experts, hidden), bias, 1.0)


def means_where_closed(a: torch.Tensor, down: torch.Tensor, mask: torch.Tensor, o: torch.Tensor) -> torch.Tensor:
    """a [N, I], down [d, I], mask [N, n] -> mean output [n, d] of each block over the tokens that close it (or 0).

    Tokens count by 1 / ||o||^2, o [N, d]: one massive token would outweigh all others.
    """
    experts, counts = mask.shape[1], 1 / o.square().sum(1).clamp(min=1e-30)
    rows = []
    for i, (piece, weights) in enumerate(zip(a.chunk(experts, 1), down.chunk(experts, 1), strict=True)):
        closed = counts * ~mask[:, i]
        rows.append(weights @ (closed / closed.sum().clamp(min=1e-30) @ piece))
    return torch.stack(rows)


def blockwise(a: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """a [N, I] with 0 in the blocks that mask [N, n] closes."""
    return (a.view(len(a), mask.shape[1], -1) * mask.to(a.dtype)[..., None]).view(a.shape)


def refitted(
    a: torch.Tensor,
    mask: torch.Tensor,
    wanted: torch.Tensor,
    size: torch.Tensor,
    down: torch.Tensor,
    means: torch.Tensor | None,
    seen: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """down_proj [d, I] (and off_mean [n, d]) by least squares to `wanted` [N, d] from the open blocks.

    size [N]: tokens count by 1 / size. Pulled toward what they were, by the strength of DAMPING that does best on the
    tokens from `seen` on.
    """
    inputs = blockwise(a, mask)
    start = down
    if means is not None:
        inputs, start = torch.cat([inputs, (~mask).to(a.dtype)], 1), torch.cat([down, means.T], 1)
    root = size.clamp(min=1e-30).sqrt()[:, None]
    missing = (wanted - inputs @ start.T) / root
    inputs = inputs / root
    gram = (inputs[:seen].T @ inputs[:seen]).double()
    cross = (inputs[:seen].T @ missing[:seen]).double()
    diagonal = gram.diagonal().clamp(min=1e-8 * float(gram.diagonal().mean()))
    best, least = start, float(missing[seen:].square().sum())
    for strength in DAMPING:
        step = torch.linalg.solve(gram + torch.diag(strength * diagonal), cross).to(a.dtype)
        error = float((missing[seen:] - inputs[seen:] @ step).square().sum())
        if error < least:
            best, least = start + step.T, error
    return (best, None) if means is None else (best[:, : a.shape[1]], best[:, a.shape[1] :].T.contiguous())


def error(o: torch.Tensor, found: torch.Tensor) -> float:
    """Root of the mean over tokens of ||o - found||^2 / ||o||^2: a massive token counts no more than any other."""
    return float(((o - found).square().sum(1) / o.square().sum(1).clamp(min=1e-30)).mean().sqrt())


@dataclass(frozen=True)
class Guide:
    """The dense model's residual stream after the layer [N, d], and the converted one's before it [N, d], in units of
    what the layer adds, and without its bias."""

    after: torch.Tensor
    before: torch.Tensor


def fit_layer(
    weights: Mapping[str, torch.Tensor],
    a: torch.Tensor,
    x: torch.Tensor,
    settings: Settings,
    plan: Plan,
    guide: Guide | None = None,
) -> tuple[Fitted, torch.Tensor]:
    """One layer from its activations a [N, I] and inputs x [N, d] -> what it becomes, and its output without bias.

    guide: with `refit` down_proj is fitted to what leads back to the dense model's stream, not to the layer's own
    output; so it makes up for the layers before.
    """
    down, experts, seen = weights["down_proj.weight"], settings.experts, max(1, min(len(x) - 1, round(SEEN * len(x))))
    ordered = order(importance(a, down)) if settings.partition == "importance" else torch.arange(a.shape[1])
    a, down = a[:, ordered], down[:, ordered]
    o = F.linear(a, down)
    first = max(1, round(plan.share * experts))
    if plan.kind == "order":
        return Fitted(ordered), o
    if plan.kind == "static":
        router = constant(experts, x.shape[1], first)
    else:
        y = block_norms({"down_proj.weight": down}, a, experts).square()
        y = y / y.sum(1, keepdim=True).clamp(min=1e-30)
        router = routed(x, y, plan.share, settings.always_on, settings.tau, seen)
    bias = router.bias
    assert bias is not None
    mask = torch.sigmoid(F.linear(x, router.weight, bias)) > settings.tau
    open_ = blockwise(a, mask)
    means = means_where_closed(a[:seen], down, mask[:seen], o[:seen]) if settings.off_mean else None
    fixed = F.linear(a[seen:, : first * a.shape[1] // experts], down[:, : first * a.shape[1] // experts])
    facts = {
        "share": float(mask[seen:].float().mean()), "none": float((~mask[seen:].any(1)).float().mean()),
        "routed": error(o[seen:], F.linear(open_[seen:], down)), "static": error(o[seen:], fixed),
    }  # fmt: skip
    made = None
    if settings.refit:
        wanted, size = o, o.square().sum(1)
        if guide is not None:
            wanted, size = guide.after - guide.before, guide.after.square().sum(1)
        down, means = refitted(a, mask, wanted, size, down, means, seen)
        made = down
    found = F.linear(open_, down)
    if means is not None:
        found = found + (~mask).to(a.dtype) @ means
    facts["error"] = error(o[seen:], found[seen:])
    if guide is not None:
        away = guide.after - guide.before - found
        facts["stream"] = error(guide.after[seen:], guide.after[seen:] - away[seen:])
    return Fitted(ordered, Router(router.weight, bias, 1.0, means), made, facts), found


def changed(fitted: Mapping[int, Fitted], layer: int, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """What a feed-forward tensor of a layer becomes."""
    found = fitted.get(layer)
    if found is None:
        return tensor
    if name == "down_proj.weight" and found.down is not None:
        return found.down.to(tensor.dtype)
    return reorder(name, tensor, found.order)


def activations(weights: Mapping[str, torch.Tensor], config: Config, x: torch.Tensor) -> torch.Tensor:
    """The intermediate activations [N, I] of normed inputs x [N, d]."""
    gate = F.linear(x, weights["gate_proj.weight"], weights.get("gate_proj.bias"))
    up = F.linear(x, weights["up_proj.weight"], weights.get("up_proj.bias"))
    a: torch.Tensor = ACTIVATIONS[config.activation](gate) * up
    return a


@torch.inference_mode()
def fit_layers(
    checkpoint: CheckpointReader,
    config: Config,
    parts: Parts,
    rows: Sequence[Sequence[int]],
    settings: Settings,
    plan: Plan,
    console: Console,
) -> dict[int, Fitted]:
    """Every layer of the settings; later ones on what the converted earlier ones give.

    With `refit` the dense model's stream goes along, and each layer is fitted to come back to it. Where a norm stands
    between the layer and the stream (OLMo, Gemma) no linear map leads there: the layer's own output is fitted.
    """
    fitted: dict[int, Fitted] = {}
    stream = Stream(checkpoint, config, parts, rows)
    dense = Stream(checkpoint, config, parts, rows) if settings.refit and not NORMS[config.norms][3] else None
    guides = dense.layers() if dense else None
    with console.progress("fitting routers", config.num_hidden_layers, "layers") as bar:
        for layer, block, x in stream.layers():
            guide = None
            if dense and guides:
                _, same, clean = next(guides)
                dense.add(chunked(same.mlp, clean))
                after, before = (one.hidden() / config.residual_scale for one in (dense, stream))
                bias = same.mlp.state_dict().get("down_proj.bias", torch.zeros(()))
                guide = Guide(after, before + bias)
            if layer not in settings.layers:
                delta = chunked(block.mlp, x)
            else:
                weights = block.mlp.state_dict()
                a = activations(weights, config, x)
                fitted[layer], delta = fit_layer(weights, a, x, settings, plan, guide)
                fitted[layer].facts.update(layer=layer, wanted=plan.share)
                if "down_proj.bias" in weights:
                    delta = delta + weights["down_proj.bias"]
            stream.add(delta)
            bar.advance(1)
    return fitted
