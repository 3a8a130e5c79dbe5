"""A text model inside one that also sees: its config and its tensors, under the names that it would have alone.

Mistral Small 3, Ministral 3 and Gemma 3 from 4B on are published with a vision tower: config.json keeps the text
model's fields in `text_config`, and its tensors stand under `language_model.`, or `model.language_model.` as
transformers 5 names them in memory. Text goes through the text model only, so what is read here is that model; the
tower is left out, and what is written from it is a checkpoint of the text model's own family.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from llmtool.core.checkpoint.safetensors_file import TensorEntry
from llmtool.core.run.dataclass import dataclass


@dataclass(frozen=True)
class Wrapper:
    """What an absent field of `text_config` means."""

    model_type: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


WRAPPERS: Mapping[str, Wrapper] = {
    "mistral3": Wrapper("mistral", {
        "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32768, "max_position_embeddings": 131072,
        "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
        "sliding_window": None, "vocab_size": 131072,
    }),
    "gemma3": Wrapper("gemma3_text", {
        "hidden_size": 2304, "intermediate_size": 9216, "max_position_embeddings": 131072, "num_attention_heads": 8,
        "num_hidden_layers": 26, "vocab_size": 262208,
    }),
}  # fmt: skip
"""model_type of the whole -> its text model's. The defaults are those of transformers 5.23 for sizes that the published
files leave out; Mistral's own (a window of 4,096) do not hold inside a mistral3."""

ARCHITECTURES = {
    "mistral": "MistralForCausalLM", "ministral3": "Ministral3ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
}  # fmt: skip
"""model_type of a text model -> the class of transformers that is the text model alone."""

TEXT = ("model.language_model.", "language_model.model.")
OTHERS = ("vision_tower.", "multi_modal_projector.")
TIES, HEAD = "tie_word_embeddings", "lm_head.weight"
WHOLE = ("bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype", "quantization_config",
         "tie_word_embeddings", "transformers_version")  # fmt: skip
"""Fields of the whole that count for the text model where `text_config` does not say them."""


def text_config(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """config.json of the text model inside; None where there is no other model around it."""
    wrapper, text = WRAPPERS.get(str(config.get("model_type"))), config.get("text_config")
    if wrapper is None or not isinstance(text, Mapping):
        return None
    found = {"model_type": wrapper.model_type, **{key: config[key] for key in WHOLE if key in config}, **text}
    if TIES in config:  # that of the whole counts, the text model's own is a default that was written down
        found[TIES] = config[TIES]
    if found["model_type"] == wrapper.model_type:
        found = {**wrapper.defaults, **found}
    architecture = ARCHITECTURES.get(str(found["model_type"]))
    return {**found, "architectures": [architecture]} if architecture else found


def text_entries(entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """The text model's tensors under its own names, and whatever is not known to be of another part."""
    found = {}
    for name, entry in entries.items():
        inner = name.removeprefix("language_model.").removeprefix("model.")
        if inner.startswith(OTHERS):
            continue
        prefix = next((prefix for prefix in TEXT if name.startswith(prefix)), None)
        ours = f"model.{name.removeprefix(prefix)}" if prefix else name.removeprefix("language_model.")
        found[ours] = replace(entry, name=ours)
    return found


def with_ties(config: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The config of a text model, with the question answered whether the output layer is the embedding: where it does
    not say, the files hold one or they do not."""
    return config if config.get(TIES) is not None else {**config, TIES: HEAD not in set(names)}
