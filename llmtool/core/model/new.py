"""A new model: the config of a size ("3M"), and its first weights."""

import hashlib
import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from llmtool.core.model.decoder import Decoder
from llmtool.core.model.experts import Experts
from llmtool.core.model.norm import RMSNorm
from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import amount

SPREAD = 0.02
"""Standard deviation of new weights, as in GPT-2 and Llama; the two maps back into the residual stream get less."""


def parse_parameters(text: str) -> int | None:
    """ "3M" or "3000000" -> 3,000,000; None for what is no size."""
    match = re.fullmatch(r"[0-9]+(?:\.[0-9]+)?[KMB]|[0-9]+", text.upper())
    return amount(match[0], "--model") if match else None


def parameters(facts: dict[str, Any]) -> int:
    """Parameters of such a config, embeddings included and counted once where tied."""
    hidden, heads, shared = facts["hidden_size"], facts["num_attention_heads"], facts["num_key_value_heads"]
    attention = 2 * hidden * facts["head_dim"] * (heads + shared)
    block = attention + 3 * hidden * facts["intermediate_size"] + 2 * hidden
    tables = facts["vocab_size"] * hidden * (1 if facts["tie_word_embeddings"] else 2)
    return int(facts["num_hidden_layers"] * block + tables + hidden)


def config_of_size(wanted: int, vocab_size: int, positions: int) -> dict[str, Any]:
    """config.json of a Llama with about this many parameters, embeddings included.

    Width over depth is near 32 for a million parameters and near 100 for some billions; the embedding is tied below
    a billion, where a second table would take the place of many layers.
    """
    best: tuple[float, dict[str, Any]] | None = None
    for hidden in [*range(32, 512, 32), *range(512, 2048, 64), *range(2048, 16385, 256)]:
        for layers in range(1, 129):
            facts = _facts(hidden, layers, vocab_size, positions, tied=wanted < 10**9)
            miss = abs(math.log(parameters(facts) / wanted))
            ideal = 32 * (max(wanted, 10**6) / 10**6) ** 0.14
            score = 10 * miss + abs(math.log(hidden / layers / ideal))
            if best is None or score < best[0]:
                best = score, facts
    assert best is not None
    made = parameters(best[1])
    if not 0.8 < made / wanted < 1.25:
        what = f"no model of {wanted:,} parameters with a vocabulary of {vocab_size:,}: the nearest has {made:,}"
        raise UserError(what, hint="take a smaller vocabulary, another size, or a config.json")
    return best[1]


def _facts(hidden: int, layers: int, vocab_size: int, positions: int, *, tied: bool) -> dict[str, Any]:
    size = 32 if hidden < 256 else 64 if hidden < 2048 else 128
    heads = hidden // size
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": 32 * round(hidden * 8 / 3 / 32),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads if hidden < 2048 or heads % 4 else heads // 4,
        "head_dim": size,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": tied,
        "initializer_range": SPREAD,
        "dtype": "float32",
    }


def default_rate(count: int) -> float:
    """A peak rate of AdamW that suits a model of so many parameters: 4e-3 at 1.3M, 7e-4 at 100M, 2.8e-4 at 1B."""
    return float(f"{4e-3 * (max(count, 10**5) / 1.3e6) ** -0.4:.2g}")


def fine_tuning_rate(count: int) -> float:
    """A peak rate of AdamW at which a trained model goes on: 2e-5 from 1B parameters on, 4.5e-5 at 135M.

    2e-5 (1B / N)^0.4 below 1B, a fourteenth of `default_rate`: at that one, a model of 0.3M parameters went from 6.4
    nats to 10.4 with its first update.
    """
    return float(f"{2e-5 * (min(max(count, 10**5), 10**9) / 1e9) ** -0.4:.2g}")


@torch.no_grad()
def initialise(decoder: Decoder, seed: int, spread: float = SPREAD) -> None:
    """Draw every linear map, table and expert; what a method's part holds beside them keeps its first values."""
    spreads = spreads_of(decoder, spread)
    for name, tensor in decoder.named_parameters():
        if name in spreads:
            draw(name, tensor, spreads[name], seed)


