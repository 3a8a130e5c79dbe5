"""The decoder for `transformers`: written into exported checkpoints, needs torch and transformers, not llmtool.

    AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)

Parameters, blocks and arithmetic are those of decoder.py; this file translates transformers' arguments and cache.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmtool.core.model.attention import attend_of
from llmtool.core.model.config import Config, architecture_keys, parse_config
from llmtool.core.model.configuration_llmtool import LlmtoolConfig
from llmtool.core.model.decoder import Parts, Trunk, make_ropes, prepare, run_blocks
from llmtool.core.model.embedding import finish_logits

METHODS: dict[str, Callable[[Parts, Mapping[str, Any]], Parts]] = {}
"""Name of a method in config.json -> its parts; an export with methods adds them at the end of this file."""


class HubCache:
    """A cache of transformers behind the decoder's interface."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache

    def update(
        self, layer: int, keys: torch.Tensor | None, values: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Add and return all so far.

        A layer without keys keeps its values in the keys' place: transformers takes a layer with empty keys for one
        without tokens, and would neither reorder nor crop it (beam search).
        """
        if keys is None:
            values, _ = self.cache.update(values, values[..., :0], layer)
            return None, values
        return self.cache.update(keys, values, layer)  # type: ignore[no-any-return]


class HubAttend:
    """The attention function that the config names, for serving engines that register their own."""

    def __init__(self, config: LlmtoolConfig, layer: int, window: int | None, architecture: Config) -> None:
        self.config, self.window, self.plain = config, window, attend_of(architecture)
        # What the registered functions look up on the module that calls them.
        self.layer_idx, self.is_causal, self.training = layer, True, False
        self.head_dim, self.num_key_value_groups = architecture.head_dim, architecture.groups
        self.scale, self.extra = architecture.scale, {}
        if architecture.attention_cap is not None:
            self.extra = {"softcap": architecture.attention_cap}

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, **options: Any
    ) -> torch.Tensor:
        """q [B, H, T, D], k and v [B, key-value heads, S, D] -> [B, H, T, D]."""
        name = self.config._attn_implementation
        if name in (None, "eager", "sdpa"):
            return self.plain(q, k, v, mask)
        attend, options = ALL_ATTENTION_FUNCTIONS[name], {**self.extra, **options}
        y: torch.Tensor = attend(self, q, k, v, mask, scaling=self.scale, sliding_window=self.window, **options)[0]
        return y.view(q.shape[0], -1, q.shape[1], q.shape[3]).transpose(1, 2)


class LlmtoolPreTrainedModel(PreTrainedModel):
    """What transformers asks of a class of models."""

    config_class = LlmtoolConfig
    base_model_prefix = "model"
    _no_split_modules: ClassVar[list[str]] = ["Block"]
    _supports_sdpa = True
    _supports_attention_backend = True


class LlmtoolModel(LlmtoolPreTrainedModel):
    """Everything but the output layer."""

    def __init__(self, config: LlmtoolConfig) -> None:
        super().__init__(config)
        self.architecture = parse_config(architecture_keys(config.to_dict()))
        parts = Parts()
        for method in self.architecture.methods:
            parts = METHODS[method["name"]](parts, method)
        trunk = Trunk(self.architecture, parts)
        self.embed_tokens: nn.Embedding = trunk.embed_tokens
        self.layers, self.norm = trunk.layers, trunk.norm
        self.ropes = make_ropes(self.architecture, parts)
        for layer, block in enumerate(self.layers):
            if hasattr(block.self_attn, "attend"):
                window = self.architecture.windows[layer]
                block.self_attn.attend = HubAttend(config, layer, window, self.architecture)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding."""
        self.embed_tokens = value

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> BaseModelOutputWithPast | tuple[torch.Tensor, ...]:
        """input_ids [B, T] or inputs_embeds [B, T, d]; attention_mask [B, S], 1 for real tokens."""
        h = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if past_key_values is not None and not isinstance(past_key_values, DynamicCache):
            raise ValueError(f"{type(past_key_values).__name__} is not supported by llmtool's export: use DynamicCache")
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        length, device = h.shape[1], h.device
        slots = torch.arange(seen, seen + length, device=device)
        padding = _padding(attention_mask)
        # As the stock models do: without position_ids places count, padding or not. generate() passes them.
        position_ids = slots[None] if position_ids is None else position_ids
        carry = prepare(
            self.architecture, self.ropes, slots, seen + length, h.dtype, plain=not seen or length == 1,
            padding=padding, positions=position_ids, ids=input_ids,
            cache=None if past_key_values is None else HubCache(past_key_values), options=options,
        )  # fmt: skip
        h, _ = run_blocks(self.layers, h, carry)
        h = self.norm(h)
        if return_dict is False:
            return (h,) if past_key_values is None else (h, past_key_values)
        return BaseModelOutputWithPast(last_hidden_state=h, past_key_values=past_key_values)


class LlmtoolForCausalLM(LlmtoolPreTrainedModel, GenerationMixin):
    """The decoder with its output layer."""

    _tied_weights_keys: ClassVar[Any] = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan: ClassVar[dict[str, str]] = {"lm_head": "colwise_rep"}

    def __init__(self, config: LlmtoolConfig) -> None:
        super().__init__(config)
        self.model = LlmtoolModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the output layer."""
        self.lm_head = value

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        num_items_in_batch: Any = None,
        **options: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits [B, T, vocabulary], and the mean cross-entropy of the next token where labels [B, T] are given."""
        inner = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache, return_dict=True,
            **options,
        )  # fmt: skip
        h = inner.last_hidden_state
        logits = self.lm_head(h[:, -logits_to_keep:] if logits_to_keep else h)
        logits = finish_logits(self.model.architecture, logits)
        loss = None
        if labels is not None:
            count = {} if num_items_in_batch is None else {"num_items_in_batch": num_items_in_batch}
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **count)
        if return_dict is False:
            return tuple(x for x in (loss, logits, inner.past_key_values) if x is not None)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=inner.past_key_values)


def _padding(attention_mask: torch.Tensor | None) -> torch.Tensor | None:
    """True for real tokens [B, S]; None where all are."""
    if attention_mask is None:
        return None
    if attention_mask.dim() != 2:
        raise ValueError(f"attention_mask of {attention_mask.dim()} dimensions: only [batch, tokens] is supported")
    padding = attention_mask.bool()
    return None if not torch.compiler.is_compiling() and bool(padding.all()) else padding
