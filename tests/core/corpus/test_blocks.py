"""Laws of cutting and regrouping: nothing is lost, no token changes, the way bytes arrive does not matter."""

import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.bpe.pretokenizers import PRETOKENIZERS, split
from llmtool.core.bpe.vocabulary import LONGEST_PIECE, decode_text, encode_text, piece_parts
from llmtool.core.corpus import blocks
from llmtool.core.corpus.blocks import (
    BLOCK,
    Cutter,
    bounded_lines,
    file_document,
    line_documents,
    regroup,
    safe_cut,
    separated_documents,
)
from llmtool.core.run.errors import UserError

PATTERNS = [name for name in PRETOKENIZERS if name != "none"]
# What the patterns treat each in its own way, dense enough that every pair and triple of them comes up.
ATOMS = [
    *"aZs9 \t\n\r'/.!",
    "\u00a0",
    "\u2028",
    "é",
    "e\u0301",
    "ſ",
    "中",
    "²",
    "٣",
    "🙂",
    "\udc80",
    "'re",
    "  ",
    "\n\n",
]
TEXT = st.lists(st.sampled_from(ATOMS), max_size=40).map(
    lambda atoms: "".join(atoms).encode("utf-8", "surrogateescape")
)


@pytest.mark.parametrize("name", PATTERNS)
@given(TEXT)
def test_safe_cut_changes_no_piece(name: str, text: bytes) -> None:
    cut = safe_cut(text)
    assert split(name, text[:cut]) + split(name, text[cut:]) == split(name, text)


@pytest.mark.parametrize("name", PATTERNS)
def test_safe_cut_on_source_code(name: str) -> None:
    source = Path(sysconfig.get_path("stdlib"), "argparse.py").read_bytes()[:20_000]
    for end in range(1, len(source), 397):
        cut = safe_cut(source[:end])
        assert split(name, source[:cut]) + split(name, source[cut:]) == split(name, source)


@given(TEXT)
def test_a_place_is_found_where_there_is_one(text: bytes) -> None:
    ascii_places = [i for i in range(1, len(text)) if text[i] in b" \n" and text[i - 1 : i].isalnum()]
    if ascii_places:
        assert safe_cut(text) == ascii_places[-1]
        return
    string = decode_text(text)
    places = [
        i
        for i in range(1, len(string))
        if (string[i] in " \n" and string[i - 1].isalnum())
        or (string[i - 1] == "\n" and i > 1 and not string[i - 2].isspace() and string[i].isalnum())
    ]
    assert safe_cut(text) in ([len(encode_text(string[:place])) for place in places] or [0])


def test_letters_and_numbers_are_those_of_the_patterns() -> None:
    """What Python calls alphanumeric, and no white space, must be so for the patterns too."""
    import regex

    letter, white = regex.compile(r"[\p{L}\p{N}]"), regex.compile(r"\s")
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        assert not character.isalnum() or letter.match(character), hex(code)
        assert character.isspace() or not white.match(character), hex(code)


def test_places_that_are_not_safe() -> None:
    for text in (
        b"",
        b" ",
        b" a",
        b"ab",
        b"a",
        b"! x",
        b"/\n",
        b"  x",
        b"a\t",
        b"a\r\n",
        b"!\n/",
        b"! \na",
        b"\na",
        b"\n\na",
    ):
        assert safe_cut(text) == 0
    assert safe_cut(b"a ") == 1
    assert safe_cut("é ".encode()) == 2
    assert safe_cut("。\n文".encode()) == 4


def test_text_without_latin_letters_is_streamed() -> None:
    text = ("床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n" * 60_000).encode()
    parts = [document.text for document in file_document(pieces_of_size(text, BLOCK), "f", whole=False)]
    assert len(parts) == len(text) // BLOCK + 1
    assert b"".join(parts) == text
    assert all(part.decode() for part in parts)


