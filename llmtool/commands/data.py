"""`llmtool data`: long samples from a corpus, whole or stage by stage; callable from Python by the same names.

Settings come as an object or by their names; a stage reads those that it needs.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from llmtool.commands import places
from llmtool.commands.data_settings import NextlongSettings, ReportSettings, ShowSettings
from llmtool.core.bpe.tokenizer import available_cores
from llmtool.core.corpus.units import Means
from llmtool.core.run.alone import alone
from llmtool.core.run.atomic import new_directories
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.numbers import amount
from llmtool.core.run.wording import counted
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmtool.methods.nextlong.recipe import Recipe

SHOW = "llmtool.data-show/1"


def means(settings: NextlongSettings, console: Console | None) -> Means:
    """How stages are run: nothing here changes a byte of what they write."""
    quiet = Console(verbosity=-1)
    return Means(settings.workers or available_cores(), console or quiet, settings.engine, settings.force)


def recipe(settings: NextlongSettings) -> "Recipe":
    """What decides the bytes, as the method's own code has it; checked."""
    from llmtool.methods.nextlong.chunking import Reading
    from llmtool.methods.nextlong.recipe import Recipe
    from llmtool.methods.nextlong.seeds import parse_caps

    given = {
        **settings.facts(), "caps": parse_caps(list(settings.caps)), "decontaminate": tuple(settings.decontaminate),
        "separator": settings.separator.replace("\\n", "\n").replace("\\t", "\t"),
    }  # fmt: skip
    _apply_recipe(given)
    given["short_data"] = tuple(given["short_data"])
    given["decontaminate_fields"] = fields_of(given.pop("decontaminate_field"))
    given["tokens"] = None if settings.tokens is None else amount(settings.tokens, "--tokens")
    reading = Reading(**{each.name: given.pop(each.name) for each in fields(Reading)})
    made = Recipe(**given, reading=reading)
    made.check()
    return made


def _apply_recipe(given: dict[str, Any]) -> None:
    """Put what a named recipe stands for into the settings; what was set otherwise contradicts it."""
    from llmtool.methods.nextlong.recipe import RECIPES

    name = given.pop("recipe")
    usual = NextlongSettings()
    for key, value in RECIPES[name].items() if name else ():
        if given[key] not in (value, getattr(usual, key)):
            option = key.replace("_", "-")
            what = f"--recipe {name} and --{option} {given[key]} contradict each other"
            raise UserError(what, hint=f"the recipe stands for --{option} {value}")
        given[key] = value


