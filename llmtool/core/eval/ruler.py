"""Long-context tasks of RULER's kinds (Hsieh et al., COLM 2024, arXiv 2404.06654), generated here, without a data set.

single      a number kept for a name, hidden once                     (its niah_single)
multikey    the same among numbers kept for other names               (niah_multikey)
multivalue  several numbers kept for one name, all asked for          (niah_multivalue)
multiquery  several names asked for at once                           (niah_multiquery)
tracking    a number handed on from variable to variable: which have it      (vt)
common      the words of a list that stand there most often           (cwe)
qa          a question about one of many people, all told of alike    (qa; theirs takes SQuAD and HotpotQA)

The wording is ours, so that scores are comparable between models measured here, not with published tables. A question
is text in pieces, each spelled as ids by itself: a context is exactly as long as asked, or, where the filler is made of
pieces too (common, qa), less than a piece shorter. With a tokenizer the ids are its own; without one each word is an
id drawn once (`IdSpeller`), for models that have learned to copy but no language. The answer is decoded greedily, and
the score is the share of the wanted words found in it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from llmtool.core.run.dataclass import dataclass

Ids = npt.NDArray[np.int64]
Random = np.random.Generator


class Speller(Protocol):
    """Text to ids and back."""

    def spell(self, text: str) -> list[int]:
        """Ids of a piece of text."""
        ...

    def read(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        ...


class IdSpeller:
    """Every word and every mark is one id, drawn without return from the vocabulary at its first use."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        self._free = np.random.default_rng(seed).permutation(vocabulary).tolist()
        self._ids: dict[str, int] = {}
        self._words: dict[int, str] = {}

    def spell(self, text: str) -> list[int]:
        """One id a word; ValueError where the vocabulary has no id left."""
        for word in re.findall(r"[\w-]+|[^\w\s]", text):
            if word not in self._ids:
                if not self._free:
                    raise ValueError(f"more different words than the vocabulary has ids, {len(self._ids):,}")
                self._ids[word] = self._free.pop()
                self._words[self._ids[word]] = word
        return [self._ids[word] for word in re.findall(r"[\w-]+|[^\w\s]", text)]

    def read(self, ids: Sequence[int]) -> str:
        """Words with spaces between; an id without a word is a question mark."""
        return " ".join(self._words.get(number, "?") for number in ids)


@dataclass(frozen=True)
class Question:
    """A context with its question, exactly `length` ids with the room for the answer, and what is wanted."""

    ids: Ids
    wanted: tuple[str, ...]
    room: int
    """Ids to be decoded."""


@dataclass(frozen=True)
class Pieces:
    """What a task wants hidden. hidden: (text, place from 0 to 1 or None: anywhere); filler: text piece by piece, or
    None: the caller's haystack."""

    hidden: Sequence[tuple[str, float | None]]
    question: str
    wanted: tuple[str, ...]
    filler: Iterator[str] | None = None


Haystack = Callable[[int, Random], Ids]
"""(length, random) -> so many ids of filler."""


def ask(pieces: Pieces, length: int, speller: Speller, haystack: Haystack, random: Random) -> Question:
    """Spell the pieces and fill the context to `length` ids; ValueError where they do not fit."""
    hidden = [(speller.spell(text), place) for text, place in pieces.hidden]
    question = speller.spell(pieces.question)
    answer = len(speller.spell(" " + ", ".join(pieces.wanted)))
    room = answer + answer // 2 + 4
    free = length - room - len(question) - sum(len(ids) for ids, _ in hidden)
    if free < 0:
        raise ValueError(f"{length:,} ids do not hold the question, which takes {length - free:,}")
    borders = list(_borders(pieces.filler, free, speller)) if pieces.filler is not None else []
    filler = np.asarray([number for ids in borders for number in ids], np.int64)
    if pieces.filler is None:
        filler = haystack(free, random)
    ends = np.cumsum([0, *map(len, borders)]) if borders else np.arange(len(filler) + 1)
    places = [(int(ends[round((random.random() if place is None else place) * (len(ends) - 1))]), number)
              for number, (_, place) in enumerate(hidden)]  # fmt: skip
    parts: list[Ids] = []
    before = 0
    for place, number in sorted(places):
        parts += [filler[before:place], np.asarray(hidden[number][0], np.int64)]
        before = place
    ids = np.concatenate([*parts, filler[before:], np.asarray(question, np.int64)])
    return Question(ids, pieces.wanted, room)


def _borders(filler: Iterator[str], free: int, speller: Speller) -> Iterator[list[int]]:
    """Pieces of filler as far as they fit."""
    for text in filler:
        ids = speller.spell(text)
        free -= len(ids)
        if free < 0:
            return
        yield ids


Make = Callable[[Random, float | None, int], Pieces]
"""(random, depth of what is asked for, about how many words the context holds) -> pieces."""


@dataclass(frozen=True)
class Task:
    """A kind of question; `by_depth`: whether what is asked for stands at one place."""

    name: str
    make: Make
    by_depth: bool


