"""The one expert layer: a router chooses, tokens are sorted by expert, each expert computes its rows, weights add them.

Every mixture of experts stands on this file: Mixtral and Qwen3-MoE, LLaMA-MoE, CartesianMoE, MaskMoE. It holds no
method: a part decides what is visible to its router and what it does with the sum. Exported with checkpoints.

    choice = route(x, router_weight, k)          # float32, whatever x is
    y = dispatch(x, choice, stacks)              # only what was chosen is computed; nothing is dropped

Tensors of all experts are stacked, so that an expert which saw nothing has a gradient of zeros (DDP and FSDP2 wait for
every parameter) and the grouped kernels read them as they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import nn

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.ffn import SwiGLU, weight_of

SCORES, CHOSEN, FREE = "experts.scores.", "experts.chosen.", "experts.free."
"""carry.shared[SCORES + place]: the router's probabilities [B, T, E], float32. CHOSEN: experts taken [B, T, k], -1 for
a place that was left empty. FREE: bool [B, T], tokens whose routing a balance loss may move; absent: all. `place` is
the layer's number, with what tells apart several routers of a layer behind a dot."""

BATCHED = 64
"""Most rows that a compiled graph computes by gathering each row's matrices; more are a loop outside the graph."""


class Stacks(NamedTuple):
    """Matrices of E experts: gate and up [E, inner, d], down [E, d, inner]. Views are welcome."""

    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True)
class Choice:
    """What a router decided for N tokens."""

    scores: torch.Tensor
    """Probabilities of all experts [N, E], float32 or float64."""
    chosen: torch.Tensor
    """Experts [N, k], int64, the likeliest first; of equals the lower number."""
    weights: torch.Tensor
    """[N, k], as scores; 0 where not kept."""
    kept: torch.Tensor | None = None
    """bool [N, k]: which of the chosen are computed at all; None: all."""


