"""The files that are read, one a row: what it is, how it is changed, and what reads it.

A reader is called in a directory with `in/` (tests/faults/inputs.py and PREPARE) in which its one file is hostile. It
gives a result, or a UserError. What it gives must be right as far as that can be told: `finite` numbers, no token lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.reading_models import (
    bases,
    compiled_vocabulary,
    copied,
    decoded_tokens,
    gguf,
    gguf_converted,
    id_map,
    inspected,
    kept_tokens,
    loaded,
    mapped_tokens,
    merges,
    modules,
    plan,
    settings_beside,
    settings_of_tokenizer,
    table_of_experts,
    tensors,
    tokenizer,
)
from tests.hostile.reading_runs import (
    baseline,
    bench_rows,
    by_batches,
    by_positions,
    by_sizes,
    checked,
    chunks,
    claimed,
    claimed_directory,
    config,
    config_of_training,
    conversations,
    corpus,
    fitted,
    journal,
    log,
    prediction,
    prediction_elsewhere,
    prediction_of_size,
    resumed,
    samples,
    stages,
    template,
)

PREPARE = (
    "tokenizer export in/tok.json in/hf --to hf",
    "tokenizer encode in/tok.json in/text.txt --format npy -o in/ids.npy",
    "tokenizer encode in/tok.json in/text.txt --format jsonl -o in/ids.jsonl",
    "convert copy in/ckpt in/sharded --max-shard-size 8K",
    "scaling fit in/log.jsonl --fit-until 50% -o in/fit.json --law cooldown",
    "scaling fit in/positions.jsonl -o in/temporal.json --law temporal",
    "scaling law in/runs.csv -o in/sizes.json --bootstrap 3",
    "eval attention in/ckpt --data in/text.txt --window 16 --device cpu --kv-saving 33% --samples 1 -o in/plan.json",
    "data nextlong in/corpus.jsonl -o in/long --tokenizer in/tok.json --target 256 --chunk 128 --workers 1",
)


@dataclass(frozen=True)
class Reader:
    """file: below the trial, the one that is changed. again: what else the reader changes, put back each time.

    cost: one of how many of the sample's tries it gets, for one that takes long.
    """

    name: str
    file: str
    kind: str
    read: Callable[[Path], Any]
    again: str = ""
    cost: int = 1

    @property
    def stream(self) -> bool:
        """Whether text may come from a pipe too, which is waited for."""
        return self.read in (corpus, log, fitted, by_positions, conversations)

    @property
    def optional(self) -> bool:
        """Whether what is no file is as if it were not there."""
        return self.name in OPTIONAL


CHUNKS = str(Path("in", "long", "work", "chunks"))
"""A stage of `data nextlong`."""
OPTIONAL = (
    "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "metrics.jsonl", "journal",
    "pooling of an encoder", "prompts of an encoder", "rows of a measurement", "state.json",
    "compiled vocabulary", "added_tokens.json",
)  # fmt: skip
"""Files that need not be there; what stands in their place and is none is left alone."""
READERS = (
    Reader("tokenizer of ours", "in/tok.json", "json", tokenizer),
    Reader("tokenizer.json", "in/hf/tokenizer.json", "json", tokenizer),
    Reader("tokenizer.model", "in/sentencepiece/tokenizer.model", "message", tokenizer),
    Reader("ranks", "in/cl100k_base.tiktoken", "text", tokenizer),
    Reader("tekken.json", "in/tekken.json", "json", tokenizer),
    Reader("vocab.json", "in/pair/vocab.json", "json", tokenizer),
    Reader("merges.txt", "in/pair/merges.txt", "text", merges),
    Reader("added_tokens.json", "in/pair/added_tokens.json", "json", settings_beside),
    Reader("compiled vocabulary", "in/compiled", "bytes", compiled_vocabulary),
    Reader("tokenizer_config.json", "in/hf/tokenizer_config.json", "json", settings_of_tokenizer),
    Reader("special_tokens_map.json", "in/hf/special_tokens_map.json", "json", settings_of_tokenizer),
    Reader("config.json", "in/ckpt/config.json", "json", inspected),
    Reader("config.json, loaded", "in/ckpt/config.json", "json", loaded, cost=2),
    Reader("config.json, copied", "in/ckpt/config.json", "json", copied, cost=4),
    Reader("config.json of dsmoe", "in/sparse/config.json", "json", inspected),
    Reader("config.json of dsmoe, loaded", "in/sparse/config.json", "json", loaded, cost=2),
    Reader("config.json of uniattn", "in/shared/config.json", "json", inspected),
    Reader("config.json of lora", "in/adapted/config.json", "json", inspected),
    Reader("generation_config.json", "in/adapted/generation_config.json", "json", loaded, cost=2),
    Reader("safetensors", "in/ckpt/model.safetensors", "safetensors", tensors),
    Reader("safetensors index", "in/sharded/model.safetensors.index.json", "json", tensors),
    Reader("tokens' sidecar, mapped", "in/ids.bin.json", "json", mapped_tokens),
    Reader("tokens' sidecar, decoded", "in/ids.bin.json", "json", decoded_tokens),
    Reader("offsets, mapped", "in/ids.bin.offsets.npy", "npy", mapped_tokens),
    Reader("offsets, decoded", "in/ids.bin.offsets.npy", "npy", decoded_tokens),
    Reader("offsets of npy", "in/ids.npy.offsets.npy", "npy", mapped_tokens),
    Reader("ids.npy of others", "in/foreign.npy", "npy", mapped_tokens),
    Reader("ids in lines", "in/ids.txt", "text", decoded_tokens),
    Reader("ids in jsonl", "in/ids.jsonl", "jsonl", decoded_tokens),
    Reader("map of ids", "in/map.npy", "npy", id_map),
    Reader("fit", "in/fit.json", "json", prediction),
    Reader("fit, elsewhere", "in/fit.json", "json", prediction_elsewhere),
    Reader("fit over positions", "in/temporal.json", "json", prediction),
    Reader("law over sizes", "in/sizes.json", "json", prediction_of_size),
    Reader("state.json", "in/run/checkpoints/00000002/state.json", "sealed", resumed, "in/run", 40),
    Reader("metrics.jsonl", "in/run/metrics.jsonl", "jsonl", resumed, "in/run", 40),
    Reader("train.json", "in/run/train.json", "json", resumed, "in/run", 40),
    Reader("run.json of training", "in/finished/run.json", "json", resumed, "in/finished", 40),
    Reader("run.json of a file", "in/tok.json.run.json", "json", claimed),
    Reader("run.json of a directory", "in/sharded/run.json", "json", claimed_directory),
    Reader("journal", "in/.text.txt.llmtool-commit", "json", journal, "in"),
    Reader("samples", "in/long/samples-00000.jsonl", "jsonl", samples, cost=4),
    Reader("done.json of nextlong", "in/long/done.json", "json", samples, cost=4),
    Reader("settings.json of a stage", f"{CHUNKS}/settings.json", "json", stages, "in/long", 8),
    Reader("marker of a unit", f"{CHUNKS}/00000.done", "json", stages, "in/long", 8),
    Reader("totals of a stage", f"{CHUNKS}/done.json", "json", samples, cost=4),
    Reader("array of a stage", f"{CHUNKS}/00000.bounds.npy", "npy", chunks),
    Reader("documents of a stage", f"{CHUNKS}/00000.docs.jsonl", "jsonl", chunks),
    Reader("table of a stage", f"{CHUNKS}/00000.docs.npy", "npy", chunks),
    Reader("options in TOML", "in/options.toml", "text", config, cost=4),
    Reader("options of train in TOML", "in/train.toml", "text", config_of_training, cost=8),
    Reader("chat template", "in/chat.jinja", "template", template, cost=40),
    Reader("conversations", "in/chat.jsonl", "jsonl", conversations),
    Reader("conversations with tools", "in/tools.jsonl", "jsonl", conversations),
    Reader("conversations of ShareGPT", "in/sharegpt.jsonl", "jsonl", conversations),
    Reader("instructions of Alpaca", "in/alpaca.jsonl", "jsonl", conversations),
    Reader("prompts and completions", "in/pairs.jsonl", "jsonl", conversations),
    Reader("conversations, checked", "in/chat.jsonl", "jsonl", checked, cost=40),
    Reader("log of ours", "in/run/metrics.jsonl", "jsonl", log),
    Reader("log in jsonl", "in/log.jsonl", "jsonl", log),
    Reader("trainer_state.json", "in/trainer_state.json", "json", log),
    Reader("log in CSV", "in/log.csv", "text", log),
    Reader("log in TSV", "in/log.tsv", "text", log),
    Reader("log in Markdown", "in/log.md", "text", log),
    Reader("log as printed", "in/log.txt", "text", log),
    Reader("log in bars", "in/bars.txt", "text", log),
    Reader("log in columns of JSON", "in/columns.json", "json", log),
    Reader("log with a metric a row", "in/long.csv", "text", log),
    Reader("log in spaces", "in/spaces.txt", "text", log),
    Reader("log of rounded epochs", "in/epochs.txt", "text", log),
    Reader("log of epochs", "in/anew.txt", "text", log),
    Reader("log in ruled columns", "in/ruled.txt", "text", log),
    Reader("log of epochs, fitted", "in/anew.txt", "text", fitted, cost=40),
    Reader("log of TensorBoard", "in/events.out.tfevents.1", "events", log),
    Reader("log of Weights & Biases", "in/run-1.wandb", "bytes", log),
    Reader("log in gzip", "in/log.jsonl", "gzip", log),
    Reader("log, fitted", "in/log.csv", "text", fitted, cost=40),
    Reader("losses by position", "in/positions.jsonl", "jsonl", by_positions, cost=20),
    Reader("table of sizes", "in/runs.csv", "text", by_sizes, cost=20),
    Reader("table of sizes in JSONL", "in/runs.jsonl", "jsonl", by_sizes, cost=20),
    Reader("table of sizes in Parquet", "in/runs.parquet", "bytes", by_sizes, cost=20),
    Reader("table of batches", "in/batches.csv", "text", by_batches, cost=4),
    Reader("text", "in/docs.txt", "text", corpus),
    Reader("HTML", "in/docs.html", "text", corpus),
    Reader("JSONL", "in/docs.jsonl", "jsonl", corpus),
    Reader("JSON", "in/docs.json", "json", corpus),
    Reader("CSV", "in/docs.csv", "text", corpus),
    Reader("Parquet", "in/docs.parquet", "bytes", corpus),
    Reader("Arrow", "in/docs.arrow", "bytes", corpus),
    Reader("tar", "in/docs.tar", "bytes", corpus),
    Reader("gzip", "in/docs.jsonl", "gzip", corpus),
    Reader("Zstandard", "in/docs.jsonl", "zstd", corpus),
    Reader("GGUF", "in/model.gguf", "bytes", gguf),
    Reader("GGUF, converted", "in/model.gguf", "bytes", gguf_converted, cost=8),
    Reader("plan of uniattn", "in/plan.json", "json", plan),
    Reader("table of experts", "in/table.safetensors", "safetensors", table_of_experts),
    Reader("bases of harpe", "in/bases.json", "json", bases),
    Reader("modules of an encoder", "in/encoder/modules.json", "json", modules),
    Reader("pooling of an encoder", "in/encoder/1_Pooling/config.json", "json", modules),
    Reader("prompts of an encoder", "in/encoder/config_sentence_transformers.json", "json", modules),
    Reader("tokens to keep", "in/keep.txt", "text", kept_tokens, cost=8),
    Reader("rows of a measurement", "in/rows.jsonl", "jsonl", bench_rows),
    Reader("baseline of a measurement", "in/baseline.json", "json", baseline),
)  # fmt: skip
