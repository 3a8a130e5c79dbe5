"""An export: a checkpoint that stock transformers loads and runs where llmtool is not installed.

The code that goes along is this folder's own: every file is copied as it stands but for one rule,

    from llmtool.core.model.NAME import ...  ->  from .NAME import ...

and a method's llmtool/methods/NAME/part.py becomes NAME_part.py by the same rule.
"""

import ast
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.model.config import MODEL_TYPE, Config, ConfigError, rope_parameters
from llmtool.core.model.families import FAMILIES, SHARED, absent_sizes
from llmtool.core.model.loading import read_architecture
from llmtool.core.model.rope_settings import FULL, SLIDING
from llmtool.core.run.console import Console
from llmtool.core.run.manifest import Run
from llmtool.version import __version__

MODULES = (
    "attention", "cache", "carry", "config", "configuration_llmtool", "decoder", "embedding", "entry", "experts",
    "families", "ffn", "fields", "mask", "modeling_llmtool", "norm", "rope", "rope_settings",
)  # fmt: skip
"""Files of this folder that an export holds. They import torch, transformers (two of them) and each other."""

ENTRY = "modeling_llmtool"
AUTO_MAP = {
    "AutoConfig": "configuration_llmtool.LlmtoolConfig",
    "AutoModel": f"{ENTRY}.LlmtoolModel",
    "AutoModelForCausalLM": f"{ENTRY}.LlmtoolForCausalLM",
}
CARRIED_FIELDS = (
    "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "use_cache", "dtype", "torch_dtype",
)  # fmt: skip


@dataclass(frozen=True)
class PartFile:
    """A method's exportable file, and the class in it whose instance is called as change(parts, settings) -> parts."""

    method: str
    source: Path
    kind: str
    serving: str | None = None
    """What the card says of serving engines, where the method changes that."""


