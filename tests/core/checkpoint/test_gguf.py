"""GGUF files that the test writes as llama.cpp does, against the models that they were made of."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

import gguf
import torch
from safetensors.torch import load_file

from llmtool import Tokenizer, load_model
from llmtool.commands.convert.gguf import convert_gguf
from llmtool.core.checkpoint.gguf_file import ARCHITECTURES, OUTER, GgufFile, divisors_of
from llmtool.core.checkpoint.gguf_tokenizer import merges_of
from llmtool.core.run.errors import UserError
from tests.core.model.families import BASE, LLAMA3, draw_ids, oracle, save

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama3", {"intermediate_size": 96, "hidden_size": 64, "num_attention_heads": 4}),
    "qwen2": ("qwen2", {"use_sliding_window": False}),
    "qwen3": ("qwen3", {}),
    "gemma3": (
        "gemma3",
        {"num_hidden_layers": 7, "layer_types": None, "query_pre_attn_scalar": 16, "rope_parameters": None},
    ),
}


def tokens() -> list[str]:
    """A byte-level vocabulary of BASE's size."""
    return ["<s>", "</s>", "Ġ", *(chr(33 + n) for n in range(90)), "th", "the", "Ġthe", "an"][: BASE["vocab_size"]]


def stored(name: str, kind: str) -> str:
    """The name that llama.cpp gives a tensor."""
    stem, _, suffix = name.rpartition(".")
    if stem in OUTER.values():
        return next(theirs for theirs, ours in OUTER.items() if ours == stem) + f".{suffix}"
    _, _, number, part = stem.split(".", 3)
    theirs = next(theirs for theirs, ours in ARCHITECTURES[kind].names.items() if ours == part)
    return f"blk.{number}.{theirs}.{suffix}"


def pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """As convert_hf_to_gguf.py permutes q and k of a Llama."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, source: Path, kind: str, *, quantised: bool = False, **more: Any) -> None:
    """The checkpoint as a GGUF file."""
    config = json.loads((source / "config.json").read_text())
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(shared)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config["rope_parameters"]
    writer.add_rope_freq_base((rope.get("full_attention") or rope)["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
    if kind == "gemma3":
        writer.add_sliding_window(config["sliding_window"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens())
    writer.add_token_types([3, 3, *[1] * (len(tokens()) - 2)])
    writer.add_token_merges(["t h", "th e", "Ġ the", "a n"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages[0].content }}")
    for name, weight in load_file(source / "model.safetensors").items():
        weight = weight.float()
        if kind == "llama" and "q_proj" in name:
            weight = pairs(weight, heads)
        if kind == "llama" and "k_proj" in name:
            weight = pairs(weight, shared)
        if kind == "gemma3" and "norm" in name:
            weight = weight + 1
        data = weight.numpy()
        if quantised and weight.dim() == 2 and weight.shape[1] % 32 == 0:
            packed = gguf.quantize(data, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(stored(name, kind), packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(stored(name, kind), data)
    for name, data in more.items():
        writer.add_tensor(name.replace("__", "."), data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_model_comes_back(tmp_path: Path, kind: str) -> None:
    family, changes = FAMILIES[kind]
    source = save(tmp_path / "source", family, 0.3, **changes)
    write(tmp_path / "m.gguf", source, kind)
    convert_gguf(tmp_path / "m.gguf", tmp_path / "out", dtype="fp32")
    ids = draw_ids()
    with torch.no_grad():
        wanted = oracle(source, torch.float32)(ids).logits
        found = load_model(tmp_path / "out")(ids)
        assert oracle(tmp_path / "out", torch.float32)(ids).logits.equal(found)
    # A norm's weight is rounded where one is added to it; all else is the same.
    assert float((found - wanted).abs().max()) <= (1e-3 if kind == "gemma3" else 0.0)


def test_quantised_weights_are_what_the_library_says(tmp_path: Path) -> None:
    family, changes = FAMILIES["llama"]
    source = save(tmp_path / "source", family, 0.3, **changes)
    write(tmp_path / "m.gguf", source, "llama", quantised=True)
    report = convert_gguf(tmp_path / "m.gguf", tmp_path / "out", dtype="fp32")
    assert report["types"] == ["F32", "Q8_0"]
    before, after = (load_file(path / "model.safetensors") for path in (source, tmp_path / "out"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        error = float((after[name] - weight.float()).abs().max())
        assert error <= float(weight.abs().max()) / 127
        assert (error == 0) == (weight.dim() == 1)


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    family, changes = FAMILIES["llama"]
    write(tmp_path / "m.gguf", save(tmp_path / "source", family, **changes), "llama")
    convert_gguf(tmp_path / "m.gguf", tmp_path / "out")
    tokenizer = Tokenizer.load(tmp_path / "out")
    spelled = [tokens()[token] for token in tokenizer.encode("then the an")]
    assert spelled == ["the", "n", "Ġthe", "Ġ", "an"]
    assert tokenizer.encode("<s>an", allow_special=True) == [0, tokens().index("an")]
    settings = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert (settings["eos_token"], settings["chat_template"]) == ("</s>", "{{ messages[0].content }}")
    assert load_model(tmp_path / "out").stop_ids == {1}


def test_merges_are_found_again_from_scores() -> None:
    pieces = ["<unk>", "▁", "a", "b", "ab", "▁a", "▁ab"]
    scores = [0.0, -10.0, -11.0, -12.0, -1.0, -2.0, -3.0]
    assert merges_of(pieces, [3, 1, 1, 1, 1, 1, 1], scores) == [("a", "b"), ("▁", "a"), ("▁", "ab"), ("▁a", "b")]


def test_llama_3_is_known_by_its_divisors(tmp_path: Path) -> None:
    family, changes = FAMILIES["llama"]
    source = save(tmp_path / "source", family, **changes)
    scaling = {**LLAMA3, "original_max_position_embeddings": 8192}
    divisors = divisors_of(5e5, 16, scaling)
    write(tmp_path / "m.gguf", source, "llama", rope_freqs__weight=divisors.numpy())
    found = GgufFile(tmp_path / "m.gguf").config()["rope_scaling"]
    assert found == {key: value for key, value in scaling.items() if key != "rope_theta"}
    write(tmp_path / "other.gguf", source, "llama", rope_freqs__weight=(divisors * 1.5).numpy())
    with pytest.raises(UserError, match=r"not those of Llama 3\.1"):
        GgufFile(tmp_path / "other.gguf").config()


def test_what_is_no_such_file_is_one_line(tmp_path: Path) -> None:
    family, changes = FAMILIES["llama"]
    path = tmp_path / "m.gguf"
    write(path, save(tmp_path / "source", family, **changes), "llama")
    whole = path.read_bytes()
    for content, message in {
        b"": "not a GGUF file", b"PK\x03\x04": "not a GGUF file", whole[:100]: "not a whole GGUF file",
        whole[: len(whole) // 2]: r"not a whole GGUF file: it ends after [\d,]+ bytes, before what it lists \(was it",
        whole.replace(b"llama", b"lfm29", 1): "'lfm29' is not supported",
    }.items():  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            convert_gguf(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="cannot read"):
        convert_gguf(tmp_path / "absent.gguf", tmp_path / "out")
