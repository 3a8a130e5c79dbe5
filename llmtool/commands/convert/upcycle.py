"""`llmtool convert topk|cartesian|mask|finedeep`: feed-forward layers replaced; a plan first, a check of each layer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmtool.commands.convert.dsmoe import with_method
from llmtool.commands.convert.upcycle_settings import CartesianSettings, FinedeepSettings, MaskSettings, TopKSettings
from llmtool.commands.sources import find_tokenizer
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.layers import by_layer, numbers
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.run.atomic import require_space
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.core.run.wording import counted
from llmtool.model import build

if TYPE_CHECKING:
    from torch import nn

    from llmtool.core.model.config import Config
    from llmtool.core.model.cost import Cost
    from llmtool.core.model.upcycling import Tensors

    Make = Callable[[int, Tensors], Mapping[str, Any]]

SCHEMA = "llmtool.convert-upcycle/1"
T = TypeVar("T")


@dataclass(frozen=True)
class Dense:
    """A checkpoint whose feed-forward layers are dense, as far as `layers` says."""

    source: CheckpointReader
    config: "Config"
    layers: list[int]

    @property
    def std(self) -> float:
        """Standard deviation of new routers."""
        std = self.source.config.get("initializer_range")
        return std if isinstance(std, float) and std > 0 else 0.02


Upcycling = TopKSettings | CartesianSettings | MaskSettings | FinedeepSettings


def open_dense(path: Path, asked: Upcycling, default: Callable[[int], list[int]] | None = None) -> Dense:
    """Open and refuse what cannot be converted. default: layers where --layers does not say."""
    require("torch", extra="models", why="to convert weights")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.loading import read_architecture
    from llmtool.core.model.upcycling import refuse_other_ffn

    use_threads(asked.threads, by_load=False)
    source = open_checkpoint(path, asked.override)
    config = read_architecture(source)
    number = config.num_hidden_layers
    chosen = default(number) if asked.layers is None and default else numbers(asked.layers, number)
    refuse_other_ffn(source, config, chosen)
    return Dense(source, config, chosen)


def costs(dense: Dense, facts: Mapping[str, Any]) -> "tuple[Cost, Cost]":
    """Before and after, from models without weights; facts: config.json of the result, which is checked by this."""
    import torch

    from llmtool.core.model.config import ConfigError, parse_config
    from llmtool.core.model.cost import cost_of

    try:
        with torch.device("meta"):
            return cost_of(build(dense.config)), cost_of(build(parse_config(facts)))
    except ConfigError as error:
        raise UserError(str(error), where=str(dense.source.path)) from None


def say(before: "Cost", after: "Cost", what: str, console: Console) -> dict[str, Any]:
    """The plan for people, and as facts."""
    console.info(what)
    console.info(
        f"parameters     {before.parameters:,} -> {after.parameters:,} ({after.parameters / before.parameters:.2f} x)"
    )
    console.info(f"active         {after.active:,} a token ({after.active / before.active:.2f} x the dense model's)")
    console.info(f"FLOPs a token  {before.flops:,} -> {after.flops:,} ({after.flops / before.flops:.2f} x); "
                 "attention over positions beside")  # fmt: skip
    return {"before": before.facts(), "after": after.facts()}


def write(
    dense: Dense, output: Path, entry: Mapping[str, Any], what: str, make: "Make", part: "Callable[[int], nn.Module]",
    asked: Any, *, exact: bool, by_id: bool = False, read: Sequence[Path] = (), console: Console,
) -> dict[str, Any]:  # fmt: skip
    """Say what it will cost, convert layer by layer, check each before it is written."""
    from llmtool.core.model.upcycling import StartCheck, replace_layers

    source, config = dense.source, dense.config
    facts = with_method(source, config, entry)
    before, after = costs(dense, facts)
    name = str(entry["name"])
    plan = {"schema": SCHEMA, "method": name, "output": str(output), "layers": dense.layers, **dict(entry)}
    plan |= say(before, after, f"{counted(len(dense.layers), 'layer')}: {what}", console)
    if asked.dry_run:
        return {**plan, "dry_run": True}
    size = source.entry(source.names()[0]).kind.size
    require_space(output, after.parameters * size)
    check = StartCheck(config, part, exact=exact, seed=asked.seed, ids=by_id)

    def checked(layer: int, tensors: "Tensors") -> Mapping[str, Any]:
        made = make(layer, tensors)
        check(layer, tensors, made)
        return made

    recorded = {**asked.facts(), "entry": dict(entry)}
    run = Run(
        f"convert {COMMANDS[name]}", recorded, seed=asked.seed, defaults=asked.defaults(), options=asked.options()
    )
    stream = replace_layers(source.tensors(by_layer(source)), config, dense.layers, checked)
    write_checkpoint(output, stream, facts, run=run, source=source, read=read, force=asked.force, console=console)
    console.info(f"{output}: {check.line()}")
    return {**plan, "verified": check.report()}


COMMANDS = {"cartesian_moe": "cartesian", "mask_moe": "mask", "finedeep": "finedeep"}
"""Name in config.json -> verb of the command line."""


def convert_cartesian(
    path: Path, output: Path, settings: CartesianSettings | None = None, *, console: Console, **named_settings: Any
) -> dict[str, Any]:
    """Two routed sub-layers that compute the dense layer; at k = 2 with three times its compute."""
    asked = CartesianSettings.of(settings, named_settings)
    dense = open_dense(path, asked, lambda number: list(range(1, number, 2)))
    from llmtool.methods.cartesian_moe.convert import upcycle
    from llmtool.methods.cartesian_moe.part import CartesianFFN, read_settings

    config = dense.config
    if not dense.layers:
        raise UserError("no layer to convert", where=str(path), hint="--layers 0")
    if asked.top_k > asked.experts:
        raise UserError(f"--top-k {asked.top_k} of {asked.experts} experts", hint="--experts N")
    if config.intermediate_size % 2:
        raise UserError(f"intermediate_size {config.intermediate_size} is odd: it has no halves", where=str(path))
    entry = {
        "name": "cartesian_moe", "version": 1, "layers": dense.layers, "experts": asked.experts, "top_k": asked.top_k,
        "grain": 2, "shared": True, "normalise": True,
    }  # fmt: skip
    part = _checked(lambda: read_settings(entry, config), path)
    what = f"two sub-layers of {asked.experts} routed experts (the best {asked.top_k} a token) and a shared one"
    return write(
        dense, output, entry, f"{what}, {config.intermediate_size // 2:,} channels each",
        lambda layer, held: upcycle(layer, held, config, part, asked.seed, asked.noise, dense.std),
        lambda layer: CartesianFFN(config, layer, part), asked, exact=not asked.noise, console=console,
    )  # fmt: skip


def convert_mask(
    path: Path, output: Path, table: Path, settings: MaskSettings | None = None, *, console: Console,
    **named_settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Copies of the feed-forward layer, each id seeing those of the table; k = 1 costs what the dense one does."""
    asked = MaskSettings.of(settings, named_settings)
    dense = open_dense(path, asked)
    import torch

    from llmtool.methods.mask_moe.artefact import load_table
    from llmtool.methods.mask_moe.convert import upcycle
    from llmtool.methods.mask_moe.part import MaskFFN, read_settings

    config = dense.config
    held = load_table(table)
    masks = torch.from_numpy(held.fitting(config.num_hidden_layers, config.vocab_size, str(table)))
    _refuse_other_ids(held.facts, table, path, console)
    if asked.top_k > held.experts:
        raise UserError(f"--top-k {asked.top_k} of {held.experts} experts", where=str(table))
    entry = {
        "name": "mask_moe", "version": 1, "layers": dense.layers, "experts": held.experts, "top_k": asked.top_k,
        "normalise": True, "shared": asked.shared,
    }  # fmt: skip
    part = _checked(lambda: read_settings(entry, config), path)
    return write(
        dense, output, entry, f"{held.experts} copies, each id sees those of the table, {asked.top_k} of them taken",
        lambda layer, tensors: upcycle(layer, tensors, config, part, masks[layer], asked.seed, asked.noise, dense.std),
        lambda layer: MaskFFN(config, layer, part), asked, exact=not asked.noise, by_id=True,
        read=[table], console=console,
    )  # fmt: skip


