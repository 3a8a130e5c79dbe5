"""`llmtool eval attention`: the layers' attention maps side by side, and a plan for `convert uniattn`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.commands.convert.uniattn import Calibration
from llmtool.commands.eval.settings import AttentionSettings
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.corpus.inputs import without_weights
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
from llmtool.methods.uniattn import plan, plot
from llmtool.model import load_model

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
    figure, output, measure, force = asked.plot, asked.output, asked.measure, asked.force
    require("torch", extra="models", why="to run models")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.attention import Attention
    from llmtool.methods.uniattn import similarity

    use_threads(asked.threads, by_load=False)
    saving = parse_share(asked.kv_saving)
    checkpoint = open_checkpoint(path)
    run = Run("eval attention", {"data": list(data), "samples": asked.samples, "window": asked.window,
                                 "kv_saving": saving, "measure": measure, **reading.facts()})  # fmt: skip
    read: list[str | Path] = [path, *without_weights(data), *([asked.tokenizer] if asked.tokenizer else [])]

    def entries() -> list[dict[str, Any]]:
        return [checkpoint.fingerprint(), *map(file_entry, read[1:])]

    refuse_overlap([place for place in (output, figure) if place], read)
    if output:
        try:
            claim_file(output, run, read=read, force=force, found=entries, console=console)
        except CompleteError:
            if figure is None or figure.exists():
                raise
    claim_figure(figure, read=read, force=force)
    model = load_model(path, None, asked.device)
    if model.note:
        console.info(model.note)
    layers = model.config.num_hidden_layers
    followers = similarity.followers_for(saving, layers)
    if not all(isinstance(block.self_attn, Attention) for block in model.decoder.model.layers):
        raise UserError("has layers without a softmax of their own", where=str(path), hint="look at the original")
    rows = text.rows(checkpoint, model.config, console).to(model.device)
    with console.progress("comparing layers", len(rows), "rows") as bar:

        def counted() -> Any:
            for row in rows:
                yield row
                bar.advance(1)

        alike = similarity.mean_similarity(model.decoder, counted(), measure).tolist()
    groups, total = similarity.best_groups(alike, followers, model.config.windows)
    facts = plan.to_json(groups, layers, alike)
    if figure:
        plot.draw_likeness(alike, groups, measure, figure)
        console.info(f"{figure}: drawn")
    if output:
        run.inputs = entries()
        with atomic_files() as files:
            files.open(output).write(dumps(facts, indent=1).encode() + b"\n")
            run.save(manifest_path(output), [output], files)
        console.info(f"{output}: plan written")
    mean = total / followers
    return {**facts, "schema": SCHEMA, "measure": measure, "mean_likeness": mean, "tokens": rows.numel()}


def parse_share(text: str) -> float:
    """25% or 0.25."""
    return real(text, "--kv-saving")


def show(facts: dict[str, Any], console: Console) -> None:
    """The plan as a table on stdout."""
    alike = facts["similarity"]
    rows = [
        (", ".join(map(str, group)), str(group[0]), "  ".join(f"{alike[group[0]][layer]:.3f}" for layer in group[1:]))
        for group in facts["groups"]
    ]
    note = (
        f"{facts['kv_saving']:.2%} of the cache saved, mean likeness {facts['mean_likeness']:.3f}: {facts['measure']} "
        f"of the attention maps on {facts['tokens']:,} tokens, 1 for the same map"
    )
    console.table("Plan", ("layers", "leader", "likeness of followers"), rows, note, result=True)