def export_checkpoint(
    checkpoint: CheckpointReader,
    output: Path,
    *,
    run: Run,
    config: Config | None = None,
    parts: Mapping[str, PartFile] | None = None,
    dtype: str | None = None,
    force: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Write weights, config with auto_map, code, tokenizer and model card. parts: files of the methods in use.

    config: the checkpoint's own, where its methods' settings were given anew.
    """
    config = config or read_architecture(checkpoint)
    used = {str(method["name"]): (parts or {})[str(method["name"])] for method in config.methods}
    files = {name: text.encode() for name, text in code_files(used).items()}
    facts = exported_config(checkpoint.config, config)
    files["README.md"] = model_card(checkpoint, config, output.name, run, used).encode()
    tensors = checkpoint.tensors()
    written = write_checkpoint(
        output, tensors, facts, run=run, source=checkpoint, files=files, dtype=dtype, force=force, console=console
    )
    return {
        "schema": "llmtool.convert-export/1",
        "output": str(output),
        "parameters": written.parameters,
        "tensors": written.tensors,
        "files": sorted(files),
    }


def code_files(parts: Mapping[str, PartFile]) -> dict[str, str]:
    """File name -> text of the code in an export."""
    folder = Path(__file__).parent
    files = {f"{name}.py": rewrite((folder / f"{name}.py").read_text(encoding="utf-8")) for name in MODULES}
    for part in parts.values():
        files[f"{part.method}_part.py"] = rewrite(part.source.read_text(encoding="utf-8"))
    files[f"{ENTRY}.py"] += _named_files(parts)
    for name, text in files.items():
        refuse_foreign(name, text)
    return files


def rewrite(text: str) -> str:
    """The one rule."""
    return re.sub(r"^from llmtool\.core\.model\.(\w+) import", r"from .\1 import", text, flags=re.MULTILINE)


def _named_files(parts: Mapping[str, PartFile]) -> str:
    """Lines for the end of the entry file: transformers copies only files that it imports itself."""
    direct = re.findall(r"^from llmtool\.core\.model\.(\w+)", (Path(__file__).parent / f"{ENTRY}.py").read_text(), re.M)
    others = [name for name in MODULES if name not in (*direct, ENTRY)]
    lines = ["", "", "# transformers copies only the files that this one imports itself: here are the others."]
    lines += [f"from .{name} import __name__ as _{name}  # noqa: E402" for name in others]
    for name, part in parts.items():
        lines += [f"from .{part.method}_part import {part.kind} as _{part.method}  # noqa: E402"]
        lines += [f"METHODS[{name!r}] = _{part.method}()"]
    return "\n".join(lines) + "\n"


def refuse_foreign(name: str, text: str) -> None:
    """An exported file that needs llmtool would fail at whoever loads it: a bug, found here."""
    for node in ast.walk(ast.parse(text)):
        absolute = isinstance(node, ast.ImportFrom) and node.level == 0
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if absolute and isinstance(node, ast.ImportFrom) else []
        if any(module.partition(".")[0] == "llmtool" for module in modules):
            raise AssertionError(f"{name} cannot be exported: it imports {', '.join(modules)}")


SPELLED_ANEW = frozenset({
    "llmtool", "max_window_layers", "no_rope_layer_interval", "partial_rotary_factor", "rope_local_base_freq",
    "rope_scaling", "rope_theta", "sliding_window_pattern", "use_sliding_window",
})  # fmt: skip
"""Fields that an export says in other words, layer by layer."""


def exported_config(raw: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """config.json of an export: every field explicit, in the 5.x spelling, none that transformers would misread.

    A generic config takes `sliding_window` for the window of every layer, where Qwen's switches it off elsewhere. A
    null stays where absence would mean something else.
    """
    family = FAMILIES[config.family]
    given = {**absent_sizes(config.family), **family.defaults, **raw}
    facts = {key: given[key] for key in given if key in (SHARED | family.own) - SPELLED_ANEW}
    facts = {key: value for key, value in facts.items() if value is not None or family.defaults.get(key) is not None}
    window = next((window for window in config.windows if window is not None), None)
    for key in ("sliding_window", "layer_types"):
        facts.pop(key, None)
    if window is not None or "sliding_window" in family.defaults:
        facts["sliding_window"] = window
    if window is not None and "use_sliding_window" in family.own:
        facts["use_sliding_window"] = True
    if "layer_types" in family.own and (family.windows != "all" or len(set(config.windows)) > 1):
        facts["layer_types"] = [FULL if w is None else SLIDING for w in config.windows]
    if "no_rope_layers" in family.own:
        facts["no_rope_layers"] = [int(layer not in config.unrotated) for layer in range(config.num_hidden_layers)]
    return {
        "hidden_act": "silu",
        **facts,
        "architectures": ["LlmtoolForCausalLM"],
        "auto_map": AUTO_MAP,
        "model_type": MODEL_TYPE,
        "llmtool": {"family": config.family, "methods": [dict(method) for method in config.methods]},
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": rope_parameters(raw),
        "tie_word_embeddings": config.tie_word_embeddings,
        **{key: raw[key] for key in CARRIED_FIELDS if key in raw},
    }


BLOCK = frozenset({
    "precise_rope", "neighbours", "activation", "qkv_bias", "o_bias", "mlp_bias", "norm", "norms", "embedding",
    "embedding_scale", "attention_scale", "residual_scale", "logits_divisor", "attention_cap", "logits_cap",
})  # fmt: skip
"""Fields of Config that Mixtral and Qwen3-MoE have no place for but at their defaults."""

VLLM = """vLLM: written to the contract of its Transformers backend (`auto_map.AutoModel`, attention functions looked up
  by name, plans for tensor and pipeline parallelism). Checked by reading, not by running: untested."""


def method_config(raw: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """config.json of a converted checkpoint, without code beside it; one without methods is of its family again."""
    facts = exported_config(raw, config)
    del facts["auto_map"]
    if not config.methods:
        del facts["llmtool"]
        facts |= {"model_type": config.family, "architectures": [FAMILIES[config.family].architecture]}
        facts = spell_for_all(facts)
    return facts


NEW_ROPE = frozenset({"partial_rotary_factor", "llama_4_scaling_beta"})


def spell_for_all(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A stock config with its rotary settings as transformers 4.x writes them, which 5.x reads too.

    4.x would take rope_parameters for a field it does not know, and turn by its default theta without a word. Tables by
    the kind of layer, heads that turn in part and families that 4.x does not have stay as they are.
    """
    rope = facts.get("rope_parameters")
    if not isinstance(rope, Mapping) or "rope_theta" not in rope or rope.keys() & NEW_ROPE:
        return dict(facts)
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    rest = {key: value for key, value in facts.items() if key != "rope_parameters"}
    plain = scaling == {"rope_type": "default"}
    return {**rest, "rope_theta": rope["rope_theta"], "rope_scaling": None if plain else scaling}


def topk_config(
    raw: Mapping[str, Any], config: Config, form: str, experts: int, top_k: int, layers: Collection[int]
) -> dict[str, Any]:
    """config.json of an upcycled model in a stock form; every field is written, as the form's defaults are others.

    ConfigError where the form cannot hold the model: Mixtral has no biases and no norms of q and k, and only experts.
    """
    every = set(range(config.num_hidden_layers))
    if config.experts:
        raise ConfigError(f"a {config.family} has experts already")
    if config.methods:
        raise ConfigError(f"a {form} has no place for the method {config.methods[0]['name']}")
    if biases := [name for name in ("qkv_bias", "o_bias", "mlp_bias") if getattr(config, name)]:
        parts = " and ".join(dict.fromkeys("feed-forward part" if name[0] == "m" else "attention" for name in biases))
        raise ConfigError(f"a {form} cannot hold a {config.family} with biases, as this one's {parts} has")
    base = all(getattr(config, field.name) == field.default for field in fields(Config) if field.name in BLOCK)
    turned = config.rope.partial == 1 and not config.rope.llama_4_scaling_beta
    if not base or not turned or config.local_rope or config.unrotated or config.qk_norm not in ("", "head"):
        raise ConfigError(f"a {form} cannot hold a {config.family}: its blocks are built otherwise")
    if (form == "qwen3_moe") != (config.qk_norm == "head"):
        why = "it wants norms of q and k" if form == "qwen3_moe" else "it has no norms of q and k"
        raise ConfigError(f"a {form} cannot hold a {config.family}: {why}")
    if form == "mixtral" and set(layers) != every:
        raise ConfigError("a mixtral has experts in every layer: leave --layers out; --layers is for a Qwen3")
    facts = method_config(raw, config)
    for key in FAMILIES[config.family].own - FAMILIES[form].own:
        facts.pop(key, None)
    facts |= {
        "model_type": form, "architectures": [FAMILIES[form].architecture], "num_local_experts": experts,
        "num_experts_per_tok": top_k, "router_aux_loss_coef": 0.01, "output_router_logits": False,
        "attention_dropout": 0.0, "rope_theta": config.rope.theta,
    }  # fmt: skip
    if form == "qwen3_moe":
        facts |= {
            "num_experts": experts, "norm_topk_prob": True, "moe_intermediate_size": config.intermediate_size,
            "decoder_sparse_step": 1, "mlp_only_layers": sorted(every - set(layers)),
        }  # fmt: skip
    else:
        facts["sliding_window"] = next((window for window in config.windows if window is not None), None)
    return facts


def model_card(
    checkpoint: CheckpointReader, config: Config, name: str, run: Run, parts: Mapping[str, PartFile] | None = None
) -> str:
    """README.md: what was done, by which command, and what can and cannot load it."""
    cannot = [f"- {part.serving}\n" for part in (parts or {}).values() if part.serving]
    can = "" if cannot else f"- {VLLM}\n"
    methods = ", ".join(f"{method['name']} {method.get('version', '')}".strip() for method in config.methods)
    beyond = [f"{method['name']}: {', '.join(method['beyond_paper'])}" for method in config.methods
              if method.get("beyond_paper")]  # fmt: skip
    methods += f". Not in the method's paper: {'; '.join(beyond)}" if beyond else ""
    loader = f'AutoModelForCausalLM.from_pretrained("{name}", trust_remote_code=True)'
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [llmtool]
---

# {name}

Made from `{checkpoint.path.resolve().name}` ({config.family} family, {config.num_hidden_layers} layers of width
{config.hidden_size}) by llmtool {__version__}: `{run.command}`. `run.json` holds the full command, the sha256 of the
source and of each shard, versions and times.

Methods applied: {methods or "none; the weights compute what they computed before"}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}", trust_remote_code=True)
model = {loader}
```

llmtool need not be installed. The code in this directory imports torch and transformers only; read it before you
trust it.

## What loads it

- transformers 4.57 and 5.x with `trust_remote_code=True`: tested, `generate()` included. Caches other than
  `DynamicCache`, attention masks of more than two dimensions and gradient checkpointing are refused or not supported.
{can}
## What does not

{"".join(cannot)}- Anything without `trust_remote_code=True`; llama.cpp, GGUF converters, TensorRT-LLM, TGI's own
  kernels: `model_type` is `{MODEL_TYPE}` so that none of them takes it for a {config.family} model.
- The licence of the source applies; its files are carried along.
"""
