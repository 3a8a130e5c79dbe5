"""`llmtool.load_model`: a checkpoint as a function from ids to logits, and as a generator of text.

    from llmtool import load_model
    model = load_model("Llama-3.2-1B", dtype="bf16")
    logits = model([[128000, 9906]])                    # [batch, time, vocabulary]
    for text in model.stream("Once upon a time", max_new_tokens=50): print(text, end="")

Binds the methods of the catalog to the core's decoder, so that the core needs to know none of them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool import catalog
from llmtool.core.bpe.foreign_files import holds_tokenizer
from llmtool.core.checkpoint.dtypes import element_type, torch_dtype
from llmtool.core.run.errors import ChoiceError, UserError, closest
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.numbers import whole
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from llmtool.core.kernels.spec import Compute
    from llmtool.core.model.config import Config
    from llmtool.core.model.decoder import Decoder, Parts
    from llmtool.core.model.generate import Sampling
    from llmtool.core.train.objective import Batch


def build(config: "Config", kernels: "Mapping[str, Compute] | None" = None) -> "Decoder":
    """The decoder of a config, with the parts of its methods; kernels as core.kernels.choice.choose gives them."""
    from llmtool.core.model.decoder import Decoder

    return Decoder(config, build_parts(config, kernels))


def without_kernels(decoder: "Decoder") -> "Decoder":
    """The same weights, not copied, computed by torch's operators alone: what kernels are compared with."""
    import torch

    with torch.device("meta"):
        plain = build(decoder.config)
    plain.load_state_dict(decoder.state_dict(), assign=True)
    return plain.eval()


def build_parts(config: "Config", kernels: "Mapping[str, Compute] | None" = None) -> "Parts":
    """The base parts, changed by each method in the order of config.json."""
    from llmtool.core.model.decoder import Parts

    parts = Parts(kernels=dict(kernels or {}))
    for method in config.methods:
        change = catalog.resolve(catalog.ARCHITECTURE, str(method["name"]), "config.json: llmtool.methods")
        parts = change(parts, method)
    return parts


Settings = Mapping[str, Mapping[str, str]]
"""Method -> setting -> value as a word: what `--set METHOD.KEY=VALUE` gives."""


def override(config: "Config", settings: Settings) -> "Config":
    """The config with settings of its methods given anew; a method says in `settable` which those are."""
    held = [str(method["name"]) for method in config.methods]
    for name in settings:
        if name not in held:
            hint = closest(name, held) or (f"its methods: {', '.join(held)}" if held else "it has none")
            raise UserError(f"the checkpoint has no method {name!r}", where="--set", hint=hint)
    methods = [{**method, **_given(str(method["name"]), settings)} for method in config.methods]
    return replace(config, methods=tuple(methods))


def settable(name: str) -> Mapping[str, Callable[[str], Any]]:
    """Settings of a method that may be given when a checkpoint is loaded, and what reads each."""
    change = catalog.attribute(catalog.ARCHITECTURE, name, "config.json: llmtool.methods")
    return getattr(change, "settable", {})


def vocabulary_tables(name: str) -> tuple[str, ...]:
    """Tensors of a layer, without its prefix, that have a row for each token id under this method."""
    change = catalog.attribute(catalog.ARCHITECTURE, name, "config.json: llmtool.methods")
    return getattr(change, "vocabulary_tables", ())


def _given(name: str, settings: Settings) -> dict[str, Any]:
    known = settable(name) if name in settings else {}
    values = {}
    for key, text in settings.get(name, {}).items():
        if key not in known:
            hint = closest(key, list(known)) or (f"one of {', '.join(known)}" if known else "it has none")
            raise UserError(f"{name}.{key} is not a setting that can be given here", where="--set", hint=hint)
        try:
            values[key.replace("-", "_")] = known[key](text)
        except ValueError as error:
            raise UserError(f"{name}.{key}={text}: {error}", where="--set") from None
    return values


