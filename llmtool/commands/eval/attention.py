"""`llmtool eval attention`: the layers' attention maps side by side, and a plan for `convert uniattn`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.uniattn_calibration import Calibration, exact_type
from llmtool.commands.eval.settings import AttentionSettings
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.atomic import atomic_files
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.extras import require
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run, file_entry, manifest_path
from llmtool.core.run.numbers import real
from llmtool.core.run.outputs import claim_file, refuse_overlap
from llmtool.core.run.page import unfinished
from llmtool.methods.uniattn import plan, plot
from llmtool.model import build_parts, find_device, load_model

if TYPE_CHECKING:
    import torch

    from llmtool.core.model.config import Config
    from llmtool.methods.uniattn.heads import Scores

SCHEMA = "llmtool.eval-attention/1"


def attention(
    path: str | Path,
    data: Sequence[str],
    settings: AttentionSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """The likeness of layers [L][L], groups of neighbours for the wanted saving; output: plan.json.

    >>> import llmtool
    >>> plan = llmtool.eval.attention("model", ["corpus.txt"], samples=2, window=32)
    >>> len(plan["similarity"])
    2
    """
    reading, named_settings = Reading.split(reading, named_settings)
    asked, path = AttentionSettings.of(settings, named_settings), Path(path)
    text = Calibration(data, asked.samples, asked.window, asked.tokenizer, seed=reading.seed, reading=reading)
    figure, output, force = asked.plot, asked.output, asked.force
    require("torch", extra="models", why="to run models")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.loading import read_architecture
    from llmtool.methods.uniattn import heads, similarity
    from llmtool.methods.uniattn.convert import DROPPED

    use_threads(asked.threads, by_load=False)
    saving = parse_share(asked.kv_saving)
    checkpoint = open_checkpoint(path)
    run = Run("eval attention", {
        "data": list(data), "samples": asked.samples, "window": asked.window, "kv_saving": saving,
        "plan_by": asked.plan_by, "measure": asked.measure, "heads": asked.heads, "leaders": asked.leaders,
        "tokenizer": str(asked.tokenizer) if asked.tokenizer else None, **reading.facts(),
    })  # fmt: skip
    read: list[str | Path] = [path, *text.read()]

    def entries() -> list[dict[str, Any]]:
        return [checkpoint.fingerprint(), *map(file_entry, read[1:])]

    refuse_overlap([place for place in (output, figure) if place], read)
    if output:
        try:
            claim_file(output, run, read=read, force=force, found=entries, console=console)
        except CompleteError:
            if not unfinished(console, figure):
                raise
    claim_figure(figure, read=read, force=force)
    config = read_architecture(checkpoint)
    layers = config.num_hidden_layers
    followers = similarity.followers_for(saving, layers)
    if any(method["name"] in DROPPED for method in config.methods):
        raise UserError("has layers without a softmax of their own", where=str(path), hint="look at the original")
    rows, _ = text.rows(checkpoint, config, console)
    matched, by_error = asked.heads == "matched", asked.plan_by == "error"
    scores = _scores(checkpoint, config, rows.to(find_device(asked.device)), asked, console)
    criterion: heads.Criterion = "error" if by_error else "similarity"
    table = heads.layer_scores(scores, layers, criterion, matched=matched and asked.plan_by != "head-by-head")
    groups, total = similarity.best_groups(table, followers, config.windows)
    found = None
    if matched:
        found = heads.best_heads(scores, heads.readable(groups, asked.leaders, config.windows))
    facts = plan.to_json(groups, layers, None if by_error else table, found)
    if by_error:
        facts["error"] = [[-value for value in row] for row in table]
    if figure:
        measure = "error" if by_error else asked.measure
        pairs = {layer: (leader, scores[layer, leader].tolist()) for layer, leader in plan.followers_of(groups).items()}
        plot.draw(table, groups, measure, pairs, figure, path.resolve().name)
        console.info(f"{figure}: drawn")
    if output:
        run.inputs = entries()
        with atomic_files() as files:
            files.open(output).write(dumps(facts, indent=1).encode() + b"\n")
            run.save(manifest_path(output), [output], files)
        console.info(f"{output}: plan written")
    mean = {"mean_error": -total / followers} if by_error else {"mean_likeness": total / followers}
    told = {"plan_by": asked.plan_by, "measure": asked.measure, "heads": asked.heads, "leaders": asked.leaders}
    return {**facts, "schema": SCHEMA, **told, **mean, "tokens": rows.numel()}


def _scores(
    checkpoint: CheckpointReader, config: "Config", rows: "torch.Tensor", asked: AttentionSettings, console: Console
) -> "Scores":
    """Of each pair of layers, head by head: by maps with the whole model in memory, by error a layer at a time."""
    from llmtool.methods.uniattn import heads, similarity, streaming

    if asked.plan_by == "error":
        pairs = {layer: list(range(layer)) for layer in range(1, config.num_hidden_layers)}
        model = streaming.Model(config, build_parts(config))
        return heads.score_heads(checkpoint, model, rows, pairs, "error", console, exact_type(checkpoint))
    loaded = load_model(checkpoint.path, None, asked.device)
    if loaded.note:
        console.info(loaded.note)
    with console.progress("comparing layers", len(rows), "rows") as bar:

        def counted() -> Any:
            for row in rows:
                yield row
                bar.advance(1)

        return similarity.mean_similarity(loaded.decoder, counted(), asked.measure)


def parse_share(text: str) -> float:
    """25% or 0.25."""
    return real(text, "--kv-saving")


def show(facts: dict[str, Any], console: Console) -> None:
    """The plan as a table on stdout."""
    by_error = facts["plan_by"] == "error"
    table = facts["error"] if by_error else facts["similarity"]
    shown = ".2%" if by_error else ".3f"
    rows = [
        (", ".join(map(str, group)), str(group[0]), "  ".join(f"{table[group[0]][one]:{shown}}" for one in group[1:]))
        for group in facts["groups"]
    ]
    how = "heads matched" if facts["heads"] == "matched" and facts["plan_by"] != "head-by-head" else "head by head"
    said = (
        f"mean error {facts['mean_error']:.2%} of the residual stream's energy" if by_error
        else f"mean likeness {facts['mean_likeness']:.3f}: {facts['measure']} of the attention maps, 1 for the same map"
    )  # fmt: skip
    note = f"{facts['kv_saving']:.2%} of the cache saved, {said}; {how}, on {facts['tokens']:,} tokens"
    column = "error of followers" if by_error else "likeness of followers"
    console.table("Plan", ("layers", "leader", column), rows, note, result=True)
