"""Text in, a tokenizer's file out: what `llmtool tokenizer train` does."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.core.bpe import engine
from llmtool.core.bpe.definition_file import serialize
from llmtool.core.bpe.training import TrainingSettings
from llmtool.core.corpus.inputs import find_inputs, without_weights
from llmtool.core.corpus.provenance import InputHashes
from llmtool.core.corpus.readers import Reading, parse_size, total_bytes
from llmtool.core.run.atomic import atomic_files
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.manifest import Run, manifest_path
from llmtool.core.run.outputs import claim_file, refuse_overlap
from llmtool.tokenizer import Tokenizer, method_pair

SPELLED = {"text_mode": "--documents"}
"""Options of settings that are called otherwise."""
SMALLEST_MEMORY = 1_000_000
"""Bytes of counts below which every batch of pieces would go to disk."""


def train_file(
    inputs: Sequence[str],
    output: Path,
    settings: dict[str, Any],
    *,
    reading: Reading | None = None,
    threads: int | None = None,
    max_memory: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    console: Console,
) -> dict[str, Any]:
    """Train and write `output` with its manifest; `settings` as in Tokenizer.train, limit_bytes as people write it.

    threads and max_memory change no byte of the result, so they are no part of the settings.
    """
    limit = None if settings["limit_bytes"] is None else parse_size(settings["limit_bytes"])
    memory = None if max_memory is None else parse_size(max_memory)
    if memory is not None and memory < SMALLEST_MEMORY:
        raise UserError(f"--max-memory {max_memory} is too little to count in", hint="at least 1M")
    refuse_overlap([output], without_weights(inputs))
    algorithm, encoder = check_training(settings)
    reading, settings = Reading.split(reading, {**settings, "algorithm": algorithm, "encoder": encoder})
    config = {**settings, **reading.facts()}
    whole = limit is None and reading.sample is None
    with InputHashes([] if dry_run else inputs, reading, read_whole=whole) as hashes:
        run = Run("tokenizer train", config, seed=reading.seed, backend=engine.NAME, spelled=SPELLED)
        if dry_run:
            size = total_bytes(inputs, reading)
            plan = {"inputs": len(find_inputs(inputs, reading)), "bytes_on_disk": size, "output": str(output)}
            return {"schema": "llmtool.tokenizer-train/1", "dry_run": True, **plan, **config}
        claim_file(output, run, read=without_weights(inputs), force=force, found=hashes.wait, console=console)
        work: dict[str, Any] = {"threads": threads, "max_memory": memory, "console": console}
        tokenizer = Tokenizer.train(inputs, reading=reading, **{**settings, "limit_bytes": limit}, **work)
        run.inputs = hashes.wait()
        with atomic_files() as files:
            files.open(output).write(serialize(tokenizer.definition))
            run.save(manifest_path(output), [output], files)
    facts = tokenizer.definition.training
    seconds = time.time() - run.started
    scaffolds = f" and {facts['scaffolds']:,} scaffolds" if facts["scaffolds"] else ""
    console.info(
        f"{output}: {facts['vocab_size']:,} tokens{scaffolds} from {facts['bytes'] / 1e6:,.1f} MB "
        f"in {seconds:.1f} s ({engine.NAME} engine)"
    )
    return {
        "schema": "llmtool.tokenizer-train/1",
        "output": str(output),
        "sha256": tokenizer.fingerprint(),
        "engine": engine.NAME,
        "seconds": round(seconds, 3),
        **facts,
    }


def check_training(settings: dict[str, Any]) -> tuple[str, str]:
    """Refuse settings that training would refuse, before anything is read; returns (algorithm, encoder)."""
    pair = method_pair(settings["algorithm"], settings["encoder"])
    if pair[1] == "merge" and (settings["length"], settings["ties"]) != ("bytes", "leftmost"):
        raise UserError("--length and --ties are options of the encoder 'lbpe'", hint="add --encoder lbpe")
    if settings["allow_special"] and not settings["special"]:
        raise UserError("--allow-special cuts the corpus at special tokens, and none is named", hint="add --special")
    names = ("vocab_size", "pretokenizer", "min_frequency", "special_position", "max_token_bytes")
    given = {name: settings[name] for name in names}
    patterns = tuple(settings.get("pretokenizer_regex", ()))
    TrainingSettings(special=tuple(settings["special"]), pretokenizer_regex=patterns, **given).check()
    return pair
