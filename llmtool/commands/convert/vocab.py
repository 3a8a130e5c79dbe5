"""`llmtool convert vocab`: a checkpoint for another vocabulary, kept rows bit for bit, new ones by a rule."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.settings import VocabSettings
from llmtool.commands.convert.vocab_check import check_vocabularies, lines, pieces_of
from llmtool.commands.places import beside
from llmtool.core.bpe.correspondence import Correspondence, correspondence
from llmtool.core.bpe.export import write_huggingface
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.writer import claim_checkpoint, write_checkpoint
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.reading import Reading
from llmtool.core.corpus.sizes import parse_size
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import dumps, read_json_object
from llmtool.core.run.manifest import Run
from llmtool.core.run.outputs import refuse_overlap
from llmtool.core.run.wording import counted
from llmtool.model import load_tokenizer, vocabulary_tables
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from llmtool.core.model.config import Config
    from llmtool.core.model.token_rows import RowPlan

SCHEMA = "llmtool.convert-vocab/1"
EMBEDDING, HEAD, GENERATION = "model.embed_tokens.weight", "lm_head.weight", "generation_config.json"
ID_LISTS = ("suppress_tokens", "begin_suppress_tokens")
"""Keys besides *_token_id that hold ids."""


@dataclass(frozen=True)
class Change:
    """From which checkpoint to which tokenizer, and where each row comes from."""

    source: CheckpointReader
    config: "Config"
    new: Tokenizer
    found: Correspondence
    plan: "RowPlan"


def convert_vocab(
    path: str | Path,
    output: str | Path | None = None,
    settings: VocabSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Write the checkpoint with `tokenizer`'s ids: rows of the embedding, of the output layer, and of methods' tables.

    reading: of the text that is learned from and compared on.

    >>> import llmtool
    >>> llmtool.convert.vocab("model", "again", tokenizer="model")["kept"] > 0
    True
    """
    reading, named_settings = Reading.split(reading, named_settings, VocabSettings)
    asked = VocabSettings.of(settings, named_settings)
    require("torch", extra="models", why="to convert weights")
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.model.loading import read_architecture

    use_threads(asked.threads, by_load=False)
    path, output = Path(path), beside(path, "vocab", output)
    source = open_checkpoint(path, asked.override)
    config = read_architecture(source)
    old = Tokenizer.load(asked.old_tokenizer) if asked.old_tokenizer else load_tokenizer(path, "give --old-tokenizer")
    new = Tokenizer.load(asked.tokenizer)
    _check_request(asked, old, config, path)
    found = correspondence(old, new)
    plan = row_plan(found, old, new, config.vocab_size, asked.multiple)
    read = [asked.tokenizer, *([asked.old_tokenizer] if asked.old_tokenizer else []), *without_weights(asked.corpus)]
    run = Run(
        "convert vocab",
        {**asked.facts(), "tokenizer": new.fingerprint(), **(reading.facts() if asked.corpus else {})},
        seed=asked.seed,
    )
    refuse_overlap([output], without_weights(asked.check))
    change = Change(source, config, new, found, plan)
    texts = pieces_of(asked.check, parse_size(str(asked.check_bytes)), [config.max_position_embeddings], reading)
    try:
        claim_checkpoint(output, run, source, read=read, force=asked.force, console=console)
    except CompleteError:
        if not texts:
            raise
        console.info(f"{output}: complete already, only the check is made")
        entries = [made.entry(name) for made in [open_checkpoint(output)] for name in made.names()]
        facts = {"parameters": sum(entry.elements for entry in entries if entry.kind.floating)}
    else:
        facts = _write(change, output, asked, run, read, reading, console)
    report: dict[str, Any] = {
        "schema": SCHEMA, "output": str(output), "rows": plan.rows, "kept": len(found.kept), "new": len(found.pieces),
        "gone": len(found.gone), "padding": len(plan.padding()), "init": asked.init, **facts,
    }  # fmt: skip
    if texts:
        report["check"] = check_vocabularies(path, output, texts, asked.device, console, old)
        for line in lines(report["check"]):
            console.info(line)
    return report


