"""Exports read back by those they are written for: `tokenizers`, `transformers` (without llmtool) and `tiktoken`."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Theirs

from llmtool.core.bpe import agreement as agreements
from llmtool.core.bpe.added_tokens import special_tokens
from llmtool.core.bpe.agreement import Agreement, Check, agreement
from llmtool.core.bpe.export import export_huggingface, export_tiktoken
from llmtool.core.bpe.huggingface import read_huggingface
from llmtool.core.bpe.normalizers import NFC
from llmtool.core.run.errors import CheckError, CompleteError, UserError
from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS
from tests.core.bpe.foreign import BOS, EOS, KINDS, Facts, their_ids

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def texts(sources: list[bytes]) -> list[str]:
    return [source.decode("utf-8", "replace")[:20_000] for source in sources]


@pytest.fixture(scope="module")
def train(texts: list[str]) -> Callable[..., Tokenizer]:
    """Train with BOS, EOS, a pad token and a chat template."""

    def make(algorithm: str = "bpe", **settings: Any) -> Tokenizer:
        special = [EOS, "<|startoftext|>", "<|pad|>"]
        documents = texts[:12] + texts[-8:]
        if settings.get("pretokenizer") == "none":  # a document is one piece: lines, or merging takes long
            documents = [line for document in documents for line in document.splitlines()]
        made = Tokenizer.train_from_documents(documents, 700, algorithm=algorithm, special=special, **settings)
        return Tokenizer(replace(made.definition, chat_template=TEMPLATE))

    return make


@pytest.fixture
def only_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out transformers, which takes seconds to start."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name))


def change_json(path: Path, change: Callable[[Facts], None]) -> None:
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize("position", ["first", "last"])
@pytest.mark.parametrize("pretokenizer", ["gpt2", "llama3", "o200k", "qwen2", "none"])
@pytest.mark.usefixtures("only_tokenizers")
def test_plain_is_exact(
    train: Callable[..., Tokenizer], texts: list[str], tmp_path: Path, pretokenizer: str, position: str
) -> None:
    tokenizer = train(pretokenizer=pretokenizer, special_position=position)
    report = export_huggingface(tokenizer, tmp_path / "out", sample=texts[20:40])
    assert report.checks == (
        Check("tokenizers", 21, 21),
        Check("transformers", skipped="transformers is not installed"),
    )
    assert report.exact
    assert report.lines()[0] == "tokenizers: 21 of 21 documents equal, exact"
    again = Tokenizer.load(tmp_path / "out" / "tokenizer.json")
    assert again.encode_batch(texts[:10]) == tokenizer.encode_batch(texts[:10])
    assert Tokenizer.load(tmp_path / "out").fingerprint() == tokenizer.fingerprint()
    assert Tokenizer.load(tmp_path / "out" / "llmtool.json").definition == tokenizer.definition


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("only_tokenizers")
def test_foreign_in_and_out(texts: list[str], tmp_path: Path, kind: str) -> None:
    facts = KINDS[kind](texts[:6] + texts[-8:])
    tokenizer = Tokenizer(read_huggingface(facts, Path("tok.json")))
    assert export_huggingface(tokenizer, tmp_path / "out").exact
    written = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    documents = [*texts[10:20], *SCRIPTS, f"a{EOS}{BOS}b"]
    assert their_ids(written, documents) == their_ids(facts, documents)
    with_bos = Theirs.from_str(json.dumps(written)).encode("a", "b").ids
    assert with_bos == Theirs.from_str(json.dumps(facts)).encode("a", "b").ids


@pytest.mark.usefixtures("only_tokenizers")
def test_agreement_counts_differences(train: Callable[..., Tokenizer], texts: list[str], tmp_path: Path) -> None:
    """A changed export is not exact: merges swapped, another pattern, special tokens off by one."""
    tokenizer = train(special_position="last")

    def swapped_merges(facts: Facts) -> None:
        merges = facts["model"]["merges"]
        merges[0], merges[5] = merges[5], merges[0]

    def other_pattern(facts: Facts) -> None:
        facts["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\W+"

    def special_off_by_one(facts: Facts) -> None:
        facts["added_tokens"].append(facts["added_tokens"].pop(0))

    def other_decoder(facts: Facts) -> None:
        facts["decoder"] = {"type": "Fuse"}

    for change in (swapped_merges, other_pattern, special_off_by_one, other_decoder):
        directory = tmp_path / change.__name__
        export_huggingface(tokenizer, directory)
        change_json(directory / "tokenizer.json", change)
        report = agreement(tokenizer, directory, texts[:30])
        assert not report.exact
        assert report.checks[0].equal < report.checks[0].documents
        assert "exact" not in report.lines()[0]


def test_nothing_is_exact_unless_something_ran() -> None:
    assert not Agreement((Check("transformers", skipped="not installed"),)).exact
    assert not Agreement((Check("a", 2, 2), Check("b", 2, 1))).exact
    assert Agreement((Check("a", 2, 2), Check("b", skipped="not installed"))).exact


IN_TRANSFORMERS = """
import sys
sys.modules["llmtool"] = None  # an import of it fails
import copy, json, pickle
from pathlib import Path
import transformers
from transformers import AutoTokenizer

