"""Fidelity: the literal shared P = SDPA(q_leader, k_leader, v) = cached decoding; gradients; the cache measured."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.model.cache import StaticCache
from llmtool.core.model.config import Config, ConfigError
from llmtool.core.model.decoder import Decoder
from llmtool.core.model.generate import generate
from llmtool.methods.uniattn import reference
from llmtool.methods.uniattn.part import check_groups, probabilities, weigh
from tests.methods.uniattn.models import GROUPS, LAYERS, MAP, config, decoder, draw

TOLERANCE = 1e-6
"""float64, but for RMSNorm, which every model here computes in float32."""
LEADER_OF = [0, 1, 1, 1, 4, 5, 5]

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "qk-norm": {"qk_norm": "head"},
    "bias": {"qkv_bias": True, "o_bias": True},
    "tied": {"tie_word_embeddings": True},
}


HEADS = {"identity": None, "map": MAP}


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = TOLERANCE) -> bool:
    return bool((a - b).abs().max() < tolerance * max(1.0, float(b.abs().max())))


def literal(model: Decoder, ids: torch.Tensor, heads: Any = None) -> torch.Tensor:
    state = dict(model.named_parameters(remove_duplicate=False))
    return reference.forward(state, model.config, LEADER_OF, ids, heads)[0]


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("std", [0.05, 0.4])
def test_the_literal_shared_softmax_equals_sdpa(form: str, std: float, heads: str) -> None:
    model = decoder(config(heads=HEADS[heads], **FORMS[form]), std)
    with torch.no_grad():
        found, wanted = model(draw()), literal(model, draw(), HEADS[heads])
    assert close(found, wanted)
    if heads == "map":
        for layer, head in ((2, 0), (3, 2), (6, 1)):  # one head of one follower read elsewhere
            other = {**MAP, layer: [(0, 0) if at == head else pair for at, pair in enumerate(MAP[layer])]}
            assert not close(found, literal(model, draw(), other))
        return
    broken = decoder(config(groups=[[1, 2], [5, 6]], **FORMS[form]), std)
    state = {k: v for k, v in model.state_dict().items() if k in broken.state_dict()}
    broken.load_state_dict(state, strict=False)
    with torch.no_grad():
        assert not close(broken(draw()), wanted)


@pytest.mark.parametrize("heads", HEADS)
def test_gradients_are_those_of_the_literal_definition(heads: str) -> None:
    model = decoder(config(heads=HEADS[heads]), 0.3)
    ids = draw()
    found = torch.autograd.grad(model(ids).square().mean(), list(model.parameters()))
    wanted = torch.autograd.grad(literal(model, ids, HEADS[heads]).square().mean(), list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    assert any("layers.1.self_attn.q_proj" in name for name in names)
    for name, a, b in zip(names, found, wanted, strict=True):
        assert close(a, b), name


def test_followers_have_no_queries_no_keys_and_no_place_for_them() -> None:
    model = decoder(config())
    names = set(model.state_dict())
    for layer in (2, 3, 6):
        assert f"model.layers.{layer}.self_attn.compensation.weight" in names
        assert not any(f"layers.{layer}.self_attn.{part}" in name for name in names for part in ("q_proj", "k_proj"))
    cache = StaticCache(20)
    with torch.no_grad():
        model(draw(), cache=cache)
    assert set(cache._keys) == {0, 1, 4, 5}
    assert set(cache._values) == set(range(LAYERS))


KINDS: dict[str, dict[str, Any]] = {"uniattn": {}, "map": {"heads": MAP}, "cla": {"kind": "cla"}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [[1] * 12, [5, 1, 1, 5], [11, 1]])
@pytest.mark.parametrize("form", ["plain", "qk-norm"])
def test_cached_decoding_equals_prefill(form: str, cuts: list[int], kind: str) -> None:
    model, ids = decoder(config(**KINDS[kind], **FORMS[form])), draw(2, 12)
    cache, parts, start = StaticCache(12), [], 0
    with torch.no_grad():
        for length in cuts:
            parts.append(model(ids[:, start : start + length], cache=cache))
            start += length
        assert close(torch.cat(parts, 1), model(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_windows_padding_packing_and_whole_caches(kind: str) -> None:
    windows = (None, 5, 5, 5, None, 7, 7) if kind != "map" else (5,) * LAYERS
    model, ids = decoder(config(**KINDS[kind], windows=windows)), draw(1, 14)
    padded = torch.cat((torch.zeros(1, 6, dtype=torch.long), ids), 1)
    padding = torch.ones(1, 20, dtype=torch.bool)
    padding[0, :6] = False
    with torch.no_grad():
        wanted = model(ids)
        assert close(model(padded, padding=padding)[:, 6:], wanted)
        packed = model(torch.cat((ids, draw(1, 9)), 1), documents=torch.tensor([[0] * 14 + [1] * 9]))
        assert close(packed[:, :14], wanted)
        assert close(packed[:, 14:], model(draw(1, 9)))
        cache, parts = StaticCache(20, whole=True), []
        for start, stop in ((0, 7), (7, 8), (8, 9), (9, 14)):
            cache.slots = torch.arange(start, stop)
            parts.append(model(ids[:, start:stop], cache=cache))
        assert close(torch.cat(parts, 1), wanted)
    alone = list(generate(model, [ids[0].tolist()], max_new_tokens=6))
    together = list(generate(model, [ids[0].tolist(), [5, 6, 7]], max_new_tokens=6))
    assert [row[0] for row in together] == [row[0] for row in alone]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("places", [1, 6, 42, 123, 431])
def test_one_tokens_probabilities_and_their_use(dtype: torch.dtype, places: int) -> None:
    torch.manual_seed(places)
    q, k, v = (torch.randn(3, heads, t, 16).to(dtype) for heads, t in ((8, 1), (2, places), (2, places)))
    mask = torch.rand(3, 1, 1, places) < 0.7
    mask[..., -1] = True
    p = probabilities(q, k, mask)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), attn_mask=mask, enable_gqa=True
    )
    assert (p.shape, p.dtype) == ((3, 8, 1, places), dtype)
    assert (weigh(p, v).double() - wanted).abs().max() < (1e-5 if dtype == torch.float32 else 3e-2)
    assert float(p[~mask.expand_as(p)].abs().sum()) == 0


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("places", [42, 512, 1100])
def test_scores_are_not_rounded_before_the_softmax(dtype: torch.dtype, places: int, device: str) -> None:
    """Of large queries and keys; P alone is rounded, by half a unit of its last place."""
    torch.manual_seed(places)
    q, k = (3 * torch.randn(2, heads, t, 64, device=device).to(dtype) for heads, t in ((8, 1), (2, places)))
    held = torch.empty(2, 2, 2 * places, 64, device=device, dtype=dtype)  # a cache with room
    held[:, :, :places] = k
    scores = q.double() @ k.double().repeat_interleave(4, 1).transpose(-1, -2) / 8
    wanted, unit = scores.softmax(-1), torch.finfo(dtype).eps / 2
    with torch.no_grad():
        found = probabilities(q, held[:, :, :places], None).double()
        with torch.autocast(device, torch.bfloat16):
            again = probabilities(q, k, None).double()
    largest = wanted.max()
    assert (found - wanted).abs().max() < 1.05 * unit * largest
    assert again.equal(found)
    rounded = scores.to(dtype).double().softmax(-1)
    if dtype == torch.bfloat16:
        assert (rounded - wanted).abs().max() > 2 * unit * largest


LIKE_32 = list(range(16, 32))


@pytest.mark.parametrize(
    "groups, saving",
    [
        ([LIKE_32[i : i + 4] for i in range(0, 16, 4)], 0.1875),
        ([list(range(i, i + 4)) for i in range(0, 32, 4)], 0.375),
    ],
    ids=["4:16:33", "4:0:32"],
)
def test_cache_bytes_measured(groups: list[list[int]], saving: float) -> None:
    def measured(groups: list[list[int]]) -> int:
        entry = ({"name": "uniattn", "version": 1, "groups": groups, "compensation": "none"},) if groups else ()
        settings = Config("llama", 97, 32, 48, 32, 4, 2, 8, 64, windows=(None,) * 32, methods=entry)
        cache = StaticCache(24)
        with torch.no_grad():
            decoder(settings, dtype=torch.bfloat16)(draw(2, 24), cache=cache)
        return cache.bytes

    dense = measured([])
    assert dense == 32 * 2 * 2 * 2 * 24 * 8 * 2  # layers, K and V, bf16, rows, tokens, head_dim, key-value heads
    assert measured(groups) == dense * (1 - saving)


@pytest.mark.parametrize(
    "groups, words",
    [
        ([[1]], "no follower"),
        ([[1, 9]], "no layer 9"),
        ([[1, 2], [2, 3]], "overlap: layer 2"),
        ([[3, 2]], "follower 2 stands before its leader 3"),
        ([[1, 3, 2]], "order"),
        ("x", "not a list"),
        ([["1", 2]], "not a list"),
    ],
)
def test_bad_groups_are_named(groups: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_groups(groups, 4)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"version": 3}, "version 3"),
        ({"version": 1.0}, "version 1.0"),
        ({"version": 2}, "head_map is not an object"),
        ({"heads": 3}, "heads is not understood"),
        ({"head_map": {}}, "head_map is not understood"),  # version 1 is the paper's, head by head
        ({"version": 2, "head_map": {}}, r"head_map lacks layer 2: it is for the followers, \[2, 3, 6\]"),
        ({"compensation": "cubic"}, "cubic"),
        ({"compensation": {"rank": 99}}, "rank"),
    ],
)
def test_a_config_that_is_not_understood_is_refused(change: dict[str, Any], words: str) -> None:
    entry = {**config().methods[0], **change}
    with pytest.raises(ConfigError, match=words):
        decoder(config(methods=(entry,)))


def test_one_softmax_does_not_look_through_two_windows() -> None:
    with pytest.raises(ConfigError, match="layer 2 has a sliding window of 5, layer 1 of None"):
        decoder(config(windows=(None, None, 5, 5, None, None, None)))


@pytest.mark.parametrize(
    "layer, pairs, words",
    [
        ("x", [[1, 0]] * 4, "names layer x"),
        ("5", [[1, 0]] * 4, "names layer 5"),
        ("2", [[1, 0]] * 3, r"layer 2 is not a list of 4 \[layer, head\]"),
        ("2", {"0": [1, 0]}, "layer 2 is not a list of 4"),
        ("2", [[1, 0]] * 3 + [[1, True]], r"\[1, True\] is not \[layer, head\]"),
        ("2", [[1, 0]] * 3 + [1], r"1 is not \[layer, head\]"),
        ("2", [[1, 0]] * 3 + [[1, 4]], "no head 4, layers have 4, from 0"),
        ("2", [[1, 0]] * 3 + [[1, -1]], "no head -1"),
        ("2", [[2, 0]] * 4, "layer 2 is no earlier one with its own softmax"),
        ("3", [[2, 0]] * 4, "layer 2 is no earlier one with its own softmax"),
        ("2", [[4, 0]] * 4, "layer 4 is no earlier one"),
        ("2", [[-1, 0]] * 4, "layer -1 is no earlier one"),
        ("2", [[0, 0]] * 4, "it has a sliding window of 5, layer 0 of None"),
    ],
)
def test_bad_head_maps_are_named(layer: str, pairs: Any, words: str) -> None:
    heads = {**{str(key): [list(pair) for pair in of] for key, of in MAP.items()}, layer: pairs}
    entry = {**config(heads=MAP).methods[0], "head_map": heads}
    windows = (None, 5, 5, 5, None, None, None) if "sliding" in words else (None,) * LAYERS
    with pytest.raises(ConfigError, match=words):
        decoder(config(methods=(entry,), windows=windows))


def test_the_identity_as_a_map_is_the_first_version_bit_for_bit() -> None:
    heads = {layer: [(leader, head) for head in range(4)] for layer, leader in ((2, 1), (3, 1), (6, 5))}
    with torch.no_grad():
        assert decoder(config(heads=heads))(draw()).equal(decoder(config())(draw()))


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("decoding", [False, True])
def test_nothing_is_kept_longer_than_it_is_read(heads: str, decoding: bool) -> None:
    model, cache = decoder(config(heads=HEADS[heads])), StaticCache(9) if decoding else None
    with torch.no_grad():
        model.hidden(draw(1, 8), cache=cache)
        _, carry = model.hidden(draw(1, 1), cache=cache) if decoding else model.hidden(draw(1, 8))
    assert carry.shared == {}
    if heads == "map":  # 0 and 4 lead nobody, but are read; nobody reads more than that
        kinds = [type(block.self_attn).__name__ for block in model.model.layers]
        assert kinds == ["Leader", "Leader", "Follower", "Follower", "Leader", "Leader", "Follower"]


def test_groups_may_interleave() -> None:
    model = decoder(config(groups=[[1, 3], [2, 4]]))
    state = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        wanted = reference.forward(state, model.config, [0, 1, 2, 1, 2, 5, 6], draw())[0]
        assert close(model(draw()), wanted)


def test_checkpointed_blocks_give_the_same_gradients() -> None:
    """A follower lets its leader's tensors go: a block that is run again must still find them."""
    from torch.utils.checkpoint import checkpoint

    model, ids = decoder(config(heads=MAP), 0.3), draw()
    wanted = torch.autograd.grad(model(ids).square().mean(), list(model.parameters()))
    for block in model.model.layers:
        original = block.forward
        block.forward = lambda h, carry, of=original: checkpoint(of, h, carry, use_reentrant=False)
    found = torch.autograd.grad(model(ids).square().mean(), list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert GROUPS[0] == [1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_decode_step_is_one_graph(kind: str) -> None:
    """What torch.compile and CUDA graphs want: no break, no shape that changes."""
    model, ids = decoder(config(**KINDS[kind]), dtype=torch.float32), draw(2, 9)
    cache = StaticCache(12, whole=True)

    def step(ids: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        cache.slots = slots
        logits: torch.Tensor = model(ids, cache=cache)
        return logits

    fast = torch.compile(step, fullgraph=True, backend="eager")
    with torch.no_grad():
        parts = [step(ids[:, :5], torch.arange(5))]
        parts += [fast(ids[:, at : at + 1], torch.arange(at, at + 1)) for at in range(5, 9)]
        assert close(torch.cat(parts, 1), model(ids), 1e-5)
