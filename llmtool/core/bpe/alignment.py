"""Which ids of a text stand before a place in it: what a mask over a tokenised text is made of.

The text is encoded whole, special tokens read as such, and its ids are those of `encode`. A place within a text is
followed through all that happens to it: added tokens are cut out with the white space that they take along, the rest
is normalized and cut into pieces. What a step puts before a segment ("▁") belongs to the segment's first character.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.pretokenizers import CUSTOM, byte_pieces
from llmtool.core.bpe.segments import Part, Segments
from llmtool.core.bpe.vocabulary import decode_text, encode_text


class Place(NamedTuple):
    """How many ids lie wholly before a place, and how many begin before it: one more where it lies within a token."""

    before: int
    begun: int


EncodeBatch = Callable[[list[bytes]], list[list[int]]]
"""Pieces -> ids of each."""

SENTINEL = "x"
"""Stands for what follows a place: nothing composes with it, and it is no white space at the end of a text."""


def align(
    definition: Definition, segments: Segments, encode: EncodeBatch, text: str, places: Sequence[int]
) -> tuple[list[int], list[Place]]:
    """Ids of a text, and for each place in it (characters from its start) the ids before it."""
    plain = decode_text(encode_text(text))
    if plain != text:  # a lone surrogate is three characters there
        places = [len(decode_text(encode_text(text[:place]))) for place in places]
        text = plain
    runs = list(_runs(definition, segments, text))
    pieces = [piece for run in runs for piece in run.pieces]
    encoded = iter(encode(pieces))
    ids: list[int] = []
    for run in runs:
        run.first = len(ids)
        own = [run.token] if run.token is not None else [number for _ in run.pieces for number in next(encoded)]
        ids += own
        run.count = len(own)
    return ids, [_place(definition, runs, ids, place) for place in places]


class _Run:
    """A part of a text [start, end): an added token, or a segment that pieces are cut from."""

    def __init__(self, start: int, end: int, token: int | None, inner: tuple[int, int] = (0, 0)) -> None:
        self.start, self.end, self.token, self.inner = start, end, token, inner
        self.pieces: list[bytes] = []
        self.before: Callable[[int], int] = lambda place: place
        self.first = self.count = 0
        self.ends: list[int] | None = None


def _runs(definition: Definition, segments: Segments, text: str) -> "list[_Run]":
    runs = []
    for part in segments.parts(text):
        if part.token is not None:
            runs.append(_Run(part.start, part.end, part.token, part.inner))
            continue
        raw = text[part.start : part.end]

        def normalize(segment: str) -> str:
            return decode_text(segments.normalize(encode_text(segment)))

        whole = normalize(raw)
        inside = list(segments.parts(whole, normalized=True))
        for number, inner in enumerate(inside):
            at_start = part.start == 0 and inner.start == 0
            runs.append(_run_of(definition, part, inner, raw, whole, normalize, at_start, number == len(inside) - 1))
    return runs


def _run_of(
    definition: Definition, part: Part, inner: Part, raw: str, whole: str, normalize: Callable[[str], str],
    at_start: bool, last: bool,
) -> _Run:  # fmt: skip
    """A part of a normalized segment; its limits in the raw text are where its first and last characters come from."""

    def normalized(place: int) -> int:
        return _moved(normalize, raw, whole, place)

    if inner.start == 0 and last:
        start, end = part.start, part.end
    else:
        start = part.start + _came_from(normalized, len(raw), inner.start)
        end = part.end if last else part.start + _came_from(normalized, len(raw), inner.end)
    if inner.token is not None:
        shift = start - inner.start
        return _Run(start, end, inner.token, (inner.inner[0] + shift, inner.inner[1] + shift))
    run = _Run(start, end, None)
    cut: Callable[[str], str] = str
    segment = whole[inner.start : inner.end]
    if definition.pretokenizer == CUSTOM:
        steps = definition.pretokenizer_steps

        def pieced(text: str) -> str:
            return decode_text(b"".join(byte_pieces(text, steps, at_start)))

        cut = pieced
        run.pieces = byte_pieces(segment, steps, at_start)
        spelled = decode_text(b"".join(run.pieces))
    else:
        run.pieces = [encode_text(segment)] if segment else []
        spelled = segment

    def before(place: int) -> int:
        """Bytes of the run's pieces before a place in the raw text."""
        if place <= run.start:
            return 0
        inside = normalized(place - part.start) - inner.start
        moved = _moved(cut, segment, spelled, min(max(inside, 0), len(segment)))
        return len(encode_text(spelled[:moved]))

    run.before = before
    return run


def _moved(step: Callable[[str], str], text: str, whole: str, place: int) -> int:
    """Where a place in `text` comes to lie in `whole`, which is step(text)."""
    if place <= 0:
        return 0
    if place >= len(text):
        return len(whole)
    made = step(text[:place] + SENTINEL)
    made = made[:-1] if made.endswith(SENTINEL) else step(text[:place])
    if whole.startswith(made):
        return len(made)
    return next((n for n, (a, b) in enumerate(zip(made, whole, strict=False)) if a != b), min(len(made), len(whole)))


def _came_from(moved: Callable[[int], int], length: int, place: int) -> int:
    """The last place in a raw segment that comes to lie at or before `place`."""
    return max(0, bisect_right(range(length + 1), place, key=moved) - 1)


def _place(definition: Definition, runs: "list[_Run]", ids: list[int], place: int) -> Place:
    number = bisect_left(runs, place, key=lambda run: run.start)
    if number == len(runs) or runs[number].start != place:  # of runs that begin at a place, the first
        number -= 1
    if number < 0:
        return Place(0, 0)
    run = runs[number]
    if place <= run.start or place >= run.end:
        count = run.first + (run.count if place > run.start else 0)
        return Place(count, count)
    if run.token is not None:
        before = run.first + (place >= run.inner[1])  # white space that a token takes along is on its side
        return Place(before, run.first + (place > run.inner[0]))
    if run.ends is None:
        run.ends = token_ends(definition, b"".join(run.pieces), ids[run.first : run.first + run.count])
    at = run.before(place)
    return Place(run.first + bisect_right(run.ends, at), run.first + bisect_left([0, *run.ends[:-1]], at))


def token_ends(definition: Definition, whole: bytes, ids: Sequence[int]) -> list[int]:
    """Where each id of a segment ends in its bytes; what is unknown, or dropped, lies between the known tokens."""
    vocabulary = definition.vocabulary
    unknown, bytes_of = vocabulary.unknown, {number: byte for byte, number in vocabulary.unknown.byte_ids.items()}
    spelled = [vocabulary.tokens[number] for number in ids]
    ends = list(accumulate(map(len, spelled)))
    if not ends or (ends[-1] == len(whole) and not any(number in bytes_of for number in ids)):
        return ends
    ends, place = [], 0
    for number, surface in zip(ids, spelled, strict=True):
        if number in bytes_of and (at := whole.find(bytes([bytes_of[number]]), place)) >= 0:
            place = at + 1  # what is unknown before it is written after it
        elif number == unknown.id and not whole.startswith(surface, place):
            place += len(encode_text(decode_text(whole[place:])[:1]))
        elif (found := whole.find(surface, place)) >= 0:
            place = found + len(surface)
        ends.append(place)
    ends[-1] = len(whole)
    return ends
