"""Exports with shared softmaxes load, decode and search with beams in stock transformers, without llmtool."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import model
from llmtool.commands.convert.export import export_model
from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.core.model.generate import generate
from llmtool.core.run.console import Console
from tests.commands.convert.test_export import run_without_llmtool
from tests.core.model.families import draw_ids, save

QUIET = Console(verbosity=-1)
CODE = """
import json
ids = torch.tensor(json.loads(sys.argv[1]))
mask = torch.ones_like(ids)
mask[0, :4] = 0
for export in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(export, dtype="auto", trust_remote_code=True)
    with torch.no_grad():
        assert (model(ids).logits - torch.load(export + ".logits")).abs().max() < 1e-6, export
    settings = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
    assert model.generate(ids, **settings)[:, ids.shape[1] :].tolist() == torch.load(export + ".greedy"), export
    for more in ({}, {"attention_mask": mask}, {"num_beams": 3}, {"num_beams": 3, "attention_mask": mask}):
        kept = model.generate(ids, **settings, **more)
        assert kept.equal(model.generate(ids, **settings, **more, use_cache=False)), (export, more)
    cache = transformers.DynamicCache(config=model.config)
    model(ids, past_key_values=cache, use_cache=True)
    held = [sum(x.numel() for x in (layer.keys, layer.values) if x is not None) for layer in cache.layers]
    assert held[0] and sum(held) == held[0] * 3, (export, held)  # of four layers; the first leads nobody
"""


def test_stock_transformers_runs_it_with_the_smaller_cache(tmp_path: Path) -> None:
    ids, exports = draw_ids(2, 12), []
    for family, sharing in (("llama3", "uniattn"), ("mistral", "uniattn"), ("qwen3", "uniattn"), ("llama3", "cla")):
        name = f"{family}-{sharing}"
        source = save(tmp_path / name, family, 0.3, num_hidden_layers=4)
        settings = {"groups": "3:1:4", "init": "zero", "rank": 4}
        convert_uniattn(source, tmp_path / f"{name}-u", sharing=sharing, console=QUIET, **settings)  # type: ignore[arg-type]
        output = tmp_path / f"{name}-export"
        export_model(tmp_path / f"{name}-u", output, console=QUIET)
        loaded = model.load_model(output)
        torch.save(loaded(ids), f"{output}.logits")
        steps = list(generate(loaded.decoder, ids.tolist(), max_new_tokens=10))
        torch.save([list(row) for row in zip(*steps, strict=True)], f"{output}.greedy")
        exports.append(output)
    run_without_llmtool(CODE, tmp_path / "modules", ids.tolist(), *exports)
    card = (exports[0] / "README.md").read_text()
    assert "vLLM: cannot serve it" in card
    assert "probabilities" in card
    assert "Checked by reading" not in card
