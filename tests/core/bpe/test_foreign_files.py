"""Files of others that are no tokenizer.json: SentencePiece's model, and GPT-2's two files."""

import json
import random
import struct
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Theirs
from tokenizers import decoders, models, normalizers, pre_tokenizers

from llmtool.core.bpe.charsmap import CharsMap, charsmap
from llmtool.core.bpe.normalizers import normalize
from llmtool.core.bpe.reference_encoding import encode as by_definition
from llmtool.core.run.errors import UserError
from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS
from tests.core.bpe.families import byte_tokenizer, character_tokenizer
from tests.core.bpe.test_families import texts

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
Pieces = list[tuple[str, float, int]]


def field(number: int, value: int | bytes | float) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def model(pieces: Pieces, training: dict[int, int], normalizing: dict[int, int | bytes]) -> bytes:
    """A SentencePiece model."""
    listed = [field(1, field(1, text.encode()) + field(2, score) + field(3, kind)) for text, score, kind in pieces]
    specs = [
        field(number, b"".join(field(key, value) for key, value in spec.items()))
        for number, spec in ((2, training), (3, normalizing))
    ]
    return b"".join([*listed, *specs])


def double_array(entries: dict[bytes, str]) -> bytes:
    """A charsmap in the layout of darts-clone, its nodes placed one by one at the first offset that is free."""
    texts, places = b"", {}
    for key, text in entries.items():
        places[key] = len(texts)
        texts += text.encode() + b"\0"
    units = {0: 0}
    taken: set[int] = {0}

    def put(prefix: bytes, node: int) -> None:
        following = sorted({key[len(prefix)] for key in entries if key.startswith(prefix) and len(key) > len(prefix)})
        labels = [*([0] if prefix in entries else []), *following]
        offset = next(o for o in range(1, 1 << 20) if not {node ^ o ^ label for label in labels} & taken)
        units[node] |= offset << 10 | (0x100 if prefix in entries else 0)
        taken.update(node ^ offset ^ label for label in labels)
        for label in labels:
            child = node ^ offset ^ label
            units[child] = places[prefix] | 1 << 31 if label == 0 and prefix in entries else label
        for label in following:
            put(prefix + bytes([label]), node ^ offset ^ label)

    put(b"", 0)
    array = [units.get(number, 0) for number in range((max(units) | 255) + 257)]  # whole blocks, as theirs
    trie = struct.pack(f"<{len(array)}I", *array)
    return struct.pack("<I", len(trie)) + trie + texts


NORMAL_FORMS = {
    "ﬁ": "fi", "①": "1", "½": "1⁄2", "\t": " ", "\n": " ", "\x07": "", "\u3000": " ", "e\u0301": "é", "o\u0302": "ô",
    "o\u0302\u0301": "ố", "ｶ": "カ", "ｶﾞ": "ガ", "क़": "क\u093c", "\u0915\u094d\u0937": "क्ष!", "Ａ": "A", "\u200d": "",
}  # fmt: skip
TABLE = double_array({key.encode(): text for key, text in NORMAL_FORMS.items()})


def learned() -> list[str]:
    """Pieces in the order in which they were learned, characters last, as SentencePiece has them."""
    facts = character_tokenizer([*SCRIPTS])["model"]["vocab"]
    pieces = [text for text in facts if not text.startswith("<")]
    return [*(text for text in pieces if len(text) > 1), *(text for text in pieces if len(text) == 1)]


def some_model(
    symbols: tuple[str, ...] = (), *, byte_fallback: bool = True, **spec: int | bytes
) -> tuple[bytes, Pieces]:
    pieces: Pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(text, 0.0, USER_DEFINED) for text in symbols]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)] if byte_fallback else []
    pieces += [(text, -float(place), NORMAL) for place, text in enumerate(learned()) if text not in symbols]
    numbers = {"charsmap": 2, "dummy_prefix": 3, "extra_spaces": 4}
    return model(pieces, {3: 2, 35: int(byte_fallback)}, {numbers[key]: value for key, value in spec.items()}), pieces


