"""Samples of every family of tokenizers: the text is the corpus', and encodes to T tokens; spans are where they say."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFace

from llmtool.methods.nextlong.building import Builder
from llmtool.methods.nextlong.places import Places, Prefixes, encode, spells_all
from llmtool.methods.nextlong.planning import Segment
from llmtool.methods.nextlong.store import Store
from llmtool.tokenizer import Tokenizer
from tests.core.bpe.families import families
from tests.methods.nextlong.corpora import sources

PLAIN = [text[start : start + 400] for _, _, text in sources(12) for start in (0, 400)]
MIXED = [
    "  Every COMMAND that takes text\treads it.\n    And ŁÓDŹ, ﬁn, e\u0301, Ａ, 中文字符, 😀😀 🏳️‍🌈",
    "ΣΊΣΥΦΟΣ και ΌΔΟΣ. " * 4,
    "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8 ▁ the mark ▁▁ itself",
    "<unk> </s>x <h1> <|user|>  <tool_call>  foobarium \x00\x01",
]


def made() -> dict[str, dict[str, Any]]:
    found = dict(families(PLAIN))
    for kind in ("Lowercase", "NFD", "NFKC"):
        found[kind] = {**found["Llama 3, SmolLM3"], "normalizer": {"type": kind}}
    return found


FAMILIES = made()


class Passages:
    """A store of one chunk a passage."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def passage(self, start: int, stop: int, most: int) -> bytes:
        assert stop == start + 1
        return self._texts[start].encode()


def load(place: Path, name: str) -> tuple[Tokenizer, HuggingFace]:
    (place / "tokenizer.json").write_text(json.dumps(FAMILIES[name]))
    return Tokenizer.load(place / "tokenizer.json"), HuggingFace.from_file(str(place / "tokenizer.json"))


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_sample_is_the_corpus_text_and_encodes_to_the_target(tmp_path: Path, name: str, mixed: bool) -> None:
    tokenizer, oracle = load(tmp_path, name)
    texts = [*PLAIN[:3], *MIXED, *PLAIN[3:], *MIXED] if mixed else PLAIN
    oracle.encode_special_tokens = True
    separator = "\n\n"
    builder = Builder(cast(Store, Passages(texts)), tokenizer, 1000, separator)
    sample = builder.build([Segment(number, "document") for number in range(len(texts))])
    assert sample is not None
    text = sample.text.decode()
    assert separator.join(texts).startswith(text)
    encoded = oracle.encode(text, add_special_tokens=False)
    assert sample.ids.tolist() == encoded.ids[:1000]
    assert 1000 <= len(encoded.ids) == sample.n_tokens <= 1003
    starts = np.cumsum([0, *(len(each) + len(separator) for each in texts)])
    for segment, (start, stop), (first, last) in zip(
        sample.segments, sample.chars.tolist(), sample.tokens.tolist(), strict=True
    ):
        assert start == starts[segment.chunk]
        assert stop == min(start + len(texts[segment.chunk]), len(text))
        inside = [n for n, (a, b) in enumerate(encoded.offsets[:1000]) if a < stop and b > start]
        assert abs(first - inside[0]) <= 2
        assert abs(last - inside[-1] - 1) <= 2


@pytest.mark.parametrize("name", ["Lowercase", "Gemma 1", "Llama 2, TinyLlama, Yi", "Qwen2, Qwen2.5, Qwen3", "RoBERTa"])
def test_encoding_prefixes_finds_the_same_ids(tmp_path: Path, name: str) -> None:
    tokenizer, _ = load(tmp_path, name)
    data = "\n\n".join(PLAIN[:6]).encode()
    ids = encode(tokenizer, data)
    lengths = [len(text.encode()) + 2 for text in PLAIN[:6]]
    ends = np.cumsum(lengths)
    spans = np.stack([ends - lengths, ends - 2], 1)
    prefixes, places = Prefixes(tokenizer, data, ids), Places(tokenizer).of(data, ids)
    assert not isinstance(places, Prefixes)
    assert np.abs(prefixes.tokens(spans) - places.tokens(spans)).max() <= 1
    assert len(encode(tokenizer, data[: prefixes.stop(100)])) == 100  # may end within the last token
    assert 0 <= places.stop(100) - prefixes.stop(100) < 24


def test_only_what_spells_every_text_is_counted_without_a_look(tmp_path: Path) -> None:
    assert spells_all(load(tmp_path, "Llama 3, SmolLM3")[0])
    for name in ("Mistral 7B", "RoBERTa", "Lowercase", "Llama 2, TinyLlama, Yi", "StarCoder, SmolLM, Granite 3"):
        assert not spells_all(load(tmp_path, name)[0])


def test_a_long_text_is_shortened_before_it_is_followed(tmp_path: Path) -> None:
    tokenizer, _ = load(tmp_path, "Gemma 1")
    texts = ["".join(PLAIN) * 40]
    ids = encode(tokenizer, texts[0].encode())
    part, made = Places(tokenizer).shortened(texts[0].encode(), ids, 1000)
    assert len(part) < len(texts[0]) / 10
    assert made[:1000].tolist() == ids[:1000].tolist()
