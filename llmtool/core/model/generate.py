"""Autoregressive decoding: greedy or sampled, batches of unequal prompts, a static cache; one step at a time.

Not exported: an export is decoded by transformers' own generate().
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch

from llmtool.core.model.cache import StaticCache
from llmtool.core.model.decoder import Decoder


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; temperature 0 takes the likeliest. Filters in transformers' order and meaning."""

    temperature: float = 0.0
    top_k: int = 0
    """Sample among so many; 0 for all."""
    top_p: float = 1.0
    """Sample among the fewest tokens that hold this probability together."""
    seed: int = 0


def filter_logits(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """logits [B, V] divided by the temperature, with -inf for tokens that may not be drawn."""
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, places = logits.sort(-1)
        below = ordered.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        below[:, -1] = False  # the likeliest always stays
        logits = logits.masked_fill(below.scatter(-1, places, below), -torch.inf)
    return logits


def chooser(sampling: Sampling, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function logits [B, V] -> ids [B], with a random state of its own."""
    if sampling.temperature == 0:
        return lambda logits: logits.argmax(-1)
    random = torch.Generator(device).manual_seed(sampling.seed)

    def draw(logits: torch.Tensor) -> torch.Tensor:
        chances = filter_logits(logits.float(), sampling).softmax(-1)
        return torch.multinomial(chances, 1, generator=random)[:, 0]

    return draw


@torch.inference_mode()
def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
    compiled: bool = False,
) -> Iterator[list[int | None]]:
    """Yield for each step the new id of each prompt, None for those that have ended; ends when all have.

    A prompt ends with the first id in `stop`, which is given out, or after max_new_tokens. Prompts of unequal length
    are padded on the left and masked: each gives what it gives alone. compiled: torch.compile the step, with CUDA
    graphs on a GPU; the first steps take a minute, the others save the launch of every kernel.
    """
    device = decoder.lm_head.weight.device
    longest = max(map(len, prompts))
    capacity = longest + max_new_tokens - 1
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    padding = _padding(prompts, capacity, device)
    cache = StaticCache(capacity, whole=compiled)
    choose = chooser(sampling or Sampling(), device)
    step = _compiled_step(decoder, cache, padding) if compiled else plain_step(decoder, cache, padding)
    ended = [False] * len(prompts)
    for _ in range(max_new_tokens):
        new = choose(step(ids))
        tokens = new.tolist()
        yield [None if end else token for end, token in zip(ended, tokens, strict=True)]
        ended = [end or token in stop for end, token in zip(ended, tokens, strict=True)]
        if all(ended):
            return
        ids = new[:, None]


def _padding(prompts: Sequence[Sequence[int]], capacity: int, device: torch.device) -> torch.Tensor | None:
    """True for real tokens [B, capacity]; None where all prompts are of one length."""
    longest = max(map(len, prompts))
    if all(len(prompt) == longest for prompt in prompts):
        return None
    starts = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
    return torch.arange(capacity, device=device) >= starts[:, None]


def plain_step(
    decoder: Decoder, cache: StaticCache, padding: torch.Tensor | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """step(ids [B, T]) -> logits [B, V] of the token after them; the cache keeps what was seen."""

    def step(ids: torch.Tensor) -> torch.Tensor:
        known = None if padding is None else padding[:, : cache.length + ids.shape[1]]
        logits: torch.Tensor = decoder(ids, padding=known, cache=cache, last=True)
        return logits[:, 0]

    return step


def _compiled_step(
    decoder: Decoder, cache: StaticCache, padding: torch.Tensor | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The prompt runs as it is; single tokens run compiled, with shapes that never change."""
    device = decoder.lm_head.weight.device
    mode = "reduce-overhead" if device.type == "cuda" else None

    def forward(ids: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        cache.slots = slots
        logits: torch.Tensor = decoder(ids, padding=padding, cache=cache, last=True)
        return logits[:, 0]

    fast = torch.compile(forward, mode=mode, fullgraph=True)
    filled = 0

    def step(ids: torch.Tensor) -> torch.Tensor:
        nonlocal filled
        slots = torch.arange(filled, filled + ids.shape[1], device=device)
        logits = (forward if filled == 0 else fast)(ids, slots)
        if filled == 0:
            cache.pin()
        filled += ids.shape[1]
        return logits

    return step