def literal(
    text: str, pieces: Pieces, symbols: tuple[str, ...], *, charsmap: bool, dummy_prefix: bool, extra_spaces: bool,
    byte_fallback: bool,
) -> list[int]:  # fmt: skip
    """SentencePiece as its paper and its source say: normalize at the longest match, join the best pair, leftmost."""
    keys = {**(NORMAL_FORMS if charsmap else {}), **{symbol: symbol for symbol in symbols}}
    if extra_spaces:
        text = text.lstrip(" ")
    out: list[str] = []
    at = 0
    while at < len(text):
        candidates = sorted((key for key in keys if text.startswith(key, at)), key=len)
        whole = [key for key in candidates if key in symbols][-1:] or candidates[-1:]
        size = len(whole[0]) if whole else 1
        new = keys[whole[0]] if whole else text[at]
        while extra_spaces and new.startswith(" ") and (not out or out[-1].endswith(" ")):
            new = new[1:]
        out += [new] if new else []
        at += size
    normal = "".join(out).replace(" ", "▁")
    if not normal:
        return []
    normal = "▁" * dummy_prefix + normal
    if extra_spaces:
        normal = normal.rstrip("▁")
    parts: list[tuple[str, bool]] = []  # (text, whether it may be joined)
    at = 0
    while at < len(normal):
        found = max((s for s in symbols if normal.startswith(s, at)), key=len, default="")
        parts.append((found, False) if found else (normal[at], True))
        at += len(found) or 1
    scores = {piece: (score, number) for number, (piece, score, kind) in enumerate(pieces) if kind == NORMAL}
    while True:
        pairs = [
            (scores[a + b][0], -place)
            for place, ((a, x), (b, y)) in enumerate(pairwise(parts))
            if x and y and a + b in scores
        ]
        if not pairs:
            break
        place = -max(pairs)[1]
        parts[place : place + 2] = [(parts[place][0] + parts[place + 1][0], True)]
    numbers = {text: number for number, (text, _, kind) in enumerate(pieces) if kind in (NORMAL, USER_DEFINED)}
    every = {text: number for number, (text, _, _) in enumerate(pieces)}
    ids: list[int] = []
    unknown = False
    for part, _ in parts:
        if part in numbers:
            ids.append(numbers[part])
        elif byte_fallback:
            ids += [every[f"<0x{byte:02X}>"] for byte in part.encode()]
        elif not unknown:
            ids.append(0)
        unknown = part not in numbers and not byte_fallback
    return ids


HOSTILE = [
    "", " ", "  ", "▁", " ▁ ", "a  b", " a", "a ", "\t\n", "ﬁ①½ e\u0301o\u0302\u0301 ｶﾞｶ", "<sep>", " <sep> a", "a<sep>",
    "①<sep>①  <sep>", "<s>a</s><unk>", "क़ि\u0915\u094d\u0937", "<0x41>", "ﬁ<sep>ﬁ \u200d",
]  # fmt: skip


