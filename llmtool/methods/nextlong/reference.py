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


def plan_paper(metas: Sequence[int], found: Sequence[Sequence[int]], k: int) -> list[Group]:
    """k negatives for each meta-chunk, each used once within the sample."""
    used: set[int] = set()
    groups = []
    for meta, candidates in zip(metas, found, strict=True):
        chosen = [number for number in candidates if number not in used][:k]
        used.update(chosen)
        groups.append((meta, chosen))
    return groups


def plan_exact(
    metas: Sequence[int], found: Sequence[Sequence[int]], tokens: Callable[[int], int], target: int, reserve: int = 0
) -> list[Group] | None:
    """Negatives by token budget, so that every meta-chunk lies inside the target T; None if T is not reached.

    R = T - (tokens of all meta-chunks) is shared out evenly: after group i about R i / p tokens of negatives stand.
    A negative is taken if it ends nearer to that mark than it begins, and never so that a later meta-chunk would end
    beyond T - `reserve`. The last group takes negatives until T is reached; its last one is cut off at T.
    """
    room = target - sum(map(tokens, metas))
    used: set[int] = set()
    groups: list[Group] = []
    spent = 0
    for number, (meta, candidates) in enumerate(zip(metas, found, strict=True), 1):
        last = number == len(metas)
        chosen: list[int] = []
        for candidate in candidates:
            if candidate in used:
                continue
            cost = tokens(candidate)
            if last and spent >= room:
                break
            if not last and spent + cost / 2 > room * number / len(metas):
                break
            if not last and spent + cost > room - reserve:
                break
            used.add(candidate)
            chosen.append(candidate)
            spent += cost
        groups.append((meta, chosen))
    return groups if spent >= room else None


def assemble(groups: Sequence[Group], text: Callable[[int], str], separator: str = "\n\n") -> str:
    """t = [l_1 .. l_p], the meta-chunk first in each."""
    order = [number for meta, negatives in groups for number in (meta, *negatives)]
    return separator.join(map(text, order))


def dependency_gaps(groups: Sequence[Group], tokens: Callable[[int], int]) -> list[int]:
    """Tokens between the end of m_i and the start of m_(i+1)."""
    return [sum(map(tokens, negatives)) for _, negatives in groups[:-1]]
