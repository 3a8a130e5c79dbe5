"""The report of a DSMoE checkpoint: what a token costs, as the plan of the conversion says it."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmtool.commands.convert.dsmoe import convert_dsmoe
from llmtool.commands.eval.experts import experts
from tests.methods.dsmoe.models import QUIET, library, save_dense, tokenizer


@pytest.mark.parametrize("means", [False, True])
def test_a_token_costs_what_the_plan_says(tmp_path: Path, means: bool) -> None:
    """Router, and as many again for the means of closed blocks: 2 d n each a layer."""
    dense = save_dense(tmp_path / "dense")
    tokenizer(dense)
    text = library(1)
    plan = convert_dsmoe(
        dense, tmp_path / "sparse", experts=4, calibration=text, share=0.5, off_mean=means, console=QUIET
    )
    found = experts(tmp_path / "sparse", text, taus="0.5", tokens=64, length=16)
    flops, active = found["ffn_flops_per_token"], found["all"]["active"]
    added = flops["active"] - flops["dense"] * active
    assert added == pytest.approx(plan["after"]["flops_all"] - plan["before"]["flops"])
    assert added == pytest.approx(2 * 32 * 4 * 3 * (1 + means))
