"""Small checkpoints made by hand, byte by byte."""

import json
import math
from pathlib import Path
from typing import Any

from llmtool.core.checkpoint.dtypes import ELEMENT_TYPES

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "torch_dtype": "float32",
    "tie_word_embeddings": False,
}

SHAPES = {
    "model.embed_tokens.weight": (32, 8),
    **{
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(2)
        for name, shape in {
            "self_attn.q_proj": (8, 8),
            "self_attn.k_proj": (4, 8),
            "self_attn.v_proj": (4, 8),
            "self_attn.o_proj": (8, 8),
            "mlp.gate_proj": (16, 8),
            "mlp.up_proj": (16, 8),
            "mlp.down_proj": (8, 16),
            "input_layernorm": (8,),
            "post_attention_layernorm": (8,),
        }.items()
    },
    "model.norm.weight": (8,),
    "lm_head.weight": (32, 8),
}


def safetensors_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header: an object, or bytes as they are; `length` lies about its size."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(code: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    """A tensor in a header."""
    return {"dtype": code, "shape": shape, "data_offsets": [start, stop]}


def write_zeros(path: Path, shapes: dict[str, tuple[int, ...]], **config: Any) -> Path:
    """A directory with one file of F32 zeros, made without torch."""
    return write_typed(path, {name: (shape, "F32") for name, shape in shapes.items()}, **config)


def write_typed(path: Path, tensors: dict[str, tuple[tuple[int, ...], str]], **config: Any) -> Path:
    """A directory with one file of zeros of these shapes and types."""
    header, position = {}, 0
    for name, (shape, code) in tensors.items():
        size = math.prod(shape) * ELEMENT_TYPES[code].size
        header[name] = entry(code, list(shape), position, position + size)
        position += size
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.safetensors").write_bytes(safetensors_bytes(header, bytes(position)))
    (path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return path
