"""BM25 against its formula; inverted files against exact search; a sentence encoder from disk."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from llmtool.commands import data
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import bm25
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.search import Flat
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.vectors import SCALE
from llmtool.methods.nextlong.words import word_hashes
from tests.methods.nextlong.corpora import corpus


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("indexes")
    corpus(directory / "corpus.jsonl")
    data.chunk([str(directory / "corpus.jsonl")], directory / "work", size=512, workers=1)
    data.embed(directory / "work", workers=1)
    return directory / "work"


def test_bm25_is_its_formula(work: Path, tmp_path: Path) -> None:
    store = Store(work)
    stage = Stage(tmp_path / "bm25", {"index": "bm25"})
    stage.begin()
    bm25.build(stage, store, np.ones(store.chunks, np.bool_), Console(-1))
    index = bm25.Bm25(stage, store)
    words = [word_hashes([text])[0].tolist() for text in store.texts(0, store.chunks)]
    frequency = Counter(word for each in words for word in set(each))
    mean = sum(map(len, words)) / len(words)
    rare = {word for word, count in frequency.items() if 1 < count <= bm25.MOST * len(words)}

    def weight(term: int, counts: Counter[int], length: int) -> float:
        tf = counts[term]
        idf = math.log(1 + (len(words) - frequency[term] + 0.5) / (frequency[term] + 0.5))
        return idf * tf * (bm25.K1 + 1) / (tf + bm25.K1 * (1 - bm25.B + bm25.B * length / mean))

    for query in (0, 17, 80):
        own = {word: weight(word, Counter(words[query]), len(words[query])) for word in rare & set(words[query])}
        terms = sorted(own, key=lambda word: (-round(own[word] * bm25.STEPS), word))[: bm25.TERMS]
        scores = np.zeros(len(words))
        for number, each in enumerate(words):
            counts = Counter(each)
            for term in terms:
                scores[number] += weight(term, counts, len(each))
        ids, found = index.search(np.array([query]), 20)[0]
        assert ids[0] == query
        assert np.allclose(found / SCALE**2 * 100, scores[ids], atol=len(terms) / bm25.STEPS)
        assert scores[ids[-1]] >= np.sort(scores)[-20] - 2 * len(terms) / bm25.STEPS
        assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize("kind", ["ivf-sq8"])  # PQ takes a quarter of a minute to train
def test_inverted_files_find_what_exact_search_finds(work: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="the extra index is not installed")
    from llmtool.methods.nextlong import inverted

    vectors = Embedded(work).vectors
    monkeypatch.setattr(inverted, "SHARD", 300)
    monkeypatch.setattr(inverted, "UNIT", 300)
    facts = data.index(work, index=kind, workers=1, force=True)
    assert facts["units"] > 1
    assert facts["recall_at_64"] >= 0.95
    stage = Stage.existing(work / "index", "")
    queries = np.arange(0, len(vectors), 37)
    found = inverted.Inverted(stage, vectors).search(queries, 20)
    exact = dict(zip(queries.tolist(), Flat(vectors).search(queries, len(vectors)), strict=True))
    for query, (ids, scores) in zip(queries.tolist(), found, strict=True):
        truth = dict(zip(*(each.tolist() for each in exact[query]), strict=True))
        assert [truth[i] for i in ids.tolist()] == scores.tolist()  # scores are the exact ones
        assert sorted(zip(-scores, ids, strict=True)) == list(zip(-scores, ids, strict=True))
    monkeypatch.setattr(inverted, "SHARD", 10**6)
    data.index(work, index="flat", force=True)
    data.index(work, index=kind, workers=1, force=True)
    whole = inverted.Inverted(Stage.existing(work / "index", ""), vectors).search(queries, 20)
    equal = [np.array_equal(a, b) for (a, _), (b, _) in zip(found, whole, strict=True)]
    assert all(equal)


def test_a_missing_extra_is_one_line(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    original = builtins.__import__

    def without(name: str, *arguments: object, **more: object) -> object:
        if name == "faiss":
            raise ImportError("no", name="faiss")
        return original(name, *arguments, **more)  # type: ignore[arg-type]

    import importlib

    def import_module(name: str) -> object:
        return without(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(UserError, match=r"faiss is needed for --index ivf-sq8 \(pip install 'llmtool\[index\]'\)"):
        data.index(work, index="ivf-sq8", force=True)
