"""Every command that takes text takes it out of nested fields, and ids without a sidecar by their type."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import llmtool
from llmtool.core.run.errors import UserError

Read = Callable[..., Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model; rows whose text lies two objects deep, the same text plain, the same ids as nanoGPT writes them."""
    folder = tmp_path_factory.mktemp("reading")
    draw = random.Random(0)
    words = "the cat sat on a mat while dogs ran far from home and birds sang songs of light rain".split()  # noqa: SIM905
    texts = [" ".join(draw.choice(words) for _ in range(60)) for _ in range(120)]
    (folder / "plain.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "nested.jsonl").write_text("".join(json.dumps({"meta": {"body": text}}) + "\n" for text in texts))
    (folder / "mixed").mkdir()
    (folder / "mixed" / "part-00000").write_text('{"meta": {"body": 3}}\n' + (folder / "nested.jsonl").read_text())
    (folder / "mixed" / "notes.log").write_text("not wanted " * 500)
    tokenizer = llmtool.Tokenizer.train([folder / "plain.jsonl"], 300, special=["<|endoftext|>"])
    tokenizer.save(folder / "bpe.json")
    ids = [number for text in texts for number in [*tokenizer.encode(text), 0]]
    np.array(ids, np.uint16).tofile(folder / "bare.bin")
    llmtool.train(
        [str(folder / "plain.jsonl")], folder / "model", model="40K", tokenizer=str(folder / "bpe.json"), length=64,
        batch=256, steps=2, device="cpu",
    )  # fmt: skip
    return folder


def eval_attention(text: str, out: Path, options: dict[str, Any]) -> Any:
    return llmtool.eval.attention("model", [text], samples=2, window=32, **options)["similarity"]


def eval_activations(text: str, out: Path, options: dict[str, Any]) -> Any:
    return llmtool.eval.activations("model", [text], tokens=64, length=16, **options)["nsar"]


def eval_niah(text: str, out: Path, options: dict[str, Any]) -> Any:
    asked: dict[str, Any] = {"samples": 1, "length": [48], "depth": [0.5], "kind": "ids"}
    return llmtool.eval.niah("model", [text], **asked, **options)["cells"]


def eval_ruler(text: str, out: Path, options: dict[str, Any]) -> Any:
    asked: dict[str, Any] = {"task": ["single"], "length": [64], "depth": [0.5], "samples": 1, "kind": "ids"}
    return llmtool.eval.ruler("model", [text], **asked, **options)["cells"]


def verify(text: str, out: Path, options: dict[str, Any]) -> Any:
    return llmtool.verify("model", "model", [text], tokens=256, **options)["norm_loss"]


def convert_uniattn(text: str, out: Path, options: dict[str, Any]) -> Any:
    asked: dict[str, Any] = {"groups": "2:0:2", "samples": 4, "window": 32}
    return llmtool.convert.uniattn("model", out, calibration=[text], **asked, **options)["layers"]


def convert_dsmoe(text: str, out: Path, options: dict[str, Any]) -> Any:
    asked: dict[str, Any] = {"experts": 4, "calibration_tokens": 512}
    return llmtool.convert.dsmoe("model", out, calibration=[text], **asked, **options)["fitted"]


def convert_dsmoe_baseline(text: str, out: Path, options: dict[str, Any]) -> Any:
    asked: dict[str, Any] = {"share": 0.5, "calibration_tokens": 512}
    return llmtool.convert.dsmoe_baseline("channels", "model", out, calibration=[text], **asked, **options)["share"]


def convert_rope(text: str, out: Path, options: dict[str, Any]) -> Any:
    asked: dict[str, Any] = {"method": "yarn", "target": 128, "check_length": 64}
    return llmtool.convert.rope("model", out, check=[text], **asked, **options)["check"][0]["before"]


def token_experts(text: str, out: Path, options: dict[str, Any]) -> Any:
    return llmtool.data.token_experts([text], f"{out}.safetensors", model="model", experts=4, **options)["tokens"]


COMMANDS = (
    eval_attention, eval_activations, eval_niah, eval_ruler, verify, convert_uniattn, convert_dsmoe,
    convert_dsmoe_baseline, convert_rope, token_experts,
)  # fmt: skip
OPENED = (eval_niah, verify, token_experts)
"""Whose result hangs on the text alone; where rows are drawn, the file's name decides which."""


@pytest.mark.parametrize("run", COMMANDS, ids=lambda run: run.__name__)
def test_a_nested_field_is_read_as_the_plain_one(run: Read, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    out = f"out-{run.__name__}"
    folder = run("mixed", Path(f"{out}-folder"), {"field": ["meta.body"], "include": ["part-*"]})
    assert folder
    if run in OPENED:
        assert folder == run("nested.jsonl", Path(f"{out}-nested"), {"field": "meta.body"})
        assert folder == run("plain.jsonl", Path(f"{out}-plain"), {})
    with pytest.raises(UserError, match=r"no field 'text'|no text found"):
        run("nested.jsonl", Path(f"{out}-none"), {})
    with pytest.raises(UserError, match="is not a string"):
        run("mixed", Path(f"{out}-strict"), {"field": "meta.body", "include": ["part-*"], "strict": True})


@pytest.mark.parametrize("run", [eval_niah, eval_ruler, token_experts], ids=lambda run: run.__name__)
def test_bare_ids_are_read_by_their_type(run: Read, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    out = f"bare-{run.__name__}"
    assert run("bare.bin", Path(out), {"bin_dtype": "uint16"})
    with pytest.raises(UserError, match=r"--bin-dtype uint16 reads nanoGPT's"):
        run("bare.bin", Path(f"{out}-none"), {})


def test_a_weight_multiplies_the_counts_of_ids(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    one = token_experts("plain.jsonl", place / "one", {})
    assert token_experts("plain.jsonl@3", place / "three", {}) == 3 * one
