"""Places in a text against the offsets of `tokenizers`; hand-made places where tokens take white space along."""

import random
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Theirs

from llmtool import Tokenizer

CORPUS = ["the good day to you and the answer is two words", "Good day. Hello, world! café naïve 漢字 data\nnew"] * 60
PARTS = ["the", "good", " ", "  ", "\n", "é", "漢", "\U0001f642", "<s>", "</s>", "<|end|>", "<|user|>", " plain tok",
         "x", "Good day", "ﬀ", "a"]  # fmt: skip
KINDS = ("byte-level", "prepend", "first", "always", "never")


def build(kind: str, folder: Path, *, taking: bool = False) -> tuple[Theirs, Tokenizer]:
    """With special tokens, and a plain one that is looked for in normalized text; taking: white space goes along."""
    made = Theirs(models.BPE(byte_fallback=kind != "byte-level", unk_token=None if kind == "byte-level" else "<unk>"))
    first, texts, alphabet = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))], CORPUS, list[str]()
    if kind == "byte-level":
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        first, alphabet = ["<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    elif kind == "prepend":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        texts = [text.replace(" ", "▁") for text in CORPUS]
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=kind == "always")
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    made.add_special_tokens([
        AddedToken("<|end|>", rstrip=taking, normalized=False), AddedToken("<|user|>", lstrip=taking, normalized=False),
    ])  # fmt: skip
    made.add_tokens([AddedToken("plain tok", normalized=True)])
    made.save(str(folder / "tokenizer.json"))
    return made, Tokenizer.load(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_places_are_those_of_tokenizers(kind: str, tmp_path: Path) -> None:
    theirs, ours = build(kind, tmp_path)
    drawn = random.Random(kind)
    for _ in range(150):
        text = "".join(drawn.choice(PARTS) for _ in range(drawn.randint(1, 12)))
        wanted = theirs.encode(text, add_special_tokens=False)
        places = list(range(len(text) + 1))
        ids, found = ours.encode_with_places(text, places)
        assert ids == wanted.ids == ours.encode(text, allow_special=True)
        expected = [
            (sum(end <= place for _, end in wanted.offsets), sum(start < place for start, _ in wanted.offsets))
            for place in places
        ]
        assert found == expected, text


def test_white_space_that_a_token_takes_along_is_on_its_side(tmp_path: Path) -> None:
    _, ours = build("byte-level", tmp_path, taking=True)
    ids, found = ours.encode_with_places("a<|end|>\n <|user|>a", range(19))
    assert [ours.definition.vocabulary.spellings[number] for number in ids] == ["a", "<|end|>", "<|user|>", "a"]
    assert found[:2] == [(0, 0), (1, 1)]
    assert found[4] == (1, 2)  # within the token's text
    assert found[8:11] == [(2, 2)] * 3  # behind it, in the white space that it took, and at the next
    assert found[17:] == [(2, 3), (3, 3)]


def test_composition_and_lone_surrogates(tmp_path: Path) -> None:
    made, _ = build("byte-level", tmp_path)
    made.normalizer = normalizers.NFC()
    made.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    text = "<s>e\u0301 x<s>"
    ids, found = ours.encode_with_places(text, range(len(text) + 1))
    assert ids == ours.encode(text, allow_special=True)
    assert found[4][0] == found[3][0] == 1  # half of what is composed to one character
    assert found[-1] == (len(ids), len(ids))
    ids, found = ours.encode_with_places("\ud83dx<s>", [0, 1, 2, 5])
    assert [place.before for place in found] == [0, len(ids) - 2, len(ids) - 1, len(ids)]
