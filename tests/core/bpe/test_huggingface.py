"""Foreign files: ids equal `tokenizers`, whatever would change them is refused by name, nothing crashes."""

import copy
import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Theirs

from llmtool import catalog
from llmtool.core.bpe.definition import Beside
from llmtool.core.bpe.definition_file import from_json
from llmtool.core.bpe.encoder import PortableEncoder
from llmtool.core.bpe.export import export_huggingface
from llmtool.core.bpe.huggingface import read_huggingface
from llmtool.core.bpe.stock_form import number_added_tokens
from llmtool.core.bpe.vocabulary import BYTE_TO_UNICODE
from llmtool.core.run.errors import UserError
from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS
from tests.core.bpe.foreign import BOS, EOS, GPT4, KINDS, THINK, Facts, as_strings, their_ids

HOSTILE = ["", " ", "\n\n \n", "a" * 400, " " * 200 + "x", "x" + EOS + EOS + " " + BOS, EOS + "!", f"a{THINK}b</think>"]


@pytest.fixture(scope="module")
def texts(sources: list[bytes]) -> list[str]:
    return [source.decode("utf-8", "replace") for source in sources]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, texts: list[str]) -> Facts:
    return KINDS[request.param](texts[:10] + texts[-8:])


def tiny_facts() -> Facts:
    """GPT-2's kind with five merges, a special token in the vocabulary and one after it."""
    vocab = {text: number for number, text in enumerate([EOS, *BYTE_TO_UNICODE.values()])}
    merges = [["a", "b"], ["Ġ", "ab"], ["b", "c"], ["ab", "c"], ["Ã", "©"]]
    vocab.update({left + right: len(vocab) + place for place, (left, right) in enumerate(merges)})
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(0, EOS), added(262, "<x>")],
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None, "decoder": dict(byte_level),
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": merges},
    }  # fmt: skip


@pytest.fixture
def tiny() -> Facts:
    return tiny_facts()


def added(number: int, content: str, **flags: bool) -> Facts:
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **usual, **flags}


def read(facts: Facts, path: str = "tok.json") -> Tokenizer:
    encoders = {name: catalog.resolve(catalog.ENCODING, name) for name in catalog.options(catalog.ENCODING)}
    return Tokenizer(read_huggingface(copy.deepcopy(facts), Path(path), encoders))


def test_ids_equal_theirs(kind: Facts, texts: list[str]) -> None:
    documents = [*texts[10:40], *SCRIPTS, "xylophone a xylophone", *HOSTILE]
    wanted = their_ids(kind, documents)
    assert read(kind).encode_batch(documents, allow_special=True) == wanted
    assert read(as_strings(kind)).encode_batch(documents, allow_special=True) == wanted
    assert [Theirs.from_str(json.dumps(kind)).decode(row, skip_special_tokens=False) for row in wanted] == [
        read(kind).decode(row) for row in wanted
    ]


def test_special_tokens_are_text_unless_allowed(kind: Facts) -> None:
    theirs = Theirs.from_str(json.dumps(kind))
    theirs.encode_special_tokens = True
    document = f"a{EOS} {BOS}b"
    assert read(kind).encode(document) == theirs.encode(document, add_special_tokens=False).ids
    assert theirs.token_to_id(EOS) not in read(kind).encode(document)


def test_different_files_give_different_ids(kind: Facts, texts: list[str]) -> None:
    """The comparison has teeth: a file changed in one place is read as another tokenizer."""
    wanted = their_ids(kind, texts[10:20])

    def swapped_merges(facts: Facts) -> None:
        merges = facts["model"]["merges"]
        merges[0], merges[5] = merges[5], merges[0]

    def swapped_ids(facts: Facts) -> None:
        vocab = facts["model"]["vocab"]
        vocab["e"], vocab["t"] = vocab["t"], vocab["e"]

    def other_pattern(facts: Facts) -> None:
        whole = facts["pre_tokenizer"] == {**facts["pre_tokenizer"], "use_regex": False}
        facts["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": whole}

    for change in (swapped_merges, swapped_ids, other_pattern):
        facts = copy.deepcopy(kind)
        change(facts)
        assert read(facts).encode_batch(texts[10:20]) != wanted, change.__name__


