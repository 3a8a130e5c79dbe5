"""A text model inside one that also sees: read alone, against transformers' whole model on text."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from llmtool.commands.convert.copy import copy_checkpoint
from llmtool.commands.convert.inspect import inspect
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.wrapper import text_config
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.model import load_model
from tests.core.model.families import BASE, FAMILIES, draw_ids

QUIET = Console(verbosity=-1)
EYES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14}  # fmt: skip
WHOLES: dict[str, dict[str, Any]] = {
    "mistral3": {"text_config": {**BASE, **FAMILIES["ministral3"]}, "vision_config": {"model_type": "pixtral", **EYES}},
    "gemma3": {
        "text_config": {**BASE, **FAMILIES["gemma3"]}, "mm_tokens_per_image": 4,
        "vision_config": {"model_type": "siglip_vision_model", **EYES},
    },
}  # fmt: skip


def save(directory: Path, kind: str, *, as_held: bool = False, **changes: Any) -> Any:
    """The whole model, saved with the published names, or with those that transformers 5 has in memory."""
    config = transformers.AutoConfig.for_model(kind, **WHOLES[kind], **changes)
    torch.manual_seed(7)
    model = transformers.AutoModelForImageTextToText.from_config(config, dtype=torch.float64).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    model.save_pretrained(directory, save_original_format=not as_held)
    return model


@pytest.mark.parametrize(("kind", "tied"), [("mistral3", False), ("mistral3", True), ("gemma3", True)])
def test_text_is_read_as_by_the_whole(tmp_path: Path, kind: str, tied: bool) -> None:
    whole = save(tmp_path / "m", kind, tie_word_embeddings=tied)
    with torch.no_grad():
        wanted = whole(draw_ids()).logits
    model = load_model(tmp_path / "m")
    found = model(draw_ids())
    assert found.equal(wanted)
    assert model.decoder.config.tie_word_embeddings == tied
    names = open_checkpoint(tmp_path / "m").names()
    assert not any("vision" in name or "projector" in name or "language_model" in name for name in names)
    save(tmp_path / "held", kind, as_held=True, tie_word_embeddings=tied)
    assert open_checkpoint(tmp_path / "held").names() != []
    assert load_model(tmp_path / "held")(draw_ids()).equal(wanted)
    assert inspect(tmp_path / "m")["wrapper"] == kind
    copy_checkpoint(tmp_path / "m", tmp_path / "text", dtype=None, console=QUIET)
    alone = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "text", dtype=torch.float64).eval()
    assert alone.config.model_type == WHOLES[kind]["text_config"]["model_type"]
    with torch.no_grad():
        assert alone(draw_ids()).logits.equal(wanted)


def test_published_files_leave_sizes_and_ties_out(tmp_path: Path) -> None:
    """Gemma 3 4B's text_config says six fields; Mistral Small 3.1's says no window and no tie."""
    few = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
           "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}  # fmt: skip
    whole = {"model_type": "gemma3", "text_config": few, "vision_config": {}, "eos_token_id": [1, 106],
             "architectures": ["Gemma3ForConditionalGeneration"], "torch_dtype": "bfloat16"}  # fmt: skip
    found = text_config(whole)
    assert found is not None
    assert (found["vocab_size"], found["num_attention_heads"], found["max_position_embeddings"]) == (262208, 8, 131072)
    assert (found["architectures"], found["eos_token_id"]) == (["Gemma3ForCausalLM"], [1, 106])
    assert text_config({"model_type": "mistral3", "text_config": {}})["sliding_window"] is None  # type: ignore[index]
    assert text_config({"model_type": "llama", "text_config": {}}) is None
    save(tmp_path / "m", "mistral3", tie_word_embeddings=False)
    raw = json.loads((tmp_path / "m" / "config.json").read_text())
    for holder in (raw, raw["text_config"]):
        holder.pop("tie_word_embeddings", None)
    (tmp_path / "m" / "config.json").write_text(json.dumps(raw))
    assert open_checkpoint(tmp_path / "m").config["tie_word_embeddings"] is False
    (tmp_path / "m" / "config.json").write_text(json.dumps({**raw, "quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(UserError, match=r"quantization_config.*dequantized"):
        load_model(tmp_path / "m")