def _refuse_other_ids(facts: Mapping[str, Any], table: Path, path: Path, console: Console) -> None:
    """A table of another tokenizer shows experts to other pieces of text, however many ids both have."""
    codec = find_tokenizer(None, path, console)
    made_for = facts.get("tokenizer")
    if codec is not None and isinstance(made_for, str) and made_for != codec.fingerprint():
        raise UserError("was made with another tokenizer than the checkpoint's", where=str(table),
                        hint="llmtool data token-experts --model CKPT")  # fmt: skip


def convert_finedeep(
    path: Path, output: Path, settings: FinedeepSettings | None = None, *, console: Console, **named_settings: Any
) -> dict[str, Any]:
    """The layer's neurons in M x K experts with scores of 1/2: exact for M = 1."""
    asked = FinedeepSettings.of(settings, named_settings)
    dense = open_dense(path, asked)
    from llmtool.methods.finedeep.convert import cut
    from llmtool.methods.finedeep.part import FinedeepFFN, read_settings

    config = dense.config
    entry = {
        "name": "finedeep", "version": 1, "layers": dense.layers, "sublayers": asked.sublayers,
        "experts": asked.experts, "router": asked.router, "bias": asked.bias, "scale": 2.0,
    }  # fmt: skip
    part = _checked(lambda: read_settings(entry, config), path)
    width = config.intermediate_size // (asked.sublayers * asked.experts)
    if asked.sublayers > 1:
        console.warn("more than one sub-layer changes what the model computes: train it on; --set finedeep.ramp=STEPS "
                     "begins at the dense model")  # fmt: skip
    return write(
        dense, output, entry, f"{asked.sublayers} x {asked.experts} experts of {width:,} channels, all of them run",
        lambda _, held: cut(held, config, part), lambda layer: FinedeepFFN(config, layer, part), asked,
        exact=asked.sublayers == 1, console=console,
    )  # fmt: skip


