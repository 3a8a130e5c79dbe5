"""`llmtool convert dsmoe-baseline`: the checkpoints that DSMoE is compared with."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.dsmoe import ROW, entry, refuse_experts, say_layers, with_method
from llmtool.commands.convert.settings import BaselineSettings
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.layers import by_layer
from llmtool.core.checkpoint.writer import claim_checkpoint, write_checkpoint
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.methods.dsmoe.plan import refuse_share
from llmtool.model import build_parts, load_tokenizer

if TYPE_CHECKING:
    from llmtool.core.model.config import Config
    from llmtool.core.model.upcycling import Named

SCHEMA = "llmtool.convert-dsmoe-baseline/1"


def convert_baseline(
    kind: str,
    path: Path,
    output: Path,
    settings: BaselineSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """kind: topk (LLaMA-MoE), static, channels, 2:4 (Wanda); all but topk look at calibration text."""
    reading, named_settings = Reading.split(reading, named_settings, BaselineSettings)
    asked = BaselineSettings.of(settings, named_settings)
    require("torch", extra="models", why="to convert weights")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.export import method_config
    from llmtool.core.model.loading import read_architecture
    from llmtool.core.model.upcycling import refuse_other_ffn
    from llmtool.methods.dsmoe import convert as conversion
    from llmtool.methods.dsmoe import router_init
    from llmtool.methods.dsmoe.baselines.pruning import choose, prune

    use_threads(asked.threads, by_load=False)
    experts, share, calibration = asked.experts, asked.share, asked.calibration
    refuse_share(share)
    source = open_checkpoint(path)
    config = read_architecture(source)
    layers = range(config.num_hidden_layers)
    refuse_other_ffn(source, config, layers)
    if (kind == "topk") == bool(calibration):
        hint = "static, channels and 2:4 want --calibration TEXT, topk looks at no text"
        raise UserError(f"{kind} with{'' if calibration else 'out'} --calibration", hint=hint)
    if kind in ("topk", "static"):
        refuse_experts(config, experts, path)
    new = {"off_mean": asked.off_mean, "refit": asked.refit}
    if kind != "static" and new != {"off_mean": False, "refit": False}:
        raise UserError(f"{kind} with --off-mean or --refit", hint="they belong to static")
    tensors = source.tensors(by_layer(source))
    facts: dict[str, Any] = {}
    recorded = {"kind": kind, "experts": experts, "share": share, "calibration": list(calibration)}
    recorded |= reading.facts() if calibration else {}
    recorded |= new if kind == "static" else {}
    given = {"KIND": kind, **(reading.options() if calibration else {}), **asked.options()}
    recorded |= {"tokens": asked.calibration_tokens}
    run = Run("convert dsmoe-baseline", recorded, seed=asked.seed, options=given)
    claim_checkpoint(output, run, source, read=without_weights(calibration), force=asked.force, console=console)
    if kind == "topk":
        active = max(1, round(share * experts))
        share = active / experts
        facts = with_method(source, config, {"name": "llama_moe", "version": 1, "experts": experts, "active": active})
        std = source.config.get("initializer_range") or router_init.STD
        tensors = conversion.to_sparse(
            tensors, config, layers,
            lambda layer: router_init.paper(experts, config.hidden_size, layer, asked.seed, std),
        )  # fmt: skip
    else:
        if kind == "2:4" and (config.hidden_size % 4 or config.intermediate_size % 4):
            raise UserError("2:4 wants sizes that are multiples of 4", where=str(path))
        rows = text_rows(
            load_tokenizer(path).encode_prompt,
            calibration,
            asked.calibration_tokens,
            min(ROW, config.max_position_embeddings),
            reading=reading,
            seed=asked.seed,
            console=console,
        )
        if kind == "static":
            facts, tensors = static(source, config, tensors, rows, asked, console)
        else:
            kept = choose(source, config, build_parts(config), rows, kind, share, console)
            tensors = prune(tensors, kept)
        if kind == "channels":
            inner = len(kept[0][""])
            width = "intermediate_size" if config.family != "granitemoehybrid" else "shared_intermediate_size"
            facts = method_config({**source.config, width: inner}, replace(config, intermediate_size=inner))
            share = inner / config.intermediate_size
        elif kind == "2:4":
            facts, share = with_method(source, config, {"name": "sparse24", "version": 1}), 0.5
    written = write_checkpoint(
        output,
        tensors,
        facts,
        run=run,
        source=source,
        read=without_weights(calibration),
        force=asked.force,
        console=console,
    )
    console.info(f"{output}: {kind}, {share:.1%} of the feed-forward weights active, {written.parameters:,} parameters")
    return {"schema": SCHEMA, "output": str(output), "kind": kind, "share": share, "parameters": written.parameters}


def static(
    source: CheckpointReader,
    config: "Config",
    tensors: "Iterator[Named]",
    rows: list[list[int]],
    asked: BaselineSettings,
    console: Console,
) -> "tuple[dict[str, Any], Iterator[Named]]":
    """DSMoE's form with routers that look at nothing: the most important blocks for every token."""
    from llmtool.methods.dsmoe import convert as conversion
    from llmtool.methods.dsmoe.part import Settings
    from llmtool.methods.dsmoe.ridge import Plan, changed, fit_layers

    layers = tuple(range(config.num_hidden_layers))
    part = Settings(
        asked.experts, layers, (1.0,) * len(layers), form="unit", partition="importance", off_mean=asked.off_mean,
        refit=asked.refit,
    )  # fmt: skip
    plan = Plan(asked.share, "static")
    fitted = fit_layers(source, config, build_parts(config), rows, part, plan, console)
    say_layers([one.facts for one in fitted.values()], console)
    routers = {layer: one.router for layer, one in fitted.items() if one.router}
    return with_method(source, config, entry(part)), conversion.to_sparse(
        tensors, config, layers, routers.__getitem__, change=partial(changed, fitted)
    )
