"""Tiny checkpoints of every family and RoPE scaling, made by transformers, which is the oracle."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

BASE = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 96, "bos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama2": {"model_type": "llama", "num_key_value_heads": 6},
    "llama3": {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "llama3.2": {"model_type": "llama", "rope_parameters": LLAMA3, "tie_word_embeddings": True, "head_dim": 12},
    "llama-bias": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "linear": {"model_type": "llama", "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    "dynamic": {
        "model_type": "llama", "max_position_embeddings": 16,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    },
    "yarn": {"model_type": "llama", "rope_parameters": YARN},
    "yarn-options": {
        "model_type": "llama", "head_dim": 16,
        "rope_parameters": {
            **YARN, "rope_theta": 50.0, "beta_fast": 2.0, "beta_slow": 0.5, "mscale": 0.7, "mscale_all_dim": 0.4,
            "truncate": False,
        },
    },
    "mistral": {"model_type": "mistral", "sliding_window": 5, "head_dim": 10},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {"model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": True},
    "smollm3": {"model_type": "smollm3", "num_hidden_layers": 4, "no_rope_layer_interval": 2},
    "smollm3-list": {"model_type": "smollm3", "no_rope_layers": [0, 1, 1]},
    "granite": {
        "model_type": "granite", "tie_word_embeddings": True, "embedding_multiplier": 12, "attention_multiplier": 0.3,
        "residual_multiplier": 0.22, "logits_scaling": 10,
    },
    "olmo2": {"model_type": "olmo2"},
    "olmo3": {
        "model_type": "olmo3", "num_hidden_layers": 4, "sliding_window": 5,
        "rope_parameters": {
            "full_attention": {**YARN, "rope_theta": 5e5, "attention_factor": 1.2},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
        },
    },
    "phi3": {"model_type": "phi3", "sliding_window": 7},
    "phi3-long": {
        "model_type": "phi3", "tie_word_embeddings": True, "hidden_size": 64, "num_attention_heads": 4,
        "original_max_position_embeddings": 32,
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 2.0], "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 8.0],
        },
    },
    "glm": {"model_type": "glm", "head_dim": 16},
    "glm4": {"model_type": "glm4", "head_dim": 8, "partial_rotary_factor": 0.75, "attention_bias": True},
    "ministral3": {
        "model_type": "ministral3", "head_dim": 12,
        "rope_parameters": {
            **YARN, "type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1, "max_position_embeddings": 64,
        },
    },
    "gemma2": {
        "model_type": "gemma2", "head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0,
    },
    "gemma3": {
        "model_type": "gemma3_text", "head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 24,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
}  # fmt: skip
GRANITE_4: dict[str, Any] = {
    "model_type": "granitemoehybrid", "num_local_experts": 0, "shared_intermediate_size": 80,
    "layer_types": ["attention"] * 3, "embedding_multiplier": 12, "attention_multiplier": 0.3,
    "residual_multiplier": 0.22, "logits_scaling": 10, "mamba_n_heads": 8, "mamba_d_head": 12,
}  # fmt: skip
"""Fused tensors, and not every type to the bit."""


def save(directory: Path, family: str, std: float = 0.02, **changes: Any) -> Path:
    """A checkpoint with weights of this standard deviation; norms and biases are not left at one and zero."""
    settings = {
        **BASE,
        **(GRANITE_4 if family == "granite4" else FAMILIES[family]),
        "initializer_range": std,
        **changes,
    }
    config = transformers.AutoConfig.for_model(**settings)
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            ones = "norm" in name and "gemma" not in settings["model_type"]  # Gemma's weights are what is added to 1
            torch.nn.init.normal_(parameter, float(ones), std)
    model.save_pretrained(directory)
    return directory


def spell_as_4x(directory: Path) -> None:
    """Rewrite config.json as transformers 4.x does: rope_theta and rope_scaling, torch_dtype."""
    file = directory / "config.json"
    facts = json.loads(file.read_text())
    rope = facts.pop("rope_parameters")
    facts["rope_theta"] = rope.pop("rope_theta")
    facts["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    facts["torch_dtype"] = facts.pop("dtype")
    file.write_text(json.dumps(facts))


def oracle(directory: Path, dtype: torch.dtype = torch.float64) -> Any:
    """The checkpoint as transformers loads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()


def draw_ids(rows: int = 2, length: int = 40) -> torch.Tensor:
    """Ids [rows, length], without padding's and the end's."""
    return torch.randint(2, 96, (rows, length), generator=torch.Generator().manual_seed(3))