def test_a_limit_ends_what_cannot_be_cut() -> None:
    text = "好".encode() * BLOCK
    (document,) = file_document(pieces_of_size(text, BLOCK), "f", whole=False, most=1000)
    assert document.text == "好".encode() * 333
    assert not document.more
    (binary,) = file_document(iter([b"\xff" * 50]), "f", whole=False, most=10)
    assert binary.text == b"\xff" * 10


def test_safe_cut_is_linear_where_there_is_none() -> None:
    def seconds(text: bytes) -> float:
        start = time.process_time()
        assert safe_cut(text) == 0
        return time.process_time() - start

    for unit in (b" ", b"\n", b"a", b"! "):
        small = min(seconds(unit * 100_000) for _ in range(3))
        assert seconds(unit * 1_000_000) < 40 * small + 0.05


@given(st.lists(st.binary(max_size=9)), st.integers(1, 5))
def test_regroup_makes_equal_blocks(chunks: list[bytes], size: int) -> None:
    grouped = list(regroup(chunks, size))
    assert b"".join(grouped) == b"".join(chunks)
    assert all(len(block) == size for block in grouped[:-1])
    assert all(0 < len(block) <= size for block in grouped[-1:])


def pieces_of_size(text: bytes, size: int) -> Iterator[bytes]:
    return (text[i : i + size] for i in range(0, len(text), size))


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(blocks, "BLOCK", 4)
    return 4


