"""NExtLong as the paper says it, in plain Python: slow, literal, what the fast path is tested against.

Section numbers follow arXiv 2501.12766. Chunking with `paper` is the authors' published function; the rest they
describe. Decided here: long paragraphs are cut, chunks of the same document and near-duplicates are no negatives, and
`plan_exact`.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import regex

from llmtool.methods.nextlong.sentences import characters, sentences, words
from llmtool.methods.nextlong.words import MARK, UNSPACED, folded

Vector = Sequence[float]


def pieces(document: str, size: int = 2048, split: str = "lines") -> list[tuple[str, str]]:
    """(what stands before it, piece): what chunks are put together from; all of it is the document.

    `paper`: paragraphs, whole. `lines`: paragraphs, one of more than 1.5 `size` characters cut. `sentences`: sentences.
    """
    most = size + size // 2
    if split == "sentences":
        return [("", part) for part in cut(document, most, size, always=True)]
    found = []
    for number, paragraph in enumerate(document.split("\n")):
        parts = [paragraph] if split == "paper" else cut(paragraph, most, size)
        glue = "\n" if number else ""
        found += [(glue if place == 0 else "", part) for place, part in enumerate(parts)]
    return found


def cut(text: str, most: int, size: int, *, always: bool = False) -> list[str]:
    """Text of more than `most` characters in its sentences, such sentences in words, such words in runs of `size`."""
    if len(text) <= most and not always:
        return [text]
    parts: list[str] = []
    for sentence in ranges(sentences(text), text):
        for word in [sentence] if len(sentence) <= most else ranges(words(sentence), sentence):
            parts += [word] if len(word) <= most else ranges(characters(word, 0, len(word), size), word)
    return parts


def ranges(spans: Iterable[tuple[int, int]], text: str) -> list[str]:
    """The text of each range."""
    return [text[start:stop] for start, stop in spans]


def chunk(document: str, size: int = 2048, split: str = "lines") -> list[str]:
    """Pieces joined while their characters, newlines between paragraphs not counted, stay within `size`.

    A longer piece stands alone. What holds nothing but space is no chunk (the authors drop a group of no characters).
    """
    chunks: list[str] = []
    held: list[str] = []
    length = 0
    for glue, piece in pieces(document, size, split):
        if held and length + len(piece) > size:
            chunks.append("".join(held))
            held, length = [], 0
        held.append(glue + piece if held else piece)
        length += len(piece)
    chunks.append("".join(held))
    return [text for text in chunks if text and not text.isspace()]


def words_of(text: str) -> list[str]:
    """The words that embedding, BM25, sketches and contamination see: runs of \\w, pairs in unspaced scripts."""
    found: list[str] = []
    for run in regex.findall(rf"{UNSPACED}+|[\w--{UNSPACED}]+", folded(text), regex.VERSION1):
        units = regex.findall(rf"[{UNSPACED}--{MARK}]{MARK}*|{MARK}+", run, regex.VERSION1)
        found += [a + b for a, b in pairwise(units)] if len(units) > 1 else [run]
    return found


Shingle = tuple[str, ...]


def shingles(text: str, n: int = 5) -> set[Shingle]:
    """n words in a row; all words of a shorter text."""
    words = words_of(text)
    if len(words) < n:
        return {tuple(words)} if words else set()
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}


def containment(one: str, other: str) -> float:
    """Share of the smaller text's shingles that the other has too."""
    a, b = shingles(one), shingles(other)
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def copies(chunks: Sequence[str], share: float = 0.8) -> dict[int, int]:
    """The chunks that another one holds, and which: of equal text one of lower number, else a longer one.

    Longer by its shingles, repeated ones counted again; of equal length the one of lower number.
    """
    held: dict[int, int] = {}
    sizes = [max(min(1, len(words_of(text))), len(words_of(text)) - 4) for text in chunks]
    for number, text in enumerate(chunks):
        equal = [n for n in range(number) if chunks[n].strip() == text.strip() and n not in held and sizes[n]]
        if equal:
            held[number] = equal[0]
    for number in sorted(set(range(len(chunks))) - held.keys(), key=lambda n: (sizes[n], -n)):
        own = shingles(chunks[number])
        for other in range(len(chunks)):
            longer = (sizes[other], -other) > (sizes[number], -number)
            if own and longer and other not in held and len(own & shingles(chunks[other])) >= share * len(own):
                held[number] = other
                break
    return held


