"""`llmtool convert dsmoe` and `llmtool convert dense`: a checkpoint in, a checkpoint out, with a plan and a check."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.inspect import describe
from llmtool.commands.convert.settings import DsmoeSettings
from llmtool.commands.options import Replacing
from llmtool.commands.places import beside
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.layers import by_layer, numbers
from llmtool.core.checkpoint.writer import claim_checkpoint, write_checkpoint
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.core.run.wording import counted
from llmtool.methods.dsmoe.plan import cost, refuse_share
from llmtool.model import build_parts, load_tokenizer

if TYPE_CHECKING:
    from llmtool.core.model.config import Config
    from llmtool.methods.dsmoe.part import Settings
    from llmtool.methods.dsmoe.ridge import Fitted
    from llmtool.methods.dsmoe.router_init import Router

ROW = 256
"""Tokens of a calibration row."""
WORDS = {
    "form": "unit gates without n / #active", "partition": "channels sorted by importance",
    "always_on": "blocks that are always on", "off_mean": "closed blocks add their mean", "refit": "down_proj refitted",
}  # fmt: skip
"""What is not the paper's, as config.json and the model card name it."""
CONVERT, DENSE = "llmtool.convert-dsmoe/1", "llmtool.convert-dense/1"


def convert_dsmoe(
    path: Path,
    output: Path | None = None,
    settings: DsmoeSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """Split the feed-forward layers into experts and give each a router; `exact` is checked bit for bit.

    reading: of the calibration text.
    """
    reading, named_settings = Reading.split(reading, named_settings, DsmoeSettings)
    asked = DsmoeSettings.of(settings, named_settings)
    require("torch", extra="models", why="to convert weights")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.loading import read_architecture
    from llmtool.core.model.upcycling import refuse_other_ffn
    from llmtool.methods.dsmoe import convert as conversion
    from llmtool.methods.dsmoe.ridge import Plan, changed, fit_layers

    use_threads(asked.threads, by_load=False)
    way = choose(asked)
    if not 0 <= asked.tau < 1:
        raise UserError(f"--tau {asked.tau:g}: wanted 0 or more, and less than 1")
    source = open_checkpoint(path, asked.override)
    config = read_architecture(source)
    output = beside(path, "dsmoe", output)
    chosen = numbers(asked.layers, config.num_hidden_layers)
    refuse_experts(config, asked.experts, path)
    refuse_other_ffn(source, config, chosen)
    plan = {
        "schema": CONVERT, "output": str(output), "experts": asked.experts, "router_init": way.kind,
        "partition": way.partition, "form": way.form, "always_on": way.always_on, "tau": asked.tau, "layers": chosen,
        **cost(describe(source), config, asked.experts, chosen, way.share, way.kind != "paper", asked.off_mean),
    }  # fmt: skip
    _say(plan, console)
    if asked.dry_run:
        return {**plan, "dry_run": True}
    part = _settings(asked, way, chosen)
    found: dict[str, Any] = (
        {
            "share": way.share,
            "calibration": list(asked.calibration),
            "tokens": asked.calibration_tokens,
            **reading.facts(),
        }
        if asked.calibration
        else {}
    )
    found |= {"override": list(asked.override)} if asked.override else {}
    given = {**(reading.options() if asked.calibration else {}), **asked.options()}
    run = Run("convert dsmoe", {**entry(part), "router_init": way.kind, **found}, seed=asked.seed, options=given)
    texts = without_weights(asked.calibration)
    routers: dict[int, Router] = {}
    fitted: dict[int, Fitted] = {}
    if asked.calibration:
        claim_checkpoint(output, run, source, read=texts, force=asked.force, console=console)
        length = min(ROW, config.max_position_embeddings)
        encode = load_tokenizer(path).encode_prompt
        rows = text_rows(encode, asked.calibration, asked.calibration_tokens, length, reading=reading,
                         seed=asked.seed, console=console)  # fmt: skip
        parts = build_parts(config)
        if way.kind == "analytic":
            from llmtool.methods.dsmoe.calibration import analytic

            routers, facts_of = analytic(source, config, parts, rows, part, way.share, console)
            part = replace(part, gate_scale=tuple(routers[layer].scale for layer in chosen))
            plan["fitted"] = facts_of
            _say_fitted(facts_of, console)
        else:
            how = Plan(way.share, "ridge" if way.kind == "ridge" else "order")
            fitted = fit_layers(source, config, parts, rows, part, how, console)
            routers = {layer: one.router for layer, one in fitted.items() if one.router}
            if routers:
                plan["fitted"] = [one.facts for one in fitted.values()]
                say_layers(plan["fitted"], console)
    check = conversion.ExactCheck(config, part, asked.seed) if way.kind == "exact" else None
    tensors = conversion.to_sparse(
        source.tensors(by_layer(source)), config, chosen,
        _routers(config, source, part, way.kind, asked.seed, routers), check, partial(changed, fitted),
    )  # fmt: skip
    facts = with_method(source, config, entry(part))
    write_checkpoint(output, tensors, facts, run=run, source=source, read=texts, force=asked.force, console=console)
    if check:
        plan["verified"] = check.report()
        reordered = ", its channels reordered" if fitted else ""
        console.info(
            f"{output}: {counted(check.layers, 'layer')}, each the dense one{reordered} bit for bit "
            "(checked before writing)"
        )
    else:
        console.info(f"{output}: written; {way.kind} routers change what the model computes")
    return plan


def refuse_experts(config: "Config", experts: int, path: Path) -> None:
    """The number of experts must divide the intermediate dimension."""
    inner = config.intermediate_size
    if experts < 2 or inner % experts:
        near = ", ".join(str(n) for n in range(2, 65) if inner % n == 0)
        raise UserError(f"{experts} experts: intermediate_size {inner:,} is not cut evenly", where=str(path),
                        hint=f"up to 64: {near or 'none'}")  # fmt: skip


@dataclass(frozen=True)
class Way:
    """What a conversion does, with the defaults that depend on each other filled in."""

    kind: str
    partition: str
    form: str
    share: float
    always_on: int


def choose(asked: DsmoeSettings) -> Way:
    """Without a calibration text the exact start of the paper's form; with one importance order, unit form, ridge."""
    kind = asked.router_init or ("ridge" if asked.calibration else "exact")
    ridge = kind == "ridge"
    partition = asked.partition or ("importance" if ridge else "contiguous")
    form = asked.form or ("unit" if ridge else "paper")
    share = asked.share if asked.share is not None else 0.75 if ridge else 0.375
    refuse_share(share)
    looks = partition == "importance" or kind in ("ridge", "analytic")
    if looks != bool(asked.calibration):
        given = "with" if asked.calibration else "without"
        hint = "ridge, analytic and --partition importance want --calibration TEXT, the rest looks at no text"
        what = "--partition importance" if looks and kind in ("exact", "paper") else f"--router-init {kind}"
        raise UserError(f"{what} {given} --calibration", hint=hint)
    if ridge and form == "paper":
        raise UserError(
            "--router-init ridge with --form paper: n / #active multiplies the tokens of few blocks, massive ones "
            "among them, and costs nats", hint="--form unit, or --router-init analytic for the paper's form",
        )  # fmt: skip
    if kind == "analytic" and (form, partition) != ("paper", "contiguous"):
        raise UserError(
            f"--router-init analytic with --form {form} --partition {partition}: it fits a scale to the paper's form",
            hint="--router-init ridge",
        )
    always_on = asked.always_on
    if always_on is None:
        always_on = asked.experts // 4 if ridge and asked.experts >= 16 else 0
    wanted = {"--always-on": always_on, "--off-mean": asked.off_mean, "--refit": asked.refit}  # fmt: skip
    if not ridge and any(wanted.values()):
        option = next(option for option, given in wanted.items() if given)
        raise UserError(f"{option} with --router-init {kind}: it is a matter of fitted routers",
                        hint="--router-init ridge --calibration TEXT")  # fmt: skip
    if always_on > share * asked.experts:
        raise UserError(
            f"--always-on {always_on}: of {asked.experts} blocks {share:g} are to be on", hint="fewer, or more --share"
        )
    return Way(kind, partition, form, share, always_on)


def _settings(asked: DsmoeSettings, way: Way, layers: list[int]) -> "Settings":
    from llmtool.methods.dsmoe.part import Settings
    from llmtool.methods.dsmoe.router_init import BIAS, SCALE

    exact = way.kind == "exact"
    if exact and asked.tau >= 1 / SCALE:
        raise UserError(
            f"--tau {asked.tau}: the exact start has gates of {1 / SCALE:.3f} (bias {BIAS:.3f})", hint="--tau 0.5"
        )
    scale = SCALE if exact and way.form == "paper" else 1.0
    return Settings(
        asked.experts, tuple(layers), (scale,) * len(layers), asked.tau, router_bias=way.kind != "paper",
        form=way.form, partition=way.partition, always_on=way.always_on, off_mean=asked.off_mean, refit=asked.refit,
    )  # fmt: skip


def entry(settings: "Settings") -> dict[str, Any]:
    """The method's object in config.json: of version 1, which older readers know too, where nothing of 2 is used."""
    from llmtool.methods.dsmoe.part import BEYOND, NEW, Settings

    fields = Settings.__dataclass_fields__
    new = {name: getattr(settings, name) for name in NEW}
    differ = [name for name, value in new.items() if value != fields[name].default]
    new = {**new, BEYOND: [WORDS[name] for name in differ]} if differ else {}
    return {
        "name": "dsmoe", "version": 2 if new else 1, "experts": settings.experts, "tau": settings.tau,
        "router_bias": settings.router_bias, "layers": list(settings.layers), "gate_scale": list(settings.gate_scale),
        **new,
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
    output: str | Path | None = None,
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
    asked, output = Replacing.of(settings, named_settings), beside(path, "dense", output)
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
    how = f"{counted(changed, 'layer')} with their blocks' weights in down_proj" if changed else "no weight changed"
    console.info(f"{output}: {written.parameters:,} parameters, {how}")
    return {"schema": DENSE, "output": str(output), "parameters": written.parameters, "layers_rescaled": changed}


def _say(plan: dict[str, Any], console: Console) -> None:
    for line in lines(plan):
        console.info(line)


def lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """The plan for people."""
    before, after, share = plan["before"], plan["after"], plan["share"]
    yield (
        f"{counted(len(plan['layers']), 'layer')} of {plan['experts']} experts with {plan['expert_size']:,} channels "
        f"each, tau {plan['tau']:g}, routers {plan['router_init']}, {plan['partition']} blocks, {plan['form']} form"
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


def say_layers(fitted: Sequence[Mapping[str, float]], console: Console) -> None:
    """The fit of the unit form for people, beside always the first blocks."""
    guided = all("stream" in f for f in fitted)
    shown = ("routed", "static", "error", *(["stream"] if guided else []))
    rows = [
        (f"{f['layer']}", f"{f['wanted']:.1%}", f"{f['share']:.1%}", f"{f['none']:.2%}",
         *(f"{f[name]:.3f}" for name in shown))
        for f in fitted
    ]  # fmt: skip
    header = (
        "layer",
        "wanted",
        "active",
        "no block",
        "routed",
        "static",
        "in the end",
        *(["stream"] if guided else []),
    )
    stream = (
        "; stream: of the residual stream after it, which --refit leads back to the dense model's" if guided else ""
    )
    console.table("Fitted to the calibration text", header, rows,
                  "relative error of the layer's output on the quarter of the tokens that nothing was fitted to: by "
                  f"the router, by always the first blocks (pruning), with --off-mean and --refit{stream}")  # fmt: skip
    behind = [f for f in fitted if f["routed"] > f["static"]]
    if 2 * len(behind) > len(fitted):
        console.warn(
            f"in {len(behind)} of {counted(len(fitted), 'layer')} the router is worse than always the first blocks: "
            "compare with convert dsmoe-baseline static"
        )
