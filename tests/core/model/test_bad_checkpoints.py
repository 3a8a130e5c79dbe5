"""Whatever is wrong with a checkpoint is one line that names file, tensor and what was wanted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from llmtool import Tokenizer, load_model  # noqa: E402
from llmtool.core.bpe.export import export_huggingface  # noqa: E402
from llmtool.core.checkpoint.directory import INDEX, SINGLE, open_checkpoint  # noqa: E402
from llmtool.core.checkpoint.writer import write_checkpoint  # noqa: E402
from llmtool.core.run.errors import UserError  # noqa: E402
from llmtool.core.run.manifest import Run  # noqa: E402
from tests.core.checkpoint.files import CONFIG, SHAPES  # noqa: E402

NORM = "model.norm.weight"


def save(path: Path, config: Any = None, size: Any = 10**9, **changes: Any) -> Path:
    """A good checkpoint with some tensors replaced (None: left out) and some fields of the config."""
    weights = {name: torch.full(shape, 0.01) for name, shape in SHAPES.items()} | changes
    tensors = ((name, tensor) for name, tensor in weights.items() if tensor is not None)
    facts = {**CONFIG, "hidden_act": "silu", **(config or {})}
    write_checkpoint(path, tensors, facts, run=Run("test", {}), max_shard_size=size, force=True)
    return path


def truncated(path: Path) -> None:
    file = save(path) / SINGLE
    file.write_bytes(file.read_bytes()[:-5])


def wrong_type(path: Path) -> None:
    """F32 called F16 in the header: half of the bytes are then too many."""
    file = save(path) / SINGLE
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"F16"', 1))


def unknown_type(path: Path) -> None:
    file = save(path) / SINGLE
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"F99"', 1))


def missing_shard(path: Path) -> None:
    (save(path, size=2500) / "model-00002-of-00003.safetensors").unlink()


def index_names_more(path: Path) -> None:
    index = save(path, size=2500) / INDEX
    facts = json.loads(index.read_text())
    facts["weight_map"]["model.layers.2.mlp.up_proj.weight"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(facts))


def nan(path: Path) -> None:
    file = save(path) / SINGLE
    start = open_checkpoint(path).entry(NORM).start
    content = bytearray(file.read_bytes())
    content[start + 4 : start + 8] = b"\x00\x00\xc0\x7f"
    file.write_bytes(content)


def pickled(path: Path) -> None:
    (save(path) / SINGLE).rename(path / "pytorch_model.bin")


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (
        truncated,
        rf"{SINGLE}: lm_head.weight: truncated: \[32, 8\] of F32 ends at byte [\d,]+, the file at",
    ),
    "wrong type": (
        wrong_type,
        rf"{SINGLE}: model.embed_tokens.weight: shape \[32, 8\] of F16 is 512 bytes, but .* 1,024",
    ),
    "unknown type": (unknown_type, rf"{SINGLE}: model.embed_tokens.weight: dtype 'F99' is not supported"),
    "missing shard": (missing_shard, rf"{INDEX}: shard model-00002-of-00003.safetensors is missing, wanted for model"),
    "index": (
        index_names_more,
        rf"{INDEX}: model.layers.2.mlp.up_proj.weight is not in model-00001-of-00003.safetensors",
    ),
    "NaN": (nan, rf"{SINGLE}: {NORM}: 1 of 8 numbers are NaN or infinite, the first at \[1\]"),
    "pickle": (pickled, "bad: pytorch_model.bin is a pickle"),
    "shape": (lambda path: save(path, **{NORM: torch.ones(7)}), rf"{SINGLE}: {NORM}: shape \[7\], wanted \[8\]"),
    "turned": (
        lambda path: save(path, **{"model.layers.1.mlp.up_proj.weight": torch.ones(8, 16)}),
        rf"{SINGLE}: model.layers.1.mlp.up_proj.weight: shape \[8, 16\], wanted \[16, 8\]",
    ),
    "missing": (lambda path: save(path, **{NORM: None}), rf"bad: tensor {NORM} is missing, wanted \[8\]"),
    "left over": (
        lambda path: save(path, {"num_hidden_layers": 1}),
        rf"{SINGLE}: model.layers.1.self_attn.q_proj.weight: the model that config.json describes has no such tensor",
    ),
    "vocabulary": (
        lambda path: save(path, {"vocab_size": 31}),
        rf"{SINGLE}: model.embed_tokens.weight: shape \[32, 8\], wanted \[31, 8\]",
    ),
    "bias": (
        lambda path: save(path, {"attention_bias": True}),
        r"bad: tensor model.layers.0.self_attn.q_proj.bias is missing, wanted \[8\]",
    ),
    "tied": (
        lambda path: save(path, {"tie_word_embeddings": True}, **{"lm_head.weight": torch.ones(32, 8)}),
        rf"{SINGLE}: lm_head.weight: differs from model.embed_tokens.weight",
    ),
    "untied": (
        lambda path: save(path, **{"lm_head.weight": None}),
        r"bad: tensor lm_head.weight is missing, wanted \[32, 8\]",
    ),
    "types": (
        lambda path: save(path, **{NORM: torch.ones(8, dtype=torch.float64)}),
        "bad: holds tensors of F32 and F64",
    ),
    "model_type": (
        lambda path: save(path, {"model_type": "mamba"}),
        r"config.json: model_type 'mamba' is not supported",
    ),
    "field": (lambda path: save(path, {"logit_scale": 2.0}), r"config.json: logit_scale = 2.0 is not understood"),
    "quantized": (
        lambda path: save(path, {"quantization_config": {"bits": 4}}),
        r"config.json: quantization_config = .* is not understood .*dequantized",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_one_line(tmp_path: Path, name: str) -> None:
    make, wanted = BAD[name]
    path = tmp_path / "bad"
    make(path)
    with pytest.raises(UserError, match=wanted) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_good_one_loads(tmp_path: Path) -> None:
    for size, files in ((10**9, 1), (2500, 3)):
        path = save(tmp_path / "good", size=size)
        assert len(list(path.glob("*.safetensors"))) == files
        assert load_model(path)([[1, 2, 3]]).shape == (1, 3, 32)


def test_ids_and_tokenizer(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "good"))
    for wrong in (32, -1):
        with pytest.raises(
            UserError, match=f"good: id {wrong} is out of range: model.embed_tokens.weight holds 32 rows"
        ):
            model([[1, wrong]])
    export_huggingface(Tokenizer.train_from_documents(["abab"], 257), tmp_path / "tokenizer")
    for file in (tmp_path / "tokenizer").iterdir():
        (tmp_path / "good" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=r"good: the tokenizer's ids need 257 rows, model.embed_tokens.weight has 32"):
        next(model.stream("ab"))
