"""Decoding: arrays and tensors taken, errors, special tokens left out, and a stream that joins to the same text."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool import Tokenizer
from llmtool.core.bpe.added_tokens import AddedToken
from llmtool.core.bpe.decoders import decode_tokens
from llmtool.core.bpe.streaming import StreamDecoder
from llmtool.core.bpe.vocabulary import encode_text
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS

LLAMA: list[dict[str, Any]] = [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]  # fmt: skip
METASPACE: dict[str, Any] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
DECODERS: dict[str, list[dict[str, Any]]] = {
    "byte level": [BYTE_LEVEL],
    "llama": LLAMA,
    "gemma": LLAMA[:3],
    "metaspace": [METASPACE],
    "metaspace, bytes": [METASPACE, {"type": "ByteFallback"}],
    "strip ends": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 2, "stop": 3}],
    "strip each": [{"type": "Strip", "content": "▁", "start": 1, "stop": 1}],
    "replace of all": [{"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "ab"}, "content": "c"}],
    "byte level, strip": [BYTE_LEVEL, {"type": "Strip", "content": " ", "start": 1, "stop": 0}],
    "none": [],
}
SPELLINGS = dict(
    enumerate(
        ["a", "b", "ab", "▁", "▁▁", "▁a", "b▁", " ", "  ", "a ", " b", "é", "日", "Ġ", "Ãł", "Ã", "ł", "âĤ", "¬", "",
         "<0xE2>", "<0x82>", "<0xAC>", "<0x41>", "<0xFF>", "</s>", "<x>"]
    )
)  # fmt: skip
IDS = st.lists(st.sampled_from(sorted(SPELLINGS)), max_size=12)


@pytest.mark.parametrize("name", DECODERS)
@given(ids=IDS, skip=st.booleans())
def test_the_parts_of_a_stream_join_to_the_text(name: str, ids: list[int], skip: bool) -> None:
    skipped = frozenset([25]) if skip else frozenset[int]()
    stream = StreamDecoder(SPELLINGS, DECODERS[name], skipped)
    for _ in range(2):  # finish begins anew
        wanted = decode_tokens([SPELLINGS[token] for token in ids if token not in skipped], DECODERS[name])
        assert "".join([*map(stream.push, ids), stream.finish()]) == wanted


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_from_documents(SCRIPTS, 600, algorithm="scaffold", special=["<s>", "</s>"])


def test_no_part_ends_within_a_character(tokenizer: Tokenizer) -> None:
    text = "日本語 👩‍👩‍👧‍👦 e\u0301 Größe" * 20
    stream = tokenizer.decode_stream()
    ids = [token for character in text.encode() for token in tokenizer.encode(bytes([character]))]
    parts = [*map(stream.push, ids), stream.finish()]
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)
    assert max(map(len, parts)) == 1  # as soon as a character is whole it is there


def test_what_never_ends_is_replaced_at_the_end(tokenizer: Tokenizer) -> None:
    half = tokenizer.encode("日".encode()[:2])
    stream = tokenizer.decode_stream()
    assert [*map(stream.push, half)] == [""] * len(half)
    assert stream.finish() == tokenizer.decode(half) == "\ufffd"
    assert stream.push(1 << 20) == "\ufffd"  # a spare row of a model


def test_a_stream_takes_linear_time(tokenizer: Tokenizer) -> None:
    """By the number of tokens looked up, which a decoder of the whole text would square."""
    looked_up = 0

    class Counting(dict[int, str]):
        def get(self, key: int, default: Any = None) -> Any:
            nonlocal looked_up
            looked_up += 1
            return super().get(key, default)

    ids = tokenizer.encode("one two three " * 500)
    stream = StreamDecoder(
        Counting(tokenizer.definition.vocabulary.spellings), tokenizer.definition.decoder, frozenset()
    )
    assert "".join([*map(stream.push, ids), stream.finish()]) == "one two three " * 500
    assert looked_up == len(ids)


def test_errors_are_those_of_bytes(tokenizer: Tokenizer) -> None:
    data = b"ok \xe6\x97 \xff"
    ids = tokenizer.encode(data)
    for errors in ("replace", "ignore", "surrogateescape", "backslashreplace"):
        assert tokenizer.decode(ids, errors=errors) == data.decode("utf-8", errors)
    assert tokenizer.decode(ids) == data.decode("utf-8", "replace")
    assert encode_text(tokenizer.decode(ids, errors="surrogateescape")) == data == tokenizer.decode_bytes(ids)
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode(ids, errors="strict")


def test_only_special_tokens_are_left_out(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.definition.vocabulary
    added = (*vocabulary.added, AddedToken("<think>", 600, special=False))
    kept = Tokenizer(replace(tokenizer.definition, vocabulary=replace(vocabulary, added=added)))
    ids = kept.encode("<s>a<think>b</s>", allow_special=True)
    assert [token in ids for token in (0, 1, 600)] == [True, True, True]
    assert kept.decode(ids) == "<s>a<think>b</s>"
    assert kept.decode(ids, skip_special=True) == "a<think>b"
    assert kept.decode_bytes(ids, skip_special=True) == b"a<think>b"
    stream = kept.decode_stream(skip_special=True)
    assert "".join([*map(stream.push, ids), stream.finish()]) == "a<think>b"


def test_arrays_and_tensors_are_ids(tokenizer: Tokenizer) -> None:
    torch = pytest.importorskip("torch")
    text = "arrays, 日本語"
    ids = tokenizer.encode(text)
    for kind in (np.uint16, np.int32, np.int64, np.uint32):
        assert tokenizer.decode(np.array(ids, kind)) == text
    assert tokenizer.decode(torch.tensor(ids)) == text
    assert tokenizer.decode(tuple(np.array(ids))) == text
    assert tokenizer.decode([torch.tensor(token) for token in ids]) == text
    assert tokenizer.offsets(np.array(ids))[-1][1] == len(text.encode())
    assert tokenizer.decode(np.array([], np.int64)) == ""
    rows = torch.tensor([ids, ids])
    assert tokenizer.decode_batch(rows) == [text, text]
    wrong: list[tuple[Any, str]] = [
        ([1.0], "whole numbers, not float"), (["1"], "whole numbers, not str"), ("12", "not str"), (5, "not int"),
        (rows, "not list; decode_batch takes rows"), (np.array([1.5]), "not float"), ([True], "not bool"),
        (torch.tensor(3), "not Tensor"), (None, "not NoneType"),
    ]  # fmt: skip
    for given_ids, what in wrong:
        with pytest.raises(TypeError, match=what):
            tokenizer.decode(given_ids)
    with pytest.raises(UserError, match="id 5000 is not in the vocabulary"):
        tokenizer.decode(torch.tensor([5000]))


def test_a_batch_as_two_arrays(tokenizer: Tokenizer) -> None:
    texts = [*SCRIPTS, "", "</s>"]
    for allow in (False, True):
        made = tokenizer.encode_arrays(texts, allow_special=allow)
        assert (str(made.ids.dtype), str(made.offsets.dtype)) == ("uint32", "int64")
        rows = [made.ids[start:end].tolist() for start, end in zip(made.offsets, made.offsets[1:], strict=False)]
        assert rows == tokenizer.encode_batch(texts, allow_special=allow)
    empty = tokenizer.encode_arrays([])
    assert (len(empty.ids), empty.offsets.tolist()) == (0, [0])
    with pytest.raises(TypeError, match="not one text"):
        tokenizer.encode_arrays("text")


def test_a_prompt_begins_as_the_model_learned_it(tokenizer: Tokenizer) -> None:
    habit = Tokenizer(replace(tokenizer.definition, bos="<s>", add_bos=True))
    assert habit.encode_prompt("a</s>") == [0, *habit.encode("a"), 1]
    assert tokenizer.encode_prompt("a</s>") == [*tokenizer.encode("a"), 1]
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                                       "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }  # fmt: skip
    both = {"type": "Sequence", "processors": [BYTE_LEVEL, template]}
    for component, around in (
        (template, ([0], [1])), (both, ([0], [1])), (BYTE_LEVEL, ([], [])),
        ({"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 1]}, ([0], [1])),
    ):  # fmt: skip
        assert replace(tokenizer.definition, post_processor=component).around == around


def test_where_a_long_document_may_be_cut(tokenizer: Tokenizer) -> None:
    definition, vocabulary = tokenizer.definition, tokenizer.definition.vocabulary

    def whole(allow_special: bool = False, token: AddedToken | None = None, **changes: Any) -> bool:
        added = vocabulary.added if token is None else (*vocabulary.added, token)
        changed = replace(definition, vocabulary=replace(vocabulary, added=added), **changes)
        return Tokenizer(changed).needs_whole(allow_special)

    assert not whole()
    assert not whole(True, normalizer=({"type": "NFC"},))
    assert whole(pretokenizer="none")
    assert whole(pretokenizer="custom", steps=())
    assert whole(normalizer=({"type": "Prepend", "prepend": "▁"},))
    assert whole(token=AddedToken("a b", 600, special=False))
    assert whole(token=AddedToken("<mask>", 600, special=False, lstrip=True))
    assert not whole(token=AddedToken("a b", 600))
    assert whole(True, token=AddedToken("a b", 600))
