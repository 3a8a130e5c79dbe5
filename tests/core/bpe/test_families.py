"""Every family of open models: ids, plain and with special tokens, and decoded text equal those of `tokenizers`."""

import json
import random
from pathlib import Path

import pytest
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as Theirs

from llmtool.core.bpe import reference_encoding
from llmtool.core.bpe.definition_file import from_json, serialize
from llmtool.core.bpe.encoder import PortableEncoder
from llmtool.core.bpe.huggingface import read_huggingface
from llmtool.core.bpe.pretokenizers import CUSTOM
from llmtool.core.bpe.segments import Segments
from llmtool.core.run.errors import UserError
from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS
from tests.core.bpe.families import (
    BYTE_PIPELINES,
    CHARACTER_PIPELINES,
    TO_MARK,
    Facts,
    digits,
    families,
    metaspace,
    split,
)

NAMES = [*BYTE_PIPELINES, *CHARACTER_PIPELINES]
SCANNED = {
    "GPT-2, OPT": "gpt2", "StarCoder, SmolLM, Granite 3": "smollm", "Command-R": "smollm", "Phi-4": "cl100k",
    "Llama 3, SmolLM3": "cl100k", "Qwen2, Qwen2.5, Qwen3": "qwen2", "Qwen3.5, Qwen3.6": "qwen35", "GPT-4o": "o200k",
    "Mistral-Nemo, Nemotron 3": "tekken", "DeepSeek V3, R1, V4": "deepseek3", "Gemma 2, Gemma 3": "none",
    "Llama 2, TinyLlama, Yi": "none", "Falcon": "falcon", "Kimi": "kimi", "nanochat": "nanochat", "BLOOM": "bloom",
    "Ling, LLaDA": "qwen2", "Seed-Coder": CUSTOM, "Mistral 7B": CUSTOM,
}  # fmt: skip
"""Families that must not fall back to the general matcher, and some that do."""

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "[MASK]", "<mask>", "<|user|>", "<|sep|>", "<tool_call>", "<think>", "<｜User｜>",
    "｜DSML｜", "foobarium", "</s>", "<s>", "<unk>", "</s>x", "<0x0A>", "<unused0>", "<h1>", " xylophone", "\n\n", "  ",
]  # fmt: skip
POOLS = [
    "abcdefghij ABCXYZ0123456789", "'sS'tT'reVE'll'd ſK", " \t\n\r\u00a0\u3000\u2028\v\f\x85",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¿¡…。，、।۔،«»", "éàüßñÅ\u0301\u0327\u0308\u212b\ufb01ΩЖя",
    "漢字かなカナ한글ー々〇ㄱ가", "अनुवाद\u093c\u0947ગુજરાતી", "٠١٢٣४५²³½Ⅷ①\U00011de1\U00012550",
    "👩\u200d👧🏳️\u200b\ufeff", "\u0628\u08d3\u064e\u0600\u06dd", "▁Ġ\u0120Ċ\u0558\ufdd0",
]  # fmt: skip


def texts(seed: int, number: int) -> list[str]:
    """Hostile strings: pools of one kind, of all kinds, any code points, with added tokens in between."""
    chance = random.Random(seed)
    everything = "".join(POOLS)

    def some(pool: str, most: int) -> str:
        return "".join(chance.choice(pool) for _ in range(chance.randint(0, most)))

    def any_text() -> str:
        kind = chance.randrange(4)
        if kind == 0:
            return some(everything, 30)
        if kind == 1:
            points = (chance.randrange(0x110000 if chance.random() < 0.3 else 0x3000) for _ in range(20))
            return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
        if kind == 2:
            return some(chance.choice(POOLS), 14)
        return some(chance.choice(POOLS), 8) + chance.choice(SPECIAL) + some(everything, 8) + chance.choice(SPECIAL)

    return [any_text() for _ in range(number)]


@pytest.fixture(scope="module")
def built(sources: list[bytes]) -> dict[str, Facts]:
    learned = [*SCRIPTS, *(source.decode("utf-8", "replace") for source in sources[:6])]
    return dict(families(learned))


