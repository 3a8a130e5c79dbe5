"""The decoder against transformers: bit for bit in every family, scaling, scale of weights and type.

At the usual std of 0.02 a fifty-fold error of theta moves logits by 1e-7 only: hence 0.5 as well, float64, and a list
of mutations that must each be seen.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool.core.model import attention, decoder, mask, norm, rope
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Decoder
from llmtool.core.model.loading import load_decoder
from tests.core.model.families import FAMILIES, draw_ids, oracle, save, spell_as_4x

TOLERANCE = 1e-10
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


@pytest.fixture(scope="module", params=[0.02, 0.5])
def std(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, std: float) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: save(root / family, family, std) for family in FAMILIES}


def difference(path: Path, build: Callable[[Config], Decoder], dtype: torch.dtype = torch.float64) -> float:
    """max |logit difference| from transformers."""
    ids = draw_ids()
    with torch.no_grad():
        found = load_decoder(path, build, dtype=dtype)(ids)
        return float((found - oracle(path, dtype)(ids).logits).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_bit_for_bit(checkpoints: dict[str, Path], family: str, std: float) -> None:
    found = {dtype: difference(checkpoints[family], Decoder, dtype) for dtype in DTYPES}
    if family.startswith(("phi3", "glm")):  # one product of transformers is three here: sums in another order
        assert found.pop(torch.float32) < 1e-4 * std
    assert found == dict.fromkeys(found, 0.0)


@pytest.mark.parametrize("family", ["llama3.2", "yarn", "mistral", "qwen2", "qwen3"])
def test_the_4x_spelling_is_the_same_model(checkpoints: dict[str, Path], tmp_path: Path, family: str) -> None:
    path = checkpoints[family]
    copy = tmp_path / family
    copy.mkdir()
    for file in path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    spell_as_4x(copy)
    assert (path / "config.json").read_text() != (copy / "config.json").read_text()
    with torch.no_grad():
        assert load_decoder(path, Decoder)(draw_ids()).equal(load_decoder(copy, Decoder)(draw_ids()))


SETTINGS: dict[str, tuple[str, Callable[[Config], Config]]] = {
    "theta times fifty": ("llama2", lambda c: replace(c, rope=replace(c.rope, theta=c.rope.theta * 50))),
    "eps": ("llama2", lambda c: replace(c, rms_norm_eps=1e-5)),
    "window one more": ("mistral", lambda c: replace(c, windows=(6, 6, 6))),
    "window one less": ("mistral", lambda c: replace(c, windows=(4, 4, 4))),
    "window from the next layer on": ("qwen2", lambda c: replace(c, windows=(None, None, 5))),
    "no window": ("qwen2", lambda c: replace(c, windows=(None, None, None))),
    "linear unscaled": ("linear", lambda c: replace(c, rope=replace(c.rope, kind="default"))),
    "dynamic unscaled": ("dynamic", lambda c: replace(c, rope=replace(c.rope, kind="default"))),
    "dynamic from another length": ("dynamic", lambda c: replace(c, max_position_embeddings=17)),
    "llama3 unscaled": ("llama3.2", lambda c: replace(c, rope=replace(c.rope, kind="default"))),
    "llama3 low": ("llama3.2", lambda c: replace(c, rope=replace(c.rope, low_freq_factor=2.0))),
    "llama3 high": ("llama3.2", lambda c: replace(c, rope=replace(c.rope, high_freq_factor=3.0))),
    "llama3 original length": ("llama3.2", lambda c: replace(c, rope=replace(c.rope, original_positions=64))),
    "yarn as linear": ("yarn", lambda c: replace(c, rope=replace(c.rope, kind="linear"))),
    "yarn without its amplitude": ("yarn", lambda c: replace(c, rope=replace(c.rope, attention_factor=1.0))),
    "yarn truncated": ("yarn-options", lambda c: replace(c, rope=replace(c.rope, truncate=True))),
    "yarn mscale": ("yarn-options", lambda c: replace(c, rope=replace(c.rope, mscale=0.0))),
    "yarn beta_fast": ("yarn-options", lambda c: replace(c, rope=replace(c.rope, beta_fast=32.0))),
    "a turned layer": ("smollm3", lambda c: replace(c, unrotated=frozenset())),
    "another unturned layer": ("smollm3", lambda c: replace(c, unrotated=frozenset({0, 2}))),
    "unscaled embedding": ("granite", lambda c: replace(c, embedding_scale=1.0)),
    "scores by head_dim": ("granite", lambda c: replace(c, attention_scale=None)),
    "unscaled residual": ("granite", lambda c: replace(c, residual_scale=1.0)),
    "undivided logits": ("granite", lambda c: replace(c, logits_divisor=1.0)),
    "Gemma's embedding": ("gemma3", lambda c: replace(c, embedding="plain")),
    "one rotation for all": ("gemma3", lambda c: replace(c, local_rope=None)),
    "rotations changed about": ("gemma3", lambda c: replace(c, rope=c.local_rope or c.rope, local_rope=c.rope)),
    "SiLU for GELU": ("gemma3", lambda c: replace(c, activation="silu")),
    "scores by head_dim of Gemma": ("gemma2", lambda c: replace(c, attention_scale=None)),
    "no cap of scores": ("gemma2", lambda c: replace(c, attention_cap=None)),
    "no cap of logits": ("gemma2", lambda c: replace(c, logits_cap=None)),
    "windows on the odd layers": ("gemma2", lambda c: replace(c, windows=(None, 5, None))),
    "yarn on all layers": ("olmo3", lambda c: replace(c, local_rope=None)),
    "a part that turns whole": ("phi3-long", lambda c: replace(c, rope=replace(c.rope, kind="default"))),
    "longrope short": ("phi3-long", lambda c: replace(c, rope=replace(c.rope, long_factors=c.rope.short_factors))),
    "longrope original": ("phi3-long", lambda c: replace(c, rope=replace(c.rope, original_positions=40))),
    "longrope amplitude": ("phi3-long", lambda c: replace(c, rope=replace(c.rope, attention_factor=1.0))),
    "halves for neighbours": ("glm4", lambda c: replace(c, neighbours=False)),
    "a head that turns whole": ("glm", lambda c: replace(c, rope=replace(c.rope, partial=1.0))),
    "queries that do not grow": ("ministral3", lambda c: replace(c, rope=replace(c.rope, llama_4_scaling_beta=0.0))),
    "queries that grow later": ("ministral3", lambda c: replace(c, rope=replace(c.rope, original_positions=32))),
    "yarn beta_slow": ("yarn-options", lambda c: replace(c, rope=replace(c.rope, beta_slow=1.0))),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting_is_seen(checkpoints: dict[str, Path], name: str) -> None:
    family, change = SETTINGS[name]
    assert difference(checkpoints[family], lambda config: Decoder(change(config))) > TOLERANCE


def interleaved(x: torch.Tensor, tables: rope.Tables) -> torch.Tensor:
    cos, sin = tables
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


def turned_back(x: torch.Tensor, tables: rope.Tables) -> torch.Tensor:
    return rope.rotate(x, (tables[0], -tables[1]))


def heads_in_turn(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    times = q.shape[1] // k.shape[1]
    return attention.scaled_dot_product(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), mask)


def unscaled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return attention.scaled_dot_product(q * q.shape[-1] ** 0.5, k, v, mask)


def late_by_one(slots: torch.Tensor, keys: int, **settings: object) -> torch.Tensor:
    seen = mask.visible(slots, keys)
    assert seen is not None
    return seen.roll(1, -1) | torch.eye(keys, dtype=torch.bool)


@pytest.mark.parametrize(
    "family, module, name, wrong",
    [
        ("llama2", rope, "rotate_together", lambda q, k, t: (interleaved(q, t), interleaved(k, t))),
        ("llama2", rope, "rotate_together", lambda q, k, t: (turned_back(q, t), k)),
        ("llama2", rope, "rotate_together", lambda q, k, t: (q, k)),
        ("llama2", decoder, "visible", late_by_one),
        ("llama2", decoder, "visible", lambda slots, keys, **_: torch.ones(1, 1, keys, keys, dtype=torch.bool)),
    ],
    ids=["pairs", "direction", "no rotation", "mask off by one", "no mask"],
)
def test_a_wrong_step_is_seen(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, family: str, module: object, name: str, wrong: object
) -> None:
    monkeypatch.setattr(module, name, wrong)
    assert difference(checkpoints[family], Decoder) > TOLERANCE


@pytest.mark.parametrize("kernel", [heads_in_turn, unscaled])
def test_a_wrong_kernel_is_seen(checkpoints: dict[str, Path], kernel: attention.Attend) -> None:
    def build(config: Config) -> Decoder:
        make = lambda config, layer: attention.Attention(config, layer, kernel)  # noqa: E731
        return Decoder(config, decoder.Parts(make_attention=make))

    assert difference(checkpoints["llama3"], build) > TOLERANCE


@pytest.mark.parametrize(
    "family, name",
    [
        ("llama-bias", "self_attn.q_proj.bias"),
        ("llama-bias", "self_attn.o_proj.bias"),
        ("llama-bias", "mlp.down_proj.bias"),
        ("qwen2", "self_attn.k_proj.bias"),
        ("qwen2", "self_attn.v_proj.bias"),
        ("qwen3", "self_attn.q_norm.weight"),
        ("qwen3", "self_attn.k_norm.weight"),
        ("olmo2", "self_attn.q_norm.weight"),
        ("olmo2", "post_feedforward_layernorm.weight"),
        ("gemma3", "self_attn.k_norm.weight"),
        ("gemma3", "pre_feedforward_layernorm.weight"),
        ("gemma2", "post_feedforward_layernorm.weight"),
        ("glm4", "self_attn.v_proj.bias"),
        ("glm4", "post_self_attn_layernorm.weight"),
        ("glm4", "post_mlp_layernorm.weight"),
        ("llama2", "input_layernorm.weight"),
        ("llama2", "post_attention_layernorm.weight"),
    ],
)
def test_a_lost_tensor_is_seen(checkpoints: dict[str, Path], family: str, name: str) -> None:
    model, ids = load_decoder(checkpoints[family], Decoder), draw_ids()
    with torch.no_grad():
        right = model(ids)
        parameter = model.get_parameter(f"model.layers.1.{name}")
        parameter.fill_(1.0 if "norm" in name else 0.0)
        # A bias of k moves every score of a query alike until it is turned: it matters, but little.
        assert float((model(ids) - right).abs().max()) > TOLERANCE


def test_tied_weights_are_one_tensor(checkpoints: dict[str, Path]) -> None:
    tied, untied = (load_decoder(checkpoints[family], Decoder) for family in ("qwen3", "llama2"))
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight
    assert not untied.lm_head.weight.equal(untied.model.embed_tokens.weight)


@pytest.mark.parametrize("rope", ["rope", None])
def test_granite_4_without_experts(tmp_path: Path, rope: str | None) -> None:
    path = save(tmp_path / "model", "granite4", 0.3, position_embedding_type=rope)
    assert {dtype: difference(path, Decoder, dtype) for dtype in DTYPES} == pytest.approx(
        {torch.float64: 0.0, torch.float32: 0.0, torch.bfloat16: 0.0}, abs=1e-5
    )


def test_a_norm_whose_weight_is_rounded_first_is_seen(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between OLMo's norm and Llama's only rounding differs: bfloat16 shows it."""
    monkeypatch.setitem(norm.FORMS, "precise", norm.rms_norm)
    assert difference(checkpoints["olmo2"], Decoder, torch.bfloat16) > 0


def test_a_tied_file_may_hold_the_output_layer_only(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """safetensors' save_model keeps one name of a shared tensor, whichever it meets first."""
    from safetensors.torch import load_file, save_file

    source = checkpoints["qwen3"]
    state = load_file(source / "model.safetensors")
    state["lm_head.weight"] = state.pop("model.embed_tokens.weight")
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    with torch.no_grad():
        assert load_decoder(tmp_path, Decoder)(draw_ids()).equal(load_decoder(source, Decoder)(draw_ids()))