# Nonspacing marks of recent Unicode versions are unknown to their normalizer: those of `composing` are old.
assigned = st.text(st.characters(exclude_categories=("Cs", "Cn", "Co", "Mn")), max_size=40)
composing = st.text("eoA><K\u212b\u0301\u0323\u0338\u0308 가ᄀ\u1161x\n1", max_size=20)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(assigned, composing, st.sampled_from([EOS, THINK, "'S", " "])), max_size=6).map("".join))
def test_any_text(normalizing: tuple[Tokenizer, Theirs], text: str) -> None:
    ours, theirs = normalizing
    assert ours.encode(text, allow_special=True) == theirs.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def normalizing(texts: list[str]) -> tuple[Tokenizer, Theirs]:
    facts = KINDS["qwen3"](texts[:4] + texts[-8:])
    return read(facts), Theirs.from_str(json.dumps(facts))


def test_a_special_token_goes_before_normalization(normalizing: tuple[Tokenizer, Theirs]) -> None:
    """U+0338 after ">" composes to U+226F; the token before it stands all the same."""
    ours, theirs = normalizing
    text = f"a{EOS}\u0338b"
    assert ours.encode(text, allow_special=True) == theirs.encode(text, add_special_tokens=False).ids
    assert ours.special_tokens[EOS] in ours.encode(text, allow_special=True)


def at(*path: str | int, value: Any) -> Callable[[Facts], None]:
    """A change: the value at a path."""

    def change(facts: Facts) -> None:
        reduce(lambda inner, key: inner[key], path[:-1], facts)[path[-1]] = value  # type: ignore[index]

    return change


def without_a_byte() -> dict[str, int]:
    vocab: dict[str, int] = tiny_facts()["model"]["vocab"]
    return {("qq" if text == "q" else text): number for text, number in vocab.items()}


def sequence(key: str, *steps: Facts) -> Facts:
    return {"type": "Sequence", key: list(steps)}


def split_by(pattern: str, behavior: str = "Isolated") -> Facts:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}

UNSPELLED = {"漢": 263, "<x>": 262}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": EOS, "type_id": 0}}],
    "pair": [], "special_tokens": {EOS: {"id": EOS, "ids": [0], "tokens": [EOS]}},
}  # fmt: skip
CUTTING_BYTES = {**BYTES, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
TRUNCATION = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
    "pad_token": EOS,
}  # fmt: skip

READ = {
    "byte_fallback": at("model", "byte_fallback", value=True),
    "unk_token": at("model", "unk_token", value="<unk>"),
    "fuse_unk": at("model", "fuse_unk", value=True),
    "field of the model": at("model", "cap", value=1),
    "truncation": at("truncation", value=TRUNCATION),
    "padding": at("padding", value=PADDING),
    "NFKC": at("normalizer", value=sequence("normalizers", {"type": "NFC"}, {"type": "NFKC"})),
    "add_prefix_space": at("pre_tokenizer", "add_prefix_space", value=True),
    "Whitespace": at("pre_tokenizer", value={"type": "Whitespace"}),
    "no pre_tokenizer": at("pre_tokenizer", value=None),
    "Digits after ByteLevel": at("pre_tokenizer", value=sequence("pretokenizers", BYTES, DIGITS)),
    "another regex": at("pre_tokenizer", value=sequence("pretokenizers", split_by(r"\w+"), BYTES)),
    "Removed": at("pre_tokenizer", value=sequence("pretokenizers", split_by(GPT4, "Removed"), BYTES)),
    "Split then ByteLevel": at("pre_tokenizer", value=sequence("pretokenizers", split_by(GPT4), CUTTING_BYTES)),
    "no decoder": at("decoder", value=None),
    "a template": at("post_processor", value=TEMPLATE),
    "lstrip": at("added_tokens", 1, "lstrip", value=True),
    "rstrip": at("added_tokens", 1, "rstrip", value=True),
    "single_word": at("added_tokens", 1, "single_word", value=True),
    "white space": at("added_tokens", 1, value=added(262, "  ", special=False)),
    "an empty added token": at("added_tokens", 1, "content", value=""),
    "an added letter": at("added_tokens", 1, value=added(65, "a")),
    "an added token of the vocabulary": at("added_tokens", 1, value=added(257, "ab")),
    "overlapping tokens": at("added_tokens", 1, value=added(262, "<|endoftext|>!", normalized=True)),
    "an entry that spells nothing": at("model", "vocab", value={**tiny_facts()["model"]["vocab"], **UNSPELLED}),
    "a missing byte": at("model", "vocab", value=without_a_byte()),
    "special ones that normalize": at("added_tokens", 1, "normalized", value=True),
    "no version": lambda facts: facts.pop("version"),
    "cache_capacity": at("model", "cache_capacity", value=100),
    "an empty entry": at("model", "vocab", "", value=262),
}  # fmt: skip
"""Settings that other readers choke on."""

