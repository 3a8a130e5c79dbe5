"""The public class: round trips of any bytes, special tokens, batches, offsets, normalization, saving."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from llmtool import Tokenizer
from llmtool.core.bpe import engine
from llmtool.core.bpe.encoder import CACHED_PIECES
from llmtool.core.bpe.normalizers import NFC
from llmtool.core.bpe.pretokenizers import PRETOKENIZERS, split
from llmtool.core.bpe.tokenizer import Text
from llmtool.core.bpe.vocabulary import decode_text, encode_text
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS
from tests.core.bpe.strategies import any_bytes

EVERY_KIND = [(a, e) for a in ("bpe", "scaffold") for e in ("merge", "lbpe")]


@pytest.fixture(scope="module")
def trained(sources: list[bytes]) -> dict[tuple[str, str, str], Tokenizer]:
    """A tokenizer of each kind and pre-tokenizer."""
    text = [source[:2500] for source in sources[-14:]]
    return {
        (algorithm, encoder, pretokenizer): Tokenizer.train_from_documents(
            text,
            600,
            algorithm=algorithm,
            encoder=encoder,
            pretokenizer=pretokenizer,
            special=["<|endoftext|>", "<|end|>", "<|en"],
        )
        for algorithm, encoder in EVERY_KIND
        for pretokenizer in PRETOKENIZERS
        if pretokenizer in ("llama3", "gpt2") or (algorithm, encoder) == ("bpe", "merge")
    }


@given(data=any_bytes)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_survive(trained: dict[Any, Tokenizer], data: bytes) -> None:
    for tokenizer in trained.values():
        ids = tokenizer.encode(data)
        assert tokenizer.decode_bytes(ids) == data
        assert encode_text(tokenizer.decode(ids, errors="surrogateescape")) == data
        assert tokenizer.encode(decode_text(data)) == ids


def test_text_rule() -> None:
    assert encode_text("\udcff") == b"\xff"
    assert decode_text(b"\xff\xc3\xa9") == "\udcffé"
    assert encode_text("a\ud800") == b"a\xed\xa0\x80"
    assert encode_text("\ud800\udcff") == b"\xed\xa0\x80\xff"


def test_special_tokens_are_plain_text_unless_allowed(trained: dict[Any, Tokenizer]) -> None:
    for tokenizer in trained.values():
        text = "a<|endoftext|><|end|>b<|en"
        end, short, shorter = (tokenizer.special_tokens[t] for t in ("<|endoftext|>", "<|end|>", "<|en"))
        plain = tokenizer.encode(text)
        assert not {end, short, shorter} & set(plain)
        assert tokenizer.decode(plain) == text
        allowed = tokenizer.encode(text, allow_special=True)
        assert allowed == [*tokenizer.encode("a"), end, short, *tokenizer.encode("b"), shorter]
        assert tokenizer.decode(allowed) == text


def test_batches_equal_single_documents(each_engine: str, trained: dict[Any, Tokenizer], sources: list[bytes]) -> None:
    texts: list[Text] = [*SCRIPTS, "", "<|endoftext|>", *[source[:3000] for source in sources[:5]], ""]
    for original in trained.values():
        tokenizer = Tokenizer(original.definition)  # a fresh one: its engine is chosen now
        single = [tokenizer.encode(text) for text in texts]
        assert all(tokenizer.encode_batch(texts, threads=threads) == single for threads in (1, 2, 5))
        special = [tokenizer.encode(text, allow_special=True) for text in texts]
        assert tokenizer.encode_batch(texts, allow_special=True, threads=2) == special
        assert tokenizer.encode_batch([]) == []


def test_engines_give_the_same_ids(
    trained: dict[Any, Tokenizer], sources: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[Text] = [*SCRIPTS, *sources[:12], b"a" * 3000, " " * 500 + "x", bytes(range(256)) * 3]
    first = {key: Tokenizer(tokenizer.definition).encode_batch(texts) for key, tokenizer in trained.items()}
    monkeypatch.setattr(engine, "_NATIVE", None)
    for key, tokenizer in trained.items():
        texts_here = [text if key[2] != "none" else text[:300] for text in texts]
        wanted = first[key] if key[2] != "none" else tokenizer.encode_batch(texts_here)
        assert Tokenizer(tokenizer.definition).encode_batch(texts_here) == wanted


def test_offsets_cover_the_text(trained: dict[Any, Tokenizer]) -> None:
    for tokenizer in trained.values():
        for text in SCRIPTS:
            data, ids = text.encode(), tokenizer.encode(text)
            offsets = tokenizer.offsets(ids)
            assert [data[a:b] for a, b in offsets] == [tokenizer.token_bytes(token) for token in ids]
            assert b"".join(data[a:b] for a, b in offsets) == data


def test_explain_shows_pieces_and_units(trained: dict[Any, Tokenizer]) -> None:
    for (_, _, pretokenizer), tokenizer in trained.items():
        vocabulary = tokenizer.definition.vocabulary
        for text in SCRIPTS:
            shown = tokenizer.explain(text)
            assert [piece for piece, _ in shown] == split(pretokenizer, text.encode())
            assert all(b"".join(vocabulary.units[unit] for unit in units) == piece for piece, units in shown)
            written = [token for _, units in shown for unit in units for token in vocabulary.emit[unit]]
            assert written == tokenizer.encode(text)


def test_normalization_is_nfc(trained: dict[Any, Tokenizer]) -> None:
    from dataclasses import replace

    plain = trained["bpe", "merge", "qwen2"]
    tokenizer = Tokenizer(replace(plain.definition, normalizer=(NFC,)))
    assert tokenizer.encode("e\u0301") == plain.encode("é") != plain.encode("e\u0301")
    assert tokenizer.encode(b"e\xcc\x81\xff") == plain.encode(b"\xc3\xa9\xff")
    assert tokenizer.encode("abc") == plain.encode("abc")
    assert tokenizer.fingerprint() != plain.fingerprint()


def test_save_and_load(trained: dict[Any, Tokenizer], tmp_path: Path) -> None:
    for number, tokenizer in enumerate(trained.values()):
        path = tmp_path / f"{number}.json"
        tokenizer.save(path)
        loaded = Tokenizer.load(path)
        assert loaded.definition.to_json() == tokenizer.definition.to_json()
        assert loaded.fingerprint() == tokenizer.fingerprint()
        assert loaded.encode_batch(SCRIPTS) == tokenizer.encode_batch(SCRIPTS)
        loaded.save(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_train_reads_files(write: Callable[..., Path]) -> None:
    rows = "".join(json.dumps({"body": line}) + "\n" for line in SCRIPTS)
    path = write("rows.jsonl", rows)
    from_file = Tokenizer.train([path], 400, field="body", special=["<s>"], special_position="last")
    from_texts = Tokenizer.train_from_documents(SCRIPTS, 400, special=["<s>"], special_position="last")
    assert from_file.fingerprint() == from_texts.fingerprint()
    assert from_file.definition.training["documents"] == len(SCRIPTS)
    assert from_file.special_tokens == {"<s>": from_file.vocab_size - 1}


def test_bad_ids_and_texts(trained: dict[Any, Tokenizer]) -> None:
    tokenizer = trained["bpe", "merge", "gpt2"]
    with pytest.raises(UserError, match="id 600 is not in the vocabulary"):
        tokenizer.decode([1, 600])
    with pytest.raises(UserError, match="holds no text"):
        Tokenizer.train_from_documents([], 300)
    with pytest.raises(UserError, match="algorithm 'lbpe' means encoder 'lbpe', not 'merge'"):
        Tokenizer.train_from_documents(["a"], 300, algorithm="lbpe", encoder="merge")
    with pytest.raises(UserError, match="did you mean 'scaffold'"):
        Tokenizer.train_from_documents(["a"], 300, algorithm="scafold")


def test_a_tokenizer_goes_to_other_processes(trained: dict[Any, Tokenizer]) -> None:
    import copy
    import pickle

    for tokenizer in trained.values():
        wanted = tokenizer.encode(SCRIPTS[0])
        for other in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
            assert other == tokenizer
            assert other.encode(SCRIPTS[0]) == wanted
    assert trained["bpe", "merge", "gpt2"] != trained["bpe", "merge", "llama3"]
    assert "gpt2" in repr(trained["bpe", "merge", "gpt2"])


def test_what_is_no_text(trained: dict[Any, Tokenizer]) -> None:
    tokenizer = trained["bpe", "merge", "gpt2"]
    calls: list[Any] = [
        lambda: tokenizer.encode(5),  # type: ignore[arg-type]
        lambda: tokenizer.encode_batch("abc"),
        lambda: Tokenizer.train_from_documents("abc", 300),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_what_the_engine_cannot_hold_is_refused_before_it_is_written() -> None:
    if engine.NAME == "python":
        pytest.skip("the portable engine has no such limit")
    with pytest.raises(UserError, match="too large"):
        Tokenizer.train_from_documents([bytes([97 + n]) * (1 << 20) for n in range(6)], 500, max_token_bytes=1 << 30)


def test_the_portable_cache_is_bounded() -> None:
    assert CACHED_PIECES <= 1 << 20
