"""`llmtool convert rope`: other rotary frequencies for a longer context; the weights stay as they are.

No swap of frequencies starts as the old model: `--check` scores text before and after, so that nobody ships a swap
that was never trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.settings import RotarySettings
from llmtool.commands.sources import HeldOut, find_tokenizer, open_source, parse_sources
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.corpus.inputs import total_bytes
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.core.run.numbers import amount, quantity
from llmtool.core.run.outputs import refuse_overlap

if TYPE_CHECKING:
    from llmtool.core.corpus.token_files import TokenFile
    from llmtool.core.eval.loss import PositionLoss
    from llmtool.core.model.config import Config

SCHEMA = "llmtool.convert-rope/1"
MICRO_TOKENS = 8192


def convert_rope(
    path: Path,
    output: Path,
    settings: RotarySettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console | None = None,
    **keywords: Any,
) -> dict[str, Any]:
    """Write OUT with the frequencies of a method for `target` positions; the report holds them, and what --check found.

    keywords: fields of the settings, instead of the object. check: text to score before and after, on rows as long as
    the model was made for and on rows of `check_length`. reading: of that text.
    """
    require("torch", extra="models", why="to read and write weights")
    from llmtool.core.checkpoint.writer import write_checkpoint
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.loading import read_architecture

    reading, keywords = Reading.split(reading, keywords)
    asked = RotarySettings.of(settings, keywords)
    use_threads(asked.threads, by_load=False)
    console = console or Console(verbosity=-1)
    checkpoint = open_checkpoint(path, asked.override)
    config = read_architecture(checkpoint)
    target, tokens = amount(asked.target, "--target"), amount(asked.check_tokens, "--check-tokens")
    _refuse(asked, target, config, path)
    facts, raw = _changed(asked, target, checkpoint, config)
    _say(facts, console)
    longest = min(asked.check_length, target)  # of longer rows no method says anything
    lengths = sorted({min(_original(config), longest), longest})
    if asked.check:
        most = 2 * len(asked.check) * sum(max(length, tokens // length * length) for length in lengths)
        rows = " and ".join(f"{length:,}" for length in lengths)
        console.info(f"check: up to {most:,} tokens to score, in rows of {rows}, before and after")
    named = parse_sources(asked.check)
    refuse_overlap([output], [*(source.path for source in named), *([asked.bases] if asked.bases else [])])
    if asked.dry_run:
        if named:
            total_bytes([source.path for source in named], reading)  # a text that is not there is said here too
        return {"schema": SCHEMA, "dry_run": True, "output": str(output), **facts}
    codec = find_tokenizer(None, path, console) if named else None
    texts = [open_source(source, codec, console, None, reading) for source in named]  # before gigabytes are written
    run = Run("convert rope", facts, options=asked.options())
    try:
        written = write_checkpoint(
            output, checkpoint.tensors(), raw, run=run, source=checkpoint, force=asked.force, console=console
        )
    except CompleteError:
        if not texts:
            raise
        console.info(f"{output}: complete already, only the check is made")
    else:
        console.info(f"{output}: {written.parameters:,} parameters, as they were; train it before you use it")
    report = {"schema": SCHEMA, "output": str(output), **facts}
    if asked.check:
        report["check"] = compare(path, output, texts, lengths, tokens, asked.device, console)
        show(report["check"], console)
    return report


def _original(config: "Config") -> int:
    """Positions that the model was trained on, before any scaling that it carries."""
    return min(config.max_position_embeddings, config.rope.original_positions)


def _refuse(asked: RotarySettings, target: int, config: "Config", path: Path) -> None:
    if any(method["name"] == "harpe" for method in config.methods):
        raise UserError("has a base for each head already", where=str(path), hint="convert the original")
    kinds = {config.rope_of(layer) for layer in range(config.num_hidden_layers)} - {None}
    if len(kinds) != 1 or config.rope.partial != 1:
        what = "turns its layers by several tables" if len(kinds) > 1 else "turns a part of each head only"
        raise UserError(f"{what if kinds else 'has no rotary embedding'}: not supported here", where=str(path))
    if asked.method == "harpe" and config.rope.kind == "dynamic":
        what = "changes its base with the length of the text (rope_type dynamic): not supported by --method harpe"
        raise UserError(what, where=str(path), hint="--method abf, ntk or yarn")
    if target <= _original(config):
        what = f"--target {target:,}: the model was made for {_original(config):,} positions already"
        hint = "a longer one; --override max_position_embeddings=N takes it for a model of N"
        raise UserError(what, where=str(path), hint=hint)
    if asked.method != "harpe" and (asked.bases or asked.range_):
        raise UserError(f"--bases and --range are for --method harpe, not {asked.method}")
    if asked.base is not None and asked.method != "abf":
        hint = "--bases or --range" if asked.method == "harpe" else "--method abf"
        raise UserError(f"--base is for --method abf, not {asked.method}", hint=hint)
    if asked.base is not None and not 1 < asked.base < 1e30:
        raise UserError(f"--base {asked.base:g}: wanted a number above 1")


def _changed(
    asked: RotarySettings, target: int, checkpoint: CheckpointReader, config: "Config"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts for the report and run.json, and config.json of the result."""
    from llmtool.core.model.config import rope_parameters
    from llmtool.core.model.export import method_config
    from llmtool.core.model.families import FAMILIES
    from llmtool.methods.harpe.baselines.stock import rotary
    from llmtool.methods.harpe.part import NAME, VERSION

    if config.local_rope is not None or config.rope.partial != 1:
        raise UserError(f"{config.family} turns its layers or heads in more than one way", where=str(checkpoint.path),
                        hint="only models with one set of frequencies for all of a head can be converted")  # fmt: skip
    if config.rope.llama_4_scaling_beta:
        raise UserError(f"{config.family} lets queries grow with their position, from the old length on: not supported",
                        where=str(checkpoint.path))  # fmt: skip
    old = rope_parameters(checkpoint.config)
    facts: dict[str, Any] = {
        "method": asked.method, "original": _original(config), "target": target, "before": old,
    }  # fmt: skip
    if asked.method != "harpe":
        new = rotary(asked.method, config.rope.theta, config.head_dim, facts["original"], target, asked.base)
        kinds = FAMILIES[config.family].rope_kinds
        if kinds is not None and new["rope_type"] not in kinds:
            what = f"--method {asked.method} is rope_type {new['rope_type']!r}, which stock engines do not take for"
            raise UserError(f"{what} {config.family}", where=str(checkpoint.path), hint="--method abf, ntk or harpe")
        return {**facts, "after": new}, with_rotary(checkpoint.config, new, target, config.head_dim)
    kind, found = _bases(asked, target, config)
    entry = {"name": NAME, "version": VERSION, "bases": found, "original": old}
    raw = {**checkpoint.config, "max_position_embeddings": target}
    raw = method_config(raw, replace(config, methods=(*config.methods, entry)))
    return {**facts, "choice": kind, "bases": found}, raw


