"""`llmtool tokenizer`: train, extend, trim, encode, decode, inspect, compare, export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.cli.signature import Behind
from llmtool.commands.places import beside
from llmtool.commands.tokenizer.settings import (
    CompareSettings,
    CuttingSettings,
    DecodeSettings,
    DiffSettings,
    EncodeSettings,
    ExportSettings,
    ExtendSettings,
    TrainTokenizerSettings,
    TrimSettings,
)
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.json_file import dumps
from llmtool.core.run.page import Pages
from llmtool.core.run.wording import counted

app = Group("Byte-level BPE, Scaffold-BPE and LBPE tokenizers.")


@app.command("train")
def train(
    inputs: options.Inputs,
    output: Annotated[Path | None, options.written("File to write.", "tokenizer.json")] = None,
    *,
    settings: TrainTokenizerSettings,
    reading: Annotated[Reading, Behind("max_memory")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a tokenizer: plain BPE or Scaffold-BPE."""
    from llmtool.commands.tokenizer.train import train_file

    report = train_file(inputs, output, settings, reading=reading, console=options.console(quiet, verbose))
    if as_json:
        print(dumps(report))
    elif settings.dry_run:
        print("\n".join(f"{key}: {value}" for key, value in report.items() if key not in ("schema", "dry_run")))


