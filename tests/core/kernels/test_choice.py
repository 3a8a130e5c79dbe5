"""Kernels are chosen once, said, and reach the modules that compute their op."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.kernels.choice import choose
from llmtool.core.kernels.launch import interpreting
from llmtool.core.kernels.registry import OPS, load_spec
from llmtool.core.kernels.spec import CPU
from llmtool.core.kernels.tuning import table, wins
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Decoder, Parts
from llmtool.core.run.errors import UserError
from tests.core.kernels.gate import DEVICE, kernel_test

CONFIG = Config("qwen3", 97, 32, 48, 2, 4, 2, 8, 64, windows=(None, None), qk_norm="head")


def test_torch_is_the_default_where_nothing_was_measured() -> None:
    for wish in ("auto", "torch") if interpreting() else ("torch",):
        choice = choose(wish, torch.device("cpu"))
        assert choice.described == "torch"
        assert not choice.kernels


def test_auto_takes_what_a_cpu_has_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    choice = choose("auto", torch.device("cpu"))
    assert set(choice.kernels) == {name for name in OPS if any(i.name == CPU for i in load_spec(name).implementations)}
    assert "dsmoe_ffn" in choice.described
    assert not choose("torch", torch.device("cpu")).kernels


def test_a_wrong_wish_is_one_line() -> None:
    with pytest.raises(UserError, match="cuda"):
        choose("cuda", torch.device("cpu"))


def test_triton_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(UserError, match="do not run on cpu"):
        choose("triton", torch.device("cpu"))


@kernel_test
def test_a_decoder_of_kernels_computes_the_same() -> None:
    choice = choose("triton", DEVICE)
    torch.manual_seed(3)
    plain = Decoder(CONFIG).to(DEVICE)
    fast = Decoder(CONFIG, Parts(kernels=choice.kernels)).to(DEVICE)
    fast.load_state_dict(plain.state_dict())
    ids = torch.randint(97, (2, 11), device=DEVICE)
    found = []
    for decoder in (plain, fast):
        logits = decoder(ids)
        logits.square().mean().backward()
        found.append((logits, {name: x.grad for name, x in decoder.named_parameters() if x.grad is not None}))
    assert not torch.equal(found[0][0], found[1][0]), "the kernels were not used"
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    for name, gradient in found[0][1].items():
        assert torch.allclose(gradient, found[1][1][name], atol=1e-6, rtol=1e-3), name


def test_each_module_gets_its_kernel_and_no_other() -> None:
    def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return x

    decoder = Decoder(CONFIG, Parts(kernels={"rms_norm": norm, "unknown": print}))
    modules = {name: module for name, module in decoder.named_modules() if hasattr(module, "op")}
    assert {module.op for module in modules.values()} == {"rms_norm", "swiglu", "rope"}
    assert all((module.compute is norm) == (module.op == "rms_norm") for module in modules.values())
    assert len([module for module in modules.values() if module.op == "rms_norm"]) == 4 * 2 + 1


GPU = "NVIDIA Planted"
WON, LOST = {"seconds": 1.0, "rival": "torch.compile", "rival_seconds": 2.0}, {"seconds": 2.0, "rival_seconds": 1.0}


@pytest.mark.parametrize(
    "rows, kernels, dtype, sizes, taken",
    [
        ({}, ["forward"], torch.bfloat16, None, False),
        ({"forward": [{"up_to": 64, **WON}]}, ["forward"], torch.bfloat16, None, True),
        ({"forward": [{"up_to": 64, **WON}]}, ["forward"], torch.float32, None, False),
        ({"forward float32": [{"up_to": 64, **WON}]}, ["forward"], torch.float32, None, True),
        ({"forward": [{"up_to": 64, **LOST}]}, ["forward"], torch.bfloat16, None, False),
        ({"forward": [{"up_to": 64}]}, ["forward"], torch.bfloat16, None, False),
        ({"forward": [{"up_to": 64, "seconds": 1.0}]}, ["forward"], torch.bfloat16, None, False),
        ({"forward": [{"up_to": 64, **WON}]}, ["forward", "backward"], torch.bfloat16, None, False),
        ({"forward": [{"up_to": 64, **WON}, {"up_to": 128, **LOST}]}, ["forward"], torch.bfloat16, None, False),
        ({"forward": [{"up_to": 64, **WON}, {"up_to": 128, **LOST}]}, ["forward"], torch.bfloat16, [64], True),
        ({"forward": [{"up_to": 64, **WON}, {"up_to": 128, **LOST}]}, ["forward"], torch.bfloat16, [64, 65], False),
        ({"forward": [{"up_to": 64, **WON}]}, ["forward"], torch.bfloat16, [65], False),
    ],
)  # fmt: skip
def test_auto_takes_winners_only(
    rows: dict[str, Any], kernels: list[str], dtype: torch.dtype, sizes: list[int] | None, taken: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Measured on this device, in this type, in every kernel and size of the model, and faster than the best rival."""
    monkeypatch.setitem(table(), GPU, {"swiglu": rows})
    assert wins("swiglu", GPU, kernels, dtype, sizes) == taken


def test_reasoned_rows_are_no_measurements() -> None:
    assert not wins("grouped_gemm", "sm_90", ["rows"], torch.bfloat16)
    assert not wins("swiglu", "default", ["forward"], torch.bfloat16)
    launched = {key for op in table()["default"].values() for rows in op.values() for row in rows for key in row}
    assert not launched & {"seconds", "rival", "rival_seconds"}
