"""Exports of the routed and the finely cut methods load and generate in a process without llmtool."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from safetensors.torch import save_file

from llmtool.commands.convert.export import export_model
from llmtool.commands.convert.upcycle import convert_cartesian, convert_finedeep, convert_mask
from llmtool.commands.token_experts import token_experts
from llmtool.core.model.generate import generate
from llmtool.model import load_model
from tests.commands.convert.test_export import run_without_llmtool
from tests.methods.dsmoe.models import library, save_dense, tokenizer
from tests.methods.upcycled import GRANITE, IDS, QUIET

LOAD = """
from safetensors.torch import load_file
ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(5))
for path in sys.argv[1:]:
    wanted = load_file(path + "/wanted.safetensors")
    model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)
    with torch.no_grad():
        assert (model(ids).logits - wanted["logits"]).abs().max() < 1e-5, path
    for more in ({}, {"use_cache": False}):
        new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, **more)
        assert new[:, 40:].equal(wanted["new"]), path
    if model.config.llmtool["methods"][0]["name"] == "mask_moe":
        try:
            model(inputs_embeds=model.get_input_embeddings()(ids))
        except ValueError as error:
            assert "routes by token ids" in str(error)
        else:
            raise SystemExit("embeddings without ids were taken")
    model.save_pretrained(path + "-again")
    again = AutoModelForCausalLM.from_pretrained(path + "-again", trust_remote_code=True)
    assert again(ids).logits.equal(model(ids).logits), path
"""


def test_stock_transformers_runs_them(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    tokenizer(dense)
    token_experts(library(2), tmp_path / "t", model=str(dense), experts=4, top_k=2, console=QUIET)
    convert_cartesian(dense, tmp_path / "cartesian", experts=4, noise=0.5, console=QUIET)
    convert_mask(dense, tmp_path / "mask", tmp_path / "t", top_k=2, noise=0.5, console=QUIET)
    convert_finedeep(dense, tmp_path / "finedeep", sublayers=2, experts=4, console=QUIET)
    granite = save_dense(tmp_path / "g", **GRANITE)
    convert_cartesian(granite, tmp_path / "granite-cartesian", experts=4, noise=0.5, console=QUIET)
    convert_finedeep(granite, tmp_path / "granite-finedeep", sublayers=2, experts=4, console=QUIET)
    exports = []
    for name in ("cartesian", "mask", "finedeep", "granite-cartesian", "granite-finedeep"):
        export = tmp_path / f"{name}-export"
        export_model(tmp_path / name, export, console=QUIET)
        ours = load_model(tmp_path / name)
        new = torch.tensor(list(generate(ours.decoder, IDS.tolist(), max_new_tokens=6))).T.contiguous()
        save_file({"logits": ours(IDS), "new": new}, export / "wanted.safetensors")
        exports.append(export)
    run_without_llmtool(LOAD, tmp_path / "modules", *exports)