REFUSED = {
    "model.type 'WordPiece'": at("model", "type", value="WordPiece"),
    "model.type 'Unigram'": at("model", "type", value="Unigram"),
    "model.type 'WordLevel'": at("model", "type", value="WordLevel"),
    "model is not": at("model", value=[]),
    "model.dropout 0.1": at("model", "dropout", value=0.1),
    "model.continuing_subword_prefix '##'": at("model", "continuing_subword_prefix", value="##"),
    "model.end_of_word_suffix '</w>'": at("model", "end_of_word_suffix", value="</w>"),
    "model.ignore_merges is 1": at("model", "ignore_merges", value=1),
    "version '2.0'": at("version", value="2.0"),
    "unknown field 'extra'": at("extra", value=1),
    "normalizer 'Nmt'": at("normalizer", value={"type": "Nmt"}),
    "decoder 'BPEDecoder'": at("decoder", value={"type": "BPEDecoder"}),
    "unknown field added_tokens[1].'more'": at("added_tokens", 1, "more", value=0),
    "numbers it 262": at("added_tokens", 1, "id", value=263),
    "given twice": at("added_tokens", 1, "content", value=EOS),
    "added_tokens[0].id is -1": at("added_tokens", 0, "id", value=-1),
    "model.vocab['ab'] is -1": at("model", "vocab", "ab", value=-1),
    "model.vocab['ab'] is 4000000000": at("model", "vocab", "ab", value=4_000_000_000),
    "model.vocab['ab'] is True": at("model", "vocab", "ab", value=True),
    "model.vocab['ab'] is 1.0": at("model", "vocab", "ab", value=1.0),
    "share an id": at("model", "vocab", "ab", value=5),
    "model.vocab is not": at("model", "vocab", value=[]),
    "model.merges is not": at("model", "merges", value={}),
    "model.merges[0] 'a b c'": at("model", "merges", 0, value="a b c"),
    "model.merges[1] joins or makes 'zz'": at("model", "merges", 1, value=["zz", "a"]),
    "model.merges[2] 7 is not a pair": at("model", "merges", 2, value=7),
    "model.merges[3] ['a', 1]": at("model", "merges", 3, value=["a", 1]),
    "post_processor 'Other'": at("post_processor", value={"type": "Other"}),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_refused_by_name(tiny: Facts, message: str) -> None:
    REFUSED[message](tiny)
    with pytest.raises(UserError) as refused:
        read(tiny, "some/tok.json")
    text = str(refused.value)
    assert text.startswith("some/tok.json: ")
    assert message in text
    assert len(text) < 400


@pytest.mark.parametrize("change", READ)
def test_read_as_theirs(tiny: Facts, change: str) -> None:
    READ[change](tiny)
    if change == "an empty entry":
        tiny["added_tokens"][1]["id"] = 263
    documents = ["abc ab bc é", f"abcab<x>{EOS}! <x>  a<x>b\t", "1 2 12 b<x>", "q qq a", "漢 a", "  ab  c", f"a {EOS}"]
    ours, facts = read(tiny), {**tiny, "truncation": None, "padding": None}
    assert ours.encode_batch(documents, allow_special=True) == their_ids(facts, documents)
    theirs = Theirs.from_str(json.dumps(facts))
    theirs.encode_special_tokens = True
    wanted = [encoding.ids for encoding in theirs.encode_batch(documents, add_special_tokens=False)]
    assert ours.encode_batch(documents) == wanted


def holes(facts: Facts) -> None:
    facts["model"]["vocab"].update({"ab": 1000, "<x>": 900})
    facts["added_tokens"] = [added(900, "<x>"), added(263, "<y>")]


@pytest.mark.parametrize(
    "change",
    [
        holes,
        at("model", "merges", value=["a b", "b c", "a b"]),
        at("model", "merges", value=[]),
        at("model", "ignore_merges", value=True),
        at("model", "dropout", value=0.0),
        lambda facts: facts["model"].pop("type"),
        at("added_tokens", value=[]),
        at("added_tokens", 1, value=added(262, "abc<")),
    ],
)
def test_odd_but_legal(tiny: Facts, change: Callable[[Facts], None]) -> None:
    """Holes, merges listed twice, tokens that no merge reaches."""
    change(tiny)
    documents = ["abc ab bc é", "abcab<x>" + EOS, "abc<y>"]
    ours = read(tiny)
    assert ours.encode_batch(documents, allow_special=True) == their_ids(tiny, documents)


def test_byte_level_cuts_by_the_pattern_of_gpt2_unless_told(tiny: Facts) -> None:
    del tiny["pre_tokenizer"]["use_regex"]
    assert read(tiny).definition.pretokenizer == "gpt2"
    tiny["pre_tokenizer"]["use_regex"] = False
    assert read(tiny).definition.pretokenizer == "none"


@pytest.mark.parametrize("contents", [["<a>", "<b>"], ["<b>", "ab", "<a>"], [EOS, "<a>"]])
def test_added_tokens_are_numbered_as_theirs(tiny: Facts, contents: list[str]) -> None:
    tiny["model"]["vocab"]["ab"] = 999
    tiny["added_tokens"] = [added(0, content) for content in contents]
    theirs = Theirs.from_str(json.dumps(tiny))
    wanted = [theirs.token_to_id(content) for content in contents]
    assert number_added_tokens(contents, tiny["model"]["vocab"]) == wanted


json_values = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 300), st.floats(allow_nan=False), st.text("ab<>Ġ", max_size=3),
    st.just([]), st.just({}), st.just(["a", "b"]), st.just({"type": "Sequence"}), st.just({"type": "NFC"}),
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_any_change_is_read_as_theirs_or_refused(data: st.DataObject) -> None:
    facts = tiny_facts()
    for _ in range(data.draw(st.integers(1, 2))):
        inner: Any = facts
        while True:
            keys = sorted(inner) if isinstance(inner, dict) else list(range(len(inner)))
            key = data.draw(st.sampled_from(keys[:40]))
            if isinstance(inner[key], dict | list) and inner[key] and data.draw(st.booleans()):
                inner = inner[key]
                continue
            inner[key] = copy.deepcopy(data.draw(json_values))
            break
    documents = ["abc ab é ab", "a<x>b" + EOS, "Ab  c\n"]
    try:
        ours = read(facts).encode_batch(documents, allow_special=True)
    except UserError:
        return
    try:
        wanted = their_ids(facts, documents)
    except Exception:  # they raise no other class: a file they refuse has no right ids
        return
    assert ours == wanted