@app.command("extend")
def extend(
    tokenizer: options.Tok,
    inputs: options.Inputs,
    output: Annotated[Path | None, options.written("Directory to make.", "TOK-extended")] = None,
    *,
    settings: ExtendSettings,
    reading: Reading,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Add tokens to a tokenizer by going on with its own merges; text without new pairs keeps its ids.

    Writes a directory for `transformers` and for llmtool, with added.tsv and cutoffs.tsv. Exit status 3 if a reader
    of it gives other ids.
    """
    from llmtool.commands.tokenizer.extend import extend_files

    console = options.console(quiet, verbose)
    _finish(extend_files(tokenizer, inputs, output, settings, reading=reading, console=console), as_json)


@app.command("trim")
def trim(
    tokenizer: options.Tok,
    inputs: options.OptionalInputs = None,
    output: Annotated[Path | None, options.written("Directory to make.", "TOK-trimmed")] = None,
    *,
    settings: TrimSettings,
    reading: Reading,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Remove tokens that text does not need; text without a removed token keeps its encoding.

    Writes a directory for `transformers` and for llmtool, with ids.npy (old id -> new, -1 for none) and removed.tsv.
    """
    from llmtool.commands.tokenizer.trim import trim_files

    console = options.console(quiet, verbose)
    _finish(trim_files(tokenizer, inputs or [], output, settings, reading=reading, console=console), as_json)


def _finish(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(dumps(report))
    if not report["exact"] and any(check["skipped"] is None for check in report["checks"]):
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("encode")
def encode(
    tokenizer: options.Tok,
    inputs: options.OptionalInputs = None,
    output: options.OptionalOutput = None,
    *,
    settings: EncodeSettings,
    reading: Annotated[Reading, Behind("ties")],
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Turn text into ids, as a stream; with --shards as a job that can be killed, split and checked."""
    from llmtool.commands.tokenizer.encode import encode_files
    from llmtool.tokenizer import load

    console = options.console(quiet, verbose)
    loaded, read = load(tokenizer, settings.encoder, settings.length, settings.ties), [tokenizer]
    if settings.shards is not None:
        from llmtool.commands.tokenizer.shards import encode_shards

        found = encode_shards(loaded, inputs or [], output, settings, reading=reading, read=read, console=console)
        if found.get("wrong"):
            raise typer.Exit(ExitCode.CHECK_FAILED)
        return
    if settings.remap is not None:
        from llmtool.commands.tokenizer.remap import remap_file  # numpy comes with it

        totals = remap_file(
            loaded, inputs or [], output, settings.remap, read=read, bin_dtype=settings.bin_dtype,
            force=settings.force, console=console,
        )  # fmt: skip
        console.info(
            f"{output}: {counted(totals.tokens, 'token')} of {counted(totals.documents, 'document')}, renumbered"
        )
        return
    totals = encode_files(loaded, inputs or ["-"], output, settings, reading=reading, read=read, console=console)
    if output:
        console.info(f"{output}: {counted(totals.tokens, 'token')} of {counted(totals.documents, 'document')}")


@app.command("decode")
def decode(
    tokenizer: options.Tok,
    source: Annotated[
        str,
        typer.Argument(help="Lines of ids, JSONL, or a .bin or .npy with its sidecar; - for stdin.", metavar="[INPUT]"),
    ] = "-",
    output: options.OptionalOutput = None,
    *,
    settings: DecodeSettings,
    quiet: options.Quiet = False,
) -> None:
    """Turn ids back into exactly the bytes they came from.

    With --documents line each document ends a line.
    """
    from llmtool.commands.tokenizer.encode import decode_files
    from llmtool.tokenizer import load

    console = options.console(quiet, verbose=False)
    decode_files(load(tokenizer), source, output, settings, read=[tokenizer], console=console)


@app.command("inspect")
def inspect(
    tokenizer: options.Tok,
    text: Annotated[
        str | None,
        typer.Argument(help="A text to cut, or a token: its text, its GPT-2 spelling or #ID.", metavar="[TEXT]"),
    ] = None,
    *,
    settings: CuttingSettings,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show how a text is cut, what a token is, or a tokenizer.

    Scaffolds stand in angle brackets, with the parts that are written in their place.
    """
    from llmtool.commands.tokenizer.inspect import inspect as look
    from llmtool.tokenizer import load

    facts, lines = look(load(tokenizer, settings.encoder, settings.length, settings.ties), text)
    print(dumps(facts) if as_json else "\n".join(lines))


@app.command("compare")
def compare(
    tokenizers: Annotated[
        list[str], typer.Argument(help="Two or more tokenizers, the first one is the norm.", metavar="TOK...")
    ],
    corpus: Annotated[
        list[str], typer.Option("--corpus", help="Text to measure on; may be given again.", metavar="FILE")
    ],
    settings: CompareSettings,
    reading: Annotated[Reading, Behind("rare")],
    pages: Pages,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Compare tokenizers on text: the table of figures.

    Compression, fertility, parity, entropy, unused, rare and unreachable tokens, speed. With --baseline, exit status 3
    where a tokenizer has become worse.
    """
    from llmtool.commands.tokenizer.compare import compare_files, short_names, show
    from llmtool.tokenizer import load

    console = options.console(quiet, verbose)
    read = [*tokenizers, *corpus, *(name for name in (settings.reference, settings.baseline) if name)]
    with pages.open("Tokenizers compared", console, read=read, force=settings.force, muted=as_json) as page:
        loaded = dict(zip(short_names(tokenizers), map(load, tokenizers), strict=True))
        drawing = page.drawing(settings)
        comparison = compare_files(loaded, corpus, drawing, reading=reading, read=tokenizers, console=page)
        worse = show(comparison, drawing, page)
        if as_json:
            print(dumps(comparison.to_json() | ({} if worse is None else {"worse": worse})))
    if worse:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("diff")
def diff(
    old: options.Tok,
    new: Annotated[str, typer.Argument(help="The tokenizer to compare it with.", metavar="TOK")],
    settings: DiffSettings,
    reading: Reading,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tokens added, gone and renumbered, merges that moved, and texts that are cut otherwise, the worst first."""
    from llmtool.commands.tokenizer.diff import diff as compare
    from llmtool.commands.tokenizer.diff import lines
    from llmtool.tokenizer import load

    report = compare(load(old), load(new), settings, reading=reading, console=options.console(quiet, verbose=False))
    print(dumps(report) if as_json else "\n".join(lines(report)))


@app.command("export")
def export(
    tokenizer: options.Tok,
    directory: Annotated[Path | None, options.made("TOK-hf, or TOK-tiktoken")] = None,
    *,
    settings: ExportSettings,
    reading: options.Calibration,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a tokenizer for other libraries, and check it.

    A sample is encoded with the export; exit status 3 if an id differs.
    """
    from llmtool.commands.tokenizer.export import export as write
    from llmtool.tokenizer import load

    loaded = load(tokenizer, settings.encoder, settings.length, settings.ties)
    console, place = options.console(quiet, verbose=False), beside(tokenizer, settings.to, directory)
    report = write(loaded, place, settings, reading=reading, read=[tokenizer], console=console)
    _finish(report, as_json)
