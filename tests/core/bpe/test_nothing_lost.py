"""What a foreign tokenizer's directory says comes out of an export; and what is lost, is found by the check."""

import importlib.util
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken as TheirToken
from tokenizers import Tokenizer as Theirs
from tokenizers import normalizers, processors

from llmtool.core.bpe import export_card
from llmtool.core.bpe.agreement import agreement
from llmtool.core.bpe.export import export_huggingface
from llmtool.core.bpe.export_card import card, gguf_pre, versions
from llmtool.core.bpe.huggingface import read_huggingface
from llmtool.core.bpe.pretokenizers import PRETOKENIZERS
from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS
from tests.core.bpe.families import families
from tests.core.bpe.foreign import QWEN2, cut_by, trained

CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CONFIG = {
    "tokenizer_class": "Qwen2Tokenizer", "bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
    "unk_token": None, "model_max_length": 4096, "padding_side": "left", "truncation_side": "left",
    "clean_up_tokenization_spaces": True, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    "chat_template": [{"name": "default", "template": CHAT}, {"name": "tool_use", "template": "{# tools #}" + CHAT}],
}  # fmt: skip
"""Everything that the reports of lost settings name."""


@pytest.fixture(scope="module")
def source(sources: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like Qwen3's directory: NFC, markup that is not special, a BOS put by a template; and flags of every kind."""
    texts = [text.decode("utf-8", "replace") for text in (*sources[:6], *sources[-4:])]
    tokenizer = trained(texts, cut_by(QWEN2), normalizer=normalizers.NFC())
    tokenizer.add_special_tokens(["<s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(
        [
            TheirToken("<think>", normalized=False), TheirToken("</think>", normalized=False),
            TheirToken("<mask>", lstrip=True), TheirToken("word", single_word=True), TheirToken("        "),
            TheirToken("<end>", rstrip=True, normalized=False),
        ]
    )  # fmt: skip
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", start)]
    )
    directory = tmp_path_factory.mktemp("source")
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    return directory


@pytest.fixture
def only_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize("encoder", ["merge", "lbpe"])
def test_everything_comes_out(source: Path, tmp_path: Path, encoder: str) -> None:
    pytest.importorskip("transformers")
    tokenizer = Tokenizer.load(source).with_encoder(encoder)
    report = export_huggingface(tokenizer, tmp_path / "out")
    assert report.exact, report.lines()
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    kept = {name: value for name, value in CONFIG.items() if name not in ("tokenizer_class", "unk_token")}
    assert {name: config[name] for name in kept} == kept
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    ours, theirs = (json.loads((path / "tokenizer.json").read_text()) for path in (tmp_path / "out", source))
    for part in ("added_tokens", "normalizer", "post_processor"):
        assert ours[part] == theirs[part]
    again = Tokenizer.load(tmp_path / "out")
    assert again.definition.encoder == encoder
    for name in ("bos", "eos", "chat_template", "beside", "post_processor"):
        assert getattr(again.definition, name) == getattr(tokenizer.definition, name)
    assert again.definition.vocabulary.added == tokenizer.definition.vocabulary.added
    assert Tokenizer.load(tmp_path / "out" / "llmtool.json").definition == tokenizer.definition
    if encoder == "merge":  # LBPE's stock form has no merges to read
        assert again.fingerprint() == tokenizer.fingerprint()


@pytest.mark.usefixtures("only_tokenizers")
def test_every_family_comes_out(tmp_path: Path) -> None:
    """Also SentencePiece's alphabets, byte fallback, odd added tokens and templates around a text."""
    checked = 0
    for name, facts in families(list(SCRIPTS)):
        report = export_huggingface(Tokenizer(read_huggingface(facts, Path("x.json"))), tmp_path / str(checked))
        assert report.exact, (name, report.lines())
        checked += 1
    assert checked >= 24


def test_what_is_lost_is_named(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    tokenizer = Tokenizer.load(source)
    out = tmp_path / "out"
    export_huggingface(tokenizer, out)

    def lose(config: dict[str, Any]) -> None:
        config["pad_token"] = "<|im_end|>"
        config["chat_template"] = CHAT
        for name in ("model_max_length", "padding_side", "additional_special_tokens", "clean_up_tokenization_spaces"):
            del config[name]
        config["added_tokens_decoder"] = {}

    edit(out / "tokenizer_config.json", lose)
    edit(out / "tokenizer.json", lambda facts: facts.update(post_processor=None))
    edit(out / "tokenizer.json", lambda facts: [token.update(special=True) for token in facts["added_tokens"]])
    (out / "special_tokens_map.json").unlink()
    stock, full = agreement(tokenizer, out).checks
    assert not stock.exact
    assert not full.exact
    assert stock.equal < stock.documents  # decoded without special tokens the markup is gone
    named = " ".join(full.differs)
    for name in ("prompt", "added token", "pad_token", "chat_template", "model_max_length", "padding_side"):
        assert name in named


@pytest.mark.parametrize("flag", ["special", "lstrip", "rstrip", "single_word", "normalized"])
@pytest.mark.usefixtures("only_tokenizers")
def test_each_flag_is_compared(source: Path, tmp_path: Path, flag: str) -> None:
    tokenizer = Tokenizer.load(source)
    out = tmp_path / "out"
    assert export_huggingface(tokenizer, out).exact

    def flip(facts: dict[str, Any]) -> None:
        token = next(token for token in facts["added_tokens"] if token["content"] == "<think>")
        token[flag] = not token[flag]

    edit(out / "tokenizer.json", flip)
    report = agreement(tokenizer, out)
    assert not report.exact
    assert "added token" in report.lines()[1]


def test_the_source_s_own_class_is_found_out(source: Path, tmp_path: Path) -> None:
    """transformers 5 builds Qwen2Tokenizer's pipeline anew: a config copied over an LBPE export gives other ids."""
    pytest.importorskip("transformers")
    if int(version("transformers").split(".")[0]) < 5:
        pytest.skip("transformers 4 runs tokenizer.json whatever the class")
    tokenizer = Tokenizer.load(source).with_encoder("lbpe")
    export_huggingface(tokenizer, tmp_path / "out")
    (tmp_path / "out" / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
    stock, full = agreement(tokenizer, tmp_path / "out").checks
    assert stock.exact
    assert full.equal < full.documents
    assert not full.exact


@pytest.mark.usefixtures("only_tokenizers")
def test_every_version_of_tokenizers_reads_the_merges(source: Path, tmp_path: Path) -> None:
    """Pairs came with 0.20, and GPT-2's regex is ByteLevel's own, the only spelling of ours that 1.0 knows."""
    export_huggingface(Tokenizer.load(source), tmp_path / "out")
    merges = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["model"]["merges"]
    assert all(isinstance(merge, str) and merge.count(" ") == 1 for merge in merges)
    export_huggingface(Tokenizer.train_from_documents(SCRIPTS, 400, pretokenizer="gpt2"), tmp_path / "gpt2")
    cuts = json.loads((tmp_path / "gpt2" / "tokenizer.json").read_text())["pre_tokenizer"]
    assert (cuts["type"], cuts["use_regex"]) == ("ByteLevel", True)
    assert Tokenizer.load(tmp_path / "gpt2").definition.pretokenizer == "gpt2"


@pytest.mark.usefixtures("only_tokenizers")
def test_a_version_that_refuses_is_not_checked(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tokenizers 1.0 takes no Split behind ByteLevel; that is said, and no agreement claimed."""
    tokenizer = Tokenizer.load(source).with_encoder("lbpe")

    class Refusing:
        @staticmethod
        def from_file(path: str) -> Theirs:
            raise ValueError("a `ByteLevel` pre-tokenizer must be the last member")

    monkeypatch.setattr("tokenizers.Tokenizer", Refusing)
    report = export_huggingface(tokenizer, tmp_path / "out")
    assert not report.exact
    assert "refuses it: a `ByteLevel` pre-tokenizer must be the last member" in report.lines()[0]


def test_the_card_names_versions_and_llama_cpp_s_pre_tokenizer() -> None:
    def made(pretokenizer: str = "llama3", algorithm: str = "bpe", encoder: str = "merge") -> Tokenizer:
        return Tokenizer.train_from_documents(
            SCRIPTS * 2, 420, pretokenizer=pretokenizer, algorithm=algorithm, encoder=encoder
        )

    known = {"llama3": "dbrx", "cl100k": "dbrx", "gpt2": "gpt-2", "qwen2": "qwen2", "o200k": "gpt-4o", "none": None}
    for name, pre in known.items():
        assert gguf_pre(made(name).definition) == pre
    from dataclasses import replace

    whole = replace(made().definition, ignore_merges=True)
    assert gguf_pre(whole) == "llama-bpe"
    assert gguf_pre(replace(made("qwen2").definition, ignore_merges=True)) is None
    assert "tokenizers >= 0.13" in versions(made().definition)
    assert "0.19" in versions(whole)
    for algorithm, encoder in (("bpe", "lbpe"), ("scaffold", "merge"), ("scaffold", "lbpe")):
        definition = made("llama3", algorithm, encoder).definition
        assert gguf_pre(definition) is None
        text = card(definition, "out")
        assert "tokenizers >= 0.19, < 1" in text
        assert "no pre-tokenizer that is known" in text
        assert ("trust_remote_code=True" in text) is (encoder == "merge")
    assert "`dbrx`" in card(made().definition, "out")
    assert set(export_card.GGUF_PRE) == set(PRETOKENIZERS) - {"none", "nanochat", "falcon"}
    assert set(export_card.MERGES_IGNORED) <= set(export_card.GGUF_PRE.values())
