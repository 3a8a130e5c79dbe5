"""`llmtool convert uniattn`: plan, calibrate, write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.settings import Sharing, UniattnSettings
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.writer import claim_checkpoint
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run
from llmtool.methods.uniattn import plan
from llmtool.model import build_parts, find_device, load_tokenizer

if TYPE_CHECKING:
    import torch

    from llmtool.core.model.config import Config

SCHEMA = "llmtool.convert-uniattn/1"


@dataclass(frozen=True)
class Calibration:
    """Text that W_c is found on: `samples` rows of `window` tokens (None: 1,024, or the model's own limit if less)."""

    inputs: Sequence[str]
    samples: int
    window: int | None
    tokenizer: Path | None
    """Directory of the tokenizer, where it is not the checkpoint's."""
    seed: int
    """Of the rows that are drawn; equally many from each input, or by weight."""
    reading: Reading | None = None

    def rows(self, checkpoint: CheckpointReader, config: "Config", console: Console) -> "torch.Tensor":
        """Ids [N, window], N up to `samples`."""
        import torch

        longest = config.max_position_embeddings
        window = self.window or min(1024, longest)
        if window > longest:
            raise UserError(f"--window {window:,}: the model was made for {longest:,} tokens")
        encode = load_tokenizer(self.tokenizer or checkpoint.path, hint="give --tokenizer").encode_prompt
        found = text_rows(
            encode, self.inputs, self.samples * window, window, reading=self.reading, seed=self.seed, joined=True,
            console=console,
        )  # fmt: skip
        if len(found) < self.samples:
            console.warn(f"calibration text holds {len(found)} rows of {window:,} tokens, not {self.samples}")
        rows = torch.tensor(found)
        if int(rows.max()) >= config.vocab_size:
            what = f"id {int(rows.max())} is out of range: model.embed_tokens.weight holds {config.vocab_size:,} rows"
            raise UserError(what, where=str(checkpoint.path), hint="is it the tokenizer of this model?")
        return rows


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
    changed = convert.changed_config(config, convert.entry(chosen, compensation, kind)) if chosen else config
    facts = {**_savings(checkpoint, chosen, kind, compensation), "output": str(output), "groups": chosen}
    wanted = chosen and asked.sharing == "uniattn" and asked.init != "zero"
    if wanted and not asked.calibration:
        hint = "or --init zero, which needs none"
        raise UserError(f"--init {asked.init} looks at text: give --calibration TEXT", hint=hint)
    calibration = Calibration(asked.calibration, asked.samples, asked.window, asked.tokenizer, asked.seed, reading)
    _say(facts, config, console)
    if asked.dry_run:
        return {"schema": SCHEMA, "dry_run": True, **facts}
    recorded = {
        "groups": chosen, "sharing": asked.sharing, "init": asked.init if asked.sharing == "uniattn" else None,
        "rank": asked.rank, "ridge": asked.ridge, "seed": asked.seed,
        "calibration": _describe(calibration) if wanted else None,
        **({"override": list(asked.override)} if asked.override else {}),
    }  # fmt: skip
    run = Run("convert uniattn", recorded, seed=asked.seed)
    read: list[str | Path] = [
        *(without_weights(asked.calibration) if wanted else ()),
        *([asked.plan] if asked.plan else []),
    ]
    claim_checkpoint(output, run, checkpoint, read=read, force=asked.force, console=console)
    rows = calibration.rows(checkpoint, config, console).to(find_device(asked.device)) if wanted else None
    layers, states = _compensate(checkpoint, config, changed, chosen, rows, compensation, asked, console)
    _write(checkpoint, output, changed, chosen, kind, states, run, read, asked.force, console)
    return {"schema": SCHEMA, **facts, "layers": layers}


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


def _describe(calibration: Calibration) -> dict[str, Any]:
    return {
        "inputs": list(calibration.inputs), "samples": calibration.samples, "window": calibration.window,
        **(calibration.reading.facts() if calibration.reading else {}),
    }  # fmt: skip


def _compensate(
    checkpoint: CheckpointReader,
    config: "Config",
    changed: "Config",
    groups: plan.Groups,
    rows: "torch.Tensor | None",
    compensation: Any,
    asked: UniattnSettings,
    console: Console,
) -> tuple[list[dict[str, Any]], dict[int, dict[str, "torch.Tensor"]]]:
    """What each follower's W_c leaves, for people and the report, and its state; no W_c, no state."""
    import torch

    from llmtool.methods.uniattn import streaming
    from llmtool.methods.uniattn.part import make_compensation

    followers = plan.followers_of(groups)
    if not followers or compensation in (None, "none"):
        return [], {}
    torch.manual_seed(asked.seed)
    module = make_compensation(config, compensation)
    assert module is not None
    if rows is None:
        return [], {layer: streaming.compensation_state(module, None) for layer in followers}
    states, layers = {}, []
    old, new = streaming.Model(config, build_parts(config)), streaming.Model(changed, build_parts(changed))
    exact = torch.float64 if checkpoint.dtype("model.embed_tokens.weight") == "F64" else torch.float32
    for found in streaming.find_compensations(
        checkpoint, old, new, followers, rows, init=asked.init, ridge=asked.ridge, dtype=exact, console=console,
        rank=compensation["rank"] if isinstance(compensation, dict) else None,
    ):  # fmt: skip
        state = streaming.compensation_state(module, found)
        states[found.follower] = {name: value.cpu() for name, value in state.items()}
        layers.append(found.facts())
        console.info(
            f"  layer {found.follower} after {found.leader}: sharing errs by {found.error:.2%} of the stream's energy, "
            f"W_c leaves {found.left:.0%} of that"
        )
    return layers, states


def _write(
    checkpoint: CheckpointReader,
    output: Path,
    config: "Config",
    groups: plan.Groups,
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
    saved = dumps(plan.to_json(groups, config.num_hidden_layers), indent=2) + "\n"
    written = write_checkpoint(
        output, convert.convert(checkpoint.tensors(), groups, states, kind), facts, run=run, source=checkpoint,
        files={"plan.json": saved.encode()}, read=read, force=force, console=console,
    )  # fmt: skip
    console.info(f"{output}: {written.parameters:,} parameters")
