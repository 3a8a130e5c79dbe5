"""What is pruned away: whole channels of a feed-forward layer, or two of every four weights.

channels: score of channel j = ||a_j|| ||down[:, j]||, the size of its part in the layer's output on the calibration
tokens. LLM-Pruner (arXiv 2305.11627) removes the same groups by a gradient's estimate of the loss; this criterion needs
no backward pass. The result is a dense checkpoint with a smaller intermediate_size.
2:4: score of a weight = |W_ij| ||x_j|| (Wanda), the two largest of each four inputs stay. Half of the weights: 2:4
hardware knows no other share.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Parts
from llmtool.core.model.ffn import ACTIVATIONS
from llmtool.core.model.upcycling import MLP, Named
from llmtool.core.run.console import Console
from llmtool.core.run.numbers import whole
from llmtool.methods.dsmoe.calibration import Stream

Kept = dict[int, dict[str, torch.Tensor]]
"""Layer -> short name of a feed-forward tensor -> channels that stay [I'], or a mask like the tensor."""


def best_channels(a_norm: torch.Tensor, down: torch.Tensor, share: float) -> torch.Tensor:
    """a_norm [I], down [d, I] -> indices of the channels that stay, ascending."""
    score = a_norm * down.float().norm(dim=0)
    count = max(1, round(share * len(score)))
    stay: torch.Tensor = score.topk(count).indices.sort().values
    return stay


def two_of_four(weight: torch.Tensor, x_norm: torch.Tensor) -> torch.Tensor:
    """weight [out, in], x_norm [in] -> mask [out, in] with two of each four inputs."""
    score = (weight.float().abs() * x_norm).view(weight.shape[0], -1, 4)
    return torch.zeros_like(score, dtype=torch.bool).scatter(-1, score.topk(2, -1).indices, True).view(weight.shape)


@torch.inference_mode()
def choose(
    checkpoint: CheckpointReader,
    config: Config,
    parts: Parts,
    rows: Sequence[Sequence[int]],
    kind: str,
    share: float,
    console: Console,
) -> Kept:
    """What stays of each layer; later layers see what the pruned earlier ones give."""
    kept: Kept = {}
    activate = ACTIVATIONS[config.activation]
    stream = Stream(checkpoint, config, parts, rows)
    with console.progress("pruning", config.num_hidden_layers, "layers") as bar:
        for layer, block, x in stream.layers():
            weights = block.mlp.state_dict()
            gate, up, down = (weights[f"{name}_proj.weight"] for name in ("gate", "up", "down"))
            gate_bias, up_bias = weights.get("gate_proj.bias"), weights.get("up_proj.bias")
            a = activate(F.linear(x, gate, gate_bias)) * F.linear(x, up, up_bias)
            if kind == "channels":
                stay = best_channels(a.norm(dim=0), down, share)
                kept[layer] = {"": stay}
                pruned = F.linear(a[:, stay], down[:, stay], weights.get("down_proj.bias"))
            else:
                masks = {"gate_proj.weight": two_of_four(gate, x.norm(dim=0))}
                masks["up_proj.weight"] = two_of_four(up, x.norm(dim=0))
                gate, up = (weights[name] * masks[name] for name in masks)
                a = activate(F.linear(x, gate, gate_bias)) * F.linear(x, up, up_bias)
                masks["down_proj.weight"] = two_of_four(down, a.norm(dim=0))
                pruned = F.linear(a, down * masks["down_proj.weight"], weights.get("down_proj.bias"))
                kept[layer] = masks
            stream.add(pruned)
            bar.advance(1)
    return kept


def prune(tensors: Iterator[Named], kept: Mapping[int, Mapping[str, torch.Tensor]]) -> Iterator[Named]:
    """The stream with only what stays."""
    for name, tensor in tensors:
        match = MLP.fullmatch(name)
        layer = kept.get(whole(match[1], "layer", where=name)) if match else None
        if layer is not None and match is not None:
            if "" in layer:
                down = match[2].startswith("down_proj")
                if not down:
                    tensor = tensor[layer[""]]
                elif tensor.dim() == 2:
                    tensor = tensor[:, layer[""]]
            elif match[2] in layer:
                tensor = tensor * layer[match[2]]
        yield name, tensor
