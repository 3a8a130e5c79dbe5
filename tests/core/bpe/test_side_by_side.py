"""A text cut for the eye: the pieces are the text, their ids are the encoding, and differences are differences."""

from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool import Tokenizer
from llmtool.core.bpe.side_by_side import SideBySide, pieces

TEXTS = [
    "", " ", "hello world\n",
    "na\u00efve caf\u00e9", "a\r\n\tb", "\u543e\u8f29\u306f\u732b", "\u0633\u0644\u0627\u0645",
    "\U0001f469\u200d\U0001f467 x", "<|end|>a<|end|>", "e\u0301\u0301",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    text = ["hello world, the cat sat on the mat. naïve hello\n" * 50]
    return {
        "small": Tokenizer.train_from_documents(text, vocab_size=260, special=["<|end|>"]),
        "large": Tokenizer.train_from_documents(text, vocab_size=300, special=["<|end|>"]),
        "nfc": Tokenizer.train_from_documents(text, vocab_size=300, pretokenizer="qwen2"),
    }


def check(tokenizer: Tokenizer, text: str) -> None:
    found = pieces(tokenizer, text)
    assert "".join(text[piece.start : piece.end] for piece in found) == text
    assert [token for piece in found for token in piece.ids] == tokenizer.encode(text, allow_special=True)
    for piece in found:
        if len(piece.ids) == 1 and not piece.special and "\u0301" not in text:
            assert tokenizer.decode_bytes(piece.ids).decode() == text[piece.start : piece.end]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text_and_its_ids(tokenizers: dict[str, Tokenizer], text: str) -> None:
    for tokenizer in tokenizers.values():
        check(tokenizer, text)


@given(st.text(max_size=40))
@settings(deadline=None)
def test_pieces_of_any_text(text: str) -> None:
    check(Tokenizer.train_from_documents(["a b ab abc é 猫 " * 20], vocab_size=264), text)


def test_differences(tokenizers: dict[str, Tokenizer]) -> None:
    block = SideBySide.of("text", "hello <|end|> x", {"a": tokenizers["small"], "b": tokenizers["small"]})
    assert block.differing("a") == block.differing("b") == set()
    block = SideBySide.of("text", "hello <|end|> the cat<b>", {"a": tokenizers["small"], "b": tokenizers["large"]})
    spans = {name: {(piece.start, piece.end) for piece in cut} for name, cut in block.cuts.items()}
    assert spans["a"] != spans["b"]
    assert block.differing("a") == spans["a"] - spans["b"]
    assert block.differing("b") == spans["b"] - spans["a"]
    page = block.html()
    assert page.count('class="differs"') == len(block.differing("a")) + len(block.differing("b"))
    assert page.count('class="special"') == 2
    assert "<b>" not in page
    assert "&lt;b&gt;" in page or "&lt;" in page
    assert "hello" in unescape(page)


def test_a_character_cut_otherwise_inside_differs() -> None:
    """By hand: 😀 is F0 9F 98 80, one token, two of two bytes, or four."""
    whole = Tokenizer.train_from_documents(["😀 " * 50], vocab_size=259)
    halves = Tokenizer.train_from_documents(["😀 😿 " * 50 + "\u00d8\u0640 " * 9], vocab_size=257)
    single = Tokenizer.train_from_documents(["a"], vocab_size=256)
    block = SideBySide.of("text", "x😀", {"single": single, "halves": halves, "whole": whole})
    counts = {name: len(cut[-1].ids) for name, cut in block.cuts.items()}
    assert counts == {"single": 4, "halves": 3, "whole": 1}
    assert block.cuts["single"][-1].sizes == (1, 1, 1, 1)
    assert all(block.differing(name) == {(1, 2)} for name in block.cuts)


def test_what_is_not_seen_is_told_and_nothing_turns_the_page() -> None:
    tokenizer = Tokenizer.train_from_documents(["a b"], vocab_size=256)
    page = SideBySide.of("text", "a\u202eb\u200d\x00", {"t": tokenizer}).html()
    assert "\u202e" not in page
    assert "[U+202E]" in page
    assert "[U+0000]" in page
    assert "\u200d" in page
