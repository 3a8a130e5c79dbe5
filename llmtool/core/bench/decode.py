"""Decoding of whole checkpoints side by side: time to the first token, time per token, memory, and their bounds.

The bound of a step is what the machine needs at least for the weights that the tokens use, the keys and values that
they attend to, and the arithmetic with both, at the copy and matmul rates measured in the same run. A feed-forward part
that skips weights says which by an optional method, used(carry) -> bool [B, T, n]: which of n equal parts of its
weights each token took. The others use all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from llmtool.core.bench.ceilings import Ceilings
from llmtool.core.bench.graph import capture
from llmtool.core.bench.memory import peak_bytes
from llmtool.core.bench.timer import Call, Timing, clock_of
from llmtool.core.model.cache import StaticCache
from llmtool.core.model.decoder import Decoder
from llmtool.core.model.generate import plain_step
from llmtool.core.run.dataclass import dataclass

AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Relative difference (2-norm) of logits with and without a cache: other sums, and experts close to a threshold."""


@dataclass(frozen=True)
class Contender:
    """A loaded checkpoint, and what its headers say (commands.convert.inspect.describe)."""

    name: str
    decoder: Decoder
    facts: dict[str, Any]
    plain: Decoder | None = None
    """The same weights computed by torch's operators alone: what the kernels are compared with."""


def draw_ids(contender: Contender, batch: int, length: int) -> torch.Tensor:
    """Random ids [batch, length], the same in every run."""
    generator = torch.Generator().manual_seed(batch * 1_000_003 + length)
    ids = torch.randint(contender.decoder.config.vocab_size, (batch, length), generator=generator)
    return ids.to(contender.decoder.lm_head.weight.device)


