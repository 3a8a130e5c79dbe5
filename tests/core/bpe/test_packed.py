"""Packed sequences stand for lists, and the engine's quick reading of files for the close one."""

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.bpe import engine, huggingface
from llmtool.core.bpe.engine import plain_units
from llmtool.core.bpe.huggingface import read_huggingface
from llmtool.core.bpe.packed import PackedBytes, PackedIds, PackedTriples
from llmtool.core.bpe.vocabulary import BYTE_TO_UNICODE
from llmtool.core.run.errors import UserError

NUMBER = st.integers(0, 2**32 - 1)
ITEMS: dict[Any, st.SearchStrategy[list[Any]]] = {
    PackedBytes: st.lists(st.binary(max_size=5)),
    PackedTriples: st.lists(st.tuples(NUMBER, NUMBER, NUMBER)),
    PackedIds: st.lists(st.lists(NUMBER, min_size=1, max_size=3).map(tuple)),
}


@pytest.mark.parametrize("kind", ITEMS)
@given(data=st.data())
def test_stands_for_a_list(kind: Any, data: st.DataObject) -> None:
    items = data.draw(ITEMS[kind])
    packed: Sequence[Any] = kind.of(items)
    assert packed == items == list(packed) == packed[:] == pickle.loads(pickle.dumps(packed))
    assert items == packed
    assert packed != [*items, items[0] if items else b""]
    assert len(packed) == len(items)
    assert kind.of(packed) is packed
    assert packed[1:3] == items[1:3]
    assert packed[::-1] == items[::-1]
    for place in range(-len(items), len(items)):
        assert packed[place] == items[place]
    for place in (len(items), -len(items) - 1):
        with pytest.raises(IndexError):
            packed[place]


def test_single_ids() -> None:
    single = PackedIds.single([3, 1, 2])
    assert single == [(3,), (1,), (2,)]
    assert single.are_single
    assert single.numbers == [3, 1, 2]
    assert not PackedIds.of([(1,), (2, 3)]).are_single


ALPHABET = list(BYTE_TO_UNICODE.values())


def facts_of(vocab: dict[str, int], merges: list[Any], **model: Any) -> dict[str, Any]:
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "ignore_merges": False, **model, "vocab": vocab, "merges": merges}
    return {"pre_tokenizer": step, "decoder": step, "added_tokens": [], "model": model}


def small() -> dict[str, Any]:
    texts = ["ab", "abc", "bc", "Ġa", "é", "éa"]
    vocab = {text: number for number, text in enumerate([*ALPHABET, *(t for t in texts if t not in ALPHABET)])}
    return facts_of(vocab, [["a", "b"], "b c", ["ab", "c"], "Ġ a", "é a"])


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": lambda m: None,
    "ids from the end": lambda m: m.update(vocab={t: 300 - n for t, n in m["vocab"].items()}),
    "a version line": lambda m: m["merges"].insert(0, "#version: 0.2"),
    "a pair twice": lambda m: m["merges"].append("a b"),
    "a part that is no unit": lambda m: m["merges"].append("a zz"),
    "a result that is no unit": lambda m: m["merges"].append("c c"),
    "an unspelled entry": lambda m: m["vocab"].update({"→": 290}),
    "a merge of an unspelled entry": lambda m: (m["vocab"].update({"→": 290, "a→": 291}), m["merges"].append("a →")),
    "an empty entry": lambda m: m["vocab"].update({"": 290}),
    "an empty part": lambda m: (m["vocab"].update({"": 290}), m["merges"].append("a ")),
    "three parts": lambda m: m["merges"].append("a b c"),
    "no space": lambda m: m["merges"].append("ab"),
    "a list of three": lambda m: m["merges"].append(["a", "b", "c"]),
    "a number": lambda m: m["merges"].append(["a", 1]),
    "a lone surrogate": lambda m: m["vocab"].update({"\ud800": 290}),
    "a surrogate merged": lambda m: m["merges"].append("a \ud800"),
    "null": lambda m: m["merges"].append(None),
    "NUL": lambda m: (m["vocab"].update({"a\0": 290}), m["merges"].append("a \0")),
    "ignore_merges": lambda m: m.update(ignore_merges=True),
    "an unknown token": lambda m: (m["vocab"].update({"<unk>": 290}), m.update(unk_token="<unk>")),
    "the unknown token merged": lambda m: (
        m["vocab"].update({"<unk>": 290, "a<unk>": 291}), m.update(unk_token="<unk>"), m["merges"].append("a <unk>"),
    ),
}  # fmt: skip


def read(facts: dict[str, Any]) -> Any:
    from pathlib import Path

    try:
        return read_huggingface(copy.deepcopy(facts), Path("x.json"))
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("spelled", [True, False])
def test_quick_reading_is_the_close_one(change: str, spelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = small()
    if not spelled:
        facts["pre_tokenizer"] = facts["decoder"] = None
    CHANGES[change](facts["model"])
    quick = read(facts)
    monkeypatch.setattr(huggingface, "plain_units", lambda *_: None)
    assert read(facts) == quick


@given(
    st.lists(st.text("abé\0", max_size=3), unique=True, max_size=8),
    st.lists(st.tuples(st.text("abé", max_size=2), st.text("abé", max_size=2)), unique=True, max_size=8),
)
def test_numbers_of_merges(texts: list[str], pairs: list[tuple[str, str]]) -> None:
    if engine.NAME != "native":
        assert plain_units(texts, list(map(list, pairs)), "characters") is None
        return
    read = plain_units(texts, [list(pair) for pair in pairs], "characters")
    known = {text: place for place, text in enumerate(texts)}
    if all({left, right, left + right} <= known.keys() for left, right in pairs):
        assert read is not None
        assert read[0] == [text.encode() for text in texts]
        assert read[1] == [(known[left], known[right], known[left + right]) for left, right in pairs]
    else:
        assert read is None
