"""`llmtool convert dsmoe` and `llmtool convert dense`: a checkpoint in, a checkpoint out, with a plan and a check."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.inspect import describe
from llmtool.commands.convert.settings import DsmoeSettings
from llmtool.commands.options import Replacing
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.layers import by_layer, numbers
from llmtool.core.checkpoint.writer import claim_checkpoint, write_checkpoint
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.methods.dsmoe.plan import cost, refuse_share
from llmtool.model import build_parts, load_tokenizer

if TYPE_CHECKING:
    from llmtool.core.model.config import Config
    from llmtool.methods.dsmoe.part import Settings
    from llmtool.methods.dsmoe.router_init import Router

ROW = 256
"""Tokens of a calibration row."""
CONVERT, DENSE = "llmtool.convert-dsmoe/1", "llmtool.convert-dense/1"


def convert_dsmoe(
    path: Path,
    output: Path | None = None,
    settings: DsmoeSettings | None = None,
    *,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """Split the feed-forward layers into experts and give each a router; `exact` is checked bit for bit."""
    asked = DsmoeSettings.of(settings, named_settings)
    require("torch", extra="models", why="to convert weights")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.loading import read_architecture
    from llmtool.core.model.upcycling import refuse_other_ffn
    from llmtool.methods.dsmoe import convert as conversion

    use_threads(asked.threads, by_load=False)
    refuse_share(asked.share)
    if not 0 <= asked.tau < 1:
        raise UserError(f"--tau {asked.tau:g}: wanted 0 or more, and less than 1")
    source = open_checkpoint(path, asked.override)
    config = read_architecture(source)
    output = output or path.with_name(path.name + "-dsmoe")
    if (asked.router_init == "analytic") != bool(asked.calibration):
        hint = "analytic wants --calibration TEXT, exact and paper look at no text"
        given = "with" if asked.calibration else "without"
        raise UserError(f"--router-init {asked.router_init} {given} --calibration", hint=hint)
    chosen = numbers(asked.layers, config.num_hidden_layers)
    refuse_experts(config, asked.experts, path)
    refuse_other_ffn(source, config, chosen)
    plan = {
        "schema": CONVERT, "output": str(output), "experts": asked.experts, "router_init": asked.router_init,
        "tau": asked.tau, "layers": chosen,
        **cost(describe(source), config, asked.experts, chosen, asked.share, asked.router_init != "paper"),
    }  # fmt: skip
    _say(plan, console)
    if asked.dry_run:
        return {**plan, "dry_run": True}
    part = _settings(asked.experts, chosen, asked.tau, asked.router_init)
    found: dict[str, Any] = (
        {"share": asked.share, "calibration": list(asked.calibration), "tokens": asked.calibration_tokens}
        if asked.router_init == "analytic"
        else {}
    )
    found |= {"override": list(asked.override)} if asked.override else {}
    run = Run("convert dsmoe", {**_entry(part), "router_init": asked.router_init, **found}, seed=asked.seed)
    routers: dict[int, Router] = {}
    if asked.router_init == "analytic":
        from llmtool.methods.dsmoe.calibration import analytic

        claim_checkpoint(output, run, source, read=asked.calibration, force=asked.force, console=console)
        length = min(ROW, config.max_position_embeddings)
        encode = load_tokenizer(path).encode_prompt
        rows = text_rows(encode, asked.calibration, asked.calibration_tokens, length, seed=asked.seed)
        routers, fitted = analytic(source, config, build_parts(config), rows, part, asked.share, console)
        part = replace(part, gate_scale=tuple(routers[layer].scale for layer in chosen))
        plan["fitted"] = fitted
        _say_fitted(fitted, console)
    check = conversion.ExactCheck(config, part, asked.seed) if asked.router_init == "exact" else None
    tensors = conversion.to_sparse(
        source.tensors(by_layer(source)), config, chosen,
        _routers(config, source, part, asked.router_init, asked.seed, routers), check,
    )  # fmt: skip
    facts = with_method(source, config, _entry(part))
    write_checkpoint(
        output, tensors, facts, run=run, source=source, read=asked.calibration, force=asked.force, console=console
    )
    if check:
        plan["verified"] = check.report()
        console.info(f"{output}: {check.layers} layers, each the dense one bit for bit (checked before writing)")
    else:
        console.info(f"{output}: written; {asked.router_init} routers change what the model computes")
    return plan


def refuse_experts(config: "Config", experts: int, path: Path) -> None:
    """The number of experts must divide the intermediate dimension."""
    inner = config.intermediate_size
    if experts < 2 or inner % experts:
        near = ", ".join(str(n) for n in range(2, 65) if inner % n == 0)
        raise UserError(f"{experts} experts: intermediate_size {inner:,} is not cut evenly", where=str(path),
                        hint=f"up to 64: {near or 'none'}")  # fmt: skip


def _settings(experts: int, layers: list[int], tau: float, kind: str) -> "Settings":
    from llmtool.methods.dsmoe.part import Settings
    from llmtool.methods.dsmoe.router_init import BIAS, SCALE

    scale = SCALE if kind == "exact" else 1.0
    if kind == "exact" and tau >= 1 / SCALE:
        raise UserError(
            f"--tau {tau}: the exact start has gates of {1 / SCALE:.3f} (bias {BIAS:.3f})", hint="--tau 0.5"
        )
    return Settings(experts, tuple(layers), (scale,) * len(layers), tau, router_bias=kind != "paper")


def _entry(settings: "Settings") -> dict[str, Any]:
    """The method's object in config.json."""
    return {
        "name": "dsmoe", "version": 1, "experts": settings.experts, "tau": settings.tau,
        "router_bias": settings.router_bias, "layers": list(settings.layers), "gate_scale": list(settings.gate_scale),
    }  # fmt: skip