@pytest.mark.parametrize("name", NAMES)
def test_equals_theirs(name: str, built: dict[str, Facts], sources: list[bytes]) -> None:
    facts = built[name]
    theirs, ours = Theirs.from_str(json.dumps(facts)), Tokenizer(read_huggingface(facts, Path("x.json")))
    documents = [*texts(NAMES.index(name), 120), *SCRIPTS, sources[7][:3000].decode("utf-8", "replace"), "", " ", "\n"]
    every = [chr(code) for code in range(NAMES.index(name), 0x110000, 211) if not 0xD800 <= code < 0xE000]
    documents += ["".join(every[at : at + 200]) for at in range(0, len(every), 200)]
    ids = [encoding.ids for encoding in theirs.encode_batch(documents, add_special_tokens=False)]
    assert ours.encode_batch(documents, allow_special=True) == ids
    for skip in (False, True):
        decoded = [reference_encoding.decode(ours.definition, row, skip) for row in ids]
        assert decoded == theirs.decode_batch(ids, skip_special_tokens=skip)
        assert decoded == ours.decode_batch(ids, skip_special=skip)
    theirs.encode_special_tokens = True
    plain = [encoding.ids for encoding in theirs.encode_batch(documents, add_special_tokens=False)]
    assert ours.encode_batch(documents) == plain
    assert ours.definition.pretokenizer == SCANNED.get(name, ours.definition.pretokenizer)


def test_an_added_token_is_decoded_as_it_is_matched() -> None:
    """Where it is matched in normalized text: normalized, and no special one then; 9 of 10,000 strings of Phi-3."""
    theirs = Theirs(models.BPE({"a": 0, "▁": 1, "b": 2, "▁a": 3}, [("▁", "a")]))
    theirs.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Lowercase()])
    theirs.add_tokens([AddedToken("<Th>", normalized=True)])
    theirs.add_special_tokens([AddedToken("<SP>", normalized=True, special=True), AddedToken("<RA>", normalized=False)])
    theirs.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    ours = Tokenizer(read_huggingface(json.loads(theirs.to_str()), Path("x.json")))
    for text in ("<Th>", "a<RA><th>b", "<SP>a", "A<RA><sp>", "<RA>"):
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, allow_special=True) == ids
        for skip in (False, True):
            wanted = theirs.decode(ids, skip_special_tokens=skip)
            assert ours.decode(ids, skip_special=skip) == wanted
            stream = ours.decode_stream(skip_special=skip)
            assert "".join([*map(stream.push, ids), stream.finish()]) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_definition_and_survives_its_file(name: str, built: dict[str, Facts]) -> None:
    definition = read_huggingface(built[name], Path("x.json"))
    again = from_json(json.loads(serialize(definition)), "again")
    assert again.fingerprint() == definition.fingerprint()
    ours = Tokenizer(again)
    for text in texts(1000 + NAMES.index(name), 25):
        for allow in (False, True):
            assert ours.encode(text, allow_special=allow) == reference_encoding.encode(definition, text, allow), text


@pytest.mark.parametrize("encoder", ["merge", "lbpe"])
@pytest.mark.parametrize(
    "name",
    ["StarCoder, SmolLM, Granite 3", "Phi-4", "DeepSeek V3, R1, V4", "Llama 2, TinyLlama, Yi", "Gemma 1", "BORA"],
)
def test_the_portable_engine_agrees(name: str, encoder: str, built: dict[str, Facts]) -> None:
    """Added tokens, unknown symbols and characters in both engines, by merges and by the longest token."""
    definition = read_huggingface(built[name], Path("x.json")).with_encoder(encoder)
    ours = Tokenizer(definition)
    portable = PortableEncoder(definition, ours.policy.cutter(definition))
    segments = Segments(definition)
    documents = [text.encode() for text in [*texts(77, 60), *SCRIPTS]] + [b"a\xff\xe3\x81b \xc0"]
    for allow in (False, True):
        text, ends, layout = segments.cut(documents, allow)
        ids, limits = segments.join(*portable.encode_batch(text, ends), layout)
        assert ours.encode_buffers(documents, allow_special=allow, threads=1) == (ids, limits)


