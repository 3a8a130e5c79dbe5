"""`llmtool convert uniattn`: plan, match heads, calibrate, write."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.settings import Sharing, UniattnSettings
from llmtool.commands.convert.uniattn_calibration import Calibration, calibrate, match
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.writer import claim_checkpoint
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run
from llmtool.methods.uniattn import plan
from llmtool.model import find_device

if TYPE_CHECKING:
    import torch

    from llmtool.core.model.config import Config
    from llmtool.methods.uniattn.part import Heads

SCHEMA = "llmtool.convert-uniattn/1"


def convert_uniattn(
    path: Path,
    output: Path,
    settings: UniattnSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """Write OUT; with dry_run only say what it would save. The report holds what each W_c leaves of the error.

    reading: of the calibration text.
    """
    reading, named_settings = Reading.split(reading, named_settings, UniattnSettings)
    asked = UniattnSettings.of(settings, named_settings)
    require("torch", extra="models", why="to read and write weights")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.loading import read_architecture
    from llmtool.methods.uniattn import convert

    use_threads(asked.threads, by_load=False)
    checkpoint = open_checkpoint(path, asked.override)
    config = read_architecture(checkpoint)
    convert.refuse_shared(checkpoint, config)
    chosen = plan.choose(asked.groups, asked.followers, asked.plan, config.num_hidden_layers)
    if asked.sharing == "cla":
        chosen = plan.cla_groups(chosen)
    _check(config, chosen, asked.rank)
    kind, compensation = _form(asked.sharing, asked.rank)
    way = _way(asked)
    facts = {**_savings(checkpoint, chosen, kind, compensation), "output": str(output), "groups": chosen, "heads": way}
    given = _given_heads(asked, way, chosen, config)
    fitted = asked.init != "zero" and (asked.sharing == "uniattn" or asked.refit)
    if chosen and not asked.calibration and (fitted or way == "matched"):
        what, hint = (f"--init {asked.init}", "or --init zero, which needs none") if way != "matched" else (
            "--heads matched", "or --heads identity")  # fmt: skip
        raise UserError(f"{what} looks at text: give --calibration TEXT", hint=hint)
    calibration = Calibration(asked.calibration, asked.samples, asked.window, asked.tokenizer, asked.seed, reading)
    wanted = bool(chosen and asked.calibration and asked.sharing != "cla" and (fitted or way == "matched"))
    _say(facts, config, console)
    if asked.dry_run:
        return {"schema": SCHEMA, "dry_run": True, **facts}
    recorded = {
        "groups": chosen, "sharing": asked.sharing, "init": asked.init if asked.sharing == "uniattn" else None,
        "rank": asked.rank, "ridge": asked.ridge, "seed": asked.seed,
        "calibration": calibration.recorded() if wanted else None,
        **({"heads": way, "leaders": asked.leaders, "match": asked.match} if way == "matched" else {"heads": way}),
        **({"refit": True} if asked.refit else {}),
        **({"override": list(asked.override)} if asked.override else {}),
    }  # fmt: skip
    typed = {**(reading.options() if wanted else {}), **asked.options()}
    run = Run("convert uniattn", recorded, seed=asked.seed, options=typed)
    files = [asked.plan] if asked.plan else []
    files += [Path(asked.heads)] if asked.heads and way not in NAMED else []
    read: list[str | Path] = [*(calibration.read() if wanted else ()), *files]
    claim_checkpoint(output, run, checkpoint, read=read, force=asked.force, console=console)
    drawn = _drawn(calibration, checkpoint, config, asked.device, console) if wanted else None
    heads = given
    if way == "matched" and drawn is not None:
        heads = match(checkpoint, config, chosen, drawn[0], asked.match, asked.leaders, console)
    entry = convert.entry(chosen, compensation, kind, heads)
    changed = convert.changed_config(config, entry) if chosen else config
    report, states = _fit(checkpoint, config, changed, chosen, calibration, drawn, heads, compensation, asked, console)
    _write(checkpoint, output, changed, chosen, heads, kind, states, run, read, asked.force, console)
    return {"schema": SCHEMA, **facts, **report}


NAMED = ("matched", "identity")
"""What --heads names; else it is a file."""


def _way(asked: UniattnSettings) -> str:
    """Where the head map comes from: "matched", "identity", "plan" (what --plan holds) or a file."""
    if asked.sharing == "cla" or asked.followers == "none":
        if asked.heads not in (None, "identity"):
            raise UserError(
                f"--heads {asked.heads}: nobody reads another layer's softmax", where=f"--sharing {asked.sharing}"
            )
        return "identity"
    if asked.heads:
        return asked.heads
    if asked.init == "paper":
        return "identity"
    if asked.calibration:  # by error, which did better than the likeness that plans go by
        return "matched"
    return "plan" if asked.plan and plan.has_heads(asked.plan) else "identity"


def _given_heads(asked: UniattnSettings, way: str, groups: plan.Groups, config: "Config") -> "dict[int, Heads]":
    """The head map of a file, or head by head of the leader (also until it is matched)."""
    from llmtool.methods.uniattn.part import identity_heads

    if way in NAMED:
        count = config.num_attention_heads
        return {layer: identity_heads(leader, count) for layer, leader in plan.followers_of(groups).items()}
    file = Path(asked.heads) if asked.heads else asked.plan
    assert file is not None
    return plan.read_heads(file, groups, config)


def _drawn(
    calibration: Calibration, checkpoint: CheckpointReader, config: "Config", device: str, console: Console
) -> "tuple[torch.Tensor, list[int]]":
    rows, sources = calibration.rows(checkpoint, config, console)
    return rows.to(find_device(device)), sources


def _form(sharing: Sharing, rank: int | None) -> tuple[str, Any]:
    """Name of the method in config.json and its `compensation` entry."""
    if sharing == "cla":
        return "cla", None
    if sharing == "softmax-only":
        return "uniattn", "none"
    return "uniattn", {"rank": rank} if rank else "linear"


def _check(config: "Config", groups: plan.Groups, rank: int | None) -> None:
    from llmtool.core.model.config import ConfigError
    from llmtool.methods.uniattn.part import check_windows

    try:
        check_windows(groups, config.windows)
    except ConfigError as error:
        raise UserError(str(error), hint="leave such layers out of one group") from None
    if rank is not None and rank > config.hidden_size:
        raise UserError(f"--rank {rank} is more than the model's width {config.hidden_size}")


def _savings(checkpoint: CheckpointReader, groups: plan.Groups, kind: str, compensation: Any) -> dict[str, Any]:
    """Parameters and cache before and after, from the headers."""
    from math import prod

    from llmtool.commands.convert.inspect import describe
    from llmtool.methods.uniattn.convert import dropped_names

    before = describe(checkpoint)
    gone = dropped_names(checkpoint.names(), groups, kind)
    size = checkpoint.config["hidden_size"]
    each = {"none": 0, "linear": size * size}.get(str(compensation)) if not isinstance(compensation, dict) else None
    each = 2 * size * compensation["rank"] if isinstance(compensation, dict) else each or 0
    keys = "k_proj.weight", "v_proj.weight"
    saved = sum(checkpoint.shape(n)[0] * checkpoint.entry(n).kind.size for n in gone if n.endswith(keys))
    held = before["kv_bytes_per_token"]
    return {
        "followers": len(plan.followers_of(groups)),
        "parameters_dropped": sum(prod(checkpoint.shape(name)) for name in gone),
        "parameters_added": each * len(plan.followers_of(groups)),
        "kv_bytes_per_token": [held, held - saved],
        "kv_saving": saved / held if held else 0.0,
    }


def _say(facts: dict[str, Any], config: "Config", console: Console) -> None:
    before, after = facts["kv_bytes_per_token"]
    console.info(
        f"{facts['followers']} of {config.num_hidden_layers} layers follow: {facts['parameters_dropped']:,} parameters "
        f"less, {facts['parameters_added']:,} more; cache {before:,} -> {after:,} bytes a token "
        f"(-{facts['kv_saving']:.2%})"
    )


def _fit(
    checkpoint: CheckpointReader,
    config: "Config",
    changed: "Config",
    groups: plan.Groups,
    calibration: Calibration,
    drawn: "tuple[torch.Tensor, list[int]] | None",
    heads: "dict[int, Heads]",
    compensation: Any,
    asked: UniattnSettings,
    console: Console,
) -> tuple[dict[str, Any], dict[int, dict[str, "torch.Tensor"]]]:
    """What the fit leaves, by follower and by input, for the report; and the followers' new tensors."""
    import torch

    from llmtool.methods.uniattn.fitting import Fit, compensation_state
    from llmtool.methods.uniattn.part import make_compensation

    torch.manual_seed(asked.seed)
    module = None if compensation is None else make_compensation(config, compensation)
    if drawn is None:
        states = {} if module is None else {one: compensation_state(module, None) for one in plan.followers_of(groups)}
        return {"layers": [], "losses": []}, states
    fit = Fit(asked.init, module is not None, asked.refit, asked.rank, asked.ridge)
    layers, losses, states = calibrate(
        checkpoint, config, changed, calibration, drawn, heads, fit, module, console
    )  # fmt: skip
    leaders = plan.followers_of(groups)
    return {"layers": [{**one, "leader": leaders[one["layer"]]} for one in layers], "losses": losses}, states


def _write(
    checkpoint: CheckpointReader,
    output: Path,
    config: "Config",
    groups: plan.Groups,
    heads: "dict[int, Heads]",
    kind: str,
    states: dict[int, dict[str, "torch.Tensor"]],
    run: Run,
    read: Sequence[str | Path],
    force: bool,
    console: Console,
) -> None:
    """The new checkpoint; without followers the old one's config stands as it is."""

    from llmtool.core.checkpoint.writer import write_checkpoint
    from llmtool.core.model.export import method_config
    from llmtool.methods.uniattn import convert

    facts = method_config(checkpoint.config, config) if groups else checkpoint.config
    saved = dumps(plan.to_json(groups, config.num_hidden_layers, heads=heads if kind == "uniattn" else None)) + "\n"
    written = write_checkpoint(
        output, convert.convert(checkpoint.tensors(), groups, states, kind), facts, run=run, source=checkpoint,
        files={"plan.json": saved.encode()}, read=read, force=force, console=console,
    )  # fmt: skip
    console.info(f"{output}: {written.parameters:,} parameters")
