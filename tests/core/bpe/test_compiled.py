"""The cache of vocabularies: what was read comes back; what is damaged, foreign or cannot be written is no matter."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmtool.core.bpe import compiled, engine
from llmtool.core.bpe.export import export_huggingface
from llmtool.tokenizer import Tokenizer, load_definition
from tests.conftest import SCRIPTS
from tests.core.bpe.families import families
from tests.core.bpe.test_families import texts


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "SMALLEST", 0)
    return tmp_path / "cache" / "vocabularies"


@pytest.fixture
def tok(tmp_path: Path) -> Path:
    path = tmp_path / "tok.json"
    Tokenizer.train_from_documents(SCRIPTS * 2, 500, algorithm="scaffold", special=["<|endoftext|>"]).save(path)
    return path


def refuse(*_: Any) -> Any:
    raise AssertionError("read anew")


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.exists() else []


def test_every_family_comes_back(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for name, facts in families(list(SCRIPTS)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(facts))
    first = [load_definition(path) for path in paths]
    assert len(entries(cache)) == len({path.read_bytes() for path in paths})
    monkeypatch.setattr("llmtool.tokenizer.json_object", refuse)
    for path, definition in zip(paths, first, strict=True):
        again = load_definition(path)
        assert again == definition
        assert again.fingerprint() == definition.fingerprint()


def test_our_file_comes_back(cache: Path, tok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Tokenizer.load(tok)
    monkeypatch.setattr("llmtool.tokenizer.json_object", refuse)
    again = Tokenizer.load(tok)
    assert first == again
    assert again.definition.vocabulary.scaffolds
    assert first.encode(SCRIPTS[0]) == again.encode(SCRIPTS[0])


def test_the_engines_tables_come_back(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llmtool.core.bpe._engine")
    paths, documents = [], [*SCRIPTS, *texts(8, 60)]
    for name, facts in families(list(SCRIPTS)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(facts))
    monkeypatch.setattr(compiled, "KEPT", 1000)
    first = [Tokenizer.load(path).encode_batch(documents, allow_special=True) for path in paths]
    monkeypatch.setattr(engine, "_build", refuse)
    assert [Tokenizer.load(path).encode_batch(documents, allow_special=True) for path in paths] == first


def test_damaged_tables_are_built_anew(cache: Path, tok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llmtool.core.bpe._engine")
    first = Tokenizer.load(tok)
    ids = first.encode(SCRIPTS[0])
    (tables,) = (path for path in entries(cache) if path.name.count("-") > 3)
    whole = tables.read_bytes()
    for damaged in (b"", whole[:60], whole[:-1], whole[:90] + b"\xff" + whole[91:], whole + b"x"):
        tables.write_bytes(damaged)
        assert Tokenizer.load(tok).encode(SCRIPTS[0]) == ids
        assert tables.read_bytes() == whole
    for state in (whole[51:-1], whole[51:] + b"x", b"\xff" * 8, whole[51:90]):  # what a digest would let through
        with pytest.raises(ValueError, match="state"):
            engine._NATIVE.Encoder(state)  # type: ignore[union-attr]
    lbpe = first.with_encoder("lbpe")
    assert lbpe.encode(SCRIPTS[0]) == Tokenizer(lbpe.definition).encode(SCRIPTS[0])


def test_settings_beside_are_read_each_time(cache: Path, tok: Path, tmp_path: Path) -> None:
    plain = Tokenizer.train_from_documents(SCRIPTS * 2, 500, special=["<|endoftext|>"])
    export_huggingface(plain, tmp_path / "out")
    assert load_definition(tmp_path / "out").chat_template is None
    (tmp_path / "out" / "chat_template.jinja").write_text("{{ 1 }}")
    assert load_definition(tmp_path / "out").chat_template == "{{ 1 }}"


def test_an_encoders_export_is_looked_at_whole(cache: Path, tmp_path: Path) -> None:
    lbpe = Tokenizer.train_from_documents(SCRIPTS * 2, 500, encoder="lbpe")
    export_huggingface(lbpe, tmp_path / "out")
    stock = tmp_path / "out" / "tokenizer.json"
    assert [load_definition(stock).encoder for _ in range(2)] == ["lbpe", "lbpe"]
    assert not entries(cache)


def test_damage_is_seen(cache: Path, tok: Path) -> None:
    first = load_definition(tok)
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    for place in (0, 10, 25, 40, 55, 60, 100, len(whole) // 2, len(whole) - 1):
        entry.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert compiled.load_entry(entry) is None
        assert load_definition(tok) == first
        assert entry.read_bytes() == whole  # written anew
    for size in (0, 5, 30, 51, 60, len(whole) - 1):
        entry.write_bytes(whole[:size])
        assert compiled.load_entry(entry) is None
        assert load_definition(tok) == first


def test_what_others_could_have_written_is_not_used(cache: Path, tok: Path) -> None:
    load_definition(tok)
    (entry,) = entries(cache)
    assert entry.stat().st_mode & 0o777 == 0o600
    assert cache.stat().st_mode & 0o777 == 0o700
    entry.chmod(0o622)
    assert compiled.load_entry(entry) is None


def test_another_version_has_other_entries(cache: Path, tok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_definition(tok)
    monkeypatch.setattr(compiled, "FORM", compiled.FORM + 1)
    load_definition(tok)
    assert len(entries(cache)) == 2


def test_a_cache_that_cannot_be_written_is_none(
    tmp_path: Path, cache: Path, tok: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMTOOL_CACHE", "off")
    first = load_definition(tok)
    (tmp_path / "file").write_bytes(b"")
    for place in ("/dev/null", "/proc/nowhere", str(tmp_path / "file")):
        monkeypatch.setenv("LLMTOOL_CACHE", place)
        assert load_definition(tok) == first
    assert not entries(cache)


def test_a_full_disk_leaves_nothing(cache: Path, tok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert load_definition(tok) == load_definition(tok)
    assert not entries(cache)


def test_many_at_once(cache: Path, tok: Path) -> None:
    first = load_definition(tok)
    for entry in entries(cache):
        entry.unlink()
    with ThreadPoolExecutor(8) as pool:
        assert all(definition == first for definition in pool.map(load_definition, [tok] * 40))
    (entry,) = entries(cache)
    assert compiled.load_entry(entry) is not None


def test_the_oldest_go(cache: Path, tok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "KEPT", 3)
    load_definition(tok)
    (entry,) = entries(cache)
    for number in range(5):
        old = entry.with_name(f"old-{number}")
        old.write_bytes(b"")
        os.utime(old, (number, number))
    entry.unlink()
    load_definition(tok)
    assert [path.name for path in entries(cache)] == sorted([entry.name, "old-3", "old-4"])


def test_small_files_are_not_kept(cache: Path, tok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "SMALLEST", tok.stat().st_size + 1)
    load_definition(tok)
    assert not entries(cache)
