"""The scanners cut exactly where the `regex` module cuts with the published patterns."""

import array
import itertools
import random
import sysconfig
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtool.core.bpe.pretokenizers import PRETOKENIZERS, split

_engine = pytest.importorskip("llmtool.core.bpe._engine")

DISTINCT = [
    "gpt2", "cl100k", "qwen2", "o200k", "smollm", "qwen35", "tekken", "deepseek3", "nanochat", "kimi", "falcon", "bloom"
]  # fmt: skip
# Every class, both cases, a Unicode space, digits that are no ASCII, and what the patterns name themselves.
ALPHABET = "aBsSſtrevml'dD 0٣½\t\n\r\u00a0\u2028あ漢ʰǅ\u0301\u0903_/-.é😀Ω\u200d"
# What these cut at besides: bytes that are spelled as numbers, characters of Chinese that are no letters, signs.
FURTHER = {"falcon": "òⲼ²！€؝12", "kimi": "⺀〇々\U00016ff0", "bloom": "。،|(.!", "nanochat": "78ſ"}
CONTEXTS = ["{}", "a{}", "{}a", " {}", "{} ", "A{}b", "'{}", "{}'s", "{0}{0}", "1{}", "\n{}", "{}\n", "-{}A", "  {}B"]


def oracle(name: str, data: bytes) -> list[int]:
    """End offset of each piece by the published steps; every undecodable byte is a lone surrogate there."""
    pieces = split(name, data)
    assert b"".join(pieces) == data
    return list(itertools.accumulate(map(len, pieces)))


def ends(name: str, data: bytes) -> list[int]:
    return array.array("Q", _engine.split(name, data)).tolist()


def check(name: str, data: bytes) -> None:
    expected, found = oracle(name, data), ends(name, data)
    if found != expected:
        wrong = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), 0)
        start = expected[wrong - 1] if wrong else 0
        pytest.fail(f"{name}: after {data[max(0, start - 20) : start]!r} at {data[start : start + 40]!r}")


def test_names() -> None:
    assert (*PRETOKENIZERS, "metaspace") == _engine.PRETOKENIZERS
    with pytest.raises(ValueError, match="unknown pre-tokenizer: gpt3"):
        _engine.split("gpt3", b"a")


def test_none_is_one_piece() -> None:
    assert ends("none", b"two words\n") == [10]
    assert ends("none", b"") == []


def test_class_of_every_code_point() -> None:
    """These tell all classes apart; a separator of its own piece keeps code points from meeting each other."""
    points = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    for context in ("{}", "a{}B"):
        check("o200k", "\n\n1\n".join(context.format(c) for c in points).encode())
    some = points[:0x20000] + points[0x20000::97]  # the definition of several steps is slow
    for context in ("{}", "a{}B", "漢{}"):
        check("kimi", "\n\n1\n".join(context.format(c) for c in points).encode())
        check("bloom", ".\n".join(context.format(c) for c in points).encode())
    for name, context in (("deepseek3", "a{}B"), ("smollm", "-{}-"), ("falcon", "a{} 12")):
        check(name, "\n\n1\n".join(context.format(c) for c in some).encode())


@pytest.mark.parametrize("name", DISTINCT)
def test_context_of_class_borders(name: str) -> None:
    """The first and the last code point of each stretch of one general category, in every context."""
    category = [unicodedata.category(chr(i)) for i in range(0x110000)]
    borders = [i for i in range(1, 0x10FFFF) if len({category[i - 1], category[i], category[i + 1]}) > 1]
    points = [chr(i) for i in borders if not 0xD800 <= i < 0xE000]
    for context in CONTEXTS[:: 1 if PRETOKENIZERS[name].pattern else 3]:
        check(name, "\n\n1\n".join(context.format(c) for c in points).encode())


@pytest.mark.parametrize("name", DISTINCT)
def test_all_short_strings(name: str) -> None:
    """Every string of three symbols, alone in its buffer: each end of a buffer is met by each rule."""
    step = 1 if PRETOKENIZERS[name].pattern else 11  # those of several steps are ten times slower to ask
    step = 2 * step + 11 if name in FURTHER else step  # their rules are mostly those of the others
    for symbols in itertools.islice(itertools.product(ALPHABET + FURTHER.get(name, ""), repeat=3), 0, None, step):
        data = "".join(symbols).encode()
        assert ends(name, data) == oracle(name, data), data


@pytest.mark.parametrize("name", [*DISTINCT, "llama3"])
def test_random_runs(name: str) -> None:
    """Runs longer than a vector load of 16 bytes, mixed."""
    chance = random.Random(7)
    alphabet = ALPHABET + 3 * FURTHER.get(name, "")
    for _ in range(300):
        runs = (chance.choice(alphabet) * chance.choice((1, 1, 1, 2, 3, 15, 16, 17, 40)) for _ in range(40))
        check(name, "".join(runs).encode())


@given(name=st.sampled_from(DISTINCT), text=st.text(st.characters(), max_size=60))
@settings(max_examples=1000, deadline=None)
def test_any_text(name: str, text: str) -> None:
    check(name, text.encode("utf-8", "surrogatepass"))


@given(name=st.sampled_from(DISTINCT), text=st.text(st.sampled_from(ALPHABET), max_size=60))
@settings(max_examples=1000, deadline=None)
def test_adversarial_text(name: str, text: str) -> None:
    check(name, text.encode())


@given(name=st.sampled_from(DISTINCT), data=st.binary(max_size=40))
@settings(max_examples=1000, deadline=None)
def test_any_bytes(name: str, data: bytes) -> None:
    check(name, data)


@pytest.mark.parametrize("name", DISTINCT)
def test_invalid_sequences(name: str) -> None:
    """Lead bytes with every kind of wrong continuation: overlong, surrogate, too large, cut off."""
    interesting = [0x41, 0x20, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5]
    for lead in range(0x80, 0x100):
        for tail in itertools.product(interesting, repeat=2):
            sequence = bytes([lead, *tail])
            for data in (sequence, b"a" + sequence + b"\x80a", b" " + sequence + b"\xbf"):
                assert ends(name, data) == oracle(name, data), data


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize(
    "unit",
    [
        "ò",
        "²a",
        "漢a",
        "a",
        "A",
        " ",
        "\n",
        "1",
        "'",
        "é",
        "あ",
        "\u0301",
        "😀",
        "\xff",
        "あA",
        "Aあ",
        " \n",
        "'s",
        "\u0301A",
    ],
)
def test_hostile_runs(name: str, unit: str) -> None:
    data = unit.encode("latin-1") if unit == "\xff" else unit.encode()
    check(name, data * 5000)
    check(name, data * 5000 + b"a")
    check(name, b"a" + data * 5000 + b"\n")


@pytest.mark.parametrize("name", [*DISTINCT, "llama3"])
def test_source_text(name: str) -> None:
    """The standard library: code, English, and the encodings' tables in many scripts."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [*root.glob("*.py"), *root.glob("encodings/*.py"), *root.glob("test/test_uni*.py")]
    assert len(files) > 150
    for path in files[:: 1 if PRETOKENIZERS[name].pattern and name not in FURTHER else 9]:
        check(name, path.read_bytes())


def test_any_bytes_like_object() -> None:
    text = "Grüße an alle  \n".encode()
    whole = _engine.split("llama3", text)
    for same in (bytearray(text), memoryview(b"x" + text)[1:]):
        assert _engine.split("llama3", same) == whole
    with pytest.raises(TypeError):
        _engine.split("llama3", "text")