def _single(random: Random, depth: float | None, _: int) -> Pieces:
    (name,), (number,) = _names(random, 1), _numbers(random, 1)
    return Pieces([(_kept(name, number), depth)], _asked([name], 1), (number,))


def _multikey(random: Random, depth: float | None, _: int) -> Pieces:
    names, numbers = _names(random, 4), _numbers(random, 4)
    places: list[float | None] = [depth, None, None, None]
    hidden = [(_kept(*pair), place) for pair, place in zip(zip(names, numbers, strict=True), places, strict=True)]
    return Pieces(hidden, _asked(names[:1], 1), (numbers[0],))


def _multivalue(random: Random, _: float | None, __: int) -> Pieces:
    (name,), numbers = _names(random, 1), _numbers(random, 3)
    return Pieces([(_kept(name, number), None) for number in numbers], _asked([name], 3), tuple(numbers))


def _multiquery(random: Random, _: float | None, __: int) -> Pieces:
    names, numbers = _names(random, 3), _numbers(random, 3)
    hidden: list[tuple[str, float | None]] = [
        (_kept(name, number), None) for name, number in zip(names, numbers, strict=True)
    ]
    return Pieces(hidden, _asked(names, 3), tuple(numbers))


def _kept(name: str, number: str) -> str:
    return f"\nThe number kept for {name} is {number}.\n"


def _asked(names: Sequence[str], count: int) -> str:
    of = " and ".join(names)
    if count == 1:
        return f"\nQuestion: which number is kept for {of}?\nAnswer: The number kept for {of} is"
    return f"\nQuestion: which {count} numbers are kept for {of}?\nAnswer: The numbers kept for {of} are"


def _tracking(random: Random, _: float | None, __: int) -> Pieces:
    """A chain of four hops, and one beside it with another number."""
    names = _variables(random, 10)
    (value, other) = _numbers(random, 2)
    hidden: list[tuple[str, float | None]] = []
    for chain, number in ((names[:5], value), (names[5:], other)):
        places = np.sort(random.random(5))  # a variable is told of after the one that it takes its value from
        told = [f"\n{chain[0]} is set to {number}.\n"]
        told += [f"\n{later} is set to what {earlier} holds.\n" for earlier, later in pairwise(chain)]
        hidden += [(text, float(place)) for text, place in zip(told, places, strict=True)]
    question = f"\nQuestion: which 5 variables hold {value}?\nAnswer: The variables that hold {value} are"
    return Pieces(hidden, question, tuple(names[:5]))