@pytest.mark.parametrize("symbols", [(), ("<sep>", "①", "<sep>①")])
@pytest.mark.parametrize("byte_fallback", [True, False])
@pytest.mark.parametrize("spec", range(8))
def test_a_sentencepiece_model(
    spec: int, byte_fallback: bool, symbols: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charsmap, dummy_prefix, extra_spaces = bool(spec & 1), bool(spec & 2), bool(spec & 4)
    data, pieces = some_model(
        symbols, byte_fallback=byte_fallback, charsmap=TABLE if charsmap else b"", dummy_prefix=dummy_prefix,
        extra_spaces=extra_spaces,
    )  # fmt: skip
    (tmp_path / "tokenizer.model").write_bytes(data)
    monkeypatch.setenv("LLMTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("llmtool.core.bpe.compiled.SMALLEST", 0)
    ours = Tokenizer.load(tmp_path)
    for text in [*HOSTILE, *SCRIPTS, *(text for text in texts(spec, 60) if "\u200d" not in text)]:
        expected = literal(
            text, pieces, symbols, charsmap=charsmap, dummy_prefix=dummy_prefix, extra_spaces=extra_spaces,
            byte_fallback=byte_fallback,
        )  # fmt: skip
        assert ours.encode(text) == expected, text
    assert by_definition(ours.definition, HOSTILE[13]) == ours.encode(HOSTILE[13])
    assert (ours.bos_id, ours.eos_id) == (1, 2)
    assert ours.encode("</s>", allow_special=True) == [2]
    assert Tokenizer.load(tmp_path / "tokenizer.model") == ours  # from the cache
    ours.save(tmp_path / "own.json")
    assert Tokenizer.load(tmp_path / "own.json").encode_batch(HOSTILE) == ours.encode_batch(HOSTILE)


def test_sentencepiece_itself(tmp_path: Path) -> None:
    """Where it is installed."""
    spm = pytest.importorskip("sentencepiece")
    (tmp_path / "text.txt").write_text("\n".join(SCRIPTS), encoding="utf-8")
    for name, how in (("a", {}), ("b", {"normalization_rule_name": "identity", "remove_extra_whitespaces": False})):
        spm.SentencePieceTrainer.train(
            input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / name), model_type="bpe", vocab_size=700,
            hard_vocab_limit=False, character_coverage=0.98, user_defined_symbols=["<sep>"], minloglevel=2, **how,
        )  # fmt: skip
        theirs = spm.SentencePieceProcessor(model_file=str(tmp_path / f"{name}.model"))
        ours = Tokenizer.load(tmp_path / f"{name}.model")
        for text in [*HOSTILE, *SCRIPTS, *texts(5, 200)]:
            assert ours.encode(text) == theirs.encode(text), text


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (model([("<unk>", 0.0, UNKNOWN), ("a", 0.0, NORMAL)], {3: 1}, {}), "Unigram, not of BPE"),
        (model([("<unk>", 0.0, UNKNOWN), ("a", 0.0, NORMAL)], {}, {}), "Unigram, not of BPE"),
        (model([("<unk>", 0.0, UNKNOWN), ("a", 0.0, NORMAL)], {3: 3}, {}), "words"),
        (model([("<unk>", 0.0, UNKNOWN), ("a", 0.0, UNUSED)], {3: 2}, {}), "unused"),
        (model([("<unk>", 0.0, UNKNOWN), ("a", 0.0, NORMAL)], {3: 2, 24: 1}, {}), "treat_whitespace_as_suffix"),
        (model([("<unk>", 0.0, UNKNOWN), ("a", 0.0, NORMAL)], {3: 2}, {2: b"\1\2"}), "precompiled_charsmap"),
        (model([("a", 0.0, NORMAL), ("a", 0.0, NORMAL)], {3: 2}, {}), "same text"),
        (some_model()[0][:-3], "cut short"),
        (some_model()[0][:1000], "complete"),
        (b"\x0a\x05\x0a\x03abc\xff", "SentencePiece"),
    ],
)
def test_other_models_are_refused_by_name(data: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(UserError) as raised:
        Tokenizer.load(tmp_path)
    assert what in f"{raised.value} {raised.value.hint}"


def test_a_damaged_model_is_a_line_or_a_tokenizer(tmp_path: Path) -> None:
    chance = random.Random(2)
    whole = model([("<unk>", 0.0, UNKNOWN), ("▁a", -1.0, NORMAL), ("▁", -2.0, NORMAL), ("a", -3.0, NORMAL)], {3: 2}, {})
    for _ in range(400):
        data = bytearray(whole[: chance.choice((len(whole), chance.randrange(1, len(whole))))])
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        (tmp_path / "tokenizer.model").write_bytes(data)
        with suppress(UserError):
            Tokenizer.load(tmp_path).encode("a b")


def test_a_charsmap_does_what_theirs_does() -> None:
    theirs = normalizers.Precompiled(TABLE)
    table = CharsMap(TABLE)
    chance = random.Random(4)
    alphabet = [*"".join(NORMAL_FORMS), *"ab \r\n\u0301\u0302가\u1100\u1161👩\u200d🏳️\u0600"]
    for _ in range(3000):
        text = "".join(chance.choice(alphabet) for _ in range(chance.randint(0, 12)))
        assert table.by_grapheme(text) == theirs.normalize_str(text), text
    for code in (*range(0x80, 0x1200), *range(0x1200, 0xD800, 41), *range(0xE000, 0x20000, 41)):
        text = f"① {chr(code)}①{chr(code)}ｶ"
        assert table.by_grapheme(text) == theirs.normalize_str(text), text
    assert table.longest("o\u0302\u0301ｶﾞ") == "ốガ"


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0\0\0\0\0", b"\5\0\0\0aaaaaaa", struct.pack("<I", 400) + TABLE[4:90]])
def test_a_broken_charsmap_is_refused(data: bytes) -> None:
    import base64

    with pytest.raises(UserError, match="precompiled_charsmap"):
        charsmap(base64.b64encode(data).decode(), "x")


def test_a_damaged_charsmap_ends_no_process() -> None:
    chance = random.Random(1)
    for _ in range(200):
        data = bytearray(TABLE)
        for _ in range(5):
            data[chance.randrange(4, len(data))] = chance.randrange(256)
        CharsMap(bytes(data)).longest("ﬁ①e\u0301o\u0302\u0301ｶﾞ\t")


@pytest.mark.parametrize("kind", ["Lowercase", "StripAccents"])
def test_a_normalizer_on_every_code_point(kind: str) -> None:
    theirs = getattr(normalizers, kind)()
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for text in ["\n".join(every[at : at + 5000]) for at in range(0, len(every), 5000)] + ["ΑΣ ΑΣ. İ e\u0301"]:
        assert normalize(text, [{"type": kind}]) == theirs.normalize_str(text)


def two_files(directory: Path, facts: dict[str, Any], names: tuple[str, str] = ("vocab.json", "merges.txt")) -> None:
    merges = [line if isinstance(line, str) else " ".join(line) for line in facts["model"]["merges"]]
    (directory / names[0]).write_text(json.dumps(facts["model"]["vocab"]))
    (directory / names[1]).write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def gpt2_of(facts: dict[str, Any], **how: Any) -> Theirs:
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in facts["model"]["merges"]]
    merges = [(left, right) for left, right in pairs]
    theirs = Theirs(models.BPE(facts["model"]["vocab"], merges))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=how.get("add_prefix_space", False))
    theirs.decoder = decoders.ByteLevel()
    return theirs


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_two_files(names: tuple[str, str], tmp_path: Path) -> None:
    facts = byte_tokenizer([*SCRIPTS])
    two_files(tmp_path, facts, names)
    theirs, ours = gpt2_of(facts), Tokenizer.load(tmp_path)
    documents = [*texts(3, 200), *SCRIPTS]
    assert ours.encode_batch(documents) == [row.ids for row in theirs.encode_batch(documents)]
    assert ours.definition.pretokenizer == "gpt2"
    assert (ours.definition.bos, ours.definition.eos) == ("<|endoftext|>", "<|endoftext|>")
    for name in names:
        assert Tokenizer.load(tmp_path / name) == ours


