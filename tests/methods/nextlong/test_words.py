"""Words, sketches, contamination, vectors."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import lsa, reference
from llmtool.methods.nextlong.duplicates import Contamination, Suspects, overlap, sizes, sketches, surely
from llmtool.methods.nextlong.lsa import fit
from llmtool.methods.nextlong.vectors import SCALE, quantise, similarities
from llmtool.methods.nextlong.words import ngrams, word_hashes
from tests.methods.nextlong.corpora import sources


def words(text: str) -> list[int]:
    found: list[int] = word_hashes([text.encode()])[0].tolist()
    return found


def test_words_by_hand() -> None:
    assert words("The cat, the CAT") == [*words("the"), *words("cat"), *words("the"), *words("cat")]
    assert len(words("don't x_1 naïve")) == 4
    assert words("") == words(" .,!") == []
    assert len(set(words("a b c aa ab ba"))) == 6
    long = "x" * 100
    assert words(long + " y")[0] != words(long + "x")[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("你好world再见", ["你好", "world", "再见"]),
        ("日本語テキスト", ["日本", "本語", "語テ", "テキ", "キス", "スト"]),
        ("漢 字", ["漢", "字"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("นี่คือประโยค", ["นี่คื", "คือ", "อป", "ปร", "ระ", "ะโ", "โย", "ยค"]),  # Thai: with its marks
        ("ភាសាខ្មែរ", ["ភាសា", "សាខ្", "ខ្មែ", "មែរ"]),  # Khmer
        ("မြန်မာဘာသာ", ["မြန်", "န်မာ", "မာဘာ", "ဘာသာ"]),  # Burmese
        ("བོད་ཡིག", ["བོད", "ཡིག"]),  # Tibetan: two syllables of a letter with a vowel and one without
        ("ᏣᎳᎩ ꮳꮃꭹ", ["ᏣᎳᎩ", "ᏣᎳᎩ"]),  # Cherokee: two words, not six, and one case
        ("ꕙꔤ ꕞꕌ", ["ꕙꔤ", "ꕞꕌ"]),  # Vai
        ("ሰላም፡ዓለም።", ["ሰላም", "ዓለም"]),  # Amharic
        ("नमस्ते। नमस्ते", ["नमस्ते", "नमस्ते"]),
        ("السلام، والسلام", ["السلام", "والسلام"]),
        ("“whale” whale—ship", ["whale", "whale", "ship"]),
        ("a\u00a0b\u2028c", ["a", "b", "c"]),
        ("ﬁne ＡＢＣ Straße co\u00adop", ["fine", "abc", "strasse", "coop"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("e\u0301", ["é"]),
    ],
)
def test_words_of_many_scripts(text: str, wanted: list[str]) -> None:
    assert reference.words_of(text) == wanted
    assert words(text) == [word_hashes([word.encode()])[0][0] for word in wanted]


LETTERS = "aZ1_é. \u200d你かカ한ไทิี่ក្ខမြန်བོད་Ꭰꭰǅßİاक्षि\u0301\U0001f469𠀀"


@given(st.text(alphabet=LETTERS, max_size=60))
def test_words_are_the_references(text: str) -> None:
    """As many words, and equal hashes exactly where words are equal."""
    wanted, found = reference.words_of(text), words(text)
    assert len(wanted) == len(found)
    assert len(set(zip(wanted, found, strict=True))) == len(set(wanted)) == len(set(found))


@given(st.lists(st.text(alphabet="ab Z1.é你ไก่", max_size=12), max_size=8))
def test_texts_do_not_see_one_another(texts: list[str]) -> None:
    hashes, ends = word_hashes([text.encode() for text in texts] or [b""])
    starts = [0, *ends.tolist()]
    for text, a, b in zip(texts, starts, starts[1:], strict=False):
        assert hashes[a:b].tolist() == words(text)


def test_ngrams_stay_inside_texts() -> None:
    hashes, ends = word_hashes([b"a b c d", b"e f", b"b c d"])
    found, text = ngrams(hashes, ends, 3)
    assert text.tolist() == [0, 0, 2]
    assert found[1] == found[2]
    assert found[0] != found[1]


def test_overlap_estimates_jaccard() -> None:
    text = max((text for _, _, text in sources()), key=len).split()[:600]
    shifted = text[300:] + ["zz"] * 5
    drawn = sketches(*word_hashes([" ".join(t).encode() for t in (text, text, shifted, ["other", "words"] * 90)]))
    shares = overlap(drawn[0], drawn)
    assert shares[1] == 1
    assert shares[2] == pytest.approx(0.5, abs=0.2)
    assert shares[3] < 0.05
    counts = sizes(np.array([600, 1200, 1505, 1685]))
    likely, sure = Suspects(0.3)(drawn[:1], counts[:1], drawn, counts)
    assert likely.tolist() == [True, True, True, False]
    assert sure.tolist() == [True, True, bool(shares[2] * 64 >= surely(0.3)[64]), False]


@pytest.mark.parametrize("most", [0.05, 0.1, 0.3])
def test_what_a_sketch_is_sure_of_is_so(most: float) -> None:
    """Texts of many lengths that share much, little and nothing: those of which sketches are sure share `most`."""
    draw = random.Random(most)
    base = [f"w{draw.randrange(5000)}" for _ in range(400)]
    texts = [" ".join(base)]
    for _ in range(400):
        size = draw.choice([3, 8, 30, 200, 400, 900])
        start, part = draw.randrange(400), int(size * draw.random())
        texts.append(" ".join([f"v{draw.randrange(5000)}" for _ in range(size - part)] + base[start : start + part]))
    hashes, ends = word_hashes([text.encode() for text in texts])
    drawn, counts = sketches(hashes, ends), sizes(ends)
    looked = Suspects(most)
    looked(drawn[200:], counts[200:], drawn, counts)  # what another seed's looks leave behind
    likely, sure = looked(drawn[:1], counts[:1], drawn, counts)
    shares = np.array([reference.containment(texts[0], text) for text in texts])
    assert sure[0]
    assert not (sure & ~likely).any()
    assert 10 < sure.sum() < likely.sum()
    assert (shares[sure] >= most).all()
    assert (shares < most).sum() > 100


def test_contamination(tmp_path) -> None:  # type: ignore[no-untyped-def]
    held_out = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    (tmp_path / "eval.txt").write_text(held_out.replace("seven ", "seven\n") + "\nshort line\n")  # across lines
    known = Contamination.read([str(tmp_path / "eval.txt")], 13)
    texts = [f"x {held_out.upper()} y", held_out.replace("seven", "7"), "nothing", held_out[:40]]
    assert known(*word_hashes([text.encode() for text in texts])).tolist() == [True, False, False, False]
    curly = held_out.replace("one", "“one”").replace("five ", "five—").replace("nine ", "nine\u00a0")
    assert known(*word_hashes([curly.encode()])).tolist() == [True]


def test_vectors_are_exact() -> None:
    raw = np.random.default_rng(0).standard_normal((50, 256))
    vectors = quantise(raw)
    assert np.linalg.norm(vectors.astype(float), axis=1).max() < 4096
    exact = vectors.astype(np.int64) @ vectors.astype(np.int64).T
    found = similarities(vectors, vectors)
    assert np.array_equal(found.astype(np.int64), exact)  # float32 counts without rounding
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(found / SCALE**2 - unit @ unit.T).max() < 1e-3
    assert not quantise(np.zeros((1, 8))).any()
    assert found[0, 1] == reference.similarity(vectors[0].tolist(), vectors[1].tolist())


@pytest.mark.parametrize("rank", [0, 1, 5, 40])
def test_right_vectors_are_those_of_the_svd(rank: int) -> None:
    """The same directions, the largest first; of a matrix that has fewer the rest are zeros."""
    draw = np.random.default_rng(rank)
    parts = [np.linalg.qr(draw.standard_normal((size, rank)))[0] for size in (90, 60)]
    dense = (parts[0] * 0.5 ** np.arange(rank)) @ parts[1].T
    found = lsa.right_vectors(csr_array(dense.astype(np.float32)), 16, 0)
    assert found.shape == (60, 16)
    wanted, count = np.linalg.svd(dense, full_matrices=False)[2], min(rank, 16)
    assert not found[:, count:].any()
    assert np.abs((found[:, :count] * wanted[:count].T).sum(0)) == pytest.approx(np.ones(count), abs=1e-4)
    assert found.T @ found == pytest.approx(np.diag(np.arange(16) < count).astype(float), abs=1e-4)


def test_lsa_finds_the_same_package() -> None:
    found = sources()
    texts = [text[a : a + 2000].encode() for _, _, text in found for a in (0, 4000) if len(text) > 6000]
    model = fit([word_hashes(texts)], seed=0)
    again = fit([word_hashes(texts)], seed=0)
    assert np.array_equal(model.basis, again.basis)
    vectors = quantise(model.embed(*word_hashes(texts)))
    scores = similarities(vectors, vectors)
    np.fill_diagonal(scores, -np.inf)
    other = np.arange(len(texts)) ^ 1  # the second piece of the same module
    rank = (scores > scores[np.arange(len(texts)), other][:, None]).sum(1)
    assert np.median(rank) <= 2


def test_fields_of_evaluation_rows(tmp_path: Path) -> None:
    question = "which of these thirteen or more words would anybody have put into a question"
    rows = [{"question": question, "answer": "none of them at all"}, {"question": "too short"}]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = Contamination.read([str(tmp_path / "eval.jsonl")], 13, ("question", "answer"))
    assert known.short == 1
    texts = [f"Somebody asked: {question}?", "put into a question: none of them at all", "nothing of it"]
    assert known(*word_hashes([text.encode() for text in texts])).tolist() == [True, False, False]
    both = " ".join([*question.split()[-9:], "none of them at all"])
    assert known(*word_hashes([both.encode()])).tolist() == [True]
    with pytest.raises(UserError, match=r"no field 'text'.*\(name its fields with --decontaminate-field\)"):
        Contamination.read([str(tmp_path / "eval.jsonl")], 13)
