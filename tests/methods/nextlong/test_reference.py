"""The reference by hand, and the fast path against it."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool.methods.nextlong import planning, reference
from llmtool.methods.nextlong.chunking import Split, byte_places, spans
from llmtool.methods.nextlong.search import best, likely
from llmtool.methods.nextlong.sentences import sentences
from llmtool.methods.nextlong.shingles import Present
from tests.methods.nextlong.corpora import sources


def test_chunks_by_hand() -> None:
    assert reference.chunk("aaaa\nbb\ncc\nd", 6) == ["aaaa\nbb", "cc\nd"]  # newlines are not counted
    assert reference.chunk("aaaaaaaaaa\nb", 4, "paper") == ["aaaaaaaaaa", "b"]  # a longer paragraph stays whole
    assert reference.chunk("aaaaaa\nb", 4) == ["aaaaaa", "b"]  # 1.5 times as long: still whole
    assert reference.chunk("aaaaaaaaaa\nb", 4) == ["aaaa", "aaaa", "aa\nb"]  # one word of more than that
    assert reference.chunk("One two. Three four. Five.", 10) == ["One two. ", "Three four. ", "Five."]
    assert reference.chunk("one two three four five six", 8) == ["one two ", "three ", "four ", "five six"]
    assert reference.chunk("") == []


def test_blank_groups_are_no_chunks() -> None:
    line = "x" * 2800
    assert reference.chunk("\n\n\n" + line) == [line]  # the authors drop a group of no characters
    assert reference.chunk("\n\n\n" + line + "x" * 1000, split="paper") == [line + "x" * 1000]
    assert reference.chunk(line + "\n" + " " * 2049 + "\nend") == [line, "end"]
    assert spans("\n\n\n" + line, 2048) == [(3, 2803)]
    assert spans(" \n ", 2048) == spans("", 2048) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("राम घर गया। वह खुश था।", ["राम घर गया। ", "वह खुश था।"]),  # Hindi
        ("یہ ایک جملہ ہے۔ دوسرا؟", ["یہ ایک جملہ ہے۔ ", "دوسرا؟"]),  # Urdu
        ("هل هذا سؤال؟ نعم.", ["هل هذا سؤال؟ ", "نعم."]),  # Arabic
        ("ဒါက စာကြောင်း။ နောက်", ["ဒါက စာကြောင်း။ ", "နောက်"]),  # Burmese: its spaces are no ends
        ("ይህ ነው። ያ።", ["ይህ ነው። ", "ያ።"]),  # Amharic
        ("នេះជា។ នោះ", ["នេះជា។ ", "នោះ"]),  # Khmer
        ("นี่คือประโยค ประโยคที่สอง", ["นี่คือประโยค ", "ประโยคที่สอง"]),  # Thai: a space
        ("བོད་ཡིག། སྐད།", ["བོད་ཡིག། ", "སྐད།"]),  # Tibetan
        ("他说：“好。”然后走了！真的？", ["他说：“好。”", "然后走了！", "真的？"]),
        ("Pi is 3.14. “Yes.” he said. U.S.A. and so on", ["Pi is 3.14. ", "“Yes.” he said. ", "U.S.A. and so on"]),
        ("one\ntwo\r\nthree\u2029four", ["one\n", "two\r\n", "three\u2029", "four"]),
    ],
)  # fmt: skip
def test_sentences_of_many_scripts(text: str, wanted: list[str]) -> None:
    assert [text[a:b] for a, b in sentences(text)] == wanted


SPLITS: list[Split] = ["lines", "sentences", "paper"]


@given(
    st.text(alphabet="ab\n é中.。! ไก่e\u0301\U0001f469\u200d", max_size=80), st.integers(1, 12), st.sampled_from(SPLITS)
)
def test_spans_are_the_references_chunks(text: str, size: int, split: Split) -> None:
    found = spans(text, size, split)
    assert [text[a:b] for a, b in found] == reference.chunk(text, size, split)
    if split != "paper":
        assert all(b - a - text[a:b].count("\n") <= size + size // 2 for a, b in found)
    places = np.array(found, np.int64).reshape(-1)
    data = text.encode()
    cut = byte_places(data, places, text).reshape(-1, 2)
    assert [data[a:b].decode() for a, b in cut] == [text[a:b] for a, b in found]


def test_chunks_of_real_text() -> None:
    for _, _, text in sources(10):
        for split in SPLITS:
            assert [text[a:b] for a, b in spans(text, 2048, split)] == reference.chunk(text, 2048, split)
        line = " ".join(text.split())
        cut = [line[a:b] for a, b in spans(line, 512)]
        assert cut == reference.chunk(line, 512)
        assert "".join(cut) == line
        assert max(map(len, cut)) <= 768


def test_marks_stay_with_their_letters() -> None:
    thai = "น้ำ" * 300
    assert all(piece.endswith("ำ") for piece in reference.chunk(thai, 100))
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    assert reference.chunk(family * 20, 12) == [family * 2] * 10


@given(st.text(alphabet="ab.!? \n。", max_size=80), st.integers(1, 20))
def test_sentences_lose_nothing(text: str, size: int) -> None:
    found = spans(text, size, "sentences")
    assert "".join("".join(text[a:b] for a, b in found).split()) == "".join(text.split())
    assert "".join(text[a:b] for a, b in sentences(text)) == text


def test_the_papers_formula() -> None:
    # 128K tokens, a document of 4 full chunks: (131072 * 4 * 1.5 - 8192) / (4 * 2048)
    assert reference.negatives_per_chunk(131072, 8192, 4) == 95
    assert abs(4 * 95 - 382) < 4  # the page: about 382 negatives a document at 128K


class Alike(Present):
    """Chunks of one kind clash."""

    def __init__(self, kinds: dict[int, int], sharing: bool, chunks: Sequence[int]) -> None:
        self._kinds, self._sharing = kinds, sharing
        self._there = {kinds[chunk] for chunk in chunks}

    def prepare(self, chunks: Sequence[int]) -> None:
        pass

    def add(self, chunk: int) -> None:
        self._there.add(self._kinds.get(chunk, -1))

    def clashes(self, chunk: int) -> bool:
        return self._sharing and self._kinds[chunk] in self._there


def free() -> planning.Shares:
    return planning.Shares(lambda _: 0, {})


metas_and_lists = st.integers(0, 2**32 - 1)


@settings(max_examples=200)
@given(metas_and_lists, st.integers(200, 4000))
def test_the_planner_is_the_references(seed: int, target: int) -> None:
    draw = random.Random(seed)
    metas = list(range(draw.randint(2, 6)))
    costs = {number: draw.randint(1, 300) for number in range(200)}
    found = []
    for _ in metas:
        numbers = draw.sample(range(10, 200), draw.choice([0, 1, 2, 5, 20, 150]))
        found.append([(number, draw.randint(0, 9) / 10) for number in numbers])
        found[-1].sort(key=lambda pair: (-pair[1], pair[0]))
    alike = {number: draw.randint(0, 60) for number in range(200)}
    sharing = draw.random() < 0.5

    def clash(number: int, present: Sequence[int]) -> bool:
        return sharing and any(alike[number] == alike[other] for other in present)

    wanted = reference.plan_exact(metas, found, costs.__getitem__, target, clash)
    ranked = [([number for number, _ in each], [score for _, score in each]) for each in found]
    try:
        groups = planning.exact(metas, ranked, costs.__getitem__, target, free(), Alike(alike, sharing, metas))
        chosen_chunks = [(meta, [segment.chunk for segment in segments]) for meta, segments in groups]
    except planning.Dropped:
        chosen_chunks = None
    assert wanted == chosen_chunks
    if wanted:
        assert all(chosen for _, chosen in wanted[:-1])  # no meta-chunk follows another at once
        used = [number for _, chosen in wanted for number in chosen]
        assert len(used) == len(set(used))
        room = target - sum(costs[meta] for meta in metas)
        if room > 0:  # every meta-chunk ends inside the target
            assert sum(costs[number] for _, chosen in wanted[:-1] for number in chosen) <= room
    present = Alike(alike, sharing, metas)
    plain = planning.paper(metas, ranked, target, 500, 100, 4.0, free(), present, costs.__getitem__)
    k = reference.negatives_per_chunk(target, 500, len(metas), 100)
    assert [(m, [s.chunk for s in chosen]) for m, chosen in plain] == reference.plan_paper(metas, found, k, clash)


def plan(found: list[reference.Ranking], costs: dict[int, int], target: int) -> list[reference.Group] | None:
    """Both planners, two meta-chunks 0 and 1 of 100 tokens."""
    tokens = {0: 100, 1: 100, **costs}
    wanted = reference.plan_exact([0, 1], found, tokens.__getitem__, target)
    ranked = [([number for number, _ in each], [score for _, score in each]) for each in found]
    try:
        made = planning.exact([0, 1], ranked, tokens.__getitem__, target, free(), Alike({}, False, []))
        assert wanted == [(meta, [segment.chunk for segment in segments]) for meta, segments in made]
    except planning.Dropped:
        assert wanted is None
    return wanted


def test_groups_by_hand() -> None:
    """T = 1,000: R = 800, a share of 400 for each of two groups."""
    many = [(number, 0.9) for number in range(10, 20)]
    later = [(number, 0.8) for number in range(20, 30)]
    costs = dict.fromkeys(range(10, 30), 100)
    assert plan([many, later], costs, 1000) == [(0, [10, 11, 12, 13]), (1, [20, 21, 22, 23])]
    # a giant in front is passed over; it neither fills the group nor leaves it empty
    giant = plan([[(5, 1.0), *many], later], {**costs, 5: 5000}, 1000)
    assert giant == [(0, [10, 11, 12, 13]), (1, [20, 21, 22, 23])]
    # a group without candidates is filled with what the other's meta-chunk found, the best first
    assert plan([[], later], costs, 1000) == [(0, [20, 21, 22, 23]), (1, [24, 25, 26, 27])]
    assert plan([many[:1], later], costs, 1000) == [(0, [10, 20, 21, 22]), (1, [23, 24, 25, 26])]
    # larger than a share, but there is room for it: one stands between the meta-chunks
    assert plan([[(5, 1.0)], later], {**costs, 5: 700}, 1000) == [(0, [5]), (1, [20])]
    # nothing fits between the meta-chunks: no sample rather than two of them side by side
    assert plan([[(5, 1.0)], [(5, 1.0)]], {5: 5000}, 1000) is None
    assert plan([many, []], costs, 1000) == [(0, [10, 11, 12, 13]), (1, [14, 15, 16, 17])]
    assert plan([many[:3], later[:3]], costs, 1000) is None  # too few


def test_shares_of_sources_hold() -> None:
    shares = planning.Shares(lambda chunk: chunk % 2, {1: 250.0})
    ranked = [(list(range(10, 60)), [1.0] * 50)] * 2
    groups = planning.exact([0, 1], ranked, lambda _: 100, 2000, shares, Alike({}, False, []))
    taken = [segment.chunk for _, chosen in groups for segment in chosen]
    assert sum(chunk % 2 for chunk in taken) == 2


def test_positions() -> None:
    groups: list[planning.Group] = [
        (0, [planning.Segment(5, "negative", 1)] * 2),
        (1, [planning.Segment(6, "negative", 1)] * 2),
    ]
    positions: tuple[planning.Position, ...] = ("head", "tail", "random")
    made = {p: planning.arrange(groups, p, random.Random(0), close=True) for p in positions}
    order = {p: [segment.chunk for segment in segments] for p, segments in made.items()}
    assert order["head"] == [0, 5, 5, 1, 6, 6]
    assert order["tail"] == [5, 5, 0, 6, 1, 6]  # the last negative follows, so that what is cut is no meta-chunk
    assert sorted(order["random"]) == [0, 1, 5, 5, 6, 6]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=400), st.integers(1, 60))
def test_the_best_are_the_references(values: list[int], k: int) -> None:
    scores = np.array(values, np.float32)
    ids, found = best(scores, np.arange(len(scores)), k)
    wanted = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert ids.tolist() == wanted
    assert found.tolist() == [values[i] for i in wanted]
    places = likely(scores, k, -np.inf)
    assert set(wanted) <= set(places.tolist())