def test_two_files_with_a_prefix(tmp_path: Path) -> None:
    """As `tokenizers` saves a model."""
    gpt2_of(byte_tokenizer([*SCRIPTS])).model.save(str(tmp_path), "my")
    ours = Tokenizer.load(tmp_path / "my-vocab.json")
    assert ours == Tokenizer.load(tmp_path / "my-merges.txt")
    assert ours.decode(ours.encode(SCRIPTS[0])) == SCRIPTS[0]


def test_what_stands_beside_two_files(tmp_path: Path) -> None:
    facts = byte_tokenizer([*SCRIPTS])
    two_files(tmp_path, facts)
    size = len(facts["model"]["vocab"])
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<think>": size, "<pad>": size + 1}))
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": {"content": "<pad>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = Tokenizer.load(tmp_path)
    assert (ours.definition.pretokenizer, ours.definition.normalizer_name) == ("qwen2", "NFC")
    assert ours.encode("<think><pad>") == [size, *ours.encode("<pad>")]
    assert ours.special_tokens == {"<|im_end|>": 2, "<pad>": size + 1}
    assert ours.definition.eos == "<|im_end|>"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CTRLTokenizer"}))
    with pytest.raises(UserError, match="how it cuts texts is not known"):
        Tokenizer.load(tmp_path)


def test_special_tokens_that_a_config_names_by_id(tmp_path: Path) -> None:
    """As RoBERTas are published whose trainer saved the model alone."""
    facts = byte_tokenizer([*SCRIPTS])
    two_files(tmp_path, facts)
    vocabulary = facts["model"]["vocab"]
    begin, end, learned = vocabulary["<|im_start|>"], vocabulary["<|im_end|>"], max(vocabulary.values())
    ids = {"bos_token_id": begin, "eos_token_id": [end, 7], "pad_token_id": learned, "sep_token_id": 10**6}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **ids}))
    ours = Tokenizer.load(tmp_path)
    assert ours.special_tokens == {"<|endoftext|>": 0, "<|im_start|>": begin, "<|im_end|>": end}
    assert (ours.definition.bos, ours.definition.eos) == ("<|im_start|>", "<|im_end|>")
    assert ours.encode("a<|im_end|>", allow_special=True) == [*ours.encode("a"), end]
    assert Tokenizer.load(tmp_path) == ours  # from the cache
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "eos_token_id": begin}))
    assert Tokenizer.load(tmp_path).definition.eos == "<|im_start|>"


def test_robertas_two_files(tmp_path: Path) -> None:
    facts = byte_tokenizer([*SCRIPTS])
    two_files(tmp_path, facts)
    config = {"tokenizer_class": "RobertaTokenizer", "cls_token": "<|im_start|>", "sep_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"add_prefix_space": True}))
    ours, theirs = Tokenizer.load(tmp_path), gpt2_of(facts, add_prefix_space=True)
    documents = [*texts(3, 100), *SCRIPTS]
    assert ours.encode_batch(documents) == [row.ids for row in theirs.encode_batch(documents)]
    assert ours.definition.around == ([1], [2])


def test_a_file_without_its_other_half(tmp_path: Path) -> None:
    two_files(tmp_path, byte_tokenizer([*SCRIPTS]))
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match="the directory holds no tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(UserError, match="not a tokenizer file"):
        Tokenizer.load(tmp_path / "vocab.json")
