"""DSMoE's layer: every form against the literal definition, and the decoder's part with each of them."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.gate import check
from llmtool.core.kernels.dsmoe_ffn import skip
from llmtool.core.kernels.dsmoe_ffn.reference import dsmoe_ffn as reference
from llmtool.core.kernels.dsmoe_ffn.reference import masked
from llmtool.core.kernels.dsmoe_ffn.spec import SPEC
from llmtool.core.kernels.spec import Case, Compute, case
from llmtool.core.model.config import parse_config
from llmtool.methods.dsmoe import reference as literal
from llmtool.methods.dsmoe.part import GATES, SparseSwiGLU
from tests.core.kernels.gate import DEVICE, kernel_test, passes
from tests.methods.dsmoe.models import RAW, carry, layer, settings

CPU = torch.device("cpu")
FEW = [case for case in SPEC.cases("odd") if case["tokens"] <= 43]
"""43 tokens are decoded 16 at a time."""
KERNELS = ("ours", "decode", "prefill")
TYPES = [torch.float32, torch.bfloat16]


@kernel_test
@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_decode(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype, "decode")


@kernel_test
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_prefill(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype, "prefill")


@kernel_test
@pytest.mark.parametrize("tokens", [3, 50])
def test_dispatch(tokens: int) -> None:
    """Below the limit decode, in the dead zone the masked form, which is bit for bit itself."""
    inputs = SPEC.make_inputs(
        case(tokens=tokens, width=32, inner=64, experts=8, active=3), torch.float32, DEVICE,
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    ours = SPEC.implementation("ours").load()(*inputs)[0]
    assert ours.equal(masked(*inputs)[0]) == (tokens == 50)
    assert torch.allclose(ours, masked(*inputs)[0], atol=1e-4)


@kernel_test
@pytest.mark.parametrize("name", ["decode", "prefill"])
def test_no_bias_no_open_gate_no_token(name: str) -> None:
    compute = SPEC.implementation(name).load()
    x, gate, up, down, router, _, _, _ = SPEC.make_inputs(
        case(tokens=4, width=32, inner=64, experts=8, active=3), torch.float32, DEVICE, torch.Generator().manual_seed(0)
    )
    delta, gates = compute(x, gate, up, down, router, None, 0.5, 1.0)
    assert torch.allclose(delta, reference(x, gate, up, down, router, None, 0.5, 1.0)[0], atol=1e-5)
    delta, gates = compute(x, gate, up, down, router, None, 0.9999, 1.0)
    assert not delta.any()
    assert not gates.any()
    delta, gates = compute(x[:0], gate, up, down, router, None, 0.5, 1.0)
    assert (delta.shape, gates.shape) == ((0, 32), (0, 8))


@kernel_test
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_an_overflow_in_a_closed_block_stays_there() -> None:
    compute = SPEC.implementation("decode").load()
    x, gate, up, down, router, bias, tau, scale = SPEC.make_inputs(
        case(tokens=2, width=32, inner=64, experts=2, active=1), torch.float32, DEVICE, torch.Generator().manual_seed(1)
    )
    _, gates = reference(x, gate, up, down, router, bias, tau, scale)
    assert (gates[0] > 0).tolist() != (gates[1] > 0).tolist()
    closed = int((gates[0] == 0).nonzero())
    up[closed * 32 : closed * 32 + 32] = 1e38
    gate[closed * 32 : closed * 32 + 32] = 1e3
    delta, _ = compute(x, gate, up, down, router, bias, tau, scale)
    assert torch.isfinite(delta[0]).all()


@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
@pytest.mark.parametrize("name", ["cpu", "masked dense"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_forms_of_a_cpu(case: Case, name: str, dtype: torch.dtype) -> None:
    verdict = check(SPEC, SPEC.implementation(name).load(), case, dtype, "forward", CPU)
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize("name", ["cpu", "masked dense", *(pytest.param(n, marks=kernel_test) for n in KERNELS)])
@pytest.mark.parametrize("tokens", [1, 5, 43])
def test_unit_weights(name: str, tokens: int) -> None:
    """Ninth argument: an open block counts `scale`, however many are open."""
    inputs = SPEC.make_inputs(
        case(tokens=tokens, width=42, inner=240, experts=8, active=0), torch.float32, DEVICE,
        torch.Generator().manual_seed(3),
    )  # fmt: skip
    delta, gates = SPEC.implementation(name).load()(*inputs, True)
    x, gate, up, down = (tensor.double() for tensor in inputs[:4])
    a = torch.nn.functional.silu(x @ gate.T) * (x @ up.T) * (gates > 0).repeat_interleave(30, 1)
    assert torch.allclose(delta.double(), a @ down.T * inputs[7], atol=1e-5)
    assert not torch.allclose(delta, SPEC.implementation(name).load()(*inputs)[0], atol=1e-2)


def test_grouped_mm_computes_the_same() -> None:
    """The rival wants sizes of 16 bytes."""
    if not hasattr(torch, "_grouped_mm"):
        pytest.skip("this torch has no _grouped_mm")
    case = SPEC.cases("odd")[6]
    verdict = check(SPEC, SPEC.implementation("grouped_mm").load(), case, torch.float32, "forward", CPU)
    assert verdict.passed, verdict.reason


def test_runs() -> None:
    assert skip.runs([True, True, False, True]) == [(0, 2), (3, 4)]
    assert skip.runs([False, False]) == []
    assert skip.runs([True]) == [(0, 1)]


def test_reference_is_the_methods() -> None:
    """The op's reference, the method's literal one and the decoder's part are one definition."""
    part = layer(settings(tau=0.5, scale=1.3)).eval()
    x = torch.randn(9, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gate, up, down, router = (p.weight.detach() for p in (part.gate_proj, part.up_proj, part.down_proj, part.router))
    bias = part.router.bias.detach()
    delta, gates = reference(x, gate, up, down, router, bias, 0.5, 1.3)
    expected = literal.forward(literal.Weights(gate, up, down, router, bias), x, 0.5, 1.3)
    assert torch.allclose(delta, expected, rtol=1e-12, atol=1e-12)
    state = carry()
    with torch.no_grad():
        assert torch.allclose(part(x[None], x[None], state)[0], expected, rtol=1e-12, atol=1e-12)
    assert state.shared[f"{GATES}0"][0].equal(gates)


@pytest.mark.parametrize("name", ["cpu", pytest.param("ours", marks=kernel_test)])
@pytest.mark.parametrize("length", [1, 40])
def test_the_part_with_a_kernel(name: str, length: int) -> None:
    """The injected kernel computes what the part does, leaves its gates, and stays out of training and of biases."""
    calls = []
    compute = SPEC.implementation(name).load()

    def spy(*arguments: object) -> object:
        calls.append(1)
        return compute(*arguments)

    given = settings(tau=0.5)
    plain = layer(given, dtype=torch.float32).eval().to(DEVICE)
    config = parse_config(RAW)
    fast = SparseSwiGLU(config, 0, given, {"dsmoe_ffn": spy}).eval().to(DEVICE)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, length, 32, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    states = carry(), carry()
    with torch.inference_mode():
        assert torch.allclose(plain(x, x, states[0]), fast(x, x, states[1]), atol=1e-4)
    assert torch.allclose(states[0].shared[f"{GATES}0"], states[1].shared[f"{GATES}0"], atol=1e-6)
    assert calls == [1]
    fast(x, x, carry())  # gradients are wanted
    fast.train()
    with torch.no_grad():
        fast(x, x, carry())
    assert calls == [1]
    biased = SparseSwiGLU(replace(config, mlp_bias=True), 0, given, {"dsmoe_ffn": spy})
    assert biased.kernel is None


@kernel_test
@pytest.mark.parametrize("name", ["decode", "prefill"])
def test_a_planted_error_is_found(name: str) -> None:
    ours: Compute = SPEC.implementation(name).load()
    case = FEW[3]

    def changed(place: int, change: object) -> Compute:
        def compute(*inputs: object) -> object:
            given = list(inputs)
            assert callable(change)
            given[place] = change(given[place])
            return ours(*given)

        return compute

    for planted in (
        changed(6, lambda tau: 0.99),
        changed(7, lambda scale: scale * 1.1),
        changed(4, lambda router: router.roll(1, 0)),
        changed(3, lambda down: down.roll(42, 1).contiguous()),
        changed(1, lambda gate: gate.roll(1, 0).contiguous()),
    ):
        assert not check(SPEC, planted, case, torch.float32, "forward", DEVICE).passed