def fields_of(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def needs_tokenizer() -> NoReturn:
    """Where none is named and none stands here."""
    raise UserError("which tokenizer?", hint="give --tokenizer TOK, or make one: llmtool tokenizer train FILES")


def nextlong(
    corpora: Sequence[str],
    output: str | Path | None = None,
    settings: NextlongSettings | None = None,
    *,
    tokenizer: str | None = None,
    console: Console | None = None,
    **named_settings: Any,
) -> dict[str, Any]:
    """Long samples from a corpus of short documents (or by a baseline's rule).

    >>> import llmtool
    >>> report = llmtool.data.nextlong(
    ...     ["corpus.jsonl"], "long", tokenizer="bpe.json", target=1024, size=256, samples=2, workers=1
    ... )
    >>> report["method"]
    'nextlong'
    """
    from llmtool.methods.nextlong.estimate import estimate
    from llmtool.methods.nextlong.synthesis import synthesize

    settings, output = NextlongSettings.of(settings, named_settings), Path(output or places.LONG)
    tokenizer = tokenizer or places.found_tokenizer() or needs_tokenizer()
    made, how = recipe(settings), means(settings, console)
    vocabulary = Tokenizer.load(tokenizer)
    if settings.dry_run:
        return estimate(corpora, output, vocabulary, made, how.workers)
    return synthesize(corpora, output, vocabulary, made, how, work=settings.work, read=[tokenizer])


def chunk(
    corpora: Sequence[str],
    output: str | Path | None = None,
    settings: NextlongSettings | None = None,
    *,
    console: Console | None = None,
    **named_settings: Any,
) -> dict[str, Any]:
    """The first stage: documents into chunks."""
    from llmtool.methods.nextlong import stages
    from llmtool.methods.nextlong.place import nothing_left
    from llmtool.methods.nextlong.store import claim_work

    settings, directory = NextlongSettings.of(settings, named_settings), Path(output or places.CHUNKS)
    claim_work(directory, corpora)
    with new_directories(directory.parent), nothing_left(directory):
        store = stages.chunk(corpora, directory, recipe(settings).reading, means(settings, console))
    return {"schema": "llmtool.data-chunk/1", "directory": str(directory), **store.facts}


def _work(directory: str | Path) -> AbstractContextManager[None]:
    """A work directory for this process alone; the stage says it where none stands there."""
    return alone(Path(directory)) if Path(directory).is_dir() else nullcontext()


def embed(
    directory: str | Path,
    settings: NextlongSettings | None = None,
    *,
    console: Console | None = None,
    **named_settings: Any,
) -> dict[str, Any]:
    """The second stage: a vector for each chunk."""
    from llmtool.methods.nextlong import stages

    settings = NextlongSettings.of(settings, named_settings)
    with _work(directory):
        found = stages.embed(
            Path(directory), settings.embedder, means(settings, console), seed=settings.seed,
            decontaminate=settings.decontaminate, ngram=settings.ngram, fields=fields_of(settings.decontaminate_field),
            prefix=settings.embedder_prefix,
        )  # fmt: skip
    return {"schema": "llmtool.data-embed/1", "directory": str(directory), **found.stage.totals()}


def index(
    directory: str | Path,
    settings: NextlongSettings | None = None,
    *,
    console: Console | None = None,
    **named_settings: Any,
) -> dict[str, Any]:
    """The third stage: what is searched."""
    from llmtool.methods.nextlong import stages

    settings = NextlongSettings.of(settings, named_settings)
    with _work(directory):
        stage = stages.index(
            Path(directory), settings.index, means(settings, console), seed=settings.seed, dedupe=settings.dedupe
        )
    return {"schema": "llmtool.data-index/1", "directory": str(directory), **stage.totals()}


def mine(
    directory: str | Path,
    settings: NextlongSettings | None = None,
    *,
    tokenizer: str | None = None,
    console: Console | None = None,
    **named_settings: Any,
) -> dict[str, Any]:
    """The fourth stage: hard negatives, for a quarter more seeds than samples are wanted, or for all."""
    from llmtool.methods.nextlong import stages
    from llmtool.methods.nextlong.store import Store

    settings = NextlongSettings.of(settings, named_settings)
    tokenizer = tokenizer or places.found_tokenizer() or needs_tokenizer()
    made, how = recipe(settings), means(settings, console)
    with _work(directory):
        counted = stages.count_tokens(Path(directory), Tokenizer.load(tokenizer), made.separator, how)
        choice = made.choice(stages.measured_ratio(Store(Path(directory)), counted))
        wanted = made.samples if made.tokens is None else made.tokens // made.target
        seeds = None if wanted is None else wanted + wanted // 4 + 1
        stage = stages.mine(Path(directory), choice, how, seeds=seeds)
    return {"schema": "llmtool.data-mine/1", "directory": str(stage.directory), **stage.totals()}


def assemble(
    directory: str | Path,
    output: str | Path,
    settings: NextlongSettings | None = None,
    *,
    tokenizer: str | None = None,
    console: Console | None = None,
    **named_settings: Any,
) -> dict[str, Any]:
    """The last stage: samples as their users read them; mines what is not mined yet."""
    from llmtool.methods.nextlong import synthesis

    settings = NextlongSettings.of(settings, named_settings)
    tokenizer = tokenizer or places.found_tokenizer() or needs_tokenizer()
    made, how = recipe(settings), means(settings, console)
    return synthesis.assemble(
        Path(directory), Path(output), Tokenizer.load(tokenizer), made, how, read=[tokenizer, *made.decontaminate]
    )


def report(
    output: str | Path, settings: ReportSettings | None = None, *, console: Console = QUIET, **named_settings: Any
) -> tuple[dict[str, Any], list[list[str]]]:
    """The quality of a run: as an object, and as rows for people. model: what its meta-chunks gain from one another."""
    asked, output = ReportSettings.of(settings, named_settings), Path(output)
    from llmtool.methods.nextlong import plot as drawing
    from llmtool.methods.nextlong import report as quality
    from llmtool.methods.nextlong import wording

    read: list[str | Path] = [output, *asked.decontaminate, *([asked.model] if asked.model else [])]
    claim_figure(asked.plot, read=read, force=asked.force)
    facts = quality.report(output, console, asked.decontaminate, asked.ngram, fields_of(asked.decontaminate_field))
    if asked.model:
        facts["dependency"] = _dependency(output, asked.model, asked.device, asked.model_samples)
    if asked.plot:
        drawing.draw(facts, asked.plot)
    return facts, wording.lines(facts)


def _dependency(output: Path, checkpoint: Path, device: str, samples: int) -> dict[str, Any]:
    import torch

    from llmtool.methods.nextlong import dependency
    from llmtool.methods.nextlong.samples import rows
    from llmtool.model import load_model

    model = load_model(checkpoint, device=device)

    @torch.inference_mode()
    def loss(before: list[int], scored: list[int]) -> float:
        ids = torch.tensor([before + scored])
        logits = model(ids)[0, len(before) - 1 : -1].float().cpu()
        return float(torch.nn.functional.cross_entropy(logits, ids[0, len(before) :].cpu()))

    longest = model.config.max_position_embeddings
    return {
        "model": str(checkpoint),
        **dependency.measure(rows(output), Tokenizer.load(checkpoint), loss, longest, samples),
    }


def show(
    output: str | Path,
    sample: str | int,
    settings: ShowSettings | None = None,
    *,
    quiet: bool = False,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """One sample; printed with its spans coloured unless `quiet`."""
    asked, output = ShowSettings.of(settings, named_settings), Path(output)
    from llmtool.methods.nextlong import show as showing

    row = showing.find(output, str(sample))
    if not quiet:
        from rich.text import Text

        out = console.rich(stdout=True)
        out.print(
            f"sample {row['id']}, seed {row['seed']}: {counted(row['n_tokens'], 'token')}, "
            f"{counted(len(row['spans']), 'span')}"
        )
        for role, heading, text in showing.parts(output, row, None if asked.whole else asked.characters):
            out.print(Text(heading, style=showing.STYLES[role]))
            out.print(Text(text + "\n", style="" if role == "meta" else "dim"))
    return {"schema": SHOW, **row}
