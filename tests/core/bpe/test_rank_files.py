"""Files of ranks and tekken.json: ids of the literal definition, of `tiktoken` where it is installed, and refusals."""

import base64
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex

from llmtool import Tokenizer
from llmtool.core.bpe.pretokenizers import PRETOKENIZERS
from llmtool.core.run.errors import UserError

Ranks = dict[bytes, int]
TEXT = (
    "The quick brown fox isn't 12345 days old;\n\n  it jumps\tover ababababa aaaaaaa 的时候 été naïve 🙂🙂 \r\n"
    " x = [1, 2]\n"
)
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
"""As `tiktoken` has it."""


def literal(ranks: Ranks, piece: bytes) -> list[int]:
    """A piece that is a token; else the neighbours of the lowest rank are merged, leftmost first, until none are."""
    if piece in ranks:
        return [ranks[piece]]
    parts = [piece[place : place + 1] for place in range(len(piece))]
    while True:
        found = [(ranks[a + b], place) for place, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
        if not found:
            return [ranks[part] for part in parts]
        place = min(found)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def vocabulary(seed: int, tokens: int, *, shuffled: bool = False) -> Ranks:
    """The bytes, and joined tokens, in the order of their making or in any order."""
    drawn, made = random.Random(seed), [bytes([byte]) for byte in range(256)]
    pieces = [piece.encode() for piece in regex.findall(r" ?\w+|\s+|.", TEXT)]
    while len(made) < 256 + tokens:
        piece = drawn.choice(pieces)
        start = drawn.randrange(len(piece))
        token = piece[start : start + drawn.randint(2, 6)]
        if len(token) > 1 and token not in made:
            made.append(token)
    rest = made[256:]
    if shuffled:
        drawn.shuffle(rest)
    return {token: rank for rank, token in enumerate(made[:256] + rest)}


def texts(seed: int, count: int) -> list[str]:
    """Text, and strings of its characters and of repeated ones."""
    drawn = random.Random(seed)
    found = [TEXT, "", "aaaa" * 40, "ab" * 60, "\0\x7f"]
    found += ["".join(drawn.choice(TEXT) for _ in range(drawn.randint(1, 40))) for _ in range(count)]
    return found + ["".join(drawn.choice("ab ") for _ in range(drawn.randint(1, 30))) for _ in range(count)]


def write(ranks: Ranks, path: Path, facts: dict[str, Any] | None = None) -> Path:
    path.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks.items()))
    if facts is not None:
        path.with_suffix(".json").write_text(json.dumps(facts))
    return path


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "cl100k", "o200k", "none", "own"])
def test_ids_are_those_of_the_definition(name: str, shuffled: bool, tmp_path: Path) -> None:
    pattern = r"[a-z]+|[^a-z]" if name == "own" else PRETOKENIZERS[name].pattern or r"[\s\S]+"
    for seed in range(3):
        ranks = vocabulary(seed, 60, shuffled=shuffled)
        path = write(ranks, tmp_path / f"my{seed}.tiktoken", {"pat_str": pattern, "special_tokens": {"<|end|>": 316}})
        tokenizer = Tokenizer.load(path)
        cut = regex.compile(pattern)
        for text in texts(seed, 150):
            expected = [token for piece in cut.findall(text) for token in literal(ranks, piece.encode())]
            assert tokenizer.encode(text) == expected
            assert tokenizer.decode(expected) == text
        assert tokenizer.special_tokens == {"<|end|>": 316}
        assert tokenizer.vocab_size == 317


def test_ids_are_those_of_tiktoken(tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    ranks = vocabulary(5, 90)
    tokenizer = Tokenizer.load(write(ranks, tmp_path / "cl100k_base.tiktoken"))
    theirs = tiktoken.Encoding("x", pat_str=CL100K, mergeable_ranks=ranks, special_tokens={})
    given = texts(6, 1500)
    assert tokenizer.encode_batch(given) == theirs.encode_ordinary_batch(given)
    assert tokenizer.special_tokens["<|endofprompt|>"] == 100276
    assert tokenizer.eos_id == 100257


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gpt2.tiktoken", "gpt2"), ("o200k_base.tiktoken", "o200k"), ("qwen.tiktoken", "qwen2"), ("r50k_base", "gpt2")],
)
def test_published_names_say_how_text_is_cut(name: str, kind: str, tmp_path: Path) -> None:
    definition = Tokenizer.load(write(vocabulary(1, 20), tmp_path / name)).definition
    assert definition.pretokenizer == kind
    assert [step["type"] for step in definition.normalizer] == (["NFC"] if kind == "qwen2" else [])