def with_rotary(raw: Mapping[str, Any], new: Mapping[str, Any], positions: int, head_dim: int) -> dict[str, Any]:
    """config.json with other rotary settings, in the spelling that it uses: 4.x or 5.x.

    head_dim is said too: where it is missing, transformers 5.23 computes with None (YaRN in a Mixtral, a Ministral).
    """
    kept = {key: value for key, value in raw.items() if key not in ("rope_theta", "rope_scaling", "rope_parameters")}
    kept["max_position_embeddings"] = positions
    if kept.get("head_dim") is None:
        kept["head_dim"] = head_dim
    if "rope_parameters" in raw:
        return {**kept, "rope_parameters": dict(new)}
    scaling = {key: value for key, value in new.items() if key != "rope_theta"}
    plain = scaling["rope_type"] == "default"
    return {**kept, "rope_theta": new["rope_theta"], "rope_scaling": None if plain else scaling}


def _bases(asked: RotarySettings, target: int, config: "Config") -> tuple[str, list[float] | list[list[float]]]:
    """How the bases were made, and they, one a key-value head; from a file also a list of them for each layer."""
    from llmtool.methods.harpe import bases

    heads = config.num_key_value_heads
    ends = _ends(asked.range_) if asked.range_ else bases.range_for(target, config.rope.theta)
    table = len(bases.GRID)
    kind = asked.bases or ("paper" if table in (heads, config.num_attention_heads) else "uniform")
    if kind == "paper":
        return kind, bases.paper(heads, ends)
    if kind == "uniform":
        return kind, bases.uniform(heads, ends)
    if kind == "search":
        return kind, bases.search(heads, config.head_dim, ends)
    return "file", bases.read(Path(kind), heads, config.num_hidden_layers)


