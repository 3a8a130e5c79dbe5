"""Dense feed-forward layers -> others, as a stream: one layer in memory at a time, each compared before it is written.

A method gives a function layer -> tensors of its part, from the dense layer's; this file finds the dense layers, feeds
the stream, and runs both parts on a probe. Not exported.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.ffn import SwiGLU
from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import whole
from llmtool.core.run.wording import counted

Named = tuple[str, torch.Tensor]
Tensors = Mapping[str, torch.Tensor]
MLP = re.compile(r"model\.layers\.(\d+)\.mlp\.(.+)")
NORM = "post_attention_layernorm.weight"
PROBE = 16
"""Tokens on which each converted layer is compared with the dense one."""


def dense_ffn(config: Config) -> list[str]:
    """Names of a dense feed-forward layer's tensors."""
    names = [f"{kind}_proj.weight" for kind in ("gate", "up", "down")]
    return names + [name.replace("weight", "bias") for name in names if config.mlp_bias]


def refuse_other_ffn(checkpoint: CheckpointReader, config: Config, layers: Iterable[int]) -> None:
    """Whatever is not a dense SwiGLU layer cannot be cut into experts or copied into them."""
    found: dict[int, set[str]] = {}
    for name in checkpoint.names():
        if match := MLP.fullmatch(name):
            found.setdefault(whole(match[1], "layer", where=name), set()).add(match[2])
    wanted = set(dense_ffn(config))
    for layer in layers:
        held = found.get(layer, set())
        if held != wanted:
            names = sorted(held)
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            what = f"layer {layer} is no dense feed-forward layer: mlp holds {', '.join(names[:6]) or 'nothing'}{more}"
            raise UserError(what, where=str(checkpoint.path), hint="convert a dense checkpoint, or leave it out")


def replace_layers(
    tensors: Iterable[Named], config: Config, layers: Iterable[int], make: Callable[[int, Tensors], Tensors]
) -> Iterator[Named]:
    """The stream with the chosen layers' feed-forward tensors replaced by what `make` gives.

    make(layer, {"gate_proj.weight", .., NORM}) -> {name after "mlp.": tensor}. The stream must come layer by layer.
    """
    wanted, chosen = {*dense_ffn(config), NORM}, set(layers)
    open_layers: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors:
        match = MLP.fullmatch(name) or re.fullmatch(rf"model\.layers\.(\d+)\.({re.escape(NORM)})", name)
        if not match or whole(match[1], "layer", where=name) not in chosen:
            yield name, tensor
            continue
        layer = whole(match[1], "layer", where=name)
        if match[2] == NORM:
            yield name, tensor
        held = open_layers.setdefault(layer, {})
        held[match[2]] = tensor
        del tensor
        if held.keys() == wanted:
            made = make(layer, open_layers.pop(layer))
            del held
            yield from ((f"model.layers.{layer}.mlp.{key}", value) for key, value in made.items())


def probe(config: Config, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Inputs [1, PROBE, d] of the size that a norm leaves, a few of them far out."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, PROBE, config.hidden_size, generator=generator)
    x[:, -1] *= 100
    return x.to(dtype)


def run_part(part: nn.Module, x: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
    """A feed-forward part alone: x [B, T, d] -> delta [B, T, d]; ids [B, T] for parts that route by them."""
    empty = torch.zeros(0)
    delta: torch.Tensor = part(x, x, Carry(empty, {}, {}, ids=ids))
    return delta


def with_weights(make: Callable[[], nn.Module], weights: Tensors) -> nn.Module:
    """The module that `make` makes, with tensors that are not copied."""
    with torch.device("meta"):
        part = make()
    part.load_state_dict(dict(weights), strict=True, assign=True)
    return part.eval()


def dense_layer(config: Config, layer: int, weights: Tensors) -> SwiGLU:
    """The dense layer of some weights."""
    part = with_weights(lambda: SwiGLU(config, layer), {name: weights[name] for name in dense_ffn(config)})
    assert isinstance(part, SwiGLU)
    return part


ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""Relative error of an exact start: the experts' shares are float32, and sums go in another order."""


class StartCheck:
    """Compares each converted layer with the dense one on a probe, before it is written.

    exact: refuse one that is further from it than rounding; else only say how far it is.
    """

    def __init__(
        self, config: Config, part: Callable[[int], nn.Module], *, exact: bool, seed: int = 0, ids: bool = False
    ) -> None:
        self.config, self.part, self.exact, self.seed, self.ids = config, part, exact, seed, ids
        self.layers, self.identical, self.error = 0, True, 0.0

    @torch.inference_mode()
    def __call__(self, layer: int, dense: Tensors, made: Tensors) -> None:
        """One layer: the dense tensors and the new part's."""
        dtype = dense["down_proj.weight"].dtype
        x = probe(self.config, dtype, self.seed + layer)
        ids = torch.arange(PROBE)[None] % self.config.vocab_size if self.ids else None
        wanted = run_part(dense_layer(self.config, layer, dense), x)
        found = run_part(with_weights(lambda: self.part(layer), made), x, ids)
        scale = wanted.double().norm(dim=-1).clamp(min=1e-30)
        error = float(((found.double() - wanted.double()).norm(dim=-1) / scale).max())
        if self.exact and not error <= ROUNDING[dtype]:
            raise UserError(
                f"layer {layer}: the converted layer is not the dense one (relative error {error:.3g})",
                hint="a bug: please report it",
            )
        self.layers += 1
        self.identical &= found.equal(wanted)
        self.error = max(self.error, error)

    def report(self) -> dict[str, Any]:
        """What was compared."""
        return {"layers": self.layers, "tokens": PROBE, "identical": self.identical, "relative_error": self.error}

    def line(self) -> str:
        """For people."""
        if self.identical:
            return f"{counted(self.layers, 'layer')}, each the dense one bit for bit (checked before writing)"
        kind = "the dense one up to rounding" if self.exact else "not the dense one"
        return (
            f"{counted(self.layers, 'layer')}, {kind}: largest relative error {self.error:.2g} (checked before writing)"
        )


def generator(seed: int, layer: int, what: str) -> torch.Generator:
    """Random numbers of one thing of one layer, the same whichever layers are converted beside it."""
    key = hashlib.blake2b(f"{seed} {layer} {what}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "little"))


def router(seed: int, layer: int, what: str, experts: int, hidden: int, std: float) -> torch.Tensor:
    """A random router [E, d] in float32: what separates copies is that they get different tokens."""
    return torch.randn(experts, hidden, generator=generator(seed, layer, what)) * std


def copies(tensor: torch.Tensor, experts: int, noise: float, random: torch.Generator) -> torch.Tensor:
    """E copies [E, *shape]; each number of each times 1 + noise N(0, 1)."""
    stack = tensor[None].repeat(experts, *[1] * tensor.dim())
    if noise:
        stack = (stack.float() * (1 + noise * torch.randn(stack.shape, generator=random))).to(tensor.dtype)
    return stack