def test_a_directory_may_hold_ranks(tmp_path: Path) -> None:
    write(vocabulary(1, 20), tmp_path / "qwen.tiktoken")
    assert Tokenizer.load(tmp_path).special_tokens["<|im_end|>"] == 151645


def test_tiktokens_own_pattern_may_be_told(tmp_path: Path) -> None:
    ranks, given = vocabulary(5, 90), texts(7, 100)
    told = Tokenizer.load(write(ranks, tmp_path / "told.tiktoken", {"pat_str": CL100K, "special_tokens": {}}))
    known = Tokenizer.load(write(ranks, tmp_path / "cl100k_base.tiktoken"))
    assert told.encode_batch(given) == known.encode_batch(given)


@pytest.mark.parametrize("listed", [False, True])
def test_tekken(listed: bool, tmp_path: Path) -> None:
    ranks = vocabulary(2, 80)
    facts: dict[str, Any] = {
        "config": {
            "pattern": PRETOKENIZERS["tekken"].pattern, "num_vocab_tokens": len(ranks), "default_vocab_size": 356,
            "default_num_special_tokens": 30, "version": "v3",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for token, rank in ranks.items()
        ],
    }  # fmt: skip
    if listed:
        facts["special_tokens"] = [{"rank": 0, "token_str": "<s>", "is_control": True}]
    (tmp_path / "tekken.json").write_text(json.dumps(facts))
    tokenizer = Tokenizer.load(tmp_path)
    used = {token: rank for token, rank in ranks.items() if rank < 326}
    cut = regex.compile(PRETOKENIZERS["tekken"].pattern)
    for text in texts(2, 200):
        assert tokenizer.encode(text) == [
            30 + token for piece in cut.findall(text) for token in literal(used, piece.encode())
        ]
    assert tokenizer.vocab_size == 356
    assert tokenizer.bos_id == (0 if listed else 1)
    assert tokenizer.special_tokens["<SPECIAL_29>"] == 29
    assert tokenizer.encode("a[INST]b", allow_special=True)[1:-1] == ([3] if not listed else tokenizer.encode("[INST]"))


A = base64.b64encode(b"a").decode()


@pytest.mark.parametrize(
    ("data", "facts", "said"),
    [
        (f"{A} 0\n", None, "does not say how a text is cut"),
        (f"{A} 0\n", {"pat_str": ".+"}, "255 bytes have no rank, 0x00 is the first"),
        (f"{A} 0\n{A} 1\n", {"pat_str": ".+"}, "line 2: token b'a' stands here again"),
        (f"{A} 0\n=== 1\n", {"pat_str": ".+"}, "line 2: not base64"),
        (f"{A} 0\n{A}\n", {"pat_str": ".+"}, "not a token of 1 to 1024 bytes and its rank"),
        (f"{A} 0\n", {}, "no pattern"),
        (f"{A} 0\n", {"pat_str": r"\d{1,3}+"}, "possessive|not implemented"),
        (f"{A} 0\n", {"pat_str": ".+", "special_tokens": {"x": -1}}, "not a count"),
        (f"{A} 0\n", {"pat_str": "a$"}, "not implemented"),
        ("random \0\1", None, "not a rank file"),
    ],
)
def test_what_is_refused(data: str, facts: dict[str, Any] | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "my.tiktoken"
    path.write_text(data)
    if facts is not None:
        path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=said):
        Tokenizer.load(path)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("tokenizer.model", bytes(range(128, 256)) * 9, "neither a SentencePiece model nor a rank file"),
        ("tokenizer.bin", bytes(range(128, 256)) * 9, "holds ids, and is no tokenizer"),
        ("pytorch_model.bin", b"PK\3\4" + bytes(99), "a zip file, as weights of PyTorch are"),
        ("m.gguf", b"GGUF" + bytes(99), "a GGUF file"),
        ("m.vocab", "<unk>\t0\n▁a\t-1\n".encode(), "a list of pieces, without SentencePiece's rules"),
        ("merges.txt", b"#version: 0.2\na b\n", "a list of merges without its tokens"),
        ("vocab.txt", b"[PAD]\n[UNK]\n", "a list of tokens or a text"),
        ("tokenizer.json", b"\xff\xfe\x00", "not UTF-8, so not JSON"),
    ],
)
def test_other_files_are_called_by_their_names(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said):
        Tokenizer.load(tmp_path / name)
