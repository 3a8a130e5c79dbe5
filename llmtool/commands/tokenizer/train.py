"""Text in, a tokenizer's file out: what `llmtool tokenizer train` does."""

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from llmtool.commands import places
from llmtool.commands.tokenizer.curve import curve_sizes, draw_curve
from llmtool.commands.tokenizer.settings import TrainTokenizerSettings
from llmtool.core.bpe import engine
from llmtool.core.bpe.definition_file import serialize
from llmtool.core.bpe.settings import USUAL_LENGTH, USUAL_TIES, TrainingSettings
from llmtool.core.corpus.inputs import find_inputs, without_weights
from llmtool.core.corpus.provenance import InputHashes
from llmtool.core.corpus.readers import Reading, parse_size, total_bytes
from llmtool.core.run.atomic import atomic_files
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.manifest import Run, manifest_path
from llmtool.core.run.outputs import claim_file, refuse_overlap
from llmtool.core.run.page import unfinished
from llmtool.core.run.wording import counted, size
from llmtool.tokenizer import Tokenizer, method_pair

SPELLED = {"text_mode": "--documents"}
"""Options of settings that are called otherwise."""
SMALLEST_MEMORY = 1_000_000
"""Bytes of counts below which every batch of pieces would go to disk."""


def train_file(
    inputs: Sequence[str],
    output: Path | None,
    settings: TrainTokenizerSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """Train and write `output` with its manifest."""
    asked, output = TrainTokenizerSettings.of(settings, named_settings), output or places.TOKENIZER
    reading = reading or Reading()
    limit = None if asked.limit_bytes is None else parse_size(asked.limit_bytes)
    memory = None if asked.max_memory is None else parse_size(asked.max_memory)
    if memory is not None and memory < SMALLEST_MEMORY:
        raise UserError(f"--max-memory {asked.max_memory} is too little to count in", hint="at least 1M")
    refuse_overlap([output], without_weights(inputs))
    algorithm, encoder = check_training(asked)
    curve_sizes(asked)
    given = {**asked.facts(), "algorithm": algorithm, "encoder": encoder}
    config = {**given, **reading.facts()}
    whole = limit is None and reading.sample is None
    with InputHashes([] if asked.dry_run else inputs, reading, read_whole=whole) as hashes:
        run = Run(
            "tokenizer train",
            config,
            seed=reading.seed,
            backend=engine.NAME,
            spelled=SPELLED,
            defaults=asked.defaults(),
        )
        if asked.dry_run:
            on_disk = total_bytes(inputs, reading)
            plan = {"inputs": len(find_inputs(inputs, reading)), "bytes_on_disk": on_disk, "output": str(output)}
            return {"schema": "llmtool.tokenizer-train/1", "dry_run": True, **plan, **config}
        sizes = curve_sizes(asked)
        read = [*without_weights(inputs), *without_weights(asked.curve_text)]
        claim_figure(asked.plot, read=read, force=asked.force)
        try:
            claim_file(output, run, read=read, force=asked.force, found=hashes.wait, console=console)
        except CompleteError:
            if not unfinished(console, asked.plot):
                raise
            tokenizer = Tokenizer.load(output)
        else:
            work: dict[str, Any] = {"threads": asked.threads, "max_memory": memory, "console": console}
            tokenizer = Tokenizer.train(inputs, reading=reading, **{**given, "limit_bytes": limit}, **work)
            run.inputs = hashes.wait()
            with atomic_files() as files:
                files.open(output).write(serialize(tokenizer.definition))
                run.save(manifest_path(output), [output], files)
    curve = draw_curve(tokenizer, inputs, sizes, asked, reading, console) if sizes else {}
    facts = tokenizer.definition.training
    seconds = time.time() - run.started
    scaffolds = f" and {counted(facts['scaffolds'], 'scaffold')}" if facts["scaffolds"] else ""
    console.info(
        f"{output}: {counted(facts['vocab_size'], 'token')}{scaffolds} from {size(facts['bytes'])} "
        f"in {seconds:.1f} s ({engine.NAME} engine)"
    )
    return {
        "schema": "llmtool.tokenizer-train/1",
        "output": str(output),
        "sha256": tokenizer.fingerprint(),
        "engine": engine.NAME,
        "seconds": round(seconds, 3),
        **facts,
        **curve,
    }


def check_training(asked: TrainTokenizerSettings) -> tuple[str, str]:
    """Refuse settings that training would refuse, before anything is read; returns (algorithm, encoder)."""
    pair = method_pair(asked.algorithm, asked.encoder)
    if pair[1] == "merge" and (asked.length, asked.ties) != (USUAL_LENGTH, USUAL_TIES):
        raise UserError("--length and --ties are options of the encoder 'lbpe'", hint="add --encoder lbpe")
    if asked.allow_special and not asked.special:
        raise UserError("--allow-special cuts the corpus at special tokens, and none is named", hint="add --special")
    TrainingSettings(**{field.name: getattr(asked, field.name) for field in fields(TrainingSettings)}).check()
    return pair
