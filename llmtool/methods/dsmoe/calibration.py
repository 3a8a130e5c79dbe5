"""Hidden states of a calibration text, layer by layer: the analytic routers, and what the pruning baselines look at.

One layer of weights is in memory; what stays is the residual stream of the calibration tokens. Attention and everything
else of a block are those of the checkpoint's own parts, so checkpoints of other methods can be calibrated too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Block, Parts, make_ropes, prepare
from llmtool.core.model.embedding import embed
from llmtool.core.model.ffn import ACTIVATIONS
from llmtool.core.model.loading import as_weight
from llmtool.core.model.upcycling import run_part
from llmtool.core.run.console import Console
from llmtool.methods.dsmoe.convert import block_norms, sparse_layer
from llmtool.methods.dsmoe.part import Settings
from llmtool.methods.dsmoe.router_init import Router, fit

CHUNK = 1024
"""Tokens whose intermediate activations are in memory at once."""

LayerInputs = tuple[int, dict[str, torch.Tensor], torch.Tensor]
"""Layer, its feed-forward tensors by their short names, and the normed inputs [N, d] in float32."""

Ffn = Callable[[torch.Tensor], torch.Tensor]
"""Normed inputs [1, N, d] -> what a layer adds to the residual stream."""


class Stream:
    """The residual stream of calibration rows, moved through the model one layer at a time."""

    def __init__(
        self, checkpoint: CheckpointReader, config: Config, parts: Parts, rows: Sequence[Sequence[int]]
    ) -> None:
        self.checkpoint, self.config, self.parts = checkpoint, config, parts
        embedding = checkpoint.read("model.embed_tokens.weight")
        ropes = make_ropes(config, parts)
        self.block: Block | None = None
        self.states: list[tuple[torch.Tensor, Carry]] = []
        for row in rows:
            ids = torch.tensor([list(row)])
            slots = torch.arange(ids.shape[1])
            carry = prepare(config, ropes, slots, len(row), torch.float32, plain=True, ids=ids)
            self.states.append((embed(config, ids, embedding).float(), carry))

    def layers(self) -> Iterator[tuple[int, Block, torch.Tensor]]:
        """Layer, its block, and the normed inputs [N, d] of its feed-forward part; call `add` before the next."""
        for layer in range(self.config.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            with torch.device("meta"):
                block = Block(self.config, self.parts, layer)
            state = {name: as_weight(self.checkpoint.read(prefix + name), torch.float32) for name in block.state_dict()}
            block.load_state_dict(state, strict=True, assign=True)
            block.eval()
            for place, (h, carry) in enumerate(self.states):
                carry = replace(carry.fork(), cache=None)
                delta = block.self_attn(block.attention_input(h), carry)
                self.states[place] = (block.add_attention(h, delta), carry)
            self.block = block
            yield layer, block, torch.cat([block.ffn_input(h)[0] for h, _ in self.states])

    def hidden(self) -> torch.Tensor:
        """The residual stream [N, d]."""
        return torch.cat([h[0] for h, _ in self.states])

    def add(self, delta: torch.Tensor) -> None:
        """Add what a layer's feed-forward part gave [N, d] to the residual stream."""
        assert self.block is not None
        pieces = torch.split(delta, [h.shape[1] for h, _ in self.states])
        added = zip(self.states, pieces, strict=True)
        self.states = [(self.block.add_ffn(h, piece[None]), carry) for (h, carry), piece in added]


def chunked(part: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A feed-forward part on x [N, d], a chunk at a time."""
    return torch.cat([run_part(part, chunk[None])[0] for chunk in torch.split(x, CHUNK)])


@torch.inference_mode()
def analytic(
    checkpoint: CheckpointReader,
    config: Config,
    parts: Parts,
    rows: Sequence[Sequence[int]],
    settings: Settings,
    share: float,
    console: Console,
) -> tuple[dict[int, Router], list[dict[str, float]]]:
    """Routers of the wanted share of active blocks, and what each layer looks like with its own.

    Later layers are fitted on what the converted earlier ones give, so that errors do not pile up unseen.
    """
    routers: dict[int, Router] = {}
    rows_of: list[dict[str, float]] = []
    stream = Stream(checkpoint, config, parts, rows)
    with console.progress("fitting routers", config.num_hidden_layers, "layers") as bar:
        for layer, block, x in stream.layers():
            delta = chunked(block.mlp, x)
            if layer in settings.layers:
                weights = block.mlp.state_dict()
                norms = torch.cat([_norms(config, weights, chunk, settings.experts) for chunk in torch.split(x, CHUNK)])
                # The regression wants gradients, which tensors of inference mode cannot have.
                with torch.inference_mode(False):
                    router = fit(x.clone(), norms.clone(), share, settings.tau)
                router, delta, facts = _scaled(config, layer, settings, weights, router, x, delta)
                routers[layer] = router
                rows_of.append(facts)
            stream.add(delta)
            bar.advance(1)
    return routers, rows_of


def _norms(config: Config, weights: dict[str, torch.Tensor], x: torch.Tensor, experts: int) -> torch.Tensor:
    gate = F.linear(x, weights["gate_proj.weight"], weights.get("gate_proj.bias"))
    up = F.linear(x, weights["up_proj.weight"], weights.get("up_proj.bias"))
    return block_norms(weights, ACTIVATIONS[config.activation](gate) * up, experts)


def _scaled(
    config: Config,
    layer: int,
    settings: Settings,
    weights: dict[str, torch.Tensor],
    router: Router,
    x: torch.Tensor,
    dense: torch.Tensor,
) -> tuple[Router, torch.Tensor, dict[str, float]]:
    """The router with the scale of least squares, the layer's output with it, and figures."""
    tensors = {
        **weights,
        **{name.partition(".mlp.")[2]: x for name, x in router.tensors(layer, torch.float32).items()},
    }
    part = sparse_layer(config, layer, replace(settings, layers=(layer,), gate_scale=(1.0,)), tensors)
    shift = weights.get("down_proj.bias", torch.zeros(()))
    sparse, target = chunked(part, x) - shift, dense - shift
    scale = float((sparse * target).sum() / sparse.square().sum().clamp(min=1e-30))
    scale = min(100.0, max(0.01, scale))
    gates = part.route(x)[0] > 0
    error = float((target - scale * sparse).norm() / target.norm().clamp(min=1e-30))
    facts = {
        "layer": layer, "active": float(gates.float().mean()), "none": float((~gates.any(-1)).float().mean()),
        "scale": scale, "error": error,
    }  # fmt: skip
    return Router(router.weight, router.bias, scale), scale * sparse + shift, facts