def _ends(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    try:
        ends = quantity(low, "--range"), quantity(high, "--range")
    except UserError:
        ends = 0.0, 0.0
    if not colon or not 1 < ends[0] <= ends[1]:
        raise UserError(f"--range {text}: wanted two bases, the lower first", hint="--range 1M:5M")
    return ends


def _say(facts: Mapping[str, Any], console: Console) -> None:
    before = facts["before"]
    old = f"{before['rope_type']}, theta {before['rope_theta']:,.0f}"
    console.info(f"{facts['original']:,} -> {facts['target']:,} positions; before: {old}")
    if "bases" in facts:
        found, choice = facts["bases"], facts["choice"]
        ours = "; a search of ours, not the published table" if choice == "search" else ""
        by_layer = isinstance(found[0], list)
        every = [base for row in found for base in row] if by_layer else found
        count = f"{len(found[0])} bases in each of {len(found)} layers, of" if by_layer else f"{len(found)} bases of"
        console.info(f"harpe: {count} {min(every):,.0f} to {max(every):,.0f}, one a KV head ({choice}{ours})")
        if {*every} == {before["rope_theta"]} and before["rope_type"] == "default":
            console.warn("every base is the model's own: nothing changes; --range LOW:HIGH or --bases FILE say others")
        console.info("stock vLLM, llama.cpp and GGUF cannot serve it: no rope_type has a base for each head")
    else:
        kind, theta = facts["after"]["rope_type"], facts["after"]["rope_theta"]
        factor = f", factor {facts['after']['factor']:g}" if "factor" in facts["after"] else ""
        console.info(f"{facts['method']}: rope_type {kind}, theta {theta:,.0f}{factor}; stock engines serve it")


def compare(
    before: Path,
    after: Path,
    texts: "Sequence[TokenFile]",
    lengths: Sequence[int],
    tokens: int,
    device: str,
    console: Console,
) -> list[dict[str, Any]]:
    """Nats a token of each text in both checkpoints: {"source", "length", "before", "after", "positions"}.

    lengths: of rows. tokens: of each text, at each length; a row at least.
    """
    old, new = (_score(at, texts, lengths, tokens, device, console) for at in (before, after))
    return [
        {
            "source": name, "length": length, "tokens": one.tokens, "before": one.mean, "after": new[name, length].mean,
            "positions": {"before": one.buckets(), "after": new[name, length].buckets()},
        }
        for (name, length), one in old.items()
    ]  # fmt: skip


def _score(
    path: Path, texts: "Sequence[TokenFile]", lengths: Sequence[int], tokens: int, device: str, console: Console
) -> "dict[tuple[str, int], PositionLoss]":
    """(text, length of rows) -> its loss by position."""
    from llmtool.core.train.world import World
    from llmtool.model import load_model

    model = load_model(path, device=device)
    found = {}
    for length in lengths:
        for text in texts:
            held = HeldOut(text, length, max(length, tokens), mask_documents=False)
            with console.progress(f"scoring {text.name}", held.rows, "rows") as bar:
                micro = max(1, MICRO_TOKENS // length)
                found[text.name, length] = held.score(model.losses, micro, World(), None, bar.advance)
    return found


SMALLEST = 16
"""Buckets of positions that are shown hold a sixteenth of a row at least: a row of 2^k ends in one of one position."""


def show(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The check for people: each row whole, then by position, which is where a longer context shows."""
    table = []
    for row in rows:
        whole = (row["source"], f"{row['length']:,}", f"{row['tokens']:,}")
        table.append((*whole, "all", f"{row['before']:.4f}", f"{row['after']:.4f}"))
        for (first, old), (_, new) in zip(row["positions"]["before"], row["positions"]["after"], strict=True):
            last = min(2 * first - 1, row["length"])
            if SMALLEST * (last - first + 1) >= row["length"]:
                table.append(("", "", "", f"{first:,} to {last:,}", f"{old:.4f}", f"{new:.4f}"))
    heads = ("text", "row", "tokens", "positions", "before", "after")
    console.table("Loss before and after the swap, untrained", heads, table, "nats a token")