def similarity(a: Vector, b: Vector) -> float:
    """Inner product of embeddings."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def hard_negatives(
    query: int, vectors: Sequence[Vector], allowed: Callable[[int], bool], depth: int
) -> list[tuple[int, float]]:
    """The chunks most similar to the meta-chunk `query`, best first, ties by number: [(chunk, similarity)]."""
    pool = [number for number in range(len(vectors)) if number != query and allowed(number)]
    scored = [(number, similarity(vectors[query], vectors[number])) for number in pool]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:depth]


def negatives_per_chunk(
    target: int, characters: int, chunks: int, size: int = 2048, chars_per_token: float = 4.0, width: float = 1.5
) -> int:
    """Number of negatives k for each meta-chunk: k = (T E w - S) / (p s)."""
    return max(0, int((target * chars_per_token * width - characters) / (chunks * size)))


Group = tuple[int, list[int]]
"""A meta-chunk and its negatives in the order of the text: l_i = [m_i, n_i1 .. n_ik]."""

Ranking = Sequence[tuple[int, float]]
"""The chunks found for a meta-chunk, best first, and their similarities."""

Clash = Callable[[int, Sequence[int]], bool]
"""Whether a chunk shares too much with one of those that are in the sample."""


def nothing_clashes(_chunk: int, _present: Sequence[int]) -> bool:
    """For corpora without copies."""
    return False


def plan_paper(metas: Sequence[int], found: Sequence[Ranking], k: int, clash: Clash = nothing_clashes) -> list[Group]:
    """k negatives for each meta-chunk, each used once within the sample."""
    present = list(metas)
    groups = []
    for meta, candidates in zip(metas, found, strict=True):
        chosen: list[int] = []
        for number, _ in candidates:
            if len(chosen) < k and number not in present and not clash(number, present):
                chosen.append(number)
                present.append(number)
        groups.append((meta, chosen))
    return groups


def plan_exact(
    metas: Sequence[int],
    found: Sequence[Ranking],
    tokens: Callable[[int], int],
    target: int,
    clash: Clash = nothing_clashes,
    reserve: int = 0,
) -> list[Group] | None:
    """Negatives by token budget, so that every meta-chunk lies inside the target T; None if that cannot be.

    R = T - (tokens of all meta-chunks) is shared out evenly, a share for each group; what a group takes too much or too
    little of it, half a negative at most, the next one makes good. A group goes through its candidates in their order.
    One that is in the sample already, clashes with it, is larger than a share or would make a later meta-chunk end
    beyond T - `reserve` is passed over. The group is full with the first that would end farther from its mark than it
    begins; but it takes one at least, and one larger than a share if there is no other. A group that runs dry is filled
    up with what the other groups' meta-chunks found and nobody took, the most similar first. The last group comes last:
    it takes negatives until T is reached, and its last one is cut. A sample in which a meta-chunk would follow another
    at once is none.
    """
    room = target - sum(map(tokens, metas))
    share = room / len(metas)
    chosen: list[list[int]] = [[] for _ in metas]
    missing: list[float] = [0.0 for _ in metas]

    def spent() -> int:
        return sum(tokens(number) for each in chosen for number in each)

    def usable(number: int) -> bool:
        present = [*metas, *(other for each in chosen for other in each)]
        return number not in present and not clash(number, present)

    def fill(group: int, candidates: Iterable[int], budget: float) -> float:
        """What the next group makes good; what this one is short of if it ran dry goes to `missing`."""
        size = 0
        for number in candidates:
            cost = tokens(number)
            if cost > share or spent() + cost > room - reserve:
                continue
            if chosen[group] and size + cost / 2 > budget:
                return budget - size
            if usable(number):
                chosen[group].append(number)
                size += cost
        missing[group] = max(0.0, budget - size)
        return min(0.0, budget - size)

    carry = 0.0
    for group in range(len(metas) - 1):
        carry = fill(group, [number for number, _ in found[group]], share + carry)
    for group in range(len(metas) - 1):
        for number, _ in found[group]:
            if not chosen[group] and spent() + tokens(number) <= room - reserve and usable(number):
                chosen[group].append(number)
                missing[group] -= tokens(number)
        if missing[group] > 0:
            fill(group, others(found, group), missing[group])
        if not chosen[group]:
            return None
    for number in [*(number for number, _ in found[-1]), *others(found, len(metas) - 1)]:
        if spent() < room and usable(number):
            chosen[-1].append(number)
    return list(zip(metas, chosen, strict=True)) if spent() >= room else None


def others(found: Sequence[Ranking], group: int) -> list[int]:
    """What the meta-chunks of the other groups found, the most similar first, ties by number."""
    pairs = [pair for other, ranking in enumerate(found) if other != group for pair in ranking]
    return [number for number, _ in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))]


def assemble(groups: Sequence[Group], text: Callable[[int], str], separator: str = "\n\n") -> str:
    """t = [l_1 .. l_p], the meta-chunk first in each."""
    order = [number for meta, negatives in groups for number in (meta, *negatives)]
    return separator.join(map(text, order))


def dependency_gaps(groups: Sequence[Group], tokens: Callable[[int], int]) -> list[int]:
    """Tokens between the end of m_i and the start of m_(i+1)."""
    return [sum(map(tokens, negatives)) for _, negatives in groups[:-1]]
