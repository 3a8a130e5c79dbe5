"""Our kernels inside torch.compile: one graph without a break, forward and backward, and whole models with them."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.commands.generate import generate
from llmtool.core.bench.gate import outputs_of, with_gradients
from llmtool.core.kernels.registry import OPS, load_spec
from llmtool.core.kernels.spec import OURS
from tests.core.kernels.gate import DEVICE, kernel_test


@kernel_test
@pytest.mark.parametrize("op", OPS)
def test_an_op_is_one_graph(op: str) -> None:
    """Outputs and gradients are those without torch.compile; fullgraph raises at a break."""
    spec = load_spec(op)
    case = spec.cases("odd")[1]
    inputs = spec.make_inputs(case, torch.float32, DEVICE, torch.Generator(DEVICE).manual_seed(1))
    ours = spec.implementation(OURS).load()
    fast = torch.compile(ours, fullgraph=True, dynamic=False, backend="aot_eager")
    direction = spec.directions[-1]
    for (name, one), (_, other) in zip(
        outputs_of(spec, ours, inputs, direction, 0), outputs_of(spec, fast, inputs, direction, 0), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-6), name


@pytest.mark.parametrize("kind", ["lean", pytest.param("ours", marks=kernel_test)])
def test_the_loss_is_not_computed_twice(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over tokens: its gradient is one number for all, which is seen without a look at the device."""
    from llmtool.core.kernels.linear_cross_entropy import chunked

    monkeypatch.setattr(chunked, "again", lambda *_: pytest.fail("dW was computed a second time"))
    spec = load_spec("linear_cross_entropy")
    loss = spec.implementation(kind).load()
    inputs = spec.make_inputs(spec.cases("odd")[0], torch.float32, DEVICE, torch.Generator(DEVICE).manual_seed(1))

    def mean(h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        losses: torch.Tensor = loss(h.view(2, 3, -1).flatten(0, 1), weight, labels)
        return losses.sum() / 5

    for call in (mean, torch.compile(mean, fullgraph=True, dynamic=False, backend="aot_eager")):
        given: list[Any] = with_gradients(inputs, (0, 1))
        torch.autograd.backward(call(*given))
        assert bool(given[1].grad.any())


@kernel_test
def test_generate_compiled(tmp_path: Path) -> None:
    """The command's own path: with kernels, compiled, the same tokens."""
    from tests.core.model.families import save

    checkpoint = save(tmp_path / "llama", "llama3.2", 0.3)
    settings: dict[str, Any] = {
        "max_tokens": 4, "ids": True, "ignore_eos": True, "device": DEVICE.type, "dtype": "fp32",
    }  # fmt: skip
    [plain] = generate(checkpoint, ["1 2 3"], kernels="torch", compiled=False, **settings)
    [fast] = generate(checkpoint, ["1 2 3"], kernels="triton", compiled=True, **settings)
    assert fast["ids"] == plain["ids"]
