"""The reference by hand, and the fast path against it."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool.methods.nextlong import planning, reference
from llmtool.methods.nextlong.chunking import Split, byte_places, spans
from llmtool.methods.nextlong.search import best, likely
from llmtool.methods.nextlong.sentences import sentences
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


metas_and_lists = st.integers(0, 2**32 - 1)


@settings(max_examples=200)
@given(metas_and_lists, st.integers(200, 4000))
def test_the_planner_is_the_references(seed: int, target: int) -> None:
    draw = random.Random(seed)
    metas = list(range(draw.randint(2, 6)))
    costs = {number: draw.randint(1, 300) for number in range(200)}
    found = [draw.sample(range(10, 200), draw.randint(5, 150)) for _ in metas]
    wanted = reference.plan_exact(metas, found, costs.__getitem__, target)
    free = planning.Shares(lambda _: 0, {})
    ranked = [(numbers, [1.0] * len(numbers)) for numbers in found]
    groups = planning.exact(metas, ranked, costs.__getitem__, target, free)
    chosen_chunks = [(meta, [segment.chunk for segment in segments]) for meta, segments in groups or []]
    assert wanted == (chosen_chunks or None)
    if wanted:
        used = [number for _, chosen in wanted for number in chosen]
        assert len(used) == len(set(used))
        room = target - sum(costs[meta] for meta in metas)
        if room > 0:  # every meta-chunk ends inside the target
            assert sum(costs[number] for _, chosen in wanted[:-1] for number in chosen) <= room
    plain = planning.paper(metas, ranked, target, 500, 100, 4.0, free, costs.__getitem__)
    k = reference.negatives_per_chunk(target, 500, len(metas), 100)
    assert [(m, [s.chunk for s in chosen]) for m, chosen in plain] == reference.plan_paper(metas, found, k)


def test_shares_of_sources_hold() -> None:
    shares = planning.Shares(lambda chunk: chunk % 2, {1: 250.0})
    ranked = [(list(range(10, 60)), [1.0] * 50)] * 2
    groups = planning.exact([0, 1], ranked, lambda _: 100, 2000, shares)
    assert groups
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
