"""`llmtool convert dsmoe-baseline`: the checkpoints that DSMoE is compared with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from llmtool.commands.convert.dsmoe import ROW, refuse_experts, with_method
from llmtool.commands.convert.settings import BaselineSettings
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.layers import by_layer
from llmtool.core.checkpoint.writer import claim_checkpoint, write_checkpoint
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.methods.dsmoe.plan import refuse_share
from llmtool.model import build_parts, load_tokenizer

SCHEMA = "llmtool.convert-dsmoe-baseline/1"


def convert_baseline(
    kind: str,
    path: Path,
    output: Path,
    settings: BaselineSettings | None = None,
    *,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """kind: topk (LLaMA-MoE), channels, 2:4 (Wanda); the last two look at calibration text."""
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
        hint = "channels and 2:4 want --calibration TEXT, topk looks at no text"
        raise UserError(f"{kind} with{'' if calibration else 'out'} --calibration", hint=hint)
    tensors = source.tensors(by_layer(source))
    facts: dict[str, Any] = {}
    recorded = {"kind": kind, "experts": experts, "share": share, "calibration": list(calibration)}
    run = Run("convert dsmoe-baseline", {**recorded, "tokens": asked.calibration_tokens}, seed=asked.seed)
    claim_checkpoint(output, run, source, read=calibration, force=asked.force, console=console)
    if kind == "topk":
        refuse_experts(config, experts, path)
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
            seed=asked.seed,
        )
        kept = choose(source, config, build_parts(config), rows, kind, share, console)
        tensors = prune(tensors, kept)
        if kind == "channels":
            inner = len(kept[0][""])
            width = "intermediate_size" if config.family != "granitemoehybrid" else "shared_intermediate_size"
            facts = method_config({**source.config, width: inner}, replace(config, intermediate_size=inner))
            share = inner / config.intermediate_size
        else:
            facts, share = with_method(source, config, {"name": "sparse24", "version": 1}), 0.5
    written = write_checkpoint(
        output, tensors, facts, run=run, source=source, read=calibration, force=asked.force, console=console
    )
    console.info(f"{output}: {kind}, {share:.1%} of the feed-forward weights active, {written.parameters:,} parameters")
    return {"schema": SCHEMA, "output": str(output), "kind": kind, "share": share, "parameters": written.parameters}
