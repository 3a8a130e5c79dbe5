"""Copies: merged before the index, kept apart in a sample, and measured by characters in the report."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtool.commands import data
from llmtool.methods.nextlong import copies, reference, shingles
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.repeats import longest
from llmtool.methods.nextlong.shingles import Present, Shingles
from llmtool.methods.nextlong.store import Store
from tests.methods.nextlong.corpora import sources, tokenizer, write_jsonl

WORDS = [f"w{number}" for number in range(3000)]


def prose(draw: random.Random, count: int, topic: list[str] | None = None) -> str:
    """Lines of ten words."""
    words = draw.choices(topic or WORDS, k=count)
    return "\n".join(" ".join(words[place : place + 10]) for place in range(0, count, 10))


def work_of(place: Path, texts: list[str], **settings: Any) -> Path:
    write_jsonl(place / "corpus.jsonl", ({"id": str(n), "text": text} for n, text in enumerate(texts)))
    data.chunk([str(place / "corpus.jsonl")], place / "work", workers=1, **settings)
    data.embed(place / "work", workers=1)
    return place / "work"


def test_copies_by_hand() -> None:
    one, other = prose(random.Random(1), 60), prose(random.Random(2), 60)
    assert reference.copies([one, other, one + " \n"]) == {2: 0}
    longer = prose(random.Random(3), 300)
    inside = longer[300:1200]
    assert reference.copies([inside, longer, other]) == {0: 1}  # by containment; their Jaccard overlap is 0.5
    half = inside[:450] + prose(random.Random(4), 80)
    assert reference.copies([half, longer]) == {}
    assert reference.containment(inside, longer) == pytest.approx(1, abs=0.02)
    assert reference.containment(half, longer) == pytest.approx(0.5, abs=0.1)
    assert reference.containment("", longer) == reference.containment("a", "b") == 0
    assert reference.containment("a b", "A, b!") == 1


@pytest.mark.parametrize("kind", ["near", "exact", "none"])
def test_merged_copies_are_the_references(tmp_path: Path, kind: copies.Dedupe) -> None:
    draw = random.Random(0)
    texts = [prose(draw, draw.randint(30, 300)) for _ in range(60)]
    texts += [texts[number] for number in range(0, 20, 2)]  # equal
    texts += [texts[number][: len(texts[number]) * 9 // 10] for number in range(20, 30)]  # cut
    texts += [texts[number][80:] + "\n" + prose(draw, 10) for number in range(30, 40)]  # shifted
    texts += ["See also", "see also the rest", "1.2.3", ""]
    draw.shuffle(texts)
    work = work_of(tmp_path, texts)
    facts = data.index(work, dedupe=kind, workers=1)
    store = Store(work)
    found = copies.copies(work)
    stored = [text.decode() for text in store.texts(0, store.chunks)]
    held = {n: int(of) for n, of in enumerate(found) if of != n}
    wanted = reference.copies(stored) if kind == "near" else {}
    if kind == "exact":
        wanted = {n: stored.index(text) for n, text in enumerate(stored) if stored.index(text) < n}
    assert held.keys() == wanted.keys()
    assert facts["chunks"] == store.chunks - len(held) - int((Embedded(work).flags > 0).sum())
    assert not np.isin(list(held.values()), list(held)).any()
    assert data.index(work, dedupe=kind, workers=1) == facts


@pytest.mark.parametrize("pairs", [1, 7, 1 << 20])
def test_shingles_in_common_are_counted(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    """So many at a time or all at once: as sets have them in common."""
    monkeypatch.setattr(shingles, "PAIRS", pairs)
    draw = random.Random(pairs)
    sets = [sorted(draw.sample(range(40), draw.randint(0, 12))) for _ in range(9)]
    values, owners = (np.array(each) for each in zip(*[(v, n) for n in range(4) for v in sets[n]], strict=True))
    held, holders = (np.array(each) for each in zip(*sorted((v, n) for n in range(9) for v in sets[n]), strict=True))
    counts = shingles.common(values.astype(np.uint64), owners, held.astype(np.uint64), holders, (4, 9))
    assert counts.tolist() == [[len({*one} & {*other}) for other in sets] for one in sets[:4]]
    for other in ([], [77], range(90, 99)):  # with nobody at all, and with texts that share nothing
        hashes = np.array(other, np.uint64)
        nothing = shingles.common(values.astype(np.uint64), owners, hashes, np.zeros(len(hashes), np.int64), (4, 1))
        assert nothing.tolist() == [[0]] * 4


def test_as_many_shingles_are_kept_as_may_be() -> None:
    """What was not asked for longest goes first; an array that is too large by itself is not kept."""
    kept = shingles.Kept(40)
    arrays = {number: np.full(1 + number, number, np.uint64) for number in range(5)}
    for number in range(3):
        kept.add(number, arrays[number])  # 8 + 16 + 24 bytes: the first goes
    assert kept.get(0) is None
    assert kept.get(1) is arrays[1]
    kept.add(0, arrays[0])  # 2 was asked for longest ago
    assert kept.get(2) is None
    assert kept.get(1) is arrays[1]
    kept.add(4, arrays[4])
    assert [kept.get(number) is arrays[number] for number in range(5)] == [False, False, False, False, True]
    kept.add(5, np.zeros(6, np.uint64))
    assert kept.get(4) is None
    assert kept.get(5) is None


@pytest.mark.parametrize("kept", [0, 2000, 1 << 20])
def test_what_clashes_is_what_shares_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """In any order of asking, a few at a time, for one seed after another, whatever is kept between them."""
    monkeypatch.setattr(shingles, "KEPT_BYTES", kept)
    monkeypatch.setattr(shingles, "BATCH", 4)
    monkeypatch.setattr(shingles, "_BITS", np.uint64(62))
    draw = random.Random(kept)
    topics = [prose(draw, 40) for _ in range(4)]
    texts = [prose(draw, draw.randint(1, 60)) + " " + draw.choice(topics) for _ in range(20)]
    texts += [prose(draw, draw.randint(1, 90)) for _ in range(20)]
    write_jsonl(tmp_path / "corpus.jsonl", ({"id": str(n), "text": text} for n, text in enumerate(texts)))
    data.chunk([str(tmp_path / "corpus.jsonl")], tmp_path / "work", workers=1)
    store = Store(tmp_path / "work")
    stored = [text.decode() for text in store.texts(0, store.chunks)]
    close = [[reference.containment(one, other) >= 0.2 for other in stored] for one in stored]
    assert 100 < sum(map(sum, close)) < 1000
    held = shingles.Shingles(store, 0.2)
    for _ in range(6):
        held.clear()
        asked = draw.sample(range(store.chunks), 25)
        for start in range(0, 25, 5):
            held.prepare(asked[start : start + 5])
            for chunk in asked[: start + 5]:
                wanted = {other for other in asked[: start + 5] if close[chunk][other]}
                assert held.clashing(chunk) & set(asked) == wanted
        others = draw.sample(range(store.chunks), 6)
        assert held.close(asked, others).tolist() == [any(close[one][other] for other in others) for one in asked]


def test_a_sample_holds_no_copy(tmp_path: Path) -> None:
    """Kinds of the trial: shifted copies of the seed, and one paragraph of a topic in 30 documents."""
    draw = random.Random(5)
    topics = [[f"t{topic}x{word}" for word in range(60)] for topic in range(4)]
    shared = [prose(draw, 180, topic) for topic in topics]
    texts = [prose(draw, 700, topics[number % 4]) for number in range(24)]
    texts += [prose(draw, 90) + "\n" + text for text in texts[:12]]  # the same, other chunk borders
    texts += [prose(draw, 120, topics[number % 4]) + "\n" + shared[number % 4] for number in range(60)]
    texts += [prose(draw, 300) for _ in range(20)]
    rows = ({"id": str(n), "text": text} for n, text in enumerate(texts))
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    tokenizer().save(tmp_path / "tok.json")
    settings: dict[str, Any] = {"tokenizer": str(tmp_path / "tok.json"), "target": 8192, "size": 1000, "workers": 1}
    data.nextlong([str(tmp_path / "corpus.jsonl")], tmp_path / "out", **settings)
    facts, rows_ = data.report(tmp_path / "out")
    assert facts["samples"] > 4
    assert facts["repeats"]["negatives"] > 50
    assert facts["repeats"]["with_meta_text"] == 0
    assert facts["repeats"]["repeated"] == 0
    assert facts["repeats"]["longest_of_meta"] <= 256
    assert any(name == "copies merged before the index" for name, _ in rows_)
    loose = {**settings, "max_overlap": 1.0, "dedupe": "none"}
    data.nextlong([str(tmp_path / "corpus.jsonl")], tmp_path / "loose", **loose)
    before, _ = data.report(tmp_path / "loose")
    assert before["repeats"]["with_meta_text"] > 0  # the report sees what the filters were told to let in
    assert before["repeats"]["repeated"] > 0


def test_present_is_the_references(tmp_path: Path) -> None:
    text = "\n".join(text for _, _, text in sources(6))
    texts = [text[place : place + 900] for place in range(0, 30_000, 450)]
    work = work_of(tmp_path, texts)
    store = Store(work)
    stored = [each.decode() for each in store.texts(0, store.chunks)]
    draw = random.Random(0)
    for most in (0.05, 0.3, 0.6, 1.0):
        there = draw.sample(range(store.chunks), 8)
        shingles = Shingles(store, most)
        present = Present(shingles, there)
        close = shingles.close(list(range(store.chunks)), there)
        for chunk in range(store.chunks):
            wanted = any(reference.containment(stored[chunk], stored[other]) >= most for other in there)
            assert present.clashes(chunk) == (wanted and most < 1)
            assert close[chunk] == wanted
    assert len(Embedded(work).sketches) == store.chunks


def test_longest_common_substrings() -> None:
    draw = random.Random(0)
    meta, other = prose(draw, 200), prose(draw, 200)
    texts = [meta, "x" + meta[100:240].replace("\n", "  "), prose(draw, 200), other[:600] + "y", "z" + other[:600]]
    roles: list[Any] = ["meta", "negative", "negative", "negative", "negative"]
    with_meta, repeated = longest(texts, roles)
    assert with_meta.tolist() == [0, 128, 0, 0, 0]  # 140 characters, though a line end became spaces
    assert repeated.tolist() == [0, 0, 0, 0, 512]
    assert [each.tolist() for each in longest(["short"], ["meta"])] == [[0], [0]]
    assert [each.tolist() for each in longest(["", "short", "short"], ["meta", "negative", "negative"])] == [
        [0] * 3
    ] * 2
