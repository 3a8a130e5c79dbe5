"""What a checkpoint is and costs, from its headers and its config alone: torch is not imported, no weight is read.

FLOPs count 2 for each element of each matrix (a multiplication and an addition); norms, biases and softmax, below a
percent, are left out. Attention adds, for each earlier position, 2 per element of a query for the scores, in layers
that make queries, and 2 for the weighted sum. Of a mixture of experts a token takes num_experts_per_tok, and these are
counted; a method that skips other weights (DSMoE) does less than what is said here. The cache is counted in the type of
the weights, and from the shapes of k_proj and v_proj, so that layers which share keys are counted as they are. What a
model that is not supported, or quantized matrices, do not tell is not known: None.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from llmtool.commands.convert.inspect_layers import (
    by_layer,
    is_counted,
    is_packed,
    is_parameter,
    is_plain,
    is_weight,
    layer_facts,
)
from llmtool.commands.convert.settings import InspectSettings
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.safetensors_file import TensorEntry
from llmtool.core.model.config import ConfigError, parse_config
from llmtool.core.model.families import absent_sizes
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, read_json_object
from llmtool.core.run.wording import counted

SCHEMA = "llmtool.convert-inspect/1"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def _sum(values: Iterable[int | None]) -> int | None:
    """Their sum, None where one is not known, or where there is none."""
    held = list(values)
    return None if None in held or not held else sum(value or 0 for value in held)


def inspect(checkpoint: str | Path, settings: InspectSettings | None = None, **named_settings: Any) -> dict[str, Any]:
    """Parameters, bytes, FLOPs and KV bytes a token, from headers and config.json alone.

    >>> import llmtool
    >>> llmtool.convert.inspect("model")["parameters"]
    36384
    """
    asked = InspectSettings.of(settings, named_settings)
    return describe(open_checkpoint(Path(checkpoint), asked.override), asked.context)


def describe(checkpoint: CheckpointReader, context: int | None = None) -> dict[str, Any]:
    """Facts of the whole and of each layer; `context` defaults to 4096 positions, or the model's own if fewer."""
    config = checkpoint.config
    unsupported, windows, sizes = _understood(config)
    said = {**sizes, **config}
    longest, architectures = said.get("max_position_embeddings"), config.get("architectures")
    context = context or min(4096, longest if is_counted(longest) else 4096)
    entries = _entries(checkpoint)
    layers = [
        layer_facts(number, found, config, unsupported is None, windows)
        for number, found in sorted(by_layer(entries).items())
    ]
    head = entries.get(HEAD) or entries.get(EMBEDDING)
    head_flops = 2 * head.elements if head and is_plain(head) else None
    packed = any(is_packed(entry) for entry in entries.values() if is_weight(entry, config))
    tables = [entries[name] for name in (EMBEDDING, HEAD) if name in entries]
    known = EMBEDDING in entries and not any(map(is_packed, tables))
    tokens = [layer.at(context) for layer in layers]
    types = Counter[str]()
    for entry in entries.values():
        types[entry.kind.code] += entry.elements
    return {
        "schema": SCHEMA,
        "path": str(checkpoint.path),
        "model_type": _name(config.get("model_type")),
        "architecture": _name(architectures[0]) if isinstance(architectures, list) and architectures else None,
        "wrapper": checkpoint.wrapper or None,
        "llmtool": config.get("llmtool"),
        "supported": unsupported is None,
        "tied": HEAD not in entries if EMBEDDING in entries else None,
        "files": len(checkpoint.files),
        "tensors": len(entries),
        "elements": dict(types.most_common()),
        "parameters": None if packed else sum(e.elements for e in entries.values() if is_parameter(e, config)),
        "embedding_parameters": sum(entry.elements for entry in tables) if known else None,
        "bytes": sum(entry.size for entry in entries.values()),
        "max_position_embeddings": longest,
        "flops_per_token": _sum([head_flops, *(layer.flops for layer in layers)]),
        "attention_flops_per_token_and_position": _sum(layer.attention_flops for layer in layers),
        "kv_bytes_per_token": _sum(layer.kv_bytes for layer in layers),
        "at_context": {
            "positions": context,
            "flops_per_token": _sum([head_flops, *(flops for flops, _ in tokens)]),
            "kv_bytes": _sum(size for _, size in tokens),
        },
        "problems": [*([unsupported] if unsupported else []), *_problems(checkpoint, entries, said)],
        "layers": [asdict(layer) for layer in layers],
    }


def _understood(config: dict[str, Any]) -> tuple[str | None, tuple[int | None, ...], dict[str, int]]:
    """Why llmtool cannot run the model, None if it can; the window of each layer, as far as it is known; and sizes that
    the family has where config.json does not say them."""
    try:
        found = parse_config(config)
    except ConfigError as error:
        return f"this model cannot be run or converted here: {error}", (), {}
    return None, found.windows, absent_sizes(found.family)


def _name(value: Any) -> str | None:
    """A name that config.json says; None for what is no text."""
    return value if isinstance(value, str) else None