wanted = json.load(sys.stdin)
texts, ids, again = wanted["texts"], wanted["ids"], wanted["again"]

def same(tokenizer):
    assert [tokenizer.encode(text, add_special_tokens=False) for text in texts] == ids
    assert tokenizer(texts, add_special_tokens=False)["input_ids"] == ids
    assert [tokenizer.decode(row) for row in ids] == texts
    assert tokenizer.batch_decode(ids) == texts

tokenizer = AutoTokenizer.from_pretrained(wanted["directory"], trust_remote_code=True)
same(tokenizer)
assert len(tokenizer) == tokenizer.vocab_size == wanted["size"] == max(tokenizer.get_vocab().values()) + 1
for copied in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer), copy.copy(tokenizer)):
    same(copied)

batch = tokenizer(texts[:3], padding=True, truncation=True, max_length=16, add_special_tokens=False)
assert batch["input_ids"] == [row[:16] + [tokenizer.pad_token_id] * (16 - len(row)) for row in ids[:3]]
offsets = tokenizer(texts[0], return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
assert "".join(texts[0][start:end] for start, end in offsets) == texts[0] and len(offsets) == len(ids[0])
assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "<user>hi"
assert tokenizer.encode("a")[0] == tokenizer.bos_token_id == wanted["bos"]
assert tokenizer.eos_token_id == wanted["eos"]
plain = tokenizer(texts[-1], add_special_tokens=False, split_special_tokens=True)["input_ids"]
assert plain == wanted["plain"], (plain, wanted["plain"])

tokenizer.save_pretrained(again)
saved = AutoTokenizer.from_pretrained(again, trust_remote_code=True)
same(saved)
saved.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
same(saved)
saved.save_pretrained(again)
saved = AutoTokenizer.from_pretrained(again, trust_remote_code=True)
same(saved)
assert saved.convert_tokens_to_ids("<|new|>") == wanted["size"]

try:  # without the code: an error, never wrong ids
    transformers.PreTrainedTokenizerFast.from_pretrained(wanted["directory"])("hello world")
except Exception as error:
    assert "WordLevel" in str(error)
else:
    raise AssertionError("read without its code")
"""


def test_scaffolds_through_transformers(train: Callable[..., Tokenizer], texts: list[str], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    made = train("scaffold")
    tokenizer = Tokenizer(replace(made.definition, add_bos=True))
    assert len(tokenizer.definition.vocabulary.scaffolds) > 20
    report = export_huggingface(tokenizer, tmp_path / "out", sample=[*texts[20:40], *SCRIPTS, b"\xff\xfe", ""])
    assert report.checks == (Check("transformers", 31, 31),)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "README.md", "llmtool.json", "run.json", "special_tokens_map.json", "tokenization_llmtool.py", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    documents = [*texts[20:24], *SCRIPTS, "", f"a{EOS}<|pad|> b{EOS}"]
    wanted = {
        "directory": str(tmp_path / "out"),
        "again": str(tmp_path / "again"),
        "texts": documents,
        "ids": tokenizer.encode_batch(documents, allow_special=True),
        "plain": tokenizer.encode(documents[-1]),
        "size": tokenizer.vocab_size,
        "bos": tokenizer.special_tokens["<|startoftext|>"],
        "eos": tokenizer.eos_id,
    }
    done = subprocess.run(
        [sys.executable, "-c", IN_TRANSFORMERS],
        input=json.dumps(wanted).encode(),
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()
    again = Tokenizer.load(tmp_path / "again")
    assert again.special_tokens == {**tokenizer.special_tokens, "<|new|>": tokenizer.vocab_size}
    assert again.encode_batch(documents) == tokenizer.encode_batch(documents)


def test_an_export_that_cannot_be_read_is_an_error(train: Callable[..., Tokenizer], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    tokenizer = train("scaffold")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmtool.core.bpe.export.agreement", lambda *_, **__: Agreement(()))
        export_huggingface(tokenizer, tmp_path / "out")
    (tmp_path / "out" / "llmtool.json").unlink()
    with pytest.raises(UserError, match=r"transformers cannot read the export: OSError: llmtool\.json is missing"):
        agreement(tokenizer, tmp_path / "out")


@pytest.mark.usefixtures("only_tokenizers")
@pytest.mark.parametrize("write", [export_huggingface, export_tiktoken])
def test_a_failed_check_leaves_nothing(
    write: Callable[..., Agreement], train: Callable[..., Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(directory: Path, *_: Any) -> Any:
        assert (directory.name, (directory / "run.json").is_file()) == ("a name", True)
        raise agreements.CannotReadError("they cannot read the export")

    monkeypatch.setattr(agreements, "_by_tokenizers", broken)
    monkeypatch.setattr(agreements, "_by_tiktoken", broken)
    for _ in range(2):
        with pytest.raises(UserError, match=r"a name: they cannot read the export"):
            write(train(), tmp_path / "a name")
        assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("only_tokenizers")
def test_the_verdict_of_an_unequal_export_is_repeated(
    train: Callable[..., Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, theirs = tmp_path / "out", agreements._by_tokenizers
    with monkeypatch.context() as patch:
        patch.setattr(agreements, "_by_tokenizers", lambda *given: replace(theirs(*given), prompt=[1]))
        assert not export_huggingface(train(), out).exact
        with pytest.raises(CheckError, match=r"out: complete already, and not equal: .*a prompt 'a' is \[1\]") as found:
            export_huggingface(train(), out)
    assert (found.value.status, out.is_dir()) == (3, True)
    with pytest.raises(CompleteError):  # readers that have been mended
        export_huggingface(train(), out)


@pytest.mark.parametrize("pretokenizer", ["gpt2", "llama3", "o200k", "none"])
def test_tiktoken_is_exact(
    train: Callable[..., Tokenizer], texts: list[str], tmp_path: Path, pretokenizer: str
) -> None:
    pytest.importorskip("tiktoken")
    position = "last" if pretokenizer == "gpt2" else "first"
    tokenizer = train(pretokenizer=pretokenizer, special_position=position)
    sample = texts[20:40]
    if pretokenizer == "none":
        sample = [line for text in sample for line in text.splitlines()]
    report = export_tiktoken(tokenizer, tmp_path / "my tok", sample=sample)
    assert report.checks == (Check("tiktoken", len(sample) + 1, len(sample) + 1),)
    facts = json.loads((tmp_path / "my tok" / "my_tok.json").read_text())
    assert (facts["eos"], facts["bos"], facts["chat_template"]) == (EOS, "<|startoftext|>", TEMPLATE)


def test_the_lines_of_the_readme_load_it(train: Callable[..., Tokenizer], tmp_path: Path) -> None:
    pytest.importorskip("tiktoken")
    tokenizer = train()
    export_tiktoken(tokenizer, tmp_path / "tok")
    lines = re.findall(r"(?m)^    (.*)$", (tmp_path / "tok" / "README.md").read_text())
    code = "\n".join([*lines, f"print(encoding.encode({SCRIPTS[0]!r}), encoding.n_vocab)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path / "tok")
    assert done.stdout == f"{tokenizer.encode(SCRIPTS[0])} {tokenizer.vocab_size}\n", done.stderr


def test_what_tiktoken_cannot_hold_is_refused(train: Callable[..., Tokenizer], tmp_path: Path) -> None:
    plain = train()
    definition = plain.definition
    vocabulary = definition.vocabulary
    emit = list(vocabulary.emit)
    emit[300], emit[301] = emit[301], emit[300]
    refused = {
        "the encoder 'lbpe'": plain.with_encoder("lbpe"),
        "scaffolds cannot": train("scaffold"),
        "the normalizer NFC": Tokenizer(replace(definition, normalizer=(NFC,))),
        "comes after a larger id": Tokenizer(replace(definition, vocabulary=replace(vocabulary, emit=emit))),
        "made by no merge": Tokenizer(
            replace(definition, vocabulary=replace(vocabulary, merges=vocabulary.merges[:-1]))
        ),
    }
    for message, tokenizer in refused.items():
        with pytest.raises(UserError, match=message):
            export_tiktoken(tokenizer, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_special_token_spelled_like_a_token_is_refused(train: Callable[..., Tokenizer], tmp_path: Path) -> None:
    definition = train().definition
    special = {"<|pad|>": 2, EOS: 0, "e": 1}
    changed = replace(definition, vocabulary=replace(definition.vocabulary, added=special_tokens(special)), bos=None)
    with pytest.raises(UserError, match="'e' is spelled like a token"):
        export_huggingface(Tokenizer(changed), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("only_tokenizers")
def test_only_an_earlier_export_is_replaced(train: Callable[..., Tokenizer], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty directory is no obstacle
    for write in (export_huggingface, export_tiktoken):
        write(train(), out, force=True)
        with pytest.raises(CompleteError):
            write(train(), out)
    (out / "model.safetensors").write_text("precious")
    for write in (export_huggingface, export_tiktoken):
        for force in (False, True):
            said = "run.json does not name" if force or write is export_tiktoken else "made by"
            with pytest.raises(UserError, match="complete already" if write is export_tiktoken and not force else said):
                write(train(), out, force=force)
    assert (out / "model.safetensors").read_text() == "precious"


@pytest.mark.usefixtures("only_tokenizers")
def test_config(train: Callable[..., Tokenizer], tmp_path: Path) -> None:
    tokenizer = train()
    export_huggingface(tokenizer, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["chat_template"] == TEMPLATE
    assert config["clean_up_tokenization_spaces"] is False
    assert config["add_bos_token"] is False
    roles = {"bos_token": "<|startoftext|>", "eos_token": EOS, "pad_token": "<|pad|>"}
    assert {role: config[role] for role in roles} == roles
    assert json.loads((tmp_path / "out" / "special_tokens_map.json").read_text()) == roles
    assert "auto_map" not in config
    numbers = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["model"]["vocab"]
    assert list(numbers.values()) == list(range(tokenizer.vocab_size))


def test_sample_is_in_many_scripts() -> None:
    everything = "".join(agreements.SAMPLE)
    for name in ("日", "ગ", "а", "ا", "한", "ไ", "\u0301", "\u3000", "\r\n", "👩"):
        assert name in everything
