"""`llmtool data`: long samples from a corpus, whole or stage by stage; callable from Python by the same names."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from llmtool.core.bpe.tokenizer import available_cores
from llmtool.core.corpus.units import Engine
from llmtool.core.run.console import Console
from llmtool.tokenizer import Tokenizer


def means(
    workers: int | None = None, engine: Engine = "local", force: bool = False, console: Console | None = None
) -> Any:
    """How stages are run: nothing here changes a byte of what they write."""
    from llmtool.core.corpus.units import Means

    return Means(workers or available_cores(), console or Console(verbosity=-1), engine, force)


def recipe(**settings: Any) -> Any:
    """A recipe from flat settings; those of the reader go into its Reading, None means the default."""
    from llmtool.methods.nextlong.chunking import Reading
    from llmtool.methods.nextlong.recipe import Recipe
    from llmtool.methods.nextlong.seeds import parse_caps

    given = {key: value for key, value in settings.items() if value is not None}
    names = {each.name for each in fields(Reading)}
    reading = Reading(**{key: given.pop(key) for key in list(given) if key in names})
    given["caps"] = parse_caps(list(given.get("caps", ())))
    given["decontaminate"] = tuple(given.get("decontaminate", ()))
    if "separator" in given:
        given["separator"] = _unescaped(given["separator"])
    return replace(Recipe(**given), reading=reading)


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t")


def nextlong(
    corpora: Sequence[str],
    output: Path,
    *,
    tokenizer: str,
    work: Path | None = None,
    workers: int | None = None,
    engine: Engine = "local",
    force: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Long samples from a corpus of short documents (or by a baseline's rule); settings as in the stages' Recipe."""
    from llmtool.methods.nextlong.estimate import estimate
    from llmtool.methods.nextlong.synthesis import synthesize

    made = recipe(**settings)
    made.check()
    how = means(workers, engine, force, console)
    vocabulary = Tokenizer.load(tokenizer)
    if dry_run:
        return estimate(corpora, output, vocabulary, made, how.workers)
    return synthesize(corpora, output, vocabulary, made, how, work=work)


def chunk(corpora: Sequence[str], directory: Path, console: Console | None = None, **options: Any) -> dict[str, Any]:
    """The first stage: documents into chunks."""
    from llmtool.methods.nextlong import stages

    how = {key: options.pop(key) for key in ("workers", "engine", "force") if key in options}
    store = stages.chunk(corpora, directory, recipe(**options).reading, means(**how, console=console))
    return {"schema": "llmtool.data-chunk/1", "directory": str(directory), **store.facts}


def embed(
    directory: Path,
    *,
    embedder: str = "lsa",
    seed: int = 0,
    decontaminate: Sequence[str] = (),
    ngram: int = 13,
    console: Console | None = None,
    **how: Any,
) -> dict[str, Any]:
    """The second stage: a vector for each chunk."""
    from llmtool.methods.nextlong import stages

    found = stages.embed(
        directory, embedder, means(**how, console=console), seed=seed, decontaminate=decontaminate, ngram=ngram
    )
    return {"schema": "llmtool.data-embed/1", "directory": str(directory), **found.stage.totals()}


def index(
    directory: Path, *, kind: Any = "auto", seed: int = 0, console: Console | None = None, **how: Any
) -> dict[str, Any]:
    """The third stage: what is searched."""
    from llmtool.methods.nextlong import stages

    stage = stages.index(directory, kind, means(**how, console=console), seed=seed)
    return {"schema": "llmtool.data-index/1", "directory": str(directory), **stage.totals()}


def mine(
    directory: Path,
    *,
    tokenizer: str,
    samples: int | None = None,
    console: Console | None = None,
    workers: int | None = None,
    engine: Engine = "local",
    force: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """The fourth stage: hard negatives, for a quarter more seeds than samples are wanted, or for all."""
    from llmtool.methods.nextlong import stages
    from llmtool.methods.nextlong.store import Store

    how = means(workers, engine, force, console)
    made = recipe(**settings)
    made.check()
    counted = stages.count_tokens(directory, Tokenizer.load(tokenizer), made.separator, how)
    choice = made.choice(stages.measured_ratio(Store(directory), counted))
    seeds = None if samples is None else samples + samples // 4 + 1
    stage = stages.mine(directory, choice, how, seeds=seeds)
    return {"schema": "llmtool.data-mine/1", "directory": str(stage.directory), **stage.totals()}


def assemble(
    directory: Path,
    output: Path,
    *,
    tokenizer: str,
    console: Console | None = None,
    workers: int | None = None,
    engine: Engine = "local",
    force: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """The last stage: samples as their users read them; mines what is not mined yet."""
    from llmtool.methods.nextlong import synthesis

    made = recipe(**settings)
    made.check()
    how = means(workers, engine, force, console)
    return synthesis.assemble(directory, output, Tokenizer.load(tokenizer), made, how)


def report(
    output: Path,
    *,
    plot: Path | None = None,
    decontaminate: Sequence[str] = (),
    ngram: int = 13,
    model: Path | None = None,
    device: str = "auto",
    force: bool = False,
    console: Console | None = None,
) -> tuple[dict[str, Any], list[list[str]]]:
    """The quality of a run: as an object, and as rows for people. model: what its meta-chunks gain from one another."""
    from llmtool.methods.nextlong import plot as drawing
    from llmtool.methods.nextlong import report as quality

    drawing.check(plot, force)
    facts = quality.report(output, console or Console(verbosity=-1), decontaminate, ngram)
    if model:
        facts["dependency"] = _dependency(output, model, device)
    if plot:
        drawing.draw(facts, plot)
    return facts, quality.lines(facts)


def _dependency(output: Path, checkpoint: Path, device: str) -> dict[str, Any]:
    import torch

    from llmtool.methods.nextlong import dependency
    from llmtool.methods.nextlong.report import rows
    from llmtool.model import load_model

    model = load_model(checkpoint, device=device)

    @torch.inference_mode()
    def loss(before: list[int], scored: list[int]) -> float:
        ids = torch.tensor([before + scored])
        logits = model(ids)[0, len(before) - 1 : -1].float().cpu()
        return float(torch.nn.functional.cross_entropy(logits, ids[0, len(before) :]))

    longest = model.config.max_position_embeddings
    return {"model": str(checkpoint), **dependency.measure(rows(output), Tokenizer.load(checkpoint), loss, longest)}


def show(output: Path, sample: str, characters: int | None, console: Console, *, quiet: bool = False) -> dict[str, Any]:
    """One sample; printed with its spans coloured unless `quiet`."""
    from llmtool.methods.nextlong import show as showing

    row = showing.find(output, sample)
    if not quiet:
        from rich.text import Text

        out = console.rich(stdout=True)
        out.print(f"sample {row['id']}, seed {row['seed']}: {row['n_tokens']:,} tokens, {len(row['spans'])} spans")
        for role, heading, text in showing.parts(output, row, characters):
            out.print(Text(heading, style=showing.STYLES[role]))
            out.print(Text(text + "\n", style="" if role == "meta" else "dim"))
    return row