def load_model(
    path: str | Path,
    dtype: "str | torch.dtype | None" = None,
    device: str = "cpu",
    kernels: str = "torch",
    settings: Settings | None = None,
    changed: Sequence[str] = (),
) -> "Model":
    """Read a checkpoint directory. dtype: "bf16", "fp16", "fp32", "fp64" or torch's own; None keeps what is stored.

    On a CPU without instructions for a stored bf16 or fp16, None means fp32, and `.note` says so.

    kernels: "torch", "triton", or "auto" for those measured on this device; `.kernels` says what was chosen.
    settings: {"dsmoe": {"tau": "0.7"}}, instead of what config.json says. changed: fields of config.json given anew,
    "sliding_window=null".

    >>> import llmtool
    >>> model = llmtool.load_model("model")
    >>> model.config.num_hidden_layers
    2
    """
    require("torch", extra="models", why="to run models")
    import torch

    from llmtool.core.kernels.choice import choose
    from llmtool.core.model.loading import load_decoder

    wanted = torch_dtype(element_type(dtype)) if isinstance(dtype, str) else dtype
    place = torch.device(find_device(device))
    note = ""
    if wanted is None and place.type == "cpu":
        wanted, note = _computable(Path(path))
    kind = wanted or stored_type(Path(path))
    said = [choose(kernels, place, kind)] if kernels != "auto" else []  # before anything is read

    def make(config: "Config") -> "Decoder":
        said.append(choose(kernels, place, kind, sizes=op_sizes(config)))
        return build(override(config, settings or {}), said[-1].kernels)

    decoder = load_decoder(path, make, dtype=wanted, device=place, override=changed)
    return Model(decoder, Path(path), said[-1].described, note)


def stored_type(path: Path) -> "torch.dtype | None":
    """The element type of a checkpoint's first floating tensor; None where it has none."""
    import torch

    from llmtool.core.checkpoint.directory import open_checkpoint
    from llmtool.core.checkpoint.dtypes import ELEMENT_TYPES

    checkpoint = open_checkpoint(path)
    kinds = (ELEMENT_TYPES.get(checkpoint.dtype(name)) for name in checkpoint.names())
    name = next((kind.torch_name for kind in kinds if kind and kind.floating and not kind.quantized), None)
    return None if name is None else getattr(torch, name)


def op_sizes(config: "Config") -> dict[str, list[int]]:
    """The sizes (Spec.tuned_size) at which a model of this config uses an op, where the config says."""
    heads = config.num_attention_heads * config.head_dim
    return {
        "rms_norm": [config.hidden_size, *([config.head_dim] if config.qk_norm == "head" else [])],
        "rope": [heads], "swiglu": [config.intermediate_size], "masked_swiglu": [config.intermediate_size],
        "dsmoe_ffn": [config.hidden_size], "linear_cross_entropy": [config.vocab_size],
    }  # fmt: skip


def _computable(path: Path) -> "tuple[torch.dtype | None, str]":
    """fp32 and why, where a checkpoint's weights are of a type that this CPU has no instructions for; else None."""
    import torch

    from llmtool.core.checkpoint.directory import open_checkpoint
    from llmtool.core.kernels.cpu import has_instructions

    checkpoint = open_checkpoint(path)
    for code, kind, stored in (("BF16", torch.bfloat16, "bf16"), ("F16", torch.float16, "fp16")):
        if not has_instructions(kind) and any(checkpoint.dtype(name) == code for name in checkpoint.names()):
            return (
                torch.float32,
                f"{path.name}: stored as {stored}, computed in fp32: this CPU has no instructions for it",
            )
    return None, ""


