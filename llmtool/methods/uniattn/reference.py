"""The literal definition (arXiv 2502.00439): every probability written out, every projection kept.

What the published code computes, in the notation of docs/methods/uniattn.md; slow, for tests only. Layers count from 0.
`mapped` and what it is handed are ours: a follower's head may read any head of an earlier layer.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.model.config import Config
from llmtool.core.model.rope import Rope, Tables, rotate


def leaders(group: int, begin: int, end: int, layers: int) -> list[int]:
    """The leader of each layer under the grouping `g b e`; a layer that leads itself is computed as it was."""
    found: list[int] = []
    for layer in range(layers):
        leads = (layer - begin) % group == 0 or layer < begin or layer >= end
        found.append(layer if leads else found[-1])
    return found


def probabilities(q: torch.Tensor, k: torch.Tensor, tables: Tables, mask: torch.Tensor | None = None) -> torch.Tensor:
    """softmax(rope(q) rope(k)^T / sqrt(D)), q [B, H, T, D], k [B, heads, T, D] -> P [B, H, T, T], causal."""
    repeats = q.shape[1] // k.shape[1]
    q, k = rotate(q, tables), rotate(k, tables).repeat_interleave(repeats, 1)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril() if mask is None else mask
    p: torch.Tensor = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return p


def shared(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """P V with the identity head mapping: p [B, H, T, T], v [B, heads, T, D] -> [B, T, H D]."""
    y: torch.Tensor = p @ v.repeat_interleave(p.shape[1] // v.shape[1], 1)
    return y.transpose(1, 2).flatten(2)


def mapped(maps: Sequence[torch.Tensor], heads: Sequence[tuple[int, int]]) -> torch.Tensor:
    """P of a follower [B, H, T, T], head by head that of (layer, head) among the layers' P [B, H, T, T]."""
    return torch.stack([maps[layer][:, head] for layer, head in heads], 1)


def likeness(p: torch.Tensor, q: torch.Tensor) -> float:
    """Mean cosine of the rows of two heads' maps [T, T], without the first row, which sees one place in both."""
    rows = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(p[1:], q[1:], strict=True)]
    return sum(rows) / len(rows)


def paper_compensation(x: torch.Tensor, base: torch.Tensor, unified: torch.Tensor) -> torch.Tensor:
    """W = pinv(X) (O_base - O_unified), all [samples, T, d] averaged over the samples first -> [d, d], e ~ x W.

    x: the follower's normed attention input; base, unified: the residual stream after attention of the two models.
    """
    w: torch.Tensor = torch.linalg.pinv(x.mean(0)) @ (base.mean(0) - unified.mean(0))
    return w


def ridge_compensation(x: torch.Tensor, error: torch.Tensor, ridge: float) -> torch.Tensor:
    """argmin_W |error - x W|^2 + ridge |W|^2 over tokens: x and error [N, d] -> [d, d]."""
    w: torch.Tensor = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype), x.T @ error)
    return w


def truncated(w: torch.Tensor, gram: torch.Tensor, rank: int) -> torch.Tensor:
    """The map of this rank nearest to w [d, d] on inputs with x^T x = gram: SVD of gram^{1/2} w, cut."""
    values, vectors = torch.linalg.eigh(gram)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    u, s, v = torch.linalg.svd(root @ w)
    cut: torch.Tensor = torch.linalg.pinv(root) @ (u[:, :rank] * s[:rank]) @ v[:rank]
    return cut


def attention_output(
    weights: Mapping[str, torch.Tensor], config: Config, x: torch.Tensor, tables: Tables, p: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer's o_proj(P V) [B, T, d] and its P; with p None the layer makes P itself. weights: by projection."""

    def project(name: str) -> torch.Tensor:
        y = F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))
        y = y.view(*x.shape[:2], -1, config.head_dim)
        norm = weights.get(f"{name[0]}_norm.weight") if name in ("q_proj", "k_proj") else None
        return (y if norm is None else rms_norm(y, norm, config.rms_norm_eps)).transpose(1, 2)

    if p is None:
        p = probabilities(project("q_proj"), project("k_proj"), tables)
    y = F.linear(shared(p, project("v_proj")), weights["o_proj.weight"], weights.get("o_proj.bias"))
    return y, p


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """As core.model.norm: in float32."""
    y = x.float()
    return weight * (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def forward(
    state: Mapping[str, torch.Tensor],
    config: Config,
    leader_of: list[int],
    ids: torch.Tensor,
    heads: Mapping[int, Sequence[tuple[int, int]]] | None = None,
    *,
    given: Mapping[int, torch.Tensor] | None = None,
    keep: list[torch.Tensor] | None = None,
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """The whole model, ids [B, T] -> logits [B, T, V]; and for each layer x and O = h + attention, [B, T, d].

    state: tensors by checkpoint name; a layer's q_proj and k_proj are looked at only where it leads. heads: follower ->
    (layer, head) for each of its heads; head by head of its leader where it is not named. given: layer -> the P that
    it uses; keep: filled with each layer's P.
    """
    h = state["model.embed_tokens.weight"][ids]
    tables = Rope(config)(torch.arange(ids.shape[1])[None], h.dtype)
    maps: list[torch.Tensor] = []
    inputs, outputs = [], []
    for layer, leader in enumerate(leader_of):
        prefix = f"model.layers.{layer}."
        weights = {k.removeprefix(prefix + "self_attn."): w for k, w in state.items() if k.startswith(prefix)}
        x = rms_norm(h, state[prefix + "input_layernorm.weight"], config.rms_norm_eps)
        p = mapped(maps, heads[layer]) if heads and layer in heads else None if leader == layer else maps[leader]
        p = given[layer] if given and layer in given else p
        y, p = attention_output(weights, config, x, tables, p)
        if keep is not None:
            keep.append(p)
        maps.append(p)
        h = h + y
        if "compensation.weight" in weights:
            h = h + F.linear(x, weights["compensation.weight"], weights.get("compensation.bias"))
        inputs.append(x)
        outputs.append(h)
        z = rms_norm(h, state[prefix + "post_attention_layernorm.weight"], config.rms_norm_eps)
        gate, up, down = (state[f"{prefix}mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
        h = h + F.linear(F.silu(F.linear(z, gate)) * F.linear(z, up), down)
    h = rms_norm(h, state["model.norm.weight"], config.rms_norm_eps)
    head = state["model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"]
    return F.linear(h, head), inputs, outputs
