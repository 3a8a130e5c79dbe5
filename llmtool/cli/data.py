"""`llmtool data`: check; nextlong, its stages chunk, embed, index, mine and assemble, report, show."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llmtool import catalog
from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.core.run.errors import ExitCode

app = Group("Training data: check it, make long contexts.")

Corpora = Annotated[
    list[str],
    typer.Argument(
        help="Text, JSONL or Parquet files (.gz and .zst too), directories, or - for stdin.", metavar="CORPUS..."
    ),
]
Work = Annotated[Path, typer.Argument(help="Work directory of the stages.", metavar="DIR")]
Out = Annotated[Path, typer.Option("--output", "-o", help="Directory to write.", metavar="DIR")]
OutArgument = Annotated[Path, typer.Argument(help="Directory that `data nextlong -o` wrote.", metavar="OUT")]
TokOption = Annotated[
    str, typer.Option("--tokenizer", help="Tokenizer file, tokenizer.json, or its directory.", metavar="TOK")
]
Target = Annotated[int, typer.Option("--target", help="Tokens of a sample.", metavar="T")]
if TYPE_CHECKING:
    Synthesis = str
else:
    Synthesis = Literal[tuple(catalog.options(catalog.DATA))]

Method = Annotated[
    Synthesis,
    typer.Option("--method", help="How documents are put together; all but nextlong are for comparison."),
]
Plan = Annotated[
    Literal["exact", "paper"],
    typer.Option("--plan", help="Negatives by a budget of tokens, or by the paper's formula."),
]
Embedder = Annotated[
    str, typer.Option("--embedder", help="lsa, bm25, or hf:PATH for a sentence encoder on disk.", metavar="NAME")
]
Index = Annotated[
    Literal["auto", "flat", "ivf-sq8", "ivf-pq"], typer.Option("--index", help="auto: exact up to 200,000 chunks.")
]
ChunkSize = Annotated[int, typer.Option("--chunk", min=16, help="Characters of a chunk.", metavar="N")]
Split = Annotated[
    Literal["lines", "sentences"], typer.Option("--split", help="Where chunks may end; sentences: text without lines.")
]
MinChunks = Annotated[int, typer.Option("--min-chunks", min=1, help="Chunks of a seed, at least.", metavar="N")]
Position = Annotated[
    Literal["head", "tail", "random"], typer.Option("--position", help="Place of a meta-chunk among its negatives.")
]
Separator = Annotated[str, typer.Option("--separator", help="Text between chunks; \\n is a newline.")]
Samples = Annotated[
    int | None,
    typer.Option("--samples", min=1, help="Samples; if not given, as many tokens as the corpus has.", metavar="N"),
]
Format = Annotated[Literal["jsonl", "bin", "npy", "mds"], typer.Option("--format", help="What is written.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores if not given.")]
Engine = Annotated[Literal["local", "ray"], typer.Option("--engine", help="Processes here, or Ray (extra ray).")]
KeepLong = Annotated[bool, typer.Option("--keep-long", help="Emit seeds longer than the target, cut.")]
MaxOverlap = Annotated[
    float,
    typer.Option(
        "--max-overlap", min=0.05, max=1, help="Negatives sharing more of a meta-chunk's word sequences are left out."
    ),
]
Cap = Annotated[
    list[str] | None,
    typer.Option("--cap", help="Limit a source's share; may be given again.", metavar="SOURCE=SHARE"),
]
SourceField = Annotated[
    str | None, typer.Option("--source-field", help="Field that names the source; else the file's.", metavar="NAME")
]
LicenceField = Annotated[str, typer.Option("--license-field", help="Field that holds the licence.", metavar="NAME")]
Decontaminate = Annotated[
    list[str] | None,
    typer.Option("--decontaminate", help="Evaluation file: chunks that share n-grams are left out.", metavar="FILE"),
]
Ngram = Annotated[int, typer.Option("--ngram", min=3, help="Words of such an n-gram.", metavar="N")]


def _print(facts: dict[str, Any], as_json: bool) -> None:
    """The result: one object, or its figures for people."""
    if as_json:
        print(json.dumps(facts))
        return
    shown = {key: value for key, value in facts.items() if key != "schema" and value not in (None, {}, [])}
    _rows([[key.replace("_", " "), _figure(value)] for key, value in shown.items()])


def _rows(rows: list[list[str]]) -> None:
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_figure(number)}" for name, number in value.items())
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else value
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


@app.command("nextlong")
def nextlong(
    corpora: Corpora,
    output: Out,
    tokenizer: TokOption,
    target: Target = 131072,
    method: Method = "nextlong",
    plan: Plan = "exact",
    embedder: Embedder = "lsa",
    index: Index = "auto",
    chunk: ChunkSize = 2048,
    split: Split = "lines",
    min_chunks: MinChunks = 2,
    position: Position = "head",
    separator: Separator = "\\n\\n",
    samples: Samples = None,
    format_: Format = "jsonl",
    keep_long: KeepLong = False,
    max_overlap: MaxOverlap = 0.3,
    cap: Cap = None,
    source_field: SourceField = None,
    license_field: LicenceField = "license",
    decontaminate: Decontaminate = None,
    ngram: Ngram = 13,
    field: options.Field = "text",
    documents: options.TextMode = "file",
    input_format: options.InputFormat = "auto",
    strict: options.Strict = False,
    work: Annotated[Path | None, typer.Option("--work", help="Where the stages stand; else OUT/work.")] = None,
    workers: Workers = None,
    engine: Engine = "local",
    seed: options.Seed = 0,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Long samples: a document's chunks, each followed by its hardest negatives from other documents."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    facts = data.nextlong(
        corpora, output, tokenizer=tokenizer, work=work, workers=workers, engine=engine, force=force, dry_run=dry_run,
        console=console, target=target, method=method, plan=plan, embedder=embedder, index=index, size=chunk,
        split=split, min_chunks=min_chunks, position=position, separator=separator, samples=samples, form=format_,
        keep_long=keep_long, max_overlap=max_overlap, caps=cap, source_field=source_field, licence_field=license_field,
        decontaminate=decontaminate, ngram=ngram, field=field, text_mode=documents, input_format=input_format,
        strict=strict, seed=seed,
    )  # fmt: skip
    _print(facts, as_json)


@app.command("chunk")
def chunk(
    corpora: Corpora,
    output: Out,
    chunk: ChunkSize = 2048,
    split: Split = "lines",
    source_field: SourceField = None,
    license_field: LicenceField = "license",
    field: options.Field = "text",
    documents: options.TextMode = "file",
    input_format: options.InputFormat = "auto",
    strict: options.Strict = False,
    workers: Workers = None,
    engine: Engine = "local",
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Stage 1: cut documents into chunks."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    facts = data.chunk(
        corpora, output, console, workers=workers, engine=engine, force=force, size=chunk, split=split,
        source_field=source_field, licence_field=license_field, field=field, text_mode=documents,
        input_format=input_format, strict=strict,
    )  # fmt: skip
    _print(facts, as_json)


@app.command("embed")
def embed(
    directory: Work,
    embedder: Embedder = "lsa",
    decontaminate: Decontaminate = None,
    ngram: Ngram = 13,
    workers: Workers = None,
    engine: Engine = "local",
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Stage 2: a vector for each chunk; a sketch against near-duplicates."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    facts = data.embed(
        directory, embedder=embedder, seed=seed, decontaminate=decontaminate or (), ngram=ngram, console=console,
        workers=workers, engine=engine, force=force,
    )  # fmt: skip
    _print(facts, as_json)


@app.command("index")
def index(
    directory: Work,
    index: Index = "auto",
    workers: Workers = None,
    engine: Engine = "local",
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Stage 3: the index over the vectors."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    how = {"workers": workers, "engine": engine, "force": force}
    _print(data.index(directory, kind=index, seed=seed, console=console, **how), as_json)


@app.command("mine")
def mine(
    directory: Work,
    tokenizer: TokOption,
    target: Target = 131072,
    min_chunks: MinChunks = 2,
    separator: Separator = "\\n\\n",
    samples: Samples = None,
    max_overlap: MaxOverlap = 0.3,
    cap: Cap = None,
    workers: Workers = None,
    engine: Engine = "local",
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Stage 4: the hard negatives of each meta-chunk; of all seeds unless --samples is given."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    facts = data.mine(
        directory, tokenizer=tokenizer, samples=samples, console=console, workers=workers, engine=engine, force=force,
        target=target, min_chunks=min_chunks, separator=separator, max_overlap=max_overlap, caps=cap, seed=seed,
    )  # fmt: skip
    _print(facts, as_json)


@app.command("assemble")
def assemble(
    directory: Work,
    output: Out,
    tokenizer: TokOption,
    target: Target = 131072,
    method: Method = "nextlong",
    plan: Plan = "exact",
    min_chunks: MinChunks = 2,
    position: Position = "head",
    separator: Separator = "\\n\\n",
    samples: Samples = None,
    format_: Format = "jsonl",
    keep_long: KeepLong = False,
    max_overlap: MaxOverlap = 0.3,
    cap: Cap = None,
    workers: Workers = None,
    engine: Engine = "local",
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Stage 5: samples, from the same options as `mine` (which it goes on with where seeds are missing)."""
    from llmtool.commands import data

    console = options.console(quiet, verbose)
    facts = data.assemble(
        directory, output, tokenizer=tokenizer, console=console, workers=workers, engine=engine, force=force,
        target=target, method=method, plan=plan, min_chunks=min_chunks, position=position, separator=separator,
        samples=samples, form=format_, keep_long=keep_long, max_overlap=max_overlap, caps=cap, seed=seed,
    )  # fmt: skip
    _print(facts, as_json)


