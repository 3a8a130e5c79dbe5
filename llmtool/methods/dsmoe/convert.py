"""Dense tensors -> DSMoE's, and back, as streams: one layer in memory at a time.

The split needs no copy: expert i is the i-th slice of rows of gate_proj and up_proj and of columns of down_proj, so a
converted checkpoint is the dense one with a router in each converted layer; channels may have got another order before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.model.config import Config
from llmtool.core.model.upcycling import MLP, PROBE, Named, dense_ffn, dense_layer, probe, run_part
from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import whole
from llmtool.methods.dsmoe.part import Settings, SparseSwiGLU
from llmtool.methods.dsmoe.router_init import Router


def to_sparse(
    tensors: Iterable[Named],
    config: Config,
    layers: Iterable[int],
    router: Callable[[int], Router],
    check: Callable[[int, Mapping[str, torch.Tensor]], None] | None = None,
    change: Callable[[int, str, torch.Tensor], torch.Tensor] | None = None,
) -> Iterator[Named]:
    """The stream with each layer's router behind its feed-forward tensors; check sees a layer, router included.

    change(layer, short name, tensor): what a feed-forward tensor becomes, its order of channels for one.
    """
    wanted, chosen = set(dense_ffn(config)), set(layers)
    open_layers: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors:
        match = MLP.fullmatch(name)
        if not match or whole(match[1], "layer", where=name) not in chosen:
            yield name, tensor
            continue
        layer = whole(match[1], "layer", where=name)
        tensor = change(layer, match[2], tensor) if change else tensor
        yield name, tensor
        held = open_layers.setdefault(layer, {})
        held[match[2]] = tensor
        if held.keys() == wanted:
            new = router(layer).tensors(layer, tensor.dtype)
            if check:
                check(layer, {**held, **{key.partition(".mlp.")[2]: value for key, value in new.items()}})
            del open_layers[layer], held, tensor
            yield from new.items()


def sparse_layer(config: Config, layer: int, settings: Settings, weights: Mapping[str, torch.Tensor]) -> SparseSwiGLU:
    """One feed-forward layer with the tensors of `weights`, which are not copied."""
    with torch.device("meta"):
        part = SparseSwiGLU(config, layer, settings)
    part.load_state_dict(dict(weights), strict=True, assign=True)
    return part.eval()


class ExactCheck:
    """Compares every converted layer with the dense one, bit for bit, before it is written."""

    def __init__(self, config: Config, settings: Settings, seed: int = 0) -> None:
        self.config, self.settings, self.seed = config, settings, seed
        self.layers = 0

    @torch.inference_mode()
    def __call__(self, layer: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Refuse a layer that is not its dense self."""
        x = probe(self.config, weights["down_proj.weight"].dtype, self.seed + layer)
        sparse = run_part(sparse_layer(self.config, layer, self.settings, weights), x)
        if not sparse.equal(run_part(dense_layer(self.config, layer, weights), x)):
            raise UserError(
                f"layer {layer}: the converted layer is not the dense one bit for bit on this machine",
                where="convert dsmoe --router-init exact", hint="a bug, or another sigmoid: please report it",
            )  # fmt: skip
        self.layers += 1

    def report(self) -> dict[str, Any]:
        """What was compared."""
        return {"layers": self.layers, "tokens": PROBE, "identical": True}


def constant_weights(layer: int, weights: Mapping[str, torch.Tensor], settings: Settings) -> torch.Tensor:
    """The blocks' weights [n] of a layer whose gates do not depend on the token; refused where they do."""
    router, bias = weights["router.weight"], weights.get("router.bias")
    if bool(router.ne(0).any()) or bias is None:
        moved = float(router.float().abs().max())
        raise UserError(
            f"layer {layer}: the gates depend on the token (the router's largest weight is {moved:.3g})",
            hint="what `llmtool convert dsmoe --router-init exact` made can be merged, its routers not trained",
        )
    if settings.off_mean:
        raise UserError(
            f"layer {layer}: closed blocks add a constant (off_mean)",
            hint="convert without --off-mean: a dense layer has no place for it",
        )
    g = torch.sigmoid(bias.to(torch.promote_types(bias.dtype, torch.float32)))
    on = g > settings.tau
    if settings.unit:
        return on.to(g.dtype)
    gates = torch.where(on, g, torch.zeros_like(g)) * settings.gate_scale[settings.layers.index(layer)]
    return gates * (settings.experts / on.sum().clamp(min=1).to(g.dtype))


def to_dense(tensors: Iterable[Named], routers: Mapping[int, torch.Tensor]) -> Iterator[Named]:
    """The stream without routers; a block whose constant weight is not 1 takes it into down_proj."""
    for name, tensor in tensors:
        match = MLP.fullmatch(name)
        if match and match[2].startswith("router."):
            continue
        if match and match[2] == "down_proj.weight" and whole(match[1], "layer", where=name) in routers:
            weights = routers[whole(match[1], "layer", where=name)]
            if bool(weights.ne(1).any()):
                wide = weights.repeat_interleave(tensor.shape[1] // len(weights))
                tensor = (tensor.to(wide.dtype) * wide).to(tensor.dtype)
        yield name, tensor


def block_norms(weights: Mapping[str, torch.Tensor], a: torch.Tensor, experts: int) -> torch.Tensor:
    """||o_i|| [N, n] of intermediate activations a [N, I]."""
    downs = weights["down_proj.weight"].to(a.dtype).chunk(experts, -1)
    norms = [F.linear(x, down).norm(dim=-1) for x, down in zip(a.chunk(experts, -1), downs, strict=True)]
    return torch.stack(norms, -1)
