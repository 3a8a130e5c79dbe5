"""The expert layer is its literal definition: whatever is empty, tied, hidden or alone; gradients too."""

import pytest

pytest.importorskip("torch")

import torch
from torch.autograd import gradcheck

from llmtool.core.kernels.spec import OURS
from llmtool.core.model import experts as layer
from llmtool.core.model import experts_reference as reference
from llmtool.core.model.carry import Carry
from llmtool.core.model.experts import Choice, Stacks, best, dispatch, record, route, scores_of
from llmtool.core.train.balance import Balance, coefficient
from llmtool.core.train.objective import IGNORED, Batch
from tests.core.kernels.gate import kernel_test


def draw(*shape: int, seed: int = 0, std: float = 0.5, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * std).to(dtype)


def stacks(experts: int, hidden: int = 6, inner: int = 5, seed: int = 1) -> Stacks:
    return Stacks(
        draw(experts, inner, hidden, seed=seed), draw(experts, inner, hidden, seed=seed + 1),
        draw(experts, hidden, inner, seed=seed + 2),
    )  # fmt: skip


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("tokens", "experts", "k"), [(1, 4, 1), (1, 4, 4), (9, 2, 1), (7, 16, 3), (33, 5, 2)])
def test_it_is_the_definition(tokens: int, experts: int, k: int, normalise: bool) -> None:
    x, router, held = draw(tokens, 6, std=1.0), draw(experts, 6, seed=9), stacks(experts)
    x[0] *= 100  # one expert has all the probability: the others' weights are 0 and tied
    found = dispatch(x, route(x, router, k, normalise=normalise), held)
    wanted = reference.top_k(x, router, held, k, normalise)
    assert (found - wanted).norm() <= 1e-13 * wanted.norm()
    learning = Stacks(*(stack.requires_grad_() for stack in held))
    found = dispatch(x, route(x, router, k, normalise=normalise), learning)
    assert (found - wanted).norm() <= 1e-13 * wanted.norm()


@torch.no_grad()
@pytest.mark.parametrize(("tokens", "k"), [(1, 1), (1, 4), (1, 16), (2, 2), (3, 1), (40, 4)])
def test_without_gradients_it_is_the_definition_too(tokens: int, k: int) -> None:
    """One token alone, most experts empty, and most of them full go by ways of their own."""
    x, router, held = draw(tokens, 6, std=1.0), draw(16, 6, seed=9), stacks(16)
    choice = route(x, router, k)
    empty = sorted(set(range(16)) - set(choice.chosen.flatten().tolist()))
    held.gate[empty] = torch.nan  # who computes an expert without tokens spreads this
    found, wanted = dispatch(x, choice, held), reference.top_k(x, router, held, k)
    assert (found - wanted).norm() <= 1e-13 * wanted.norm()


def test_equal_scores_go_to_the_lower_number() -> None:
    values, places = best(torch.tensor([[0.1, 0.3, 0.1, 0.3, 0.2], [0.2] * 5]), 3)
    assert places.tolist() == [[1, 3, 4], [0, 1, 2]]
    assert values[0].tolist() == pytest.approx([0.3, 0.3, 0.2])


def test_the_router_is_float32_whatever_comes_in() -> None:
    x, router = draw(64, 6, dtype=torch.bfloat16), draw(8, 6, seed=9, dtype=torch.bfloat16)
    wanted = torch.softmax(x.float() @ router.float().T, -1)
    with torch.autocast("cpu", torch.bfloat16):
        found = scores_of(x, router)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-6)
    assert scores_of(x.double(), router.double()).dtype == torch.float64


