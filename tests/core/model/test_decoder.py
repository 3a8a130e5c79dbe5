"""Cache, padding, packing, windows and parts of the decoder, held to the plain pass."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from torch import nn

from llmtool.core.model import decoder as decoder_module
from llmtool.core.model.attention import Attention
from llmtool.core.model.cache import StaticCache
from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Decoder, Parts
from llmtool.core.model.ffn import SwiGLU
from llmtool.core.model.loading import load_decoder
from llmtool.core.model.mask import positions_of_documents, positions_of_padded, visible
from llmtool.core.model.rope import Rope, Tables, rotate, rotate_together
from tests.core.model.families import FAMILIES, draw_ids, save

TOLERANCE = 1e-6
"""RMSNorm works in float32: sums in another order differ in its last bits, which weights of std 0.5 make larger."""

CONFIG = Config("llama", 97, 32, 64, 3, 4, 2, 8, 64, windows=(None, 5, None))


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Decoder]:
    root = tmp_path_factory.mktemp("decoder")

    def load_family(family: str) -> Decoder:
        path: Path = root / family
        return load_decoder(path if path.exists() else save(path, family, 0.3), Decoder)

    return load_family


def cut(ids: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """ids [B, T] in parts of these lengths."""
    ends = list(accumulate(lengths))
    return [ids[:, end - length : end] for length, end in zip(lengths, ends, strict=True)]


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() < TOLERANCE)


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


# The base of dynamic scaling follows the length: keys in a cache keep the angles they were turned by, as they do in
# transformers, so that family has no single right answer here.
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "dynamic"])
@pytest.mark.parametrize("cuts", [[1] * 12, [5, 1, 1, 5], [11, 1]])
def test_cached_decoding_equals_prefill(load: Callable[[str], Decoder], family: str, cuts: list[int]) -> None:
    model, ids = load(family), draw_ids(2, 12)
    cache = StaticCache(12)
    parts = [model(part, cache=cache) for part in cut(ids, cuts)]
    assert close(torch.cat(parts, 1), model(ids))
    assert cache.length == 12


@pytest.mark.parametrize("family", ["llama3", "qwen2"])
def test_a_whole_cache_equals_prefill(load: Callable[[str], Decoder], family: str) -> None:
    model, ids = load(family), draw_ids(2, 12)
    cache, parts = StaticCache(20, whole=True), []
    for start, stop in ((0, 7), (7, 8), (8, 12)):
        cache.slots = torch.arange(start, stop)
        parts.append(model(ids[:, start:stop], cache=cache))
    assert close(torch.cat(parts, 1), model(ids))


@pytest.mark.parametrize("family", ["llama3.2", "mistral", "qwen2", "qwen3", "yarn"])
def test_left_padding_changes_nothing(load: Callable[[str], Decoder], family: str) -> None:
    model, ids = load(family), draw_ids(1, 14)
    padded = torch.cat((torch.zeros(1, 6, dtype=torch.long), ids), 1)
    both = torch.cat((padded, draw_ids(1, 20)), 0)
    padding = torch.ones(2, 20, dtype=torch.bool)
    padding[0, :6] = False
    found = model(both, padding=padding)
    assert close(found[:1, 6:], model(ids))
    assert close(found[1:], model(both[1:]))
    assert not close(model(both)[:1, 6:], model(ids))  # the test sees a mask that is left out
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("family", ["llama3.2", "mistral", "qwen2", "qwen3", "yarn"])
def test_packed_documents_equal_the_unpacked(load: Callable[[str], Decoder], family: str) -> None:
    model, ids = load(family), draw_ids(2, 20)
    lengths = ([3, 9, 8], [1, 19])
    documents = torch.stack([torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in lengths])
    found = model(ids, documents=documents)
    for row, cuts in enumerate(lengths):
        alone = torch.cat([model(part)[0] for part in cut(ids[row : row + 1], cuts)])
        assert close(found[row], alone)
    assert not close(found, model(ids))


def test_documents_need_both_the_mask_and_the_positions(
    load: Callable[[str], Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = load("llama3"), draw_ids(1, 20)
    documents = (torch.arange(20) >= 7).long()[None]
    right = model(ids, documents=documents)
    wrong = lambda documents: torch.arange(documents.shape[1])[None] * 2  # noqa: E731
    monkeypatch.setattr(decoder_module, "positions_of_documents", wrong)
    assert not close(model(ids, documents=documents), right)


def test_positions() -> None:
    padding = torch.tensor([[False, False, True, True], [True, True, True, True]])
    assert positions_of_padded(padding).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    documents = torch.tensor([[4, 4, 4, 0, 0, 4], [1, 2, 2, 2, 2, 2]])
    assert positions_of_documents(documents).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]


def test_the_mask_says_who_sees_whom() -> None:
    assert visible(torch.arange(4), 4, window=4, plain=True) is None
    assert visible(torch.arange(4), 4, window=3, plain=True) is not None
    padding = torch.tensor([[False, True, True, True, True]])
    documents = torch.tensor([[0, 0, 0, 1, 1]])
    mask = visible(torch.arange(2, 5), 5, window=2, padding=padding, documents=documents)
    assert mask is not None
    assert mask.int().tolist() == [[[[0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]]]


class HeadRope(Rope):
    """A base for each key-value head, as HARPE has it."""

    def __call__(self, positions: torch.Tensor, dtype: torch.dtype) -> Tables:
        bases = torch.tensor([1e4, 3e4])
        inverse = bases[:, None] ** (-torch.arange(0, self.size, 2) / self.size)
        angles = positions[:, None, :, None] * inverse[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)


def test_tables_may_differ_between_heads() -> None:
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    tables = HeadRope(CONFIG)(torch.arange(5)[None], torch.float32)
    turned_q, turned_k = rotate_together(q, k, tables)
    for head in range(4):
        group = head // 2
        one = tables[0][:, group : group + 1], tables[1][:, group : group + 1]
        assert turned_q[:, head : head + 1].equal(rotate(q[:, head : head + 1], one))
        assert turned_k[:, group : group + 1].equal(rotate(k[:, group : group + 1], one))
    assert Decoder(CONFIG, Parts(rope=HeadRope))(draw_ids()).shape == (2, 40, 97)


def test_one_token_is_turned_like_many() -> None:
    q, k = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 3, 8)
    tables = Rope(CONFIG)(torch.arange(3)[None], torch.float32)
    for place in range(3):
        cut = slice(place, place + 1)
        one = tables[0][:, :, cut], tables[1][:, :, cut]
        together = rotate_together(q[:, :, cut], k[:, :, cut], one)
        assert together[0].equal(rotate(q, tables)[:, :, cut])
        assert together[1].equal(rotate(k, tables)[:, :, cut])


class Follower(nn.Module):
    """Takes the first layer's queries from the carry and caches values only, as UniAttn does."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.v = layer, nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        values = self.v(x)[:, None]
        if carry.cache is not None:
            keys, values = carry.cache.update(self.layer, None, values)
            assert keys is None
        delta: torch.Tensor = carry.shared["leader"] + values[:, 0, -x.shape[1] :]
        return delta


