"""A tokenizer and text in, the tokenizer with fewer tokens out: what `llmtool tokenizer trim` does."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from llmtool.commands.places import beside
from llmtool.commands.tokenizer.extend import SPELLED, write_tsv
from llmtool.commands.tokenizer.inspect import show
from llmtool.commands.tokenizer.settings import TrimSettings
from llmtool.commands.tokenizer.usage import usage
from llmtool.core.bpe import engine
from llmtool.core.bpe.agreement import agreement
from llmtool.core.bpe.export import OWN_FILE, checked_again, seal, write_huggingface
from llmtool.core.bpe.trimming import Goal, Trimmed, read_keep, trim
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.provenance import InputHashes
from llmtool.core.corpus.readers import Reading, parse_size
from llmtool.core.run.atomic import atomic_directory
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import read_text
from llmtool.core.run.manifest import Run
from llmtool.core.run.outputs import claim_directory
from llmtool.tokenizer import Tokenizer

MAP, REMOVED = "ids.npy", "removed.tsv"


def trim_files(
    source: str | Path,
    inputs: Sequence[str],
    output: Path | None,
    settings: TrimSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console | None = None,
    **named: Any,
) -> dict[str, Any]:
    """Write a directory that `transformers` loads, with the map of ids (ids.npy) and what went (removed.tsv)."""
    console = console or Console(verbosity=-1)
    reading, named = Reading.split(reading, named)
    settings = TrimSettings.of(settings, named)
    output = beside(source, "trimmed", output)
    tokenizer = Tokenizer.load(source)
    if settings.encoder is not None:
        tokenizer = tokenizer.with_encoder(settings.encoder)
    goal = _goal(tokenizer, inputs, settings)
    by_text = not tokenizer.policy.needs_merges
    kept = [] if settings.keep is None else [str(settings.keep)]
    config = {"tokenizer": Tokenizer.load(source).fingerprint(), **settings.facts(), **reading.facts()}
    whole = settings.limit_bytes is None and reading.sample is None
    with InputHashes([*inputs, *kept], reading, read_whole=whole) as hashes:
        run = Run(
            "tokenizer trim",
            config,
            seed=reading.seed,
            backend=engine.NAME,
            spelled=SPELLED,
            defaults=settings.defaults(),
        )
        read = [str(source), *without_weights(inputs), *kept]
        with checked_again(output, lambda: Tokenizer.load(output / OWN_FILE)):
            claim_directory(output, run, read=read, force=settings.force, found=hashes.wait, console=console)
        report = ReadReport()
        limit = None if settings.limit_bytes is None else parse_size(settings.limit_bytes)
        counts: Counter[int] = Counter()
        size = 0
        if inputs:
            found = usage(
                tokenizer, inputs, reading, console, limit_bytes=limit, threads=settings.threads, report=report
            )
            counts, size = found.counts, found.bytes
            report.say(console)
        trimmed = trim(tokenizer.definition, counts, goal, by_text)
        made = Tokenizer(trimmed.definition)
        made.encode(b"a")
        run.inputs = hashes.wait()
        with atomic_directory(output, run.allowed) as work:
            write_huggingface(made, work, output.name)
            _write_map(work / MAP, trimmed)
            write_tsv(work / REMOVED, ("id", "token", "count"), _rows(trimmed))
            seal(work, run)
            checked = agreement(made, work, place=output)
    lost = sum(counts[number] for number, _ in trimmed.removed)
    console.info(
        f"{output}: {len(trimmed.removed):,} of {tokenizer.token_count:,} ids gone, {made.token_count:,} left; "
        f"a model needs {made.vocab_size:,} rows"
    )
    if size:
        share = lost / max(counts.total(), 1)
        told = f"they were {lost:,} of {counts.total():,} tokens of the text ({share:.3%}), which is cut finer now"
        console.info(told if lost else f"none of them is among the {counts.total():,} tokens of the text")
    console.info("\n".join(checked.lines()))
    return {
        "schema": "llmtool.tokenizer-trim/1",
        "output": str(output),
        "sha256": made.fingerprint(),
        "removed": len(trimmed.removed),
        "left": made.token_count,
        "rows": made.vocab_size,
        "tokens_of_text": counts.total(),
        "tokens_removed_from_text": lost,
        "exact": checked.exact,
        "checks": [vars(check) for check in checked.checks],
    }


def _goal(tokenizer: Tokenizer, inputs: Sequence[str], settings: TrimSettings) -> Goal:
    given = [name for name in ("to", "min_count", "keep") if getattr(settings, name) is not None]
    if not given or (len(given) > 1 and "keep" not in given) or given == ["to", "min_count", "keep"]:
        raise UserError("say what is to go", hint="one of --to N, --min-count K and --keep FILE")
    if not inputs and given != ["keep"]:
        raise UserError("no text to count tokens in", hint="name an INPUT, or --keep FILE")
    if settings.to is not None and settings.to > tokenizer.token_count:
        what = f"--to {settings.to}: the tokenizer has {tokenizer.token_count:,} ids already"
        raise UserError(what, hint="trim removes tokens; extend adds some")
    goal = Goal(settings.to, settings.min_count, multiple=settings.multiple)
    if settings.keep is None:
        return goal
    lines = StringIO(read_text(settings.keep, wanted="a list of tokens"), newline=None)
    return replace(goal, keep=read_keep(lines, tokenizer.definition, str(settings.keep)))


def _write_map(path: Path, trimmed: Trimmed) -> None:
    import numpy as np

    file = BytesIO()
    np.save(file, trimmed.map, allow_pickle=False)
    path.write_bytes(file.getvalue())


def _rows(trimmed: Trimmed) -> Any:
    tokens = trimmed.base.vocabulary.tokens
    for number, count in trimmed.removed:
        yield [str(number), show(tokens[number]), str(count)]