def _entries(checkpoint: CheckpointReader) -> dict[str, TensorEntry]:
    """Tensors that count: not a tied head that is in the file once more."""
    tied = checkpoint.config.get("tie_word_embeddings") and EMBEDDING in checkpoint
    return {name: checkpoint.entry(name) for name in checkpoint.names() if not (tied and name == HEAD)}


def _problems(
    checkpoint: CheckpointReader, entries: dict[str, TensorEntry], config: dict[str, Any]
) -> Iterator[str]:  # fmt: skip
    """Contradictions between config, headers and tokenizer that can be seen without a model."""
    tokenizer = checkpoint.path / "tokenizer.json"
    if EMBEDDING not in entries:
        yield f"there is no {EMBEDDING}: only decoders of that form are counted"
        return
    rows = entries[EMBEDDING].shape[0]
    if config.get("vocab_size") != rows:
        verb = "says" if "vocab_size" in checkpoint.config else "says none and means"
        yield f"config.json {verb} vocab_size {config.get('vocab_size')}, {EMBEDDING} has {rows:,} rows"
    wanted, layers = config.get("num_hidden_layers"), len(by_layer(entries))
    if wanted != layers:
        yield f"config.json says num_hidden_layers {wanted}, the tensors are of {layers}"
    if not config.get("tie_word_embeddings") and HEAD not in entries:
        yield f"there is no {HEAD}, and config.json does not tie it to the embedding"
    largest = largest_token(read_json_object(tokenizer), str(tokenizer)) if tokenizer.is_file() else None
    if largest is not None and largest >= rows:
        yield f"tokenizer.json has ids up to {largest:,}, {EMBEDDING} has {rows:,} rows"


def largest_token(facts: dict[str, Any], where: str) -> int | None:
    """The largest id that a tokenizer.json gives out; None where its vocabulary is of a form not known here."""
    model = facts.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    added = facts.get("added_tokens") or []
    if not isinstance(vocabulary, dict):
        return None
    try:
        return max([*vocabulary.values(), *(token["id"] for token in added)], default=None)
    except (TypeError, KeyError):
        raise UserError("its vocabulary holds something else than numbers", where=where) from None


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The facts for people; layers that are alike share a line."""
    at, ours, of = facts["at_context"], facts["llmtool"], sum(facts["elements"].values())
    types = ", ".join(f"{code} {count / max(1, of):.1%}" for code, count in facts["elements"].items())
    each = facts["attention_flops_per_token_and_position"]
    position, cache = _short(each), facts["kv_bytes_per_token"]
    flops = f"{_short(facts['flops_per_token'])} + {position.rstrip()} for each position before it"
    name = ", ".join(str(facts[key]) for key in ("model_type", "architecture") if facts[key] is not None)
    rows = {
        "model": f"{name}: the text model of a {facts['wrapper']}" if facts["wrapper"] else name,
        "methods": dumps(ours) if ours else "none" if facts["supported"] else "none; not supported",
        "tensors": f"{facts['tensors']:,} in {counted(facts['files'], 'file')}: {types or 'none'}",
        "parameters": _parameters(facts),
        "bytes": f"{facts['bytes']:,}",
        "FLOPs a token": "not known"
        if facts["flops_per_token"] is None
        else f"{flops} = {_short(at['flops_per_token'])} at {at['positions']:,}",
        "KV bytes a token": "not known"
        if cache is None
        else f"{cache:,} = {_short(at['kv_bytes'])}B at {at['positions']:,}",
    }
    yield from (f"{name:17} {value}" for name, value in rows.items())
    header = ("layer", "parameters", "attention", "feed-forward", "bytes", "FLOPs", "KV bytes", "window")
    table = [header, *_layer_rows(facts["layers"])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    yield ""
    yield from ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table)


def _parameters(facts: dict[str, Any]) -> str:
    of, tables = facts["parameters"], facts["embedding_parameters"]
    all_of = "not known" if of is None else f"{of:,}"
    some = "not known how many" if tables is None else f"{tables:,}"
    return f"{all_of}, {some} of them in embeddings{' (tied)' * bool(facts['tied'])}"


def _layer_rows(layers: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    def same(layer: dict[str, Any]) -> list[Any]:
        return [value for key, value in layer.items() if key != "layer"]

    for _, group in groupby(layers, same):
        alike = list(group)
        first, last = alike[0], alike[-1]
        number = f"{first['layer']}" if first is last else f"{first['layer']}-{last['layer']}"
        keys = ("parameters", "attention_parameters", "ffn_parameters", "bytes", "flops", "kv_bytes")
        window = f"{first['window']:,}" if first["window"] else "-"
        yield (number, *("?" if first[key] is None else f"{first[key]:,}" for key in keys), window)


def _short(number: float | None) -> str:
    """Three digits and a prefix: 2.47 G; ? for what is not known."""
    if number is None:
        return "? "
    for prefix, power in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= power:
            return f"{number / power:.3g} {prefix}"
    return f"{number} "