class Leader(Attention):
    def forward(self, x: torch.Tensor, carry: Carry) -> torch.Tensor:
        carry.shared["leader"] = x
        return super().forward(x, carry)


class Routed(SwiGLU):
    """Wants ids and the residual stream, and leaves a loss."""

    def forward(self, x: torch.Tensor, h: torch.Tensor, carry: Carry) -> torch.Tensor:
        assert carry.ids is not None
        carry.losses.append(h.square().mean())
        return super().forward(x, h, carry) * (carry.ids % 2)[..., None]


def test_parts_of_three_methods_compose() -> None:
    def make_attention(config: Config, layer: int) -> nn.Module:
        return Leader(config, layer) if layer == 0 else Follower(config, layer)

    config = replace(CONFIG, windows=(None,) * 3)
    model = Decoder(config, Parts(make_attention, Routed, HeadRope)).eval()
    ids = draw_ids(2, 12)
    h, carry = model.hidden(ids)
    assert len(carry.losses) == 3
    assert set(carry.shared) == {"leader"}
    cache = StaticCache(12)
    steps = [model(part, cache=cache) for part in cut(ids, [4, 4, 4])]
    assert close(torch.cat(steps, 1), model.lm_head(h))
    head, hidden = config.head_dim, config.hidden_size
    assert cache.bytes == 4 * 2 * 12 * (2 * 2 * head + 2 * hidden)


def test_a_block_leaves_the_carry_it_was_given() -> None:
    model = Decoder(CONFIG, Parts(make_ffn=Routed))
    ids = draw_ids(1, 6)
    with torch.enable_grad():
        _, carry = model.hidden(ids)
        empty = replace(carry, losses=[])
        h = model.model.embed_tokens(ids)
        block = model.model.layers[0]
        again = torch.utils.checkpoint.checkpoint(block, h, empty, use_reentrant=False)
        again[0].sum().backward()  # runs the block a second time
    assert empty.losses == []
    assert len(again[1].losses) == 1


def test_a_wrong_window_of_the_cache_is_seen(load: Callable[[str], Decoder]) -> None:
    model, ids = load("mistral"), draw_ids(1, 12)
    cache = StaticCache(12)
    model(ids[:, :8], cache=cache)
    cache.length -= 1  # one token overwritten
    assert not close(model(ids[:, 8:], cache=cache), model(ids)[:, 8:])


def test_methods_settings_reach_their_parts() -> None:
    def change(parts: Parts, settings: Mapping[str, Any]) -> Parts:
        return replace(parts, make_ffn=lambda config, layer: SwiGLU(replace(config, **settings), layer))

    model = Decoder(CONFIG, change(Parts(), {"intermediate_size": 24}))
    assert model.get_parameter("model.layers.0.mlp.up_proj.weight").shape == (24, 32)
