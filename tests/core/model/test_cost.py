"""FLOPs of a training step against formulas written out, and rates of GPUs by their names."""

from typing import Any

import pytest

pytest.importorskip("torch")

from llmtool.core.kernels.peaks import datasheet
from llmtool.core.model.config import parse_config
from llmtool.core.model.cost import training_flops
from llmtool.core.model.decoder import Decoder
from llmtool.model import build

LAYERS, WIDTH, INNER, HEADS, SHARED, SIZE, WORDS = 3, 48, 80, 6, 2, 8, 97
RAW: dict[str, Any] = {
    "model_type": "llama", "vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": SHARED, "head_dim": SIZE,
    "max_position_embeddings": 64,
}  # fmt: skip
QO, KV = WIDTH * HEADS * SIZE, WIDTH * SHARED * SIZE
MATRICES = LAYERS * (2 * QO + 2 * KV + 3 * WIDTH * INNER) + WORDS * WIDTH


def attention(positions: float, layers: int = LAYERS) -> float:
    """Scores and weighted sums, forward and twice that backward."""
    return 3 * layers * (2 + 2) * HEADS * SIZE * positions


def test_a_llama() -> None:
    assert training_flops(Decoder(parse_config(RAW)), 1) == 6 * MATRICES + attention(1)
    assert training_flops(Decoder(parse_config(RAW)), 32) == 6 * MATRICES + attention(16.5)
    tied = Decoder(parse_config({**RAW, "tie_word_embeddings": True}))
    assert training_flops(tied, 32) == 6 * MATRICES + attention(16.5)


def test_a_window_is_what_a_token_sees_at_most() -> None:
    windowed = {**RAW, "model_type": "mistral", "sliding_window": 4}
    seen = (1 + 2 + 3 + 4 * 29) / 32
    assert training_flops(Decoder(parse_config(windowed)), 32) == round(6 * MATRICES + attention(seen))


def test_matrices_that_stand_still_have_no_gradient() -> None:
    decoder = Decoder(parse_config(RAW)).requires_grad_(False)
    assert training_flops(decoder, 32) == 4 * MATRICES + attention(16.5)
    decoder.get_submodule("model.layers.1.mlp.up_proj").requires_grad_(True)
    assert training_flops(decoder, 32) == 4 * MATRICES + 2 * WIDTH * INNER + attention(16.5)


def test_of_experts_those_a_token_meets() -> None:
    moe = {**RAW, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    more = LAYERS * (3 * WIDTH * INNER + 8 * WIDTH)  # a second expert, and the router
    assert training_flops(Decoder(parse_config(moe)), 1) == 6 * (MATRICES + more) + attention(1)


def test_a_layer_without_a_softmax_makes_no_scores() -> None:
    entry = {"name": "uniattn", "version": 1, "groups": [[0, 2]], "compensation": "none"}
    shared = parse_config({**RAW, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [entry]}})
    scores = 3 * 2 * HEADS * SIZE
    assert training_flops(build(shared), 1) == 6 * (MATRICES - QO - KV) + attention(1) - scores


def test_rates_are_those_of_the_name() -> None:
    assert datasheet("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert datasheet("NVIDIA H100 PCIe", "bf16") == 756e12
    assert datasheet("NVIDIA A100-SXM4-80GB", "bf16") == 312e12
    assert datasheet("NVIDIA L40S", "bf16") == 362e12
    for name, dtype in (("NVIDIA H100 80GB HBM3", "fp32"), ("NVIDIA A1000", "bf16"), ("NVIDIA L40", "bf16")):
        assert datasheet(name, dtype) is None