def spreads_of(decoder: Decoder, spread: float) -> dict[str, float]:
    """Standard deviation of each parameter that is drawn, by its checkpoint's name; 0 for biases, which begin at zero.

    Maps back into the residual stream are divided by the root of the number of additions to it: one for attention, one
    for a feed-forward part, or as many as the part says in `additions`.
    """
    additions = sum(1 + getattr(block.mlp, "additions", 1) for block in decoder.model.layers)
    back = spread / math.sqrt(additions)
    found: dict[str, float] = {}
    for name, module in decoder.named_modules():
        if isinstance(module, Experts):
            found |= {f"{name}.{kind}": back if kind == "down" else spread for kind, _ in module.named_parameters()}
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        if module is decoder.lm_head and decoder.config.tie_word_embeddings:
            continue
        found[f"{name}.weight"] = back if name.endswith(("o_proj", "down_proj")) else spread
        if isinstance(module, nn.Linear) and module.bias is not None:
            found[f"{name}.bias"] = 0.0
    return found


def draw(name: str, tensor: torch.Tensor, spread: float, seed: int) -> None:
    """Fill a parameter, from a generator of its own, by its name: the same weights whatever else the model holds."""
    if not spread:
        tensor.zero_()
        return
    tensor.normal_(0.0, spread, generator=_generator(name, seed))


def _generator(name: str, seed: int) -> torch.Generator:
    key = int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=7).digest(), "little")
    return torch.Generator().manual_seed(key)


GROUP = 16
"""torch draws normal numbers in groups of so many, and the last group anew where they do not come out even."""


def draw_rows(name: str, shape: tuple[int, ...], rows: range, spread: float, seed: int) -> torch.Tensor:
    """Rows of what `draw` makes of a tensor of this shape, which is never held whole: it is drawn piece by piece."""
    wanted = torch.zeros(len(rows), *shape[1:])
    if not spread or not len(rows):
        return wanted
    width = math.prod(shape[1:])
    piece = max(1, PIECE // width // GROUP) * GROUP
    starts = list(range(0, shape[0], piece))
    if len(starts) > 1 and (shape[0] - starts[-1]) * width < GROUP:
        starts.pop()
    random = _generator(name, seed)
    for first, last in zip(starts, [*starts[1:], shape[0]], strict=True):
        drawn = torch.empty(last - first, *shape[1:]).normal_(0.0, spread, generator=random)
        low, high = max(first, rows.start), min(last, rows.stop)
        if low < high:
            wanted[low - rows.start : high - rows.start] = drawn[low - first : high - first]
    return wanted


PIECE = 1 << 22
"""Numbers that are drawn at a time: 16 MB."""


class FirstRows:
    """The first weights of a new model by rows, for one on the meta device: what `initialise` gives, and no process
    holds more of it than its own.

    block: makes a layer's block whole, for parameters whose first values only their own module knows (a method's biases
    and tables). Only these are kept of it, and the global random state must have no part in them: each process makes
    its own. `missing`: such parameters outside the layers; a model with any must be made whole.
    """

    @torch.no_grad()
    def __init__(
        self, decoder: Decoder, seed: int, spread: float = SPREAD, block: Callable[[int], nn.Module] | None = None
    ) -> None:
        self.seed, self.spreads = seed, spreads_of(decoder, spread)
        state = dict(decoder.state_dict())
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}
        self.ones = {
            f"{name}.weight": float(module.form != "plus_one")
            for name, module in decoder.named_modules()
            if isinstance(module, RMSNorm)
        }
        tied = {"lm_head.weight"} if decoder.config.tie_word_embeddings else set()
        self.missing = state.keys() - self.spreads.keys() - self.ones.keys() - tied
        self.own: dict[str, torch.Tensor] = {}
        for layer in range(len(decoder.model.layers)):
            prefix = f"model.layers.{layer}."
            if block is not None and any(name.startswith(prefix) for name in self.missing):
                held = block(layer).state_dict()
                self.own |= {name: held[name[len(prefix) :]] for name in self.missing if name.startswith(prefix)}
        self.missing -= self.own.keys()

    @torch.no_grad()
    def __call__(self, name: str, rows: range) -> torch.Tensor:
        """Rows of a parameter, float32, or of a table in its own type."""
        if name in self.own:
            return self.own[name][rows.start : rows.stop].clone()
        if name in self.ones:
            return torch.full((len(rows), *self.shapes[name][1:]), self.ones[name])
        return draw_rows(name, self.shapes[name], rows, self.spreads[name], self.seed)