def _write(
    change: Change,
    output: Path,
    asked: VocabSettings,
    run: Run,
    read: Sequence[str],
    reading: Reading,
    console: Console,
) -> dict[str, Any]:
    """The checkpoint, its tables by the plan; what the report says of them."""
    from llmtool.core.model.token_rows import INITS, new_table

    source, config, new, found, plan = change.source, change.config, change.new, change.found, change.plan
    _say(found, plan, config, console)
    if asked.init == "zero" and found.pieces:
        console.warn("rows of zeros: a text that begins with a new token has no finite gradient; --init pieces trains")
    rule = INITS.get(asked.init, INITS["pieces"])
    learned: torch.Tensor | None = None
    facts: dict[str, Any] = {}
    if asked.init == "distil":
        from llmtool.commands.convert.vocab_distil import distil

        learned, facts = distil(source, config, new, found, plan, asked, console, reading)
    tables = method_tables(config)

    def tensors() -> "Iterator[tuple[str, torch.Tensor]]":
        for name, tensor in source.tensors():
            if name == EMBEDDING:
                tensor = new_table(tensor, plan, rule) if learned is None else learned.to(tensor.dtype)
            elif name == HEAD:
                tensor = new_table(tensor, plan, rule)
            elif name in tables:
                tensor = tensor[plan.sources()]
            elif tensor.dim() and tensor.shape[0] == config.vocab_size and not name.startswith("model.layers."):
                what = f"{name} has a row for each token id, and it is not known how to carry it"
                raise UserError(what, where=str(source.path))
            yield name, tensor

    roles = found.new_of()
    raw = {**_with_ids(source.config, roles, console), "vocab_size": plan.rows}
    written = write_checkpoint(
        output, tensors(), raw, run=run, source=source, files=_files(new, source, roles, output.name, console),
        tokenizer=False, read=read, force=asked.force, console=console,
    )  # fmt: skip
    console.info(f"{output}: {written.parameters:,} parameters, {plan.rows:,} rows")
    return {"parameters": written.parameters, **facts}


def _check_request(asked: VocabSettings, old: Tokenizer, config: "Config", path: Path) -> None:
    if old.vocab_size > config.vocab_size:
        what = f"its tokenizer's ids need {old.vocab_size:,} rows, and it has {config.vocab_size:,}"
        raise UserError(what, where=str(path), hint="--old-tokenizer TOK, if another one is its own")
    if asked.init == "distil" and not asked.corpus:
        raise UserError("--init distil learns from text", hint="give --corpus")


def row_plan(found: Correspondence, old: Tokenizer, new: Tokenizer, rows: int, multiple: int) -> "RowPlan":
    """Where rows come from, and how many there are: as many as before where all ids stay what they are and fit."""
    from llmtool.core.model.token_rows import RowPlan

    held = old.definition.vocabulary.spellings
    spare = [number for number in range(rows) if number not in held]
    wanted = rows if found.same_ids and new.vocab_size <= rows else new.vocab_size
    return RowPlan(-(-wanted // multiple) * multiple, found.kept, found.pieces, spare)


def method_tables(config: "Config") -> set[str]:
    """Tensors of methods with a row for each token id."""
    names = [suffix for method in config.methods for suffix in vocabulary_tables(str(method["name"]))]
    return {f"model.layers.{layer}.{suffix}" for layer in range(config.num_hidden_layers) for suffix in names}


def _with_ids(facts: Mapping[str, Any], roles: Mapping[int, int], console: Console) -> dict[str, Any]:
    """Settings with the ids that they name renumbered; an id of no token is left out, and said."""
    changed = dict(facts)
    for key, value in facts.items():
        if not (key.endswith("_token_id") or key in ID_LISTS) or value is None:
            continue
        numbers = value if isinstance(value, list) else [value]
        if not all(type(number) is int for number in numbers):
            continue
        left = [roles[number] for number in numbers if number in roles]
        if len(left) < len(numbers):
            lost = ", ".join(str(number) for number in numbers if number not in roles)
            console.warn(f"{key}: {lost} is no token of the new tokenizer, and is left out")
        changed[key] = left if isinstance(value, list) else (left[0] if left else None)
    return changed


def _files(
    new: Tokenizer, source: CheckpointReader, roles: Mapping[int, int], name: str, console: Console
) -> dict[str, bytes]:
    """The new tokenizer's files, and generation_config.json with its ids."""
    with TemporaryDirectory(prefix="llmtool-") as folder:
        write_huggingface(new, Path(folder), name)
        files = {file.name: file.read_bytes() for file in Path(folder).iterdir() if file.name != "README.md"}
    generation = source.path / GENERATION
    if generation.is_file():
        facts = _with_ids(read_json_object(generation), roles, console)
        files[GENERATION] = (dumps(facts, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def _say(found: Correspondence, plan: "RowPlan", config: "Config", console: Console) -> None:
    resized = (
        f"{config.vocab_size:,} -> {plan.rows:,}" if plan.rows != config.vocab_size else f"{plan.rows:,}, as before"
    )
    numbers = (
        f"{counted(len(found.kept), 'token')} kept bit for bit, {len(found.pieces):,} new, {len(found.gone):,} gone"
    )
    console.info(f"{numbers}; rows {resized}")
