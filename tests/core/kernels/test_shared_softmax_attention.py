"""P V of a group: the kernel against the reference, and a model that decodes with it."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench.gate import poisoned
from llmtool.core.kernels.shared_softmax_attention.reference import shared_softmax_attention as reference
from llmtool.core.kernels.shared_softmax_attention.rivals import grouped_matmul
from llmtool.core.kernels.shared_softmax_attention.spec import SPEC
from llmtool.core.kernels.spec import OURS, Case
from llmtool.core.model.cache import StaticCache
from llmtool.methods.uniattn.part import weigh
from llmtool.model import build
from tests.core.kernels.gate import DEVICE, kernel_test, passes
from tests.methods.uniattn.models import MAP, config, decoder, draw


@kernel_test
@pytest.mark.parametrize("case", SPEC.cases("odd"), ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_kernel_equals_reference(case: Case, dtype: torch.dtype) -> None:
    passes(SPEC, case, dtype)


@kernel_test
def test_a_view_of_a_longer_cache_and_several_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a decoder calls it: the first places of a cache whose rest is NaN; five stretches, the last short."""
    from llmtool.core.kernels.shared_softmax_attention import triton as ours

    monkeypatch.setattr(ours, "splits", lambda pairs, places, block, device, waves: 5)
    cache = torch.full((2, 2, 500, 32), torch.nan, device=DEVICE)
    cache[:, :, :431] = torch.randn(2, 2, 431, 32, device=DEVICE)
    p = torch.randn(2, 6, 1, 431, device=DEVICE).softmax(-1)
    v = cache[:, :, :431]
    with poisoned():
        y = ours.shared_softmax_attention(p, v)
    assert y.shape == (2, 6, 1, 32)
    assert torch.allclose(y, reference(p, v), atol=1e-5)


def test_the_reference_is_what_the_part_and_the_rival_compute() -> None:
    p, v = torch.rand(2, 6, 1, 42), torch.randn(2, 3, 42, 16)
    assert torch.allclose(weigh(p, v), reference(p, v), atol=1e-5)
    layers = torch.randn(4, 2, 3, 42, 16)
    assert torch.allclose(grouped_matmul(p, layers), reference(p, layers), atol=1e-5)
    assert torch.allclose(reference(p, layers)[2], reference(p, layers[2]), atol=1e-6)
    heads = torch.tensor([4, 4, 0, 5, 1, 0], dtype=torch.int32)
    by_hand = torch.stack([p[:, head] @ v[:, number // 2] for number, head in enumerate(heads.tolist())], 1)
    for compute in (reference, weigh, grouped_matmul):
        assert torch.allclose(compute(p, v, heads), by_hand, atol=1e-5)


@kernel_test
@pytest.mark.parametrize("heads", [None, MAP], ids=["identity", "map"])
def test_a_model_decodes_with_it(heads: Any) -> None:
    settings = config(heads=heads)
    model = decoder(settings, dtype=torch.float32).to(DEVICE)
    fast = build(settings, {SPEC.name: SPEC.implementation(OURS).load()}).to(DEVICE)
    fast.load_state_dict(model.state_dict())
    parts = [network.get_submodule("model.layers.2.self_attn") for network in (model, fast)]
    assert parts[0].weigh is not parts[1].weigh
    ids, found = draw(2, 8).to(DEVICE), []
    with torch.no_grad():
        for network in (model, fast):
            cache = StaticCache(8)
            found.append(torch.cat([network(ids[:, at : at + 1], cache=cache) for at in range(8)], 1))
    assert torch.allclose(found[0], found[1], atol=1e-4)