@pytest.mark.parametrize("k", [1, 2])
def test_what_is_left_is_shared_out_from_the_logits(k: int) -> None:
    """Beside a best expert at e^-480 and less the others' probabilities are 0 in float32, and none is made of them."""
    x, router = torch.ones(1, 4), torch.tensor([60.0, -60.0, -59.0, -61.0])[:, None].repeat(1, 4)
    found = route(x, router, k, skip=1)
    assert found.chosen.tolist() == [[2, 1][:k]]
    wanted = torch.tensor([[1.0]]) if k == 1 else torch.tensor([[4.0, 0.0]]).softmax(-1)
    assert torch.allclose(found.weights, wanted, atol=1e-7)
    assert route(x, router, k, normalise=False, skip=1).weights.tolist() == [[0.0] * k]
    x, router = draw(64, 6), draw(8, 6, seed=9)
    near, scores = route(x, router, k, skip=2), scores_of(x, router)
    values, places = best(scores, k, 2)
    assert near.chosen.equal(places)
    assert torch.allclose(near.weights, values / values.sum(-1, keepdim=True), atol=1e-12)
    assert route(x, router, k, normalise=False, skip=2).weights.equal(values)


def test_an_expert_alone_is_bit_for_bit_its_layer() -> None:
    """A weight of 1 multiplies exactly, and no other number is added."""
    for dtype in (torch.float32, torch.bfloat16):
        x, held = draw(5, 6, dtype=dtype), Stacks(*(s.to(dtype) for s in stacks(3)))
        choice = Choice(torch.ones(5, 3), torch.full((5, 1), 1), torch.ones(5, 1))
        gate, up, down = (s[1] for s in held)
        dense = torch.nn.functional.linear(torch.nn.functional.silu(x @ gate.T) * (x @ up.T), down)
        assert dispatch(x, choice, held).equal(dense)


def test_places_that_are_not_kept_are_not_computed() -> None:
    x, held = draw(4, 6), stacks(3)
    held.gate[2] = torch.nan  # whoever computes expert 2 spreads this
    chosen = torch.tensor([[0, 2], [1, 2], [0, 1], [1, 2]])
    kept = chosen != 2
    weights = torch.where(kept, 0.5, 0.0).double()
    found = dispatch(x, Choice(torch.ones(4, 3), chosen, weights, kept), held)
    wanted = torch.stack(
        [
            torch.stack([reference.expert(held, e, x[t]) * 0.5 for e in row if e != 2]).sum(0)
            for t, row in enumerate(chosen.tolist())
        ]
    )
    assert torch.allclose(found, wanted, atol=1e-13)


def test_gradients_and_experts_that_saw_nothing() -> None:
    x, router = draw(5, 6).requires_grad_(), draw(4, 6, seed=9).requires_grad_()
    held = Stacks(*(s.requires_grad_() for s in stacks(4)))

    def run(*given: torch.Tensor) -> torch.Tensor:
        return dispatch(given[0], route(given[0], given[1], 2), Stacks(*given[2:]))

    assert gradcheck(run, (x, router, *held))
    choice = Choice(torch.ones(5, 4), torch.full((5, 1), 3), torch.ones(5, 1))
    dispatch(x, choice, held).sum().backward()  # type: ignore[no-untyped-call]
    assert held.gate.grad is not None
    assert held.gate.grad[:3].abs().max() == 0 < held.gate.grad[3].abs().max()


def test_a_compiled_graph_decodes_the_same() -> None:
    x, router, held = draw(2, 6), draw(4, 6, seed=9), stacks(4)
    batched = layer._batched(x, route(x, router, 2), held)
    weights = route(x, router, 2).weights
    assert torch.allclose((batched * weights[..., None]).sum(1), dispatch(x, route(x, router, 2), held), atol=1e-13)


def test_autocast_computes_the_experts_in_half_and_the_sum_in_float32() -> None:
    x, router = draw(32, 6, dtype=torch.float32), draw(4, 6, seed=9, dtype=torch.float32)
    held = Stacks(*(s.float() for s in stacks(4)))
    with torch.autocast("cpu", torch.bfloat16):
        found = dispatch(x, route(x, router, 2), held)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), dispatch(x, route(x, router, 2), held), atol=2e-2)


@kernel_test
def test_the_grouped_kernels_give_the_same() -> None:
    from llmtool.core.kernels.registry import load_spec

    kernels = {op: load_spec(op).implementation(OURS).load() for op in ("grouped_swiglu", "grouped_gemm")}
    from tests.core.kernels.gate import DEVICE

    x, router = (draw(*s, seed=n, dtype=torch.float32).to(DEVICE) for n, s in enumerate([(21, 6), (5, 6)]))
    held = Stacks(*(s.float().to(DEVICE) for s in stacks(5)))
    held = held._replace(down=held.down.transpose(1, 2).contiguous().transpose(1, 2))  # a view, as LLaMA-MoE's
    for k in (1, 3):
        found, wanted = (dispatch(x, route(x, router, k), held, use) for use in (kernels, {}))
        assert torch.allclose(found, wanted, atol=1e-5)