@pytest.fixture
def directory(tmp_path: Path, tiny: Facts) -> Callable[..., Path]:
    """A directory with tokenizer.json and other files."""

    def make(**files: Any) -> Path:
        for name, content in {"tokenizer": tiny, **files}.items():
            path = tmp_path / (name.replace("__", ".") if "__" in name else f"{name}.json")
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return make


def test_settings_beside(directory: Callable[..., Path]) -> None:
    config = {"eos_token": {"content": EOS}, "bos_token": "<x>", "add_bos_token": True, "chat_template": "{{ a }}"}
    definition = Tokenizer.load(directory(tokenizer_config=config)).definition
    assert (definition.bos, definition.eos, definition.add_bos) == ("<x>", EOS, True)
    assert definition.chat_template == "{{ a }}"
    where = directory(
        tokenizer_config={"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]},
        special_tokens_map={"eos_token": EOS},
        generation_config={"bos_token_id": [262, 3], "eos_token_id": 262},
    )
    definition = Tokenizer.load(where).definition
    assert (definition.bos, definition.eos, definition.add_bos) == ("<x>", EOS, False)
    assert definition.chat_template == "d"
    assert Tokenizer.load(directory(chat_template__jinja="{# j #}")).definition.chat_template == "{# j #}"


def test_tokens_put_around_a_text_are_known_and_written(directory: Callable[..., Path], tmp_path: Path) -> None:
    config = {"bos_token": "<x>", "eos_token": EOS, "add_bos_token": True, "add_eos_token": True}
    tokenizer = Tokenizer.load(directory(tokenizer_config=config))
    assert tokenizer.definition.around == ([262], [0])
    assert tokenizer.encode_prompt("a") == [262, *tokenizer.encode("a")]
    export_huggingface(tokenizer, tmp_path / "out")
    theirs = Theirs.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert theirs.encode("a").ids == [262, *tokenizer.encode("a"), 0]


def test_what_stands_beside_is_carried(directory: Callable[..., Path]) -> None:
    config = {
        "bos_token": "<x>", "eos_token": {"content": EOS, "special": True}, "pad_token": {"content": "<x>"},
        "unk_token": None, "model_max_length": 1_000, "padding_side": "left", "clean_up_tokenization_spaces": True,
        "additional_special_tokens": ["<x>", {"content": EOS}], "extra_special_tokens": {"image_token": "<x>"},
        "legacy": False, "tokenizer_class": "LlamaTokenizer", "name_or_path": "/home/someone/model",
        "max_length": 8, "stride": 0, "truncation_strategy": "longest_first",
    }  # fmt: skip
    (directory() / "additional_chat_templates").mkdir()
    (directory() / "additional_chat_templates" / "tool_use.jinja").write_text("{# tools #}")
    where = directory(tokenizer_config=config, special_tokens_map={"sep_token": EOS, "pad_token": EOS})
    definition = Tokenizer.load(where).definition
    assert definition.beside == Beside(
        roles={
            "pad_token": "<x>", "additional_special_tokens": ["<x>", EOS],
            "extra_special_tokens": {"image_token": "<x>"}, "sep_token": EOS,
        },
        templates={"tool_use": "{# tools #}"},
        config={
            "model_max_length": 1_000, "padding_side": "left", "clean_up_tokenization_spaces": True, "legacy": False
        },
    )  # fmt: skip
    assert from_json(definition.to_json(), "x") == definition
    assert Tokenizer(definition).fingerprint() == Tokenizer.load(where / "tokenizer.json").fingerprint()


def test_a_template_that_prepends_bos(directory: Callable[..., Path], tiny: Facts) -> None:
    single = [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    known = {"<x>": {"id": "<x>", "ids": [262], "tokens": ["<x>"]}}
    tiny["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": known}
    definition = Tokenizer.load(directory()).definition
    assert (definition.bos, definition.add_bos) == ("<x>", True)
    known["<x>"]["ids"] = [261]
    with pytest.raises(UserError, match="'<x>' is not the added token"):
        Tokenizer.load(directory())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"auto_map": {"AutoTokenizer": ["a.B", None]}}, "auto_map: the tokenizer is custom code"),
        ({"add_prefix_space": True}, "add_prefix_space"),
        ({"eos_token": "</s>"}, "eos_token '</s>' is not an added token"),
        ({"eos_token": 7}, "eos_token None is not"),
        ({"added_tokens_decoder": {"263": {"content": "<new>"}}}, "added_tokens_decoder['263']"),
        ({"added_tokens_decoder": {"261": {"content": "<x>"}}}, "added_tokens_decoder['261']"),
        ({"chat_template": 3}, "chat_template is not a text"),
    ],
)
def test_settings_that_contradict(directory: Callable[..., Path], config: Facts, message: str) -> None:
    where = directory(tokenizer_config=config)
    with pytest.raises(UserError) as refused:
        Tokenizer.load(where)
    assert str(refused.value).startswith(str(where / "tokenizer_config.json"))
    assert message in str(refused.value)