@pytest.mark.parametrize(
    "text", [b"", b"a", b"ab cd ef gh ij", b"aaaaaaaaaaaaaaaaaaaa b", b"!!!!!!!!!!!!", b"abcd efgh", b"abc d" * 9]
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_file_is_its_blocks_joined(text: bytes, whole: bool, tiny_blocks: int) -> None:
    documents = list(file_document(pieces_of_size(text, tiny_blocks), "f", whole=whole))
    assert b"".join(document.text for document in documents) == text
    assert [document.more for document in documents] == [True] * (len(documents) - 1) + [False] * bool(text)
    assert {(document.source, document.row) for document in documents} <= {("f", 1)}
    for document in documents[:-1]:
        assert document.text[-1:].isalnum() or document.text[-1:] == b"\n"
    for document in documents[1:]:
        assert document.text[:1] in (b" ", b"\n") or document.text[:1].isalnum()
    assert len(documents) == bool(text) if whole else len(documents) >= bool(text)


def test_a_cut_between_two_blocks_is_found(tiny_blocks: int) -> None:
    documents = list(file_document([b"!!!a", b" !!!", b"!"], "f", whole=False))
    assert [document.text for document in documents] == [b"!!!a", b" !!!!"]


def test_what_a_cut_leaves_counts_for_the_next(tiny_blocks: int) -> None:
    documents = list(file_document([b"ab !", b"a b"], "f", whole=False))
    assert [document.text for document in documents] == [b"ab", b" !a", b" b"]


def test_a_long_file_is_never_held() -> None:
    block = b"word " * (BLOCK // 5) + b"x"
    assert len(block) == BLOCK
    sizes = [len(document.text) for document in file_document([block] * 20, "f", whole=False)]
    assert sum(sizes) == 20 * BLOCK
    assert max(sizes) < 1.1 * BLOCK


def test_a_document_without_a_cut_grows_in_linear_time() -> None:
    block = b"!" * BLOCK

    def seconds(blocks: int) -> float:
        start, cutter = time.process_time(), Cutter(whole=False)
        for _ in range(blocks):
            assert cutter.feed(block) == b""
        assert len(cutter.rest()) == blocks * BLOCK
        return time.process_time() - start

    assert seconds(100) < 30 * min(seconds(10) for _ in range(3)) + 0.1  # joining at every block: a hundred times


LINES = st.lists(
    st.sampled_from([b"a", b"b c", b"\n", b"\r\n", b"\r", b"", b"dd dd dd dd", b"!!!!!!!!!"]), max_size=12
).map(b"".join)


@given(LINES, st.booleans())
def test_lines_are_documents(text: bytes, whole: bool) -> None:
    expected = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    if not text.endswith(b"\n") and text.split(b"\n")[-1].endswith(b"\r"):
        expected[-1] += b"\r"
    if not expected[-1]:
        expected.pop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 4)
        documents = list(line_documents(pieces_of_size(text, 4), "f", whole=whole))
    joined: dict[int, bytes] = {}
    for document in documents:
        joined[document.row] = joined.get(document.row, b"") + document.text
    assert joined == dict(enumerate(expected, start=1))
    ends = [document.row for document in documents if not document.more]
    assert ends == list(range(1, len(expected) + 1))
    if whole:
        assert len(documents) == len(expected)


def test_a_long_line_is_handed_on_in_parts(tiny_blocks: int) -> None:
    documents = list(line_documents([b"ab c", b"d ef", b"\nx"], "f", whole=False))
    assert [(document.text, document.row, document.more) for document in documents] == [
        (b"ab", 1, True),
        (b" cd", 1, True),
        (b" ef", 1, False),
        (b"x", 2, False),
    ]


@given(LINES, st.integers(1, 7))
def test_bounded_lines_are_the_lines(text: bytes, size: int) -> None:
    expected = text.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert list(bounded_lines(pieces_of_size(text, size), "f")) == expected


def test_a_row_beyond_the_limit_is_refused_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_ROW", 10)
    assert list(bounded_lines([b"0123", b"456789\n"], "f")) == [b"0123456789"]
    with pytest.raises(UserError, match=r"^f:3: a row of more than"):
        list(bounded_lines([b"1\n2\n0123", b"45678", b"90"], "f"))


@given(st.lists(st.sampled_from(["a", "|", "||", "|e|", "word ", "\n"]), max_size=60), st.integers(1, 9), st.booleans())
def test_separators_cut_wherever_blocks_end(parts: list[str], size: int, whole: bool) -> None:
    text = "".join(parts).encode()
    for separator in (b"|", b"||", b"|e|", b"\n"):
        chunks = [text[at : at + size] for at in range(0, len(text), size)]
        found = [b""]
        for document in separated_documents(chunks, "s", separator, whole=whole):
            assert document.row == len(found)
            found[-1] += document.text
            if not document.more:
                found.append(b"")
        wanted = text.split(separator)
        assert found[:-1] == (wanted if wanted[-1] else wanted[:-1])
        assert not found[-1]


def test_a_long_document_between_separators_comes_in_parts() -> None:
    text = (b"word " * BLOCK)[: 3 * BLOCK]
    data = b"first<|>" + text + b"<|>last"
    parts = list(separated_documents(regroup([data]), "s", b"<|>", whole=False))
    assert max(len(part.text) for part in parts) <= 2 * BLOCK
    assert {part.row for part in parts if part.more} == {2}
    assert b"".join(part.text for part in parts if part.row == 2) == text
    assert (parts[0].text, parts[-1].text, parts[-1].row) == (b"first", b"last", 3)


@pytest.mark.parametrize("whole", [False, True])
def test_text_without_a_cut_is_handed_on_in_the_parts_that_training_counts(whole: bool) -> None:
    text = "é".encode() * (3 * LONGEST_PIECE // 2) + b"\x80" * LONGEST_PIECE + b"end"
    blocks = [text[start : start + BLOCK] for start in range(0, len(text), BLOCK)]
    found = [d.text for d in file_document(blocks, "f", whole=whole, longest=LONGEST_PIECE)]
    assert b"".join(found) == text
    assert max(map(len, found)) <= 2 * LONGEST_PIECE
    assert [part for document in found for part in piece_parts(document)] == list(piece_parts(text))
    assert len(list(file_document(blocks, "f", whole=whole))) == 1