def _common(random: Random, _: float | None, words: int) -> Pieces:
    """Three words that stand in a list ten times as often as any other; they make a third of it."""
    often = max(2, words // 9)
    rest = max(1, often // 10)
    common = _words(random, 3 + words // rest + 1)
    listed = [word for word in common[:3] for _ in range(often)]
    listed += [word for word in common[3:] for _ in range(rest)][: max(0, words - len(listed))]
    random.shuffle(listed)
    question = "\nQuestion: which 3 words stand in the list most often?\nAnswer: The words are"
    return Pieces([("\nA list of words.\n", 0.0)], question, tuple(common[:3]), (f" {word}" for word in listed))


def _qa(random: Random, depth: float | None, words: int) -> Pieces:
    """People with a trade and a town each; one is asked about."""
    people = _names(random, words // 4 + 2)
    towns = random.integers(0, len(TOWNS), len(people))
    trades = random.integers(0, len(TRADES), len(people))

    def told(number: int) -> str:
        return f"\n{people[number]} is a {TRADES[trades[number]]} in {TOWNS[towns[number]]}.\n"

    question = f"\nQuestion: in which town is {people[0]}?\nAnswer: {people[0]} is in"
    return Pieces(
        [(told(0), depth)], question, (TOWNS[towns[0]],), (told(number) for number in range(1, len(people)))
    )  # fmt: skip


TASKS = (
    Task("single", _single, True),
    Task("multikey", _multikey, True),
    Task("multivalue", _multivalue, False),
    Task("multiquery", _multiquery, False),
    Task("tracking", _tracking, False),
    Task("common", _common, False),
    Task("qa", _qa, True),
)


def _draw(random: Random, count: int, most: int) -> list[int]:
    """Different numbers below `most`."""
    return [int(number) for number in random.choice(most, count, replace=False)]


def _words(random: Random, count: int) -> list[str]:
    """Different compounds of two nouns."""
    size = len(NOUNS)
    return [f"{NOUNS[n // size]}-{NOUNS[n % size]}" for n in _draw(random, count, size * size)]


def _names(random: Random, count: int) -> list[str]:
    return _words(random, count)


def _numbers(random: Random, count: int) -> list[str]:
    return [str(10_000 + number) for number in _draw(random, count, 90_000)]


def _variables(random: Random, count: int) -> list[str]:
    return [chr(65 + n // 676) + chr(65 + n // 26 % 26) + chr(65 + n % 26) for n in _draw(random, count, 26**3)]


@dataclass(frozen=True)
class Cell:
    """A task at a length and, where what is asked for stands at one place, a depth (0: first, 1: last)."""

    task: str
    length: int
    depth: float | None
    score: float
    """Mean over the samples of the share of the wanted words that the answer held."""
    samples: int


Answer = Callable[[Sequence[Sequence[int]], int], Sequence[Sequence[int]]]
"""(prompts, how many ids) -> the ids decoded greedily behind each."""


@dataclass(frozen=True)
class Plan:
    """What is asked: samples of each task at each length and depth."""

    tasks: Sequence[Task]
    lengths: Sequence[int]
    depths: Sequence[float]
    samples: int
    seed: int

    def cells(self) -> list[tuple[Task, int, float | None]]:
        """Every cell."""
        return [
            (task, length, depth)
            for task in self.tasks
            for length in self.lengths
            for depth in (self.depths if task.by_depth else (None,))
        ]

    def questions(
        self, task: Task, length: int, depth: float | None, speller: Speller, haystack: Haystack
    ) -> Iterator[Question]:
        """The samples of a cell: the same names and numbers at every length and depth."""
        word = max(1, len(speller.spell(" " + " ".join(NOUNS))) // len(NOUNS))
        for number in range(self.samples):
            random = np.random.default_rng((self.seed, _stable(task.name), number))
            # a compound and its space take some three words of the tokenizer, one id of an IdSpeller
            compound = max(1, len(speller.spell(" stone-river")))
            about = length // (compound if task.name == "common" else word)
            yield ask(task.make(random, depth, about), length, speller, haystack, random)


def _stable(name: str) -> int:
    return int.from_bytes(name.encode()[:4], "big")


def run(
    plan: Plan,
    answer: Answer,
    speller: Speller,
    haystack: Haystack,
    *,
    rows: Callable[[int], int],
    done: Callable[[int], None] = lambda samples: None,  # noqa: ARG005 - told of samples as they are done
) -> list[Cell]:
    """Ask everything; rows: length -> questions in a batch."""
    cells = []
    for task, length, depth in plan.cells():
        questions = list(plan.questions(task, length, depth, speller, haystack))
        scores: list[float] = []
        for first in range(0, len(questions), rows(length)):
            batch = questions[first : first + rows(length)]
            found = answer([question.ids.tolist() for question in batch], max(question.room for question in batch))
            scores += [score(q.wanted, speller.read(ids[: q.room])) for q, ids in zip(batch, found, strict=True)]
            done(len(batch))
        cells.append(Cell(task.name, length, depth, float(np.mean(scores)), len(scores)))
    return cells


def score(wanted: Sequence[str], text: str) -> float:
    """Share of the wanted words that stand in the text, each whole: 1234 is not found in 12345."""
    return sum(bool(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)) for word in wanted) / len(wanted)


NOUNS = (
    "acorn", "anchor", "apple", "arrow", "barrel", "basket", "beacon", "bell", "birch", "bottle", "bridge", "bucket",
    "button", "cabin", "candle", "canyon", "carpet", "castle", "cedar", "chalk", "cherry", "circle", "cliff", "cloud",
    "clover", "copper", "coral", "cotton", "creek", "crystal", "daisy", "desert", "dragon", "drum", "eagle", "ember",
    "falcon", "feather", "fern", "field", "flint", "forest", "fountain", "garden", "ginger", "glacier", "granite",
    "grove", "hammer", "harbor", "hazel", "hill", "honey", "island", "ivory", "jasmine", "kettle", "ladder", "lagoon",
    "lantern", "laurel", "lemon", "lily", "linen", "maple", "marble", "meadow", "mirror", "mist", "moon", "moss",
    "needle", "oak", "ocean", "olive", "orchid", "otter", "owl", "paper", "pebble", "pepper", "pine", "planet",
    "plum", "pond", "poppy", "prairie", "quartz", "rabbit", "raven", "reed", "ribbon", "river", "rocket", "rose",
    "saddle", "sail", "salt", "shadow", "shell", "silk", "silver", "sparrow", "spruce", "stone", "storm", "sugar",
    "summit", "thistle", "thunder", "tiger", "timber", "tulip", "tunnel", "valley", "velvet", "violet", "walnut",
    "willow", "winter",
)  # fmt: skip
TRADES = (
    "baker", "carpenter", "doctor", "farmer", "gardener", "hatter", "judge", "miller", "nurse", "painter", "sailor",
    "smith", "tailor", "teacher", "weaver", "writer",
)  # fmt: skip
TOWNS = (
    "Accra", "Bergen", "Cairo", "Dakar", "Delhi", "Hanoi", "Kyoto", "Lima", "Lisbon", "Oslo", "Perth", "Porto", "Quito",
    "Riga", "Seoul", "Sofia", "Tunis", "Turin", "Vienna", "Zagreb",
)  # fmt: skip
