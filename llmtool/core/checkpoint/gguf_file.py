"""A GGUF file as llama.cpp writes it -> config.json and a stream of tensors under Hugging Face's names.

Read by the library `gguf` (the extra of that name), which knows the quantised types; weights come out in float32. What
llama.cpp's converter changed is put back: the pairs that RoPE turns stand side by side there and in two halves here
(llama), a norm's weight has one added (Gemma). A model that the metadata do not describe whole is refused by name.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.files import open_plain
from llmtool.core.run.numbers import real, whole

if TYPE_CHECKING:
    import torch

MAGIC = b"GGUF"
NUMPYS = ("reshape", "array", "buffer", "index")
"""What an array's own messages speak of, where a file is cut."""

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""blk.N.NAME -> model.layers.N.NAME."""

OUTER = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
}  # fmt: skip
FREQUENCIES = "rope_freqs.weight"
"""What Llama 3.1 divides its frequencies by; it follows from the config."""


@dataclass(frozen=True)
class Architecture:
    """How a `general.architecture` of GGUF is a family here."""

    family: str
    names: Mapping[str, str]
    pairs: bool = False
    """Whether rows of q and k are stored with the turned pairs side by side."""
    added: float = 0.0
    """What the weights of norms have too much."""


ARCHITECTURES = {
    "llama": Architecture("llama", NAMES, pairs=True),
    "qwen2": Architecture("qwen2", NAMES),
    "qwen3": Architecture("qwen3", NAMES),
    "gemma3": Architecture(
        "gemma3_text",
        {
            **NAMES, "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
        added=1.0,
    ),
}  # fmt: skip


class GgufFile:
    """The metadata of a file, and its tensors one after the other."""

    def __init__(self, path: Path) -> None:
        gguf = require("gguf", extra="gguf", why="to read GGUF files")
        self.path = path
        with open_plain(path) as file:
            magic = file.read(4)
        if magic != MAGIC:
            raise UserError("not a GGUF file", where=str(path), hint="it would begin with GGUF")
        try:
            self._reader = gguf.GGUFReader(str(path))
            self.facts = {name: field.contents() for name, field in self._reader.fields.items()}
        except Exception as error:  # the library's are of every kind: ValueError, IndexError, ...
            own = str(error) and type(error) is ValueError and not any(word in str(error) for word in NUMPYS)
            why = error if own else f"it ends after {path.stat().st_size:,} bytes, before what it lists"
            raise UserError(f"not a whole GGUF file: {why}", where=str(path), hint="was it copied whole?") from None
        kind = self.facts.get("general.architecture")
        if kind not in ARCHITECTURES:
            wanted = ", ".join(ARCHITECTURES)
            raise UserError(f"general.architecture {kind!r} is not supported: wanted one of {wanted}", where=str(path))
        self.kind = str(kind)
        self.architecture = ARCHITECTURES[self.kind]
        self.tied = not any(tensor.name == "output.weight" for tensor in self._reader.tensors)
        self.types = sorted({tensor.tensor_type.name for tensor in self._reader.tensors})

    def need(self, key: str) -> Any:
        """A field of the architecture."""
        value = self.facts.get(f"{self.kind}.{key}")
        if value is None:
            raise UserError(f"has no field {self.kind}.{key}", where=str(self.path))
        return value

    def config(self) -> dict[str, Any]:
        """config.json of the model."""
        heads, hidden = self._count("attention.head_count"), self._count("embedding_length")
        shared = self._whole(f"{self.kind}.attention.head_count_kv", heads)
        size = self._whole(f"{self.kind}.attention.key_length", hidden // heads)
        if self.facts.get(f"{self.kind}.expert_count"):
            raise UserError("a mixture of experts is not read from GGUF", where=str(self.path))
        own = {}
        if self.kind == "gemma3":
            local = real(
                self.facts.get("gemma3.rope.freq_base_swa") or 1e4, "rope.freq_base_swa", low=1, where=str(self.path)
            )
            own = {
                "sliding_window": self._count("attention.sliding_window"), "query_pre_attn_scalar": size,
                "hidden_activation": "gelu_pytorch_tanh", "rope_local_base_freq": local,
                **self._slides(),
            }  # fmt: skip
            if self._count("block_count") == 62:  # 27B, whose scores are scaled by the width of a head of the residual
                own["query_pre_attn_scalar"] = hidden // heads
        tokens = self.facts.get("tokenizer.ggml.tokens") or []
        special = {
            f"{name}_token_id": self._whole(key, 0)
            for name, key in TOKEN_IDS.items()
            if self.facts.get(key) is not None
        }
        return {
            "model_type": self.architecture.family, "hidden_size": hidden, "head_dim": size,
            "intermediate_size": self._count("feed_forward_length"), "num_hidden_layers": self._count("block_count"),
            "num_attention_heads": heads, "num_key_value_heads": shared,
            "rms_norm_eps": self._epsilon(),
            "rope_theta": self._theta(), "rope_scaling": self._scaling(), "tie_word_embeddings": self.tied,
            "max_position_embeddings": self._count("context_length"),
            "vocab_size": self._whole(f"{self.kind}.vocab_size", len(tokens)),
            "hidden_act": "gelu_pytorch_tanh" if self.kind == "gemma3" else "silu", **own, **special,
        }  # fmt: skip

    def _theta(self) -> float:
        return self._real(f"{self.kind}.rope.freq_base", 1e4)

    def _epsilon(self) -> float:
        """Stored in fp32: 1e-5 as 9.99999974e-06."""
        given = real(self.need("attention.layer_norm_rms_epsilon"), "rms_epsilon", low=0, high=1, where=str(self.path))
        return float(f"{given:.6g}")

    def _real(self, key: str, default: float) -> float:
        return real(self.facts.get(key) or default, key, low=1, where=str(self.path))

    def _whole(self, key: str, default: int) -> int:
        return whole(self.facts.get(key) or default, key, high=1 << 40, where=str(self.path))

    def _slides(self) -> dict[str, Any]:
        """Which layers have a window: every sixth has none, unless the file says otherwise, by a number or a list."""
        given = self.facts.get("gemma3.attention.sliding_window_pattern")
        if isinstance(given, list):
            return {"layer_types": ["sliding_attention" if slides else "full_attention" for slides in given]}
        return {"sliding_window_pattern": whole(given or 6, "sliding_window_pattern", low=1, where=str(self.path))}

    def _count(self, key: str) -> int:
        value = self.need(key)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{self.kind}.{key} {value!r} is not a count", where=str(self.path))
        return value

    def _scaling(self) -> dict[str, Any] | None:
        """rope_scaling: what the metadata say, or Llama 3.1's, known by its divisors."""
        kind = self.facts.get(f"{self.kind}.rope.scaling.type")
        divisors = next((tensor for tensor in self._reader.tensors if tensor.name == FREQUENCIES), None)
        if divisors is not None:
            return self._llama3([float(x) for x in divisors.data])
        if kind in (None, "none"):
            return None
        factor = real(self.need("rope.scaling.factor"), "rope.scaling.factor", low=1, where=str(self.path))
        if kind == "linear":
            return {"rope_type": "linear", "factor": factor}
        original = self.facts.get(f"{self.kind}.rope.scaling.original_context_length")
        if kind == "yarn" and original:
            return {
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": self._whole(f"{self.kind}.rope.scaling.original_context_length", 0),
            }
        raise UserError(f"rope.scaling.type {kind!r} is not supported", where=str(self.path))

    def _llama3(self, divisors: list[float]) -> dict[str, Any]:
        import torch

        found = {
            "rope_type": "llama3", "factor": float(max(divisors)), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }  # fmt: skip
        wanted = divisors_of(self._theta(), 2 * len(divisors), found)
        if not torch.allclose(torch.tensor(divisors), wanted, rtol=1e-4):
            what = f"{FREQUENCIES} are not those of Llama 3.1: GGUF does not say which rotation they mean"
            raise UserError(what, where=str(self.path))
        return found

    def tensors(self) -> "Iterator[tuple[str, torch.Tensor]]":
        """(name, tensor in float32), one in memory at a time."""
        import numpy as np
        import torch
        from gguf import dequantize

        heads = self._count("attention.head_count")
        shared = self._whole(f"{self.kind}.attention.head_count_kv", heads)
        for tensor in self._reader.tensors:
            if tensor.name == FREQUENCIES:
                continue
            name, part = self._name(tensor.name)
            weight = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
            if self.architecture.pairs and part in ("attn_q", "attn_k"):
                weight = halves(weight, heads if part == "attn_q" else shared)
            if part.endswith("norm") and self.architecture.added:
                weight = weight - self.architecture.added
            yield name, weight

    def _name(self, stored: str) -> tuple[str, str]:
        """Our name of a tensor, and its part in GGUF's."""
        stem, _, suffix = stored.rpartition(".")
        if suffix in ("weight", "bias"):
            if stem in OUTER:
                return f"{OUTER[stem]}.{suffix}", stem
            block, number, part = [*stem.split("."), "", ""][:3]
            if block == "blk" and number.isdigit() and part in self.architecture.names:
                return f"model.layers.{number}.{self.architecture.names[part]}.{suffix}", part
        raise UserError(f"tensor {stored} is not of a {self.kind} model as it is known here", where=str(self.path))


TOKEN_IDS = {
    "bos": "tokenizer.ggml.bos_token_id", "eos": "tokenizer.ggml.eos_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
}  # fmt: skip


def halves(weight: "torch.Tensor", heads: int) -> "torch.Tensor":
    """Rows [heads * D, ...] with turned pairs side by side -> in two halves of each head; biases too."""
    rows = weight.view(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return rows.transpose(1, 2).reshape(weight.shape)


def divisors_of(theta: float, size: int, scaling: Mapping[str, Any]) -> "torch.Tensor":
    """What Llama 3.1 divides its rotary frequencies by [size / 2], to know the rotation by its numbers.

    `size`: dimensions of a head; `scaling`: as rope_scaling says it.
    """
    import torch

    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    length = scaling["original_max_position_embeddings"]
    wavelength = 2 * math.pi * theta ** (torch.arange(0, size, 2).float() / size)
    smooth = (length / wavelength - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    divisors = torch.where(wavelength > length / low, torch.full_like(wavelength, factor), between)
    return torch.where(wavelength < length / high, torch.ones_like(wavelength), divisors)
