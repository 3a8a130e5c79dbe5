"""`llmtool data`: check; token-experts; nextlong, its stages chunk, embed, index, mine and assemble, report, show."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.cli.signature import Only
from llmtool.commands.data_settings import NextlongSettings, ReportSettings, ShowSettings
from llmtool.commands.posttrain.settings import CheckSettings
from llmtool.commands.token_experts import TokenExpertsSettings
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.json_file import dumps
from llmtool.core.run.page import Pages

app = Group("Training data: check it, make long contexts.")

Corpora = Annotated[
    list[str],
    typer.Argument(
        help="Text, JSONL, Parquet and more (docs/corpora.md); directories, URLs, - for stdin.",
        metavar="CORPUS...",
    ),
]
Work = Annotated[Path, typer.Argument(help="Work directory of the stages.", metavar="DIR")]
Out = Annotated[Path, typer.Option("--output", "-o", help="Directory to write.", metavar="DIR")]
OutArgument = Annotated[Path, typer.Argument(help="Directory that `data nextlong -o` wrote.", metavar="OUT")]


def _print(facts: dict[str, Any], as_json: bool) -> None:
    """The result: one object, or its figures for people."""
    if as_json:
        print(dumps(facts))
        return
    shown = {key: value for key, value in facts.items() if key != "schema" and value not in (None, {}, [])}
    print("\n".join(_rows([[key.replace("_", " "), _figure(value)] for key, value in shown.items()])))


def _rows(rows: list[list[str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_figure(number)}" for name, number in value.items())
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else value
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


@app.command("nextlong")
def nextlong(
    corpora: Corpora,
    output: Annotated[Path | None, options.written("Directory to write.", "nextlong")] = None,
    tokenizer: options.TokOption = None,
    *,
    settings: NextlongSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Long samples: a document's chunks, each followed by its hardest negatives from other documents."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    _print(data.nextlong(corpora, output, settings, tokenizer=tokenizer, console=console), as_json)


@app.command("chunk")
def chunk(
    corpora: Corpora,
    output: Annotated[Path | None, options.written("Directory to write.", "chunks")] = None,
    *,
    settings: Annotated[
        NextlongSettings,
        Only(
            "size split source_field licence_field field id_field text_mode include exclude input_format strict "
            "workers engine force"
        ),
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Stage 1: cut documents into chunks."""
    from llmtool.commands import data

    _print(data.chunk(corpora, output, settings, console=options.console(quiet, verbose)), as_json)


@app.command("embed")
def embed(
    directory: Work,
    settings: Annotated[
        NextlongSettings,
        Only("embedder embedder_prefix decontaminate decontaminate_field ngram workers engine seed force"),
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Stage 2: a vector for each chunk; a sketch against near-duplicates."""
    from llmtool.commands import data

    _print(data.embed(directory, settings, console=options.console(quiet, verbose)), as_json)


@app.command("index")
def index(
    directory: Work,
    settings: Annotated[NextlongSettings, Only("index dedupe workers engine seed force")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Stage 3: the index over the vectors."""
    from llmtool.commands import data

    _print(data.index(directory, settings, console=options.console(quiet, verbose)), as_json)


@app.command("mine")
def mine(
    directory: Work,
    tokenizer: options.TokOption = None,
    *,
    settings: Annotated[
        NextlongSettings,
        Only(
            "target min_chunks separator samples tokens max_overlap min_similarity holdout caps "
            "workers engine seed force"
        ),
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Stage 4: the hard negatives of each meta-chunk; of all seeds unless --samples is given."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    _print(data.mine(directory, settings, tokenizer=tokenizer, console=console), as_json)


@app.command("assemble")
def assemble(
    directory: Work,
    output: Out,
    tokenizer: options.TokOption = None,
    *,
    settings: Annotated[
        NextlongSettings,
        Only(
            "target method plan min_chunks position separator samples tokens bos eos form recipe packed packed_share "
            "short_data short_share keep_long max_overlap min_similarity holdout caps source_field licence_field "
            "decontaminate decontaminate_field ngram field id_field text_mode input_format workers engine seed force"
        ),
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Stage 5: samples, from the same options as `mine` (which it goes on with where seeds are missing)."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    _print(data.assemble(directory, output, settings, tokenizer=tokenizer, console=console), as_json)


@app.command("report")
def report(
    output: OutArgument,
    settings: ReportSettings,
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The quality of a run: gaps, hardness, reuse, leaks, mix, rejects, recall of the index."""
    from llmtool.commands import data

    console = options.console(quiet, False)
    read: list[str | Path] = [output, *settings.decontaminate, *([settings.model] if settings.model else [])]
    with pages.open(f"Quality of {output}", console, read=read, force=settings.force, muted=as_json) as page:
        facts, rows = data.report(output, page.drawing(settings), console=page)
        page.result(_rows(rows))
        if as_json:
            print(dumps(facts))


@app.command("show")
def show(
    output: OutArgument,
    sample: Annotated[str, typer.Argument(help="A sample's id, its seed's id, or a number from 0.", metavar="ID")],
    settings: ShowSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """One sample: its spans in order, the seed's chunks in green, the negatives named."""
    from llmtool.commands import data

    row = data.show(output, sample, settings, quiet=as_json, console=options.console(quiet, False))
    if as_json:
        print(dumps(row, ensure_ascii=False))


@app.command("check")
def check(
    data: Annotated[list[str], typer.Argument(help="Instruction data: JSONL, JSON, Parquet.", metavar="DATA...")],
    settings: CheckSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print one example with the trained tokens marked, and what becomes of the rows; exit 3 if nothing is trained."""
    from llmtool.commands.posttrain import check

    report = check.check(data, settings, console=options.console(quiet, verbose=False))
    if as_json:
        print(dumps(report))
    else:
        check.show(report)
    if not report["counts"]["kept"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("token-experts")
def token_experts(
    corpora: Annotated[
        list[str], typer.Argument(help="Text, or tokens (.bin, .npy), to count ids in.", metavar="CORPUS...")
    ],
    output: Annotated[Path | None, options.written("File to write.", "mask.safetensors")] = None,
    *,
    settings: TokenExpertsSettings,
    reading: Reading,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Decide from a corpus which experts each token id sees, layer by layer (for `convert mask`)."""
    from llmtool.commands import token_experts as command

    console = options.console(quiet, verbose=False)
    facts = command.token_experts(corpora, output, settings, reading=reading, console=console)
    print(dumps(facts) if as_json else "\n".join(command.lines(facts)))