def test_hostile_files(directory: Callable[..., Path], tmp_path: Path) -> None:
    for content in ("{" * 100_000, '{"model":' * 5_000, "[1]", '{"model": ', "\x00"):
        (tmp_path / "deep.json").write_text(content)
        with pytest.raises(UserError, match=r"deep\.json"):
            Tokenizer.load(tmp_path / "deep.json")
    with pytest.raises(UserError, match="chat_template"):
        where = directory()
        (where / "chat_template.jinja").write_bytes(b"\xff\xfe")
        Tokenizer.load(where)
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        Tokenizer.load(tmp_path.parent)


@pytest.mark.parametrize("characters", [False, True])
def test_an_unknown_token_that_is_no_entry_is_missed_only_where_it_is_needed(characters: bool) -> None:
    model = {"type": "BPE", "unk_token": "<unk>", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    facts = {"model": model, "pre_tokenizer": None if characters else byte_level}
    theirs, ours = Theirs.from_str(json.dumps(facts)), Tokenizer(read_huggingface(facts, Path("x.json")))
    assert ours.encode("abba") == theirs.encode("abba").ids == [2, 1, 0]
    assert ours.encode_batch(["ab", "", "b"]) == [[2], [], [1]]
    portable = PortableEncoder(ours.definition, ours.policy.cutter(ours.definition))
    assert portable.encode(b"abba") == ours.encode_buffers(["abba"])[0]
    for text in ("abc", "zab"):
        with pytest.raises(Exception, match="Unk token"):
            theirs.encode(text)
        said = r"the unknown token '<unk>' is not in the vocabulary, and a text needs it"
        with pytest.raises(UserError, match=said):
            ours.encode(text)
        with pytest.raises(UserError, match=said):
            ours.encode_batch(["ab", text])
        with pytest.raises(UserError, match=said):
            portable.encode(text.encode())