@torch.inference_mode()
def disagreement(contender: Contender, batch: int = 2, length: int = 24) -> str | None:
    """Why no speed may be printed: the last logits with a cache, token by token, are not those of one pass.

    The pass is that of the same weights without kernels: a wrong kernel is wrong with a cache as it is without.
    """
    ids = draw_ids(contender, batch, length)
    decoder = contender.decoder
    whole = (contender.plain or decoder)(ids, last=True)[:, 0].double()
    step = plain_step(decoder, StaticCache(length), None)
    step(ids[:, : length // 2])
    for place in range(length // 2, length):
        logits = step(ids[:, place : place + 1])
    error = float((logits.double() - whole).norm() / whole.norm())
    most = AGREEMENT[decoder.lm_head.weight.dtype]
    return None if error <= most else f"logits with a cache differ by {error:.2g}, allowed {most:.2g}"


def compare(
    contenders: Sequence[Contender],
    batch: int,
    context: int,
    new: int,
    ceilings: Ceilings,
    *,
    rounds: int,
    told: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """A row for each contender, which take turns; `told` after each round."""
    samples: dict[str, tuple[list[float], list[float]]] = {each.name: ([], []) for each in contenders}
    rows = []
    runs = {each.name: Decoding(each, batch, context, new) for each in contenders}
    for each in contenders:
        runs[each.name].run()  # allocates, fills caches
        told()
    for _ in range(rounds):
        for each in contenders:
            for kept, taken in zip(samples[each.name], runs[each.name].run(), strict=True):
                kept.append(taken)
        told()
    for each in contenders:
        first, token = (Timing.of(taken) for taken in samples[each.name])
        rows.append({**runs[each.name].facts(ceilings), "first": figures(first), "token": figures(token)})
    for row in rows:
        row["first"]["bound"], row["token"]["bound"] = row.pop("bounds")
    return rows


def figures(timing: Timing) -> dict[str, Any]:
    """As JSON."""
    return {"seconds": timing.median, "low": timing.low, "high": timing.high, "samples": timing.samples}


class Decoding:
    """Prompts of `context` tokens, then `new` tokens one by one; on a GPU each of them is a CUDA graph, replayed."""

    def __init__(self, contender: Contender, batch: int, context: int, new: int) -> None:
        self.contender, self.batch, self.context, self.new = contender, batch, context, new
        self.device = contender.decoder.lm_head.weight.device
        self.ids = draw_ids(contender, batch, context)
        self.cache_bytes = 0
        self.graph = self.device.type == "cuda"
        self._replayed: tuple[Call, Call] | None = None

    @torch.inference_mode()
    def run(self) -> tuple[float, float]:
        """Seconds to the first token, and of each token after it."""
        clock = clock_of(self.device)
        prompt, token = self._recorded() if self.graph else self._plain()
        return clock(prompt, 1, 0), clock(token, self.new, 0)

    def _plain(self) -> tuple[Call, Call]:
        cache = StaticCache(self.context + self.new)
        step = plain_step(self.contender.decoder, cache, None)
        state = {"next": self.ids}

        def one(_: int) -> None:
            state["next"] = step(state["next"]).argmax(-1, keepdim=True)
            self.cache_bytes = cache.bytes

        return one, one

    def _recorded(self) -> tuple[Call, Call]:
        """Both with one cache, whose shapes never change; recorded once, for all runs."""
        if self._replayed:
            return self._replayed
        decoder, cache = self.contender.decoder, StaticCache(self.context + self.new, whole=True)
        every = torch.arange(self.context, device=self.device)
        place, last = every[:1].clone(), self.ids[:, :1].clone()

        def prompt(_: int) -> None:
            cache.slots = every
            last.copy_(decoder(self.ids, cache=cache, last=True)[:, 0].argmax(-1, keepdim=True))
            place.fill_(self.context)

        def token() -> None:
            cache.slots = place
            last.copy_(decoder(last, cache=cache, last=True)[:, 0].argmax(-1, keepdim=True))
            place.add_(1)

        prompt(0)
        replay = capture(token)  # runs a few tokens first, which the next prompt overwrites
        self.cache_bytes = cache.bytes
        self._replayed = prompt, lambda _: replay()
        return self._replayed

    def facts(self, ceilings: Ceilings) -> dict[str, Any]:
        """Sizes and bounds."""
        decoder, facts = self.contender.decoder, self.contender.facts
        middle = self.context + self.new // 2
        use = used_weights(self.contender, self.batch, min(self.context, 256))
        return {
            "checkpoint": self.contender.name,
            "methods": [str(method["name"]) for method in decoder.config.methods],
            "batch": self.batch,
            "context": self.context,
            "new_tokens": self.new,
            "graph": self.graph,
            "parameters": facts["parameters"],
            "weight_bytes": sum(x.numel() * x.element_size() for x in decoder.parameters()),
            "kv_bytes_per_token": self.cache_bytes / (self.batch * (self.context + self.new)),
            "cache_bytes": self.cache_bytes,
            "peak_bytes": peak_bytes(self.run, self.device),
            "ffn_share_per_token": use.share,
            "ffn_share_read": use.read,
            "bounds": (self._first_bound(use, ceilings), self._token_bound(use, middle, ceilings)),
        }

    def _first_bound(self, use: "Use", ceilings: Ceilings) -> float:
        facts, tokens = self.contender.facts, self.batch * self.context
        head = facts["flops_per_token"] - sum(layer["flops"] for layer in facts["layers"])
        flops = tokens * (facts["flops_per_token"] - head - use.flops_saved) + self.batch * head
        for layer in facts["layers"]:
            window = min(layer["window"] or self.context, self.context)
            seen = window * (window + 1) // 2 + (self.context - window) * window
            flops += self.batch * layer["attention_flops"] * seen
        return ceilings.floor(flops, weights_read(self.contender.decoder))

    def _token_bound(self, use: "Use", positions: int, ceilings: Ceilings) -> float:
        facts = self.contender.facts
        attention = held = 0.0
        for layer in facts["layers"]:
            seen = min(layer["window"] or positions, positions)
            attention += seen * layer["attention_flops"]
            held += seen * layer["kv_bytes"]
        stored = max(facts["bytes"] / max(facts["parameters"], 1), 1)
        held *= self.contender.decoder.lm_head.weight.element_size() / stored
        flops = self.batch * (facts["flops_per_token"] + attention - use.flops_saved)
        read = weights_read(self.contender.decoder) - use.bytes_saved
        return ceilings.floor(flops, read + self.batch * held)


@dataclass(frozen=True)
class Use:
    """What feed-forward parts that skip weights leave unused."""

    share: float
    """Of the feed-forward weights of all layers, what a token uses."""
    read: float
    """What a decode step of the whole batch uses."""
    flops_saved: float
    """A token."""
    bytes_saved: float
    """A step."""


@torch.inference_mode()
def used_weights(contender: Contender, batch: int, length: int) -> Use:
    """Asked on random ids, of the last position of each row for a step's weights."""
    ids = draw_ids(contender, batch, length)
    _, carry = contender.decoder.hidden(ids)
    whole = shares = reads = flops = moved = 0.0
    for block in contender.decoder.model.layers:
        part: Any = block.mlp
        size = sum(x.numel() for x in part.parameters())
        whole += size
        if not hasattr(part, "used"):
            shares, reads = shares + size, reads + size
            continue
        used = part.used(carry)
        share, read = float(used.float().mean()), float(used[:, -1].any(0).float().mean())
        shares, reads = shares + size * share, reads + size * read
        flops += 2 * size * (1 - share)
        moved += size * (1 - read) * contender.decoder.lm_head.weight.element_size()
    return Use(shares / whole, reads / whole, flops, moved)


def weights_read(decoder: Decoder) -> int:
    """Bytes of the weights that a step reads if it uses all: everything but the embedding, of which it takes rows."""
    layers = (x for x in decoder.model.layers.parameters())
    return sum(x.numel() * x.element_size() for x in (*layers, decoder.lm_head.weight))
