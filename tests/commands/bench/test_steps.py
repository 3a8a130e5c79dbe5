"""Kernels of a decode step are counted with no GPU: torch's operators that compute, and every launch of ours."""

from collections import Counter
from importlib.util import find_spec

import pytest

pytest.importorskip("torch")

import torch

from llmtool.commands.bench.device.steps import Counted, step

LAYERS = 16


def test_what_computes_counts_and_views_do_not() -> None:
    with Counted() as counted:
        x = torch.empty(2, 3)
        x.zero_().view(3, 2).t().add_(1)
    assert counted.names == Counter({"zero_": 1, "add_": 1})


def test_torch_alone() -> None:
    """A layer of Llama has 7 products and the head makes one more; 2 norms a layer and one at the end."""
    names = step((), own=False)
    assert names["linear"] == 7 * LAYERS + 1
    assert names["rsqrt"] == names["mean"] == names["square"] == 2 * LAYERS + 1
    assert names["scaled_dot_product_attention"] == names["silu"] == LAYERS


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
@pytest.mark.parametrize("method, kernels", [
    ((), {"rope_kernel": LAYERS}),
    (("dsmoe",), {"route_kernel": LAYERS, "up_kernel": LAYERS, "down_kernel": LAYERS, "linear": 4 * LAYERS + 1}),
    (("uniattn",), {"weigh_kernel": LAYERS, "rope_kernel": 4}),
])  # fmt: skip
def test_ours_launch_fewer(method: tuple[str, ...], kernels: dict[str, int]) -> None:
    """Launches within an operator of ours are seen, the torch operators around them too."""
    plain, ours = step(method, own=False), step(method, own=True)
    assert {name: ours[name] for name in kernels} == kernels
    assert ours["rsqrt"] == ours["silu"] == 0
    assert ours.total() < plain.total()
