"""Needle in a haystack: a key and its value hidden in a long text, and the key asked for at the end.

Works on ids, so it needs no language and no large vocabulary: the key and the value may be words or random ids. A
model that has learned to copy from its context ("induction") finds them; `chance` says what guessing would find.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from llmtool.core.run.dataclass import dataclass

Ids = NDArray[np.int64]
LastLogits = Callable[[torch.Tensor, int], torch.Tensor]
"""(ids [B, T], n) -> logits [B, n, V] of the last n positions."""


@dataclass(frozen=True)
class Needle:
    """`key` is what is asked, `value` what is wanted: ids."""

    key: Sequence[int]
    value: Sequence[int]


@dataclass(frozen=True)
class Cell:
    """A length and a depth (0: the needle stands first, 1: last) and what was found over the samples."""

    length: int
    depth: float
    recall: float
    """Share of samples whose value was found whole, each token being the likeliest."""
    tokens: float
    """Share of the value's tokens that were the likeliest, given those before."""
    loss: float
    """Nats a token of the value."""


def place(haystack: Ids, needle: Needle, length: int, depth: float) -> Ids:
    """`length` ids: haystack with the needle at a depth, then the key again and all of the value but its last id."""
    asked = [*needle.key, *needle.value[:-1]]
    hidden = [*needle.key, *needle.value]
    room = length - len(asked) - len(hidden)
    if room < 0 or len(haystack) < room:
        raise ValueError(f"{length} ids cannot hold a needle of {len(hidden)} ids and its question")
    before = round(depth * room)
    return np.concatenate((haystack[:before], hidden, haystack[before:room], asked)).astype(np.int64)


def shortest(needle: Needle) -> int:
    """The least length that holds a needle and its question."""
    return 2 * (len(needle.key) + len(needle.value)) - 1


def search(
    last_logits: LastLogits,
    draw_haystack: Callable[[int, np.random.Generator], Ids],
    draw_needle: Callable[[np.random.Generator], Needle],
    lengths: Sequence[int],
    depths: Sequence[float],
    *,
    samples: int,
    seed: int,
    rows: int = 8,
    done: Callable[[int], None] = lambda samples: None,  # noqa: ARG005 - told of samples as they are done
) -> list[Cell]:
    """Every length and depth, with the same needles and haystacks in each: cells differ in nothing else."""
    cells = []
    for length in lengths:
        for depth in depths:
            found = []
            for first in range(0, samples, rows):
                numbers = range(first, min(samples, first + rows))
                draws = [np.random.default_rng((seed, number)) for number in numbers]
                needles = [draw_needle(draw) for draw in draws]
                size = {len(needle.value) for needle in needles}
                texts = [place(draw_haystack(length, draw), needle, length, depth)
                         for draw, needle in zip(draws, needles, strict=True)]  # fmt: skip
                if len(size) == 1:
                    found += _score(last_logits, texts, needles)
                else:  # words of unequal length: each on its own
                    for text, needle in zip(texts, needles, strict=True):
                        found += _score(last_logits, [text], [needle])
                done(len(numbers))
            whole, tokens, loss = np.mean(found, axis=0)
            cells.append(Cell(length, depth, float(whole), float(tokens), float(loss)))
    return cells


def _score(
    last_logits: LastLogits, texts: Sequence[Ids], needles: Sequence[Needle]
) -> list[tuple[float, float, float]]:
    """(found whole, share of tokens, nats a token) of each row."""
    values = torch.tensor([list(needle.value) for needle in needles])
    logits = last_logits(torch.from_numpy(np.stack(texts)), values.shape[1]).float().cpu()
    right = (logits.argmax(-1) == values).double()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), values.flatten(), reduction="none")
    nats = losses.view(values.shape).double().mean(1)
    return [(float(row.all()), float(row.mean()), float(loss)) for row, loss in zip(right, nats, strict=True)]


def random_needle(ids: Sequence[int], key: int, value: int) -> Callable[[np.random.Generator], Needle]:
    """Needles of random ids, each id once."""

    def draw(random: np.random.Generator) -> Needle:
        picked = random.choice(np.asarray(ids), key + value, replace=False).tolist()
        return Needle(picked[:key], picked[key:])

    return draw


def spelled_needle(encode: Callable[[str], list[int]]) -> Callable[[np.random.Generator], Needle]:
    """Needles of words: a number for a name."""

    def draw(random: np.random.Generator) -> Needle:
        name = NAMES[int(random.integers(len(NAMES)))]
        number = "".join(str(digit) for digit in random.integers(0, 10, 5))
        return Needle(encode(f"\nThe secret number of {name} is"), encode(f" {number}."))

    return draw


NAMES = (
    "Lisbon", "Cairo", "Quito", "Oslo", "Hanoi", "Lima", "Accra", "Riga", "Dakar", "Seoul", "Perth", "Tunis", "Sofia",
    "Delhi", "Porto", "Kyoto",
)  # fmt: skip
