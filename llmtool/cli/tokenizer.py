"""`llmtool tokenizer`: train, extend, trim, encode, decode, inspect, compare, export."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from llmtool.cli import options
from llmtool.cli.group import Group
from llmtool.commands.tokenizer.settings import ExtendSettings
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.errors import ExitCode, UserError
from llmtool.core.run.json_file import dumps

app = Group("Byte-level BPE, Scaffold-BPE and LBPE tokenizers.")

Encoder = Annotated[
    options.Encoder | None,
    typer.Option(
        "--encoder",
        help="How text is cut; lbpe takes the longest token first. Default: as the file says, merge for a new one.",
    ),
]
Length = Annotated[
    Literal["bytes", "characters"], typer.Option("--length", help="What the encoder lbpe calls the longest token.")
]
Ties = Annotated[
    Literal["leftmost", "rank"], typer.Option("--ties", help="Which of equally long tokens the encoder lbpe takes.")
]
AllowSpecial = Annotated[
    bool, typer.Option("--allow-special", help="Special tokens in the text become their ids; else they are plain text.")
]


@app.command("train")
def train(
    inputs: options.Inputs,
    output: options.Output,
    vocab_size: Annotated[
        int, typer.Option("--vocab-size", help="Number of tokens; bytes and special tokens count.", metavar="N")
    ],
    algorithm: Annotated[
        options.Algorithm,
        typer.Option("--algorithm", help="How the vocabulary is made; (scaffold-)lbpe also sets --encoder lbpe."),
    ] = "bpe",
    encoder: Encoder = None,
    pretokenizer: Annotated[
        Literal["gpt2", "cl100k", "o200k", "llama3", "qwen2", "smollm", "qwen35", "tekken", "deepseek3", "none"],
        typer.Option("--pretokenizer", help="Published pattern that cuts text into pieces first."),
    ] = "llama3",
    pretokenizer_regex: Annotated[
        list[str] | None,
        typer.Option("--pretokenizer-regex", help="Cut by this pattern instead; repeatable.", metavar="PATTERN"),
    ] = None,
    special: Annotated[
        list[str] | None, typer.Option("--special", help="Special token; may be given again.", metavar="TOKEN")
    ] = None,
    special_position: Annotated[
        Literal["first", "last"], typer.Option("--special-position", help="Ids of special tokens.")
    ] = "first",
    allow_special: Annotated[
        bool,
        typer.Option("--allow-special", help="Cut the corpus at special tokens; else they are learned as plain text."),
    ] = False,
    min_frequency: Annotated[
        int, typer.Option("--min-frequency", min=0, help="Stop when no pair is as frequent.", metavar="K")
    ] = 0,
    max_token_bytes: Annotated[
        int, typer.Option("--max-token-bytes", min=2, help="Merge nothing into a longer token.", metavar="N")
    ] = 1024,
    length: Length = "bytes",
    ties: Ties = "leftmost",
    limit_bytes: Annotated[
        str | None,
        typer.Option("--limit-bytes", help="Only the first text of this size: 500M.", metavar="SIZE"),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", help="Spill counts to disk beyond this: 8G. Default: half of RAM.", metavar="SIZE"
        ),
    ] = None,
    reading: Reading = Reading(),
    threads: options.Threads = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Train a tokenizer: plain BPE or Scaffold-BPE."""
    from llmtool.commands.tokenizer.train import train_file

    settings: dict[str, Any] = {
        "vocab_size": vocab_size, "algorithm": algorithm, "encoder": encoder, "pretokenizer": pretokenizer,
        "special": special or [], "special_position": special_position,
        "allow_special": allow_special, "min_frequency": min_frequency,
        "max_token_bytes": max_token_bytes,
        "length": length, "ties": ties, "limit_bytes": limit_bytes,
    }  # fmt: skip
    if pretokenizer_regex:
        settings["pretokenizer_regex"] = pretokenizer_regex
    console = options.console(quiet, verbose)
    work: dict[str, Any] = {"threads": threads, "max_memory": max_memory, "console": console}
    report = train_file(inputs, output, settings, reading=reading, force=force, dry_run=dry_run, **work)
    if as_json:
        print(dumps(report))
    elif dry_run:
        print("\n".join(f"{key}: {value}" for key, value in report.items() if key not in ("schema", "dry_run")))