@app.command("report")
def report(
    output: OutArgument,
    plot: options.Plot = None,
    decontaminate: Decontaminate = None,
    ngram: Ngram = 13,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Checkpoint: what meta-chunks gain from the ones before.", metavar="CKPT"),
    ] = None,
    device: options.Device = "auto",
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The quality of a run: gaps, hardness, reuse, leaks, mix, rejects, recall of the index."""
    from llmtool.commands import data

    console = options.console(quiet, False)
    facts, rows = data.report(
        output, plot=plot, decontaminate=decontaminate or (), ngram=ngram, model=model, device=device, force=force,
        console=console,
    )  # fmt: skip
    if as_json:
        print(json.dumps(facts))
    else:
        _rows(rows)


@app.command("show")
def show(
    output: OutArgument,
    sample: Annotated[str, typer.Argument(help="A sample's id, its seed's id, or a number from 0.", metavar="ID")],
    characters: Annotated[
        int | None, typer.Option("--chars", min=1, help="Characters shown of each span.", metavar="N")
    ] = 240,
    whole: Annotated[bool, typer.Option("--all", help="Whole spans.")] = False,
    as_json: options.Json = False,
) -> None:
    """One sample: its spans in order, the seed's chunks in green, the negatives named."""
    from llmtool.commands import data

    row = data.show(output, sample, None if whole else characters, options.console(False, False), quiet=as_json)
    if as_json:
        print(json.dumps(row, ensure_ascii=False))


@app.command("check")
def check(
    data: Annotated[list[str], typer.Argument(help="Instruction data: JSONL, JSON, Parquet.", metavar="DATA...")],
    tokenizer: Annotated[
        Path, typer.Option("--tokenizer", help="Tokenizer or checkpoint; its chat template is used.", metavar="TOK")
    ],
    data_format: options.DataFormat = "auto",
    template: options.Template = None,
    length: Annotated[int, typer.Option("--length", min=2, help="Tokens in a row.", metavar="N")] = 1024,
    packing: options.Packing = True,
    drop_overlong: options.DropOverlong = False,
    row: Annotated[int, typer.Option("--row", min=1, help="Which of the kept examples to print.", metavar="N")] = 1,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Print one example with the trained tokens marked, and what becomes of the rows; exit 3 if nothing is trained."""
    from llmtool.commands.posttrain import check
    from llmtool.commands.posttrain.settings import DataOptions

    reading = DataOptions(tokenizer, data_format, template, length, drop_overlong, packing)
    report = check.check(data, reading, row=row, seed=seed, console=options.console(quiet, verbose=False))
    if as_json:
        print(json.dumps(report))
    else:
        check.show(report)
    if not report["counts"]["kept"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)