def carry_of(scores: torch.Tensor, chosen: torch.Tensor, free: torch.Tensor | None = None) -> Carry:
    empty = torch.zeros(0)
    carry = Carry(empty, {}, {})
    kept = None if bool((chosen >= 0).all()) else (chosen >= 0).flatten(0, 1)
    choice = Choice(scores.flatten(0, 1), chosen.clamp(min=0).flatten(0, 1), torch.ones(()), kept)
    record(carry, "0", choice, scores.shape, free)
    return carry


def test_balance_is_the_definition_and_padding_is_not_in_it() -> None:
    scores = draw(2, 6, 4, std=1.0).softmax(-1).float()
    chosen = best(scores.flatten(0, 1), 2)[1].view(2, 6, 2)
    labels = torch.ones(2, 6, dtype=torch.int64)
    labels[0, 3:] = IGNORED
    counted = (labels != IGNORED).flatten().tolist()
    rows = [n for n, yes in enumerate(counted) if yes]
    p, e = scores.flatten(0, 1).tolist(), chosen.flatten(0, 1).tolist()
    wanted = reference.balance([p[n] for n in rows], [e[n] for n in rows], 4)
    figures: dict[str, torch.Tensor] = {}
    loss = Balance("m", ["0"], 0.5).add(torch.tensor(2.0), figures, carry_of(scores, chosen), Batch(labels, labels))
    assert float(loss) == pytest.approx(2 + 0.5 * wanted, rel=1e-6)
    counts = [sum(row.count(i) for n, row in enumerate(e) if counted[n]) / (2 * len(rows)) for i in range(4)]
    assert float(figures["m.fullest"]) == pytest.approx(max(counts))
    assert float(figures["m.emptiest"]) == pytest.approx(min(counts))


def test_balance_of_equal_loads_is_one_and_of_one_expert_its_share() -> None:
    even = torch.full((1, 4, 4), 0.25)
    labels = torch.ones(1, 4, dtype=torch.int64)
    figures: dict[str, torch.Tensor] = {}
    term = Balance("m", ["0"], 1.0)
    carry = carry_of(even, torch.tensor([[[0], [1], [2], [3]]]))
    assert float(term.add(torch.tensor(0.0), figures, carry, Batch(labels, labels))) == pytest.approx(1)
    assert float(figures["m.entropy"]) == pytest.approx(1)
    one = torch.tensor([1.0, 0, 0, 0]).expand(1, 4, 4)
    carry = carry_of(one, torch.zeros(1, 4, 1, dtype=torch.int64))
    assert float(term.add(torch.tensor(0.0), figures, carry, Batch(labels, labels))) == pytest.approx(4)
    assert float(figures["m.entropy"]) == 0


def test_tokens_that_cannot_be_moved_do_not_fight_the_balance() -> None:
    scores = torch.tensor([[[1.0, 0], [1, 0], [0.5, 0.5]]])
    chosen = torch.tensor([[[0, -1], [0, -1], [0, 1]]])
    free = torch.tensor([[False, False, True]])
    labels = torch.ones(1, 3, dtype=torch.int64)
    figures: dict[str, torch.Tensor] = {}
    carry = carry_of(scores, chosen, free)
    Balance("m", ["0"]).add(torch.tensor(0.0), figures, carry, Batch(labels, labels))
    assert float(figures["m.balance"]) == pytest.approx(1)  # the one free token uses both alike
    assert float(figures["m.fullest"]) == pytest.approx(3 / 4)  # of all choices, three fell on expert 0


def test_bad_settings_are_one_line() -> None:
    from llmtool.core.run.errors import UserError

    for options in ({"coefficient": "x"}, {"coefficient": "-1"}, {"coefficent": "1"}):
        with pytest.raises(UserError, match=r"m\.coeff"):
            coefficient("m", options)