@app.command("extend")
def extend(
    tokenizer: options.Tok,
    inputs: options.Inputs,
    output: options.OutputDirectory,
    settings: ExtendSettings,
    reading: Reading = Reading(),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Add tokens to a tokenizer by going on with its own merges; text without new pairs keeps its ids.

    Writes a directory for `transformers` and for llmtool, with added.tsv and cutoffs.tsv. Exit status 3 if a reader
    of it gives other ids.
    """
    from llmtool.commands.tokenizer.extend import extend_files

    console = options.console(quiet, verbose)
    _finish(extend_files(tokenizer, inputs, output, settings, reading=reading, console=console), as_json)


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
    form: Annotated[
        Literal["ids", "jsonl", "npy", "bin"], typer.Option("--format", help="Lines of ids, objects, or flat arrays.")
    ] = "ids",
    bos: Annotated[
        bool | None, typer.Option("--bos/--no-bos", help="Begin each document with the beginning-of-text token.")
    ] = None,
    eos: Annotated[bool, typer.Option("--eos", help="End each document with the end-of-text token.")] = False,
    bos_token: Annotated[
        str | None, typer.Option("--bos-token", help="--bos with this added token.", metavar="TOKEN")
    ] = None,
    eos_token: Annotated[
        str | None,
        typer.Option("--eos-token", help="--eos with this one; a chat model's own ends a turn.", metavar="TOKEN"),
    ] = None,
    offsets: Annotated[bool, typer.Option("--offsets", help="Byte range of each id (format jsonl).")] = False,
    shards: Annotated[
        str | None,
        typer.Option(
            "--shards", help="-o is a directory of .bin or .npy, each of so much of the corpus: 512MB.", metavar="SIZE"
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option("--part", help="Only every N-th shard, from the I-th on.", metavar="I/N")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check the shards in -o: hashes, counts, a sample encoded again."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes, with --shards; all cores if not given.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="Processes here, or Ray (extra ray), with --shards.")
    ] = "local",
    allow_special: AllowSpecial = False,
    encoder: Encoder = None,
    length: Length = "bytes",
    ties: Ties = "leftmost",
    reading: Reading = Reading(),
    threads: options.Threads = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Turn text into ids, as a stream; with --shards as a job that can be killed, split and checked."""
    from llmtool.commands.tokenizer.encode import encode_files
    from llmtool.tokenizer import load

    console = options.console(quiet, verbose)
    if shards is not None:
        _encode_shards(
            load(tokenizer, encoder, length, ties), inputs or [], output, shards, form, part, verify, workers, engine,
            {"bos": bos, "eos": eos, "bos_token": bos_token, "eos_token": eos_token, "allow_special": allow_special},
            reading, tokenizer, force, console,
        )  # fmt: skip
        return
    if part or verify:
        raise UserError("--part and --verify go with --shards", hint="--shards 512MB")
    totals = encode_files(
        load(tokenizer, encoder, length, ties), inputs or ["-"], output, form=form, bos=bos, eos=eos,
        bos_token=bos_token, eos_token=eos_token, offsets=offsets, allow_special=allow_special,
        reading=reading, threads=threads, read=[tokenizer], force=force, console=console,
    )  # fmt: skip
    if output:
        console.info(f"{output}: {totals.tokens:,} tokens of {totals.documents:,} documents")


def _encode_shards(
    tokenizer: Any, inputs: list[str], output: Path | None, shards: str, form: str, part: str | None, verify: bool,
    workers: int | None, engine: Any, given: dict[str, Any], reading: Reading, read: str, force: bool, console: Any,
) -> None:  # fmt: skip
    from llmtool.commands.tokenizer.shards import ShardSettings, encode_shards
    from llmtool.core.bpe.tokenizer import available_cores
    from llmtool.core.corpus.units import Means

    if output is None or form == "jsonl":
        raise UserError("--shards writes .bin or .npy into a directory", hint="-o DIR --format bin")
    settings = ShardSettings(shards, "bin" if form == "ids" else form, **given)
    means = Means(workers or available_cores(), console, engine, force)
    found = encode_shards(
        tokenizer, inputs, output, settings, reading=reading, part=part, verify=verify, read=[read], means=means
    )
    if found.get("wrong"):
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("decode")
def decode(
    tokenizer: options.Tok,
    source: Annotated[
        str,
        typer.Argument(help="Lines of ids, JSONL, or a .bin or .npy with its sidecar; - for stdin.", metavar="[INPUT]"),
    ] = "-",
    output: options.OptionalOutput = None,
    documents: options.TextMode = "file",
    force: options.Force = False,
) -> None:
    """Turn ids back into exactly the bytes they came from.

    With --documents line each document ends a line.
    """
    from llmtool.commands.tokenizer.encode import decode_files
    from llmtool.tokenizer import load

    console = options.console(quiet=False, verbose=False)
    decode_files(load(tokenizer), source, output, text_mode=documents, read=[tokenizer], force=force, console=console)


@app.command("inspect")
def inspect(
    tokenizer: options.Tok,
    text: Annotated[
        str | None,
        typer.Argument(help="A text to cut, or a token: its text, its GPT-2 spelling or #ID.", metavar="TEXT"),
    ] = None,
    encoder: Encoder = None,
    length: Length = "bytes",
    ties: Ties = "leftmost",
    as_json: options.Json = False,
) -> None:
    """Show how a text is cut, what a token is, or a tokenizer.

    Scaffolds stand in angle brackets, with the parts that are written in their place.
    """
    from llmtool.commands.tokenizer.inspect import inspect as look
    from llmtool.tokenizer import load

    facts, lines = look(load(tokenizer, encoder, length, ties), text)
    print(dumps(facts) if as_json else "\n".join(lines))


@app.command("compare")
def compare(
    tokenizers: Annotated[
        list[str], typer.Argument(help="Two or more tokenizers, the first one is the norm.", metavar="TOK...")
    ],
    corpus: Annotated[
        list[str], typer.Option("--corpus", help="Text to measure on; may be given again.", metavar="FILE")
    ],
    reference: Annotated[
        str | None, typer.Option("--reference", help="Parallel text (same ids) that parity refers to.", metavar="FILE")
    ] = None,
    plot: options.Plot = None,
    force: options.Force = False,
    alpha: Annotated[float, typer.Option("--alpha", help="Order of the Rényi entropy.")] = 2.5,
    rare: Annotated[
        int, typer.Option("--rare", min=1, help="Count tokens seen fewer times than this.", metavar="K")
    ] = 100,
    reading: Reading = Reading(),
    threads: options.Threads = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
) -> None:
    """Compare tokenizers on text: the table of figures.

    Compression, fertility, parity, entropy, unused, rare and unreachable tokens, speed.
    """
    from llmtool.commands.tokenizer.compare import compare_files, short_names
    from llmtool.tokenizer import load

    console = options.console(quiet, verbose)
    loaded = dict(zip(short_names(tokenizers), map(load, tokenizers), strict=True))
    comparison = compare_files(
        loaded, corpus, reference=reference, alpha=alpha, rare=rare, threads=threads, plot=plot, force=force,
        console=console, reading=reading,
    )  # fmt: skip
    if as_json:
        print(dumps(comparison.to_json()))
        return
    for table in comparison.tables():
        console.table(*table, result=True)


@app.command("export")
def export(
    tokenizer: options.Tok,
    directory: Annotated[Path, typer.Argument(help="Directory to make.", metavar="DIR")],
    to: Annotated[Literal["hf", "tiktoken"], typer.Option("--to", help="For whom.")] = "hf",
    encoder: Encoder = None,
    length: Length = "bytes",
    ties: Ties = "leftmost",
    sample: Annotated[
        list[str] | None,
        typer.Option("--sample", help="Text to check the export on; may be given again.", metavar="FILE"),
    ] = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a tokenizer for other libraries, and check it.

    A sample is encoded with the export; exit status 3 if an id differs.
    """
    from llmtool.commands.tokenizer.export import export as write
    from llmtool.tokenizer import load

    loaded = load(tokenizer, encoder, length, ties)
    console = options.console(quiet, verbose=False)
    report = write(loaded, directory, to, sample, force, console, read=[tokenizer])
    _finish(report, as_json)