def _routers(
    config: "Config", source: CheckpointReader, settings: "Settings", kind: str, seed: int, fitted: "dict[int, Router]"
) -> "Callable[[int], Router]":
    from llmtool.methods.dsmoe import router_init

    std = source.config.get("initializer_range")
    std = std if isinstance(std, float) and std > 0 else router_init.STD
    if kind == "exact":
        return lambda _: router_init.exact(settings.experts, config.hidden_size)
    if kind == "paper":
        return lambda layer: router_init.paper(settings.experts, config.hidden_size, layer, seed, std)
    return fitted.__getitem__


def with_method(source: CheckpointReader, config: "Config", entry: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with one more method: no stock reader takes the result for the family that it was."""
    from llmtool.core.model.export import method_config

    return method_config(source.config, replace(config, methods=(*config.methods, entry)))


def without_method(source: CheckpointReader, config: "Config", name: str) -> dict[str, Any]:
    """config.json without a method; the family's own again where that was the last one."""
    from llmtool.core.model.export import method_config

    left = tuple(method for method in config.methods if method["name"] != name)
    return method_config(source.config, replace(config, methods=left))


def convert_dense(
    path: str | Path,
    output: str | Path,
    settings: Replacing | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Merge the experts of a DSMoE checkpoint back; refused where a gate depends on the token.

    >>> import llmtool
    >>> converted = llmtool.convert.dsmoe("model", "sparse-again", experts=4)
    >>> llmtool.convert.dense("sparse-again", "dense")["parameters"]
    36384
    """
    asked = Replacing.of(settings, named_settings)
    require("torch", extra="models", why="to convert weights")
    from llmtool.core.model.loading import read_architecture
    from llmtool.methods.dsmoe import convert as conversion
    from llmtool.methods.dsmoe.part import read_settings

    source = open_checkpoint(Path(path))
    config = read_architecture(source)
    entry = next((method for method in config.methods if method["name"] == "dsmoe"), None)
    if entry is None:
        raise UserError("is not a DSMoE checkpoint", where=str(path), hint="llmtool convert dsmoe makes one")
    cut = read_settings(entry, config)
    weights = {}
    for layer in cut.layers:
        names = ("router.weight", "router.bias") if cut.router_bias else ("router.weight",)
        held = {name: source.read(f"model.layers.{layer}.mlp.{name}") for name in names}
        try:
            weights[layer] = conversion.constant_weights(layer, held, cut)
        except UserError as error:
            raise UserError(error.what, where=str(path), hint=error.hint) from None
    changed = sum(bool(w.ne(1).any()) for w in weights.values())
    run = Run("convert dense", {"checkpoint": str(path)})
    tensors = conversion.to_dense(source.tensors(by_layer(source)), weights)
    facts = without_method(source, config, "dsmoe")
    written = write_checkpoint(output, tensors, facts, run=run, source=source, force=asked.force, console=console)
    how = f"{changed} layers with their blocks' weights in down_proj" if changed else "no weight changed"
    console.info(f"{output}: {written.parameters:,} parameters, {how}")
    return {"schema": DENSE, "output": str(output), "parameters": written.parameters, "layers_rescaled": changed}


def _say(plan: dict[str, Any], console: Console) -> None:
    for line in lines(plan):
        console.info(line)


def lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """The plan for people."""
    before, after, share = plan["before"], plan["after"], plan["share"]
    yield (
        f"{len(plan['layers'])} layers of {plan['experts']} experts with {plan['expert_size']:,} channels each, "
        f"tau {plan['tau']:g}, routers {plan['router_init']}"
    )
    yield f"parameters     {before['parameters']:,} -> {after['parameters']:,}"
    yield (
        f"active         {after['active_parameters']:,} a token where {share:.1%} of the blocks are on, "
        f"{after['active_share']:.1%} of the dense model"
    )
    yield (
        f"FLOPs a token  {before['flops']:,} -> {after['flops_all']:,} with every block on, "
        f"{after['flops_at_share']:,} at {share:.1%}, {after['flops_one']:,} with one; attention over positions beside"
    )


def _say_fitted(fitted: Sequence[Mapping[str, float]], console: Console) -> None:
    rows = [
        (f"{f['layer']}", f"{f['active']:.1%}", f"{f['none']:.2%}", f"{f['scale']:.3f}", f"{f['error']:.3f}")
        for f in fitted
    ]
    header = ("layer", "active", "no expert", "scale", "error")
    console.table("Routers fitted to the calibration text", header, rows,
                  "error: ||dense - sparse|| / ||dense|| of the layer's output")  # fmt: skip