class Model:
    """A loaded checkpoint. `.decoder` is the torch module, `.config` its architecture."""

    def __init__(self, decoder: "Decoder", path: Path, kernels: str = "torch", note: str = "") -> None:
        self.decoder = decoder
        self.config = decoder.config
        self.path = path
        self.kernels = kernels
        self.note = note
        """What people should be told of how it computes, once; "" for nothing."""

    @property
    def device(self) -> "torch.device":
        """Where the weights are."""
        return self.decoder.lm_head.weight.device

    def __call__(self, ids: "torch.Tensor | Sequence[Sequence[int]]") -> "torch.Tensor":
        """ids [batch, time], a tensor or rows of one length -> logits [batch, time, vocabulary]."""
        import torch

        if not isinstance(ids, torch.Tensor):
            if len({len(row) for row in ids}) != 1:
                raise UserError("rows of ids must have one length", hint="pad them, or call once for each")
            ids = torch.tensor([list(row) for row in ids])
        if ids.dim() != 2 or not ids.numel():
            raise UserError(f"ids of shape {list(ids.shape)}, wanted [batch, time]")
        self.refuse_out_of_range(int(ids.min()), int(ids.max()))
        with torch.inference_mode():
            logits: torch.Tensor = self.decoder(ids.to(self.device))
        return logits

    def losses(self, batch: "Batch") -> "torch.Tensor":
        """The loss of each position of a batch [B, T] in nats, 0 where there is nothing to predict."""
        import torch

        from llmtool.core.train.objective import token_losses

        with torch.inference_mode():
            batch = batch.to(self.device)
            h, _ = self.decoder.hidden(batch.ids, documents=batch.documents)
            flat = token_losses(self.decoder, h.flatten(0, 1), batch.labels.flatten())
            return flat.view(batch.labels.shape).float()

    def refuse_out_of_range(self, least: int, largest: int) -> None:
        """An id without an embedding is one line, not a fault of the device."""
        wrong = least if least < 0 else largest
        if not 0 <= wrong < self.config.vocab_size:
            what = f"id {wrong} is out of range: model.embed_tokens.weight holds {self.config.vocab_size:,} rows"
            raise UserError(what, where=str(self.path), hint="is it the tokenizer of this model?")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer in the checkpoint's directory."""
        tokenizer = load_tokenizer(self.path)
        if tokenizer.vocab_size > self.config.vocab_size:
            rows = f"model.embed_tokens.weight has {self.config.vocab_size:,}"
            what = f"the tokenizer's ids need {tokenizer.vocab_size:,} rows, {rows}"
            raise UserError(what, where=str(self.path), hint="is it the tokenizer of this model?")
        return tokenizer

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a text: eos_token_id of generation_config.json, else of config.json."""
        for name in ("generation_config.json", "config.json"):
            file = self.path / name
            eos = read_json_object(file).get("eos_token_id") if file.is_file() else None
            if eos is not None:
                ids = eos if isinstance(eos, list) else [eos]
                return frozenset(whole(number, "eos_token_id", where=str(file)) for number in ids)
        return frozenset()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        sampling: "Sampling | None" = None,
        stop: Collection[int] | None = None,
        compiled: bool = False,
    ) -> Iterator[list[int | None]]:
        """As core.model.generate, with prompts checked; stop defaults to the checkpoint's end-of-text ids."""
        from llmtool.core.model.generate import generate

        if not prompts or not all(prompts):
            raise UserError("a prompt without a single token", hint="the model needs something to continue")
        self.refuse_out_of_range(min(map(min, prompts)), max(map(max, prompts)))
        stop = self.stop_ids if stop is None else stop
        return generate(
            self.decoder, prompts, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop, compiled=compiled
        )

    def stream(self, prompt: str, *, max_new_tokens: int = 128, sampling: "Sampling | None" = None) -> Iterator[str]:
        """The continuation of a text, piece by piece, without the end-of-text token."""
        stream = self.tokenizer.decode_stream(skip_special=True)
        prompt_ids = self.tokenizer.encode_prompt(prompt)
        for (token,) in self.generate([prompt_ids], max_new_tokens=max_new_tokens, sampling=sampling):
            if token is not None and token not in self.stop_ids:
                yield stream.push(token)
        yield stream.finish()


def load_tokenizer(path: Path, hint: str = "give ids with --ids") -> Tokenizer:
    """The tokenizer of a checkpoint's directory; hint says what else would do where there is none."""
    if path.is_dir() and not holds_tokenizer(path):
        raise UserError("holds no tokenizer.json", where=str(path), hint=hint)
    return Tokenizer.load(path)


def read_ids(text: str) -> list[int]:
    """Ids written as numbers with spaces or commas between."""
    return [whole(word, "id", high=1 << 31) for word in text.replace(",", " ").split()]


def find_device(name: str) -> str:
    """The device that --device names; auto takes a GPU where there is one."""
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name.startswith("cuda") and not available:
        raise UserError("no GPU is available", hint="--device cpu")
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise ChoiceError(f"device {name!r} is not known", hint="cpu, cuda or cuda:N") from None