def _checked(read: Callable[[], T], path: Path) -> T:
    """A method's settings, or one line that says what is wrong with the checkpoint."""
    from llmtool.core.model.config import ConfigError

    try:
        return read()
    except ConfigError as error:
        raise UserError(str(error), where=str(path)) from None


def convert_topk(
    path: Path, output: Path, settings: TopKSettings | None = None, *, console: Console, **named_settings: Any
) -> dict[str, Any]:
    """Plain upcycling: copies of each feed-forward layer under a random router, as a Mixtral or a Qwen3-MoE."""
    asked = TopKSettings.of(settings, named_settings)
    dense = open_dense(path, asked)
    from llmtool.core.model.config import parse_config
    from llmtool.core.model.experts import RoutedFFN
    from llmtool.core.model.export import topk_config
    from llmtool.core.model.upcycling import StartCheck, copies, generator, replace_layers, router

    config = dense.config
    if asked.top_k > asked.experts:
        raise UserError(f"--top-k {asked.top_k} of {asked.experts} experts", hint="--experts N")
    form = asked.form if asked.form != "auto" else "qwen3_moe" if config.family == "qwen3" else "mixtral"
    facts = _checked(
        lambda: topk_config(dense.source.config, config, form, asked.experts, asked.top_k, dense.layers), path
    )
    made_config = _checked(lambda: parse_config(facts), path)
    before, after = costs(dense, facts)
    what = f"{asked.experts} copies of each feed-forward layer, {asked.top_k} taken a token, written as {form}"
    plan = {"schema": SCHEMA, "method": form, "output": str(output), "layers": dense.layers, "experts": asked.experts,
            "top_k": asked.top_k,
            **say(before, after, f"{counted(len(dense.layers), 'layer')}: {what}", console)}  # fmt: skip
    if asked.dry_run:
        return {**plan, "dry_run": True}
    check = StartCheck(config, lambda layer: RoutedFFN(made_config, layer), exact=not asked.noise, seed=asked.seed)

    def make(layer: int, held: "Tensors") -> Mapping[str, Any]:
        dtype = held["gate_proj.weight"].dtype
        made = {
            "router.weight": router(asked.seed, layer, "topk", asked.experts, config.hidden_size, dense.std).to(dtype)
        }
        for kind in ("gate", "up", "down"):
            random = generator(asked.seed, layer, kind)
            made[f"experts.{kind}"] = copies(held[f"{kind}_proj.weight"], asked.experts, asked.noise, random)
        check(layer, held, made)
        return made

    require_space(output, after.parameters * dense.source.entry(dense.source.names()[0]).kind.size)
    recorded, typed = {**asked.facts(), "form": form}, asked.options()
    run = Run("convert topk", recorded, seed=asked.seed, defaults=asked.defaults(), options=typed)
    stream = replace_layers(dense.source.tensors(by_layer(dense.source)), config, dense.layers, make)
    write_checkpoint(output, stream, facts, run=run, source=dense.source, force=asked.force, console=console)
    console.info(f"{output}: {check.line()}; stock transformers loads it as {form}")
    return {**plan, "verified": check.report()}