def logits_of(x: torch.Tensor, weight: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
    """x weight^T, -inf where not visible: x [N, d], weight [E, d], visible bool [N, E] -> [N, E].

    In float32 (float64 for float64), also under autocast: bf16 would let near-equal experts change places.
    """
    precise = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        logits = F.linear(x.to(precise), weight.to(precise))
        return logits if visible is None else logits.masked_fill(~visible, -torch.inf)


def scores_of(x: torch.Tensor, weight: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
    """softmax of logits_of: probabilities [N, E] over the visible experts."""
    return logits_of(x, weight, visible).softmax(-1)


def best(scores: torch.Tensor, k: int, skip: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest [N, k] and their places; of equals the lower place first, on every device (topk does not say).

    skip: leave out the very best ones, to see how much hangs on them.
    """
    values, places = scores.sort(dim=-1, descending=True, stable=True)
    return values[:, skip : skip + k], places[:, skip : skip + k]


def among_others(logits: torch.Tensor, skip: int | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Without each token's `skip` likeliest experts (a number, or int64 [N, 1]): probabilities of the others among
    themselves, 0 for those left out, and all experts by falling logit, both [N, E] in that order.

    From the logits [N, E]: beside the best the others' probabilities may all round to 0, which nothing can share out.
    """
    ordered, places = logits.sort(dim=-1, descending=True, stable=True)
    left_out = torch.arange(logits.shape[-1], device=logits.device) < skip
    return ordered.masked_fill(left_out, -torch.inf).softmax(-1), places


def share_out(weights: torch.Tensor) -> torch.Tensor:
    """Weights [N, k] made to sum to 1. A single one becomes 1 with the gradient of its logarithm, not with none."""
    return weights / (weights.detach() if weights.shape[-1] == 1 else weights.sum(-1, keepdim=True))


def route(x: torch.Tensor, weight: torch.Tensor, k: int, *, normalise: bool = True, skip: int = 0) -> Choice:
    """The plain router: the k likeliest experts, with their probabilities, made to sum to 1 where `normalise`."""
    logits = logits_of(x, weight)
    scores = logits.softmax(-1)
    if not skip:
        weights, chosen = best(scores, k)
    else:
        weights, chosen = (found[:, skip : skip + k] for found in among_others(logits, skip))
        weights = weights if normalise else scores.gather(-1, chosen)
    return Choice(scores, chosen, share_out(weights) if normalise else weights)


def dispatch(
    x: torch.Tensor, choice: Choice, stacks: Stacks, kernels: Mapping[str, Callable[..., Any]] | None = None
) -> torch.Tensor:
    """x [N, d] -> the weighted sum of each token's experts [N, d], in x's type (autocast's under autocast).

    kernels: grouped_swiglu and grouped_gemm, both or none, as core/kernels has them.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):  # once, and not for each expert; kernels want one type
        kind = torch.get_autocast_dtype(device)
        x, stacks = x.to(kind), Stacks(*(stack.to(kind) for stack in stacks))
    tokens, k = choice.chosen.shape
    experts = len(stacks.gate)
    if torch.compiler.is_compiling() and tokens * k <= BATCHED:
        y = _batched(x, choice, stacks)
    elif tokens == 1 and choice.kept is None and not kernels and _by_hand(x):
        numbers = choice.chosen[0].tolist()  # nothing to sort: a third of the time of a small layer
        y = torch.cat([_expert(x, stacks, number) for number in numbers])[None]
    else:
        taken = choice.chosen.flatten()
        slots = None if choice.kept is None else choice.kept.flatten().nonzero()[:, 0]
        order = (taken if slots is None else taken[slots]).argsort(stable=True)
        order = order if slots is None else slots[order]  # places in [N, k], those of an expert together
        counts = torch.zeros(experts, dtype=torch.int64, device=x.device)
        counts.scatter_add_(0, taken[order], torch.ones_like(order))
        rows = _rows(x[order // k], stacks, counts.cumsum(0).to(torch.int32), kernels or {})
        places = rows.new_empty if slots is None else rows.new_zeros  # where all are filled, there is nothing to clear
        y = places(tokens * k, x.shape[1]).index_copy_(0, order, rows).view(tokens, k, -1)
    # Summed in the weights' type; without atomics, so that a run repeats itself on a GPU as well.
    return (y * choice.weights[..., None]).sum(1).to(y.dtype)


def _rows(
    x: torch.Tensor, stacks: Stacks, ends: torch.Tensor, kernels: Mapping[str, Callable[..., Any]]
) -> torch.Tensor:
    """SwiGLU of the rows of each expert: x [R, d] sorted, ends [E] int32 -> [R, d]."""
    if "grouped_swiglu" in kernels and "grouped_gemm" in kernels:
        y: torch.Tensor = kernels["grouped_gemm"](
            kernels["grouped_swiglu"](x, stacks.gate, stacks.up, ends), stacks.down, ends
        )
        return y
    if _by_hand(x):
        stops = ends.tolist()
        used = [(number, start, stop) for number, (start, stop) in enumerate(pairwise([0, *stops])) if stop > start]
        if 0 < 2 * len(used) <= len(stops):
            # torch's grouped product on a CPU multiplies the empty rows of the others as well: 192 products where a
            # token takes 8 of 64.
            return torch.cat([_expert(x[start:stop], stacks, number) for number, start, stop in used])
    if _has_grouped_product(x, stacks):
        product: Any = F.grouped_mm
        gate, up, down = (stack.transpose(1, 2) for stack in stacks)
        grouped: torch.Tensor = product(
            F.silu(product(x, gate, offs=ends)) * product(x, up, offs=ends), down, offs=ends
        )
        return grouped
    looped: torch.Tensor = _loop(x, stacks, ends)
    return looped


def _by_hand(x: torch.Tensor) -> bool:
    """Whether an expert may be taken out of its stack: without gradients, which would be a full stack for each, and on
    a CPU, which does not wait for itself."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _expert(x: torch.Tensor, stacks: Stacks, number: int) -> torch.Tensor:
    """SwiGLU of one expert: x [R, d] -> [R, d]."""
    gate, up, down = stacks.gate[number], stacks.up[number], stacks.down[number]
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def _has_grouped_product(x: torch.Tensor, stacks: Stacks) -> bool:
    """Whether torch's own grouped product takes these tensors: a call for all experts, and no host that waits.

    It wants rows of whole 16 bytes, and is taken on a CPU only: on a GPU `--kernels triton` is what was measured.
    """
    if not hasattr(F, "grouped_mm") or x.device.type != "cpu" or not len(x) or torch.compiler.is_compiling():
        return False
    tensors = (x, *stacks)
    return all(
        t.dtype == x.dtype and t.dtype in (torch.float32, torch.bfloat16) and t.is_contiguous()
        and t.shape[-1] * t.element_size() % 16 == 0 and t.data_ptr() % 16 == 0 for t in tensors
    )  # fmt: skip


@torch.compiler.disable  # type: ignore[untyped-decorator] # its shapes are data: a graph would be made anew for each batch
def _loop(x: torch.Tensor, stacks: Stacks, ends: torch.Tensor) -> torch.Tensor:
    """_rows in torch's operators, an expert after the other. unbind: its gradient is one stack, not E of full size."""
    parts, start = [], 0
    matrices = zip(*(stack.unbind(0) for stack in stacks), strict=True)
    for (gate, up, down), end in zip(matrices, ends.tolist(), strict=True):
        if end > start:
            part = x[start:end]
            parts.append(F.linear(F.silu(F.linear(part, gate)) * F.linear(part, up), down))
            start = end
    return torch.cat(parts) if len(parts) != 1 else parts[0]


def _batched(x: torch.Tensor, choice: Choice, stacks: Stacks) -> torch.Tensor:
    """[N, k, d] with shapes that never change: every row's matrices are gathered. For decoding in a compiled graph."""
    tokens, k = choice.chosen.shape
    gate, up, down = (stack[choice.chosen.flatten()] for stack in stacks)
    rows = x.repeat_interleave(k, 0)[..., None]
    return (down @ (F.silu(gate @ rows) * (up @ rows))).view(tokens, k, -1)


class Experts(nn.Module):
    """E SwiGLU experts of one width, without biases."""

    ops = ("grouped_swiglu", "grouped_gemm")
    """Kernels that the builder may put into `kernels`; see decoder.inject."""

    def __init__(self, experts: int, hidden: int, inner: int, active: int) -> None:
        super().__init__()
        self.active = active
        """Experts that a token meets, at most: what a token costs is counted by it."""
        self.gate = nn.Parameter(torch.empty(experts, inner, hidden))
        self.up = nn.Parameter(torch.empty(experts, inner, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, inner))
        self.kernels: Mapping[str, Callable[..., Any]] = {}

    @property
    def stacks(self) -> Stacks:
        """The three tensors."""
        return Stacks(self.gate, self.up, self.down)

    def forward(self, x: torch.Tensor, choice: Choice) -> torch.Tensor:
        """x [N, d] -> [N, d]."""
        return dispatch(x, choice, self.stacks, self.kernels)


def record(carry: Carry, place: str, choice: Choice, shape: torch.Size, free: torch.Tensor | None = None) -> None:
    """Leave in the carry what the balance loss and the reports read; shape: of the tokens, [B, T, ...]."""
    chosen = choice.chosen if choice.kept is None else choice.chosen.masked_fill(~choice.kept, -1)
    carry.shared[SCORES + place] = choice.scores.view(*shape[:2], -1)
    carry.shared[CHOSEN + place] = chosen.view(*shape[:2], -1)
    if free is not None:
        carry.shared[FREE + place] = free


class Coefficient(nn.Module):
    """c = softmax(C x + b), two shares in float32: of routed experts and of a shared one. Starts at 1/2, 1/2."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, hidden))
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., d] -> [..., 2]."""
        precise = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.to(precise), self.weight.to(precise), self.bias.to(precise)).softmax(-1)


class RoutedFFN(nn.Module):
    """The feed-forward part of Mixtral and Qwen3-MoE: the k likeliest experts, nothing beside them."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.router = nn.Linear(config.hidden_size, config.experts, bias=False)
        self.experts = Experts(config.experts, config.hidden_size, config.expert_size, config.experts_per_token)
        self.layer, self.k, self.normalise = layer, config.experts_per_token, config.normalise_experts

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        """x [B, T, d] the normed input, h [B, T, d] the residual stream (not used here) -> delta [B, T, d]."""
        flat = x.flatten(0, 1)
        choice = route(flat, weight_of(self.router), self.k, normalise=self.normalise)
        record(carry, str(self.layer), choice, x.shape)
        delta: torch.Tensor = self.experts(flat, choice).view(x.shape)
        return delta


def feed_forward(config: Config, layer: int) -> nn.Module:
    """The part that the config's family has in a layer."""
    return RoutedFFN(config, layer) if config.experts and layer not in config.dense_layers else SwiGLU(config, layer)
