"""Exports with shared softmaxes load, decode and search with beams in stock transformers, without llmtool."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import model
from llmtool.commands.convert.export import export_model
from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.core.model.generate import generate
from llmtool.core.run.console import Console
from llmtool.methods.uniattn import plan
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
    kinds = (("llama3", "uniattn"), ("mistral", "uniattn"), ("qwen3", "uniattn"), ("llama3", "cla"), ("llama3", "map"))
    for family, sharing in kinds:
        name = f"{family}-{sharing}"
        source = save(tmp_path / name, family, 0.3, num_hidden_layers=4)
        settings: dict[str, Any] = {"groups": "3:1:4", "init": "zero", "rank": 4}
        if sharing == "map":  # heads of the leader and of a layer that leads nobody, in no order
            count = model.load_model(source).config.num_attention_heads
            heads = {
                str(layer): [[(0, 1)[at % 2], (at * 3 + layer) % count] for at in range(count)] for layer in (2, 3)
            }
            (tmp_path / "map.json").write_text(json.dumps({"schema": plan.SCHEMA, "head_map": heads}))
            settings["heads"] = str(tmp_path / "map.json")
        else:
            settings["sharing"] = sharing
        convert_uniattn(source, tmp_path / f"{name}-u", console=QUIET, **settings)
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