@pytest.mark.parametrize(
    ("normalizer", "cuts"),
    [
        ([], True), ([{"type": "Prepend", "prepend": "▁"}], True), ([TO_MARK], False),
        ([TO_MARK, {"type": "Prepend", "prepend": "▁"}], False), ([TO_MARK, {"type": "Prepend", "prepend": " "}], True),
        ([TO_MARK, {"type": "NFKC"}], True), ([{"type": "NFKC"}, TO_MARK], False),
        ([TO_MARK, {"type": "Replace", "pattern": {"String": "▁"}, "content": "  "}], True),
    ],
)  # fmt: skip
def test_a_split_at_spaces_alone_cuts_where_the_normalizer_leaves_some(
    normalizer: list[Facts], cuts: bool, built: dict[str, Facts]
) -> None:
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            facts = built["Gemma 1"] | {
                "normalizer": {"type": "Sequence", "normalizers": normalizer},
                "pre_tokenizer": split(" ", behavior, invert, "String"),
            }
            theirs, definition = Theirs.from_str(json.dumps(facts)), read_huggingface(facts, Path("x.json"))
            assert definition.pretokenizer == (CUSTOM if cuts or invert else "none")
            again = from_json(json.loads(serialize(definition)), "again")
            for text in ("a b", " the  the ", "", " ", "\u00a0a\u00a0b", *texts(7, 20)):
                ids = theirs.encode(text, add_special_tokens=False).ids
                assert Tokenizer(definition).encode(text, allow_special=True) == ids, (behavior, invert, text)
                assert Tokenizer(again).encode(text, allow_special=True) == ids


def _strip(left: bool, right: bool) -> Facts:
    return {"type": "Strip", "strip_left": left, "strip_right": right}


FIRST = metaspace("first")
NFKC, PREPEND = {"type": "NFKC"}, {"type": "Prepend", "prepend": "▁"}
SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}


@pytest.mark.parametrize(
    ("cuts", "normalizer"),
    [
        ([{"type": "WhitespaceSplit"}], []), ([{"type": "Whitespace"}], []), ([{"type": "BertPreTokenizer"}], []),
        ([split("a", "Removed")], []), ([split("a", "Removed", True)], [TO_MARK]),
        ([{"type": "CharDelimiterSplit", "delimiter": "a"}, digits(True)], [{"type": "NFC"}]),
        ([], [PREPEND]), ([], [PREPEND, TO_MARK]), ([], [NFKC]), ([], [_strip(False, True), SPACES]),
    ],
)  # fmt: skip
def test_what_begins_the_text_is_what_begins_it_as_given(
    cuts: list[Facts], normalizer: list[Facts], built: dict[str, Facts]
) -> None:
    """Metaspace's `first` puts no mark before what follows dropped text."""
    facts = built["Mistral 7B"] | {
        "normalizer": {"type": "Sequence", "normalizers": normalizer},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, FIRST]},
    }
    theirs, ours = Theirs.from_str(json.dumps(facts)), Tokenizer(read_huggingface(facts, Path("x.json")))
    for text in ("the", " the", "  the", "athe", "aathe", "a", "\nthe", "12", "\ufb01a", "!the", *texts(11, 60)):
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, allow_special=True) == ids, text
        assert reference_encoding.encode(ours.definition, text, True) == ids


@pytest.mark.parametrize(
    ("normalizer", "cuts", "named"),
    [
        (_strip(True, False), [], "Strip is"), ({"type": "StripAccents"}, [], "StripAccents is"),
        ({"type": "Replace", "pattern": {"String": "a"}, "content": ""}, [], "Replace is"),
        (PREPEND, [digits(True)], "Prepend and the step Digits"), (NFKC, [split("f")], "NFKC and the step Split"),
    ],
)  # fmt: skip
def test_a_start_that_is_not_followed_is_refused(
    normalizer: Facts, cuts: list[Facts], named: str, built: dict[str, Facts]
) -> None:
    pipeline = {"type": "Sequence", "pretokenizers": [*cuts, FIRST]}
    facts = built["Mistral 7B"] | {"normalizer": normalizer, "pre_tokenizer": pipeline}
    with pytest.raises(UserError, match=f"prepend_scheme 'first' behind the normalizer {named}"):
        read_huggingface(facts, Path("x.json"))
