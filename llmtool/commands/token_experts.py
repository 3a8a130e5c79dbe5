"""`llmtool data token-experts`: MaskMoE's table from a corpus, with a report of who sees what and how loads fall."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from llmtool.commands.options import BinDtype, DryRun, Force, Seed, Threads
from llmtool.commands.places import TABLE
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.settings import Option, Settings
from llmtool.core.run.wording import size

if TYPE_CHECKING:
    from llmtool.core.corpus.reading import Reading
    from llmtool.tokenizer import Tokenizer

SCHEMA = "llmtool.data-token-experts/1"


@dataclass(frozen=True, kw_only=True)
class TokenExpertsSettings(Settings):
    """How many experts each token id sees, and which."""

    model: Annotated[
        str | None, Option("Checkpoint or config.json: layers, vocabulary, tokenizer.", "--model -m", metavar="CKPT")
    ] = None
    tokenizer: Annotated[str | None, Option("Tokenizer, where --model has none.", metavar="TOK")] = None
    layers: Annotated[int | None, Option("Layers, where no --model says.", min=1, metavar="N")] = None
    experts: Annotated[int, Option("Experts of a layer.", min=2, max=256, metavar="N")] = 8
    top_k: Annotated[int, Option("Experts that a token will take.", min=1, metavar="K")] = 1
    rule: Annotated[
        Literal["frequent-mass", "min-per-expert", "all", "one", "top-k", "coin"],
        Option("Which ids see several: by share of occurrences, by occurrences an expert; or the same for all."),
    ] = "frequent-mass"
    frequent_mass: Annotated[float, Option("Frequent ids are this share of all occurrences.", metavar="Q")] = 0.9
    min_per_expert: Annotated[
        int, Option("Occurrences in training that an id needs for each expert it sees.", min=1, metavar="C")
    ] = 1000
    train_tokens: Annotated[
        str | None, Option("Tokens of training: counts are scaled to them (min-per-expert).", metavar="TOKENS")
    ] = None
    visible: Annotated[
        int | None, Option("Experts that a frequent id sees. Default: half, and K at least.", min=1, metavar="V")
    ] = None
    draw: Annotated[
        Literal["uniform", "balanced"], Option("Experts drawn at random, or to the least loaded first.")
    ] = "uniform"
    tid2eid: Annotated[
        bool, Option("Store DeepSeek-V4's form of the table too; wants --rule top-k or one.", "--tid2eid")
    ] = False
    bin_dtype: BinDtype = None
    seed: Seed = 0
    threads: Threads = None
    dry_run: DryRun = False
    force: Force = False


def token_experts(
    inputs: Sequence[str],
    output: str | Path | None = None,
    settings: TokenExpertsSettings | None = None,
    *,
    reading: "Reading | None" = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Count ids in a corpus, decide how many experts each sees, draw them layer by layer, write and check the file.

    reading: of text.
    """
    from llmtool.core.corpus.reading import Reading

    reading, named_settings = Reading.split(reading, named_settings, TokenExpertsSettings)
    asked, output = TokenExpertsSettings.of(settings, named_settings), Path(output or TABLE)
    import numpy as np

    from llmtool.commands import sources
    from llmtool.core.corpus.provenance import InputHashes
    from llmtool.core.run.atomic import atomic_files
    from llmtool.core.run.manifest import Run, manifest_path
    from llmtool.core.run.outputs import claim_file
    from llmtool.methods.mask_moe import table as tables
    from llmtool.methods.mask_moe.artefact import load_table, write_table

    rule = tables.Rule(
        asked.experts, asked.top_k, asked.rule, asked.frequent_mass, asked.min_per_expert, asked.visible, asked.draw,
        asked.seed,
    ).check()  # fmt: skip
    tokenizer, vocabulary, layers = _model(asked, console)
    counts = np.zeros(vocabulary, dtype=np.int64)
    found = sources.parse_sources(inputs)
    with InputHashes([source.path for source in found], reading) as hashes:
        run = Run(
            "data token-experts",
            {**asked.facts(), "layers": layers, **reading.facts()},
            seed=asked.seed,
            defaults=asked.defaults(),
        )
        if not asked.dry_run:
            read = [*(source.path for source in found), *(name for name in (asked.model, asked.tokenizer) if name)]
            claim_file(output, run, read=read, force=asked.force, found=hashes.wait, console=console)
        for source in found:
            file = sources.open_source(source, tokenizer, console, asked.threads, reading, asked.bin_dtype)
            for first in range(0, len(file), 1 << 24):
                part = np.bincount(file.ids[first : first + (1 << 24)])
                if len(part) > vocabulary:
                    what = f"id {len(part) - 1:,} is beyond a vocabulary of {vocabulary:,}"
                    raise UserError(what, where=source.path, hint="is it the tokenizer of this model?")
                counts[: len(part)] += part if source.weight == 1 else np.rint(part * source.weight).astype(np.int64)
        if not counts.any():
            raise UserError("no token to count", where=", ".join(inputs))
        structure = _structure(tokenizer, counts)
        scaled = counts
        if asked.train_tokens is not None:
            share = sources.count(asked.train_tokens, "--train-tokens") / counts.sum()
            scaled = np.round(counts * share).astype(np.int64)
        masks = tables.make_table(scaled, layers, rule, structure)
        facts = {
            "schema": SCHEMA, "output": str(output), "layers_of_table": layers,
            **tables.report(masks, scaled, rule, structure), "structure": structure.tolist(),
        }  # fmt: skip
        if asked.dry_run:
            return {**facts, "dry_run": True}
        arrays: dict[str, np.ndarray[Any, Any]] = {"masks": masks, "counts": counts}
        if asked.tid2eid:
            arrays["tid2eid"] = tables.tid2eid(masks, rule.experts, rule.top_k)
        held = {
            "experts": rule.experts, "rule": facts["rule"], "structure": facts["structure"],
            "tokenizer": tokenizer.fingerprint() if tokenizer else None, "tokens": facts["tokens"],
        }  # fmt: skip
        run.inputs = hashes.wait()
        with atomic_files() as files:
            write_table(files.open(output), arrays, held)
            run.save(manifest_path(output), [output], files)
        load_table(output)
    console.info(f"{output}: {size(masks.nbytes)} of masks, every id sees an expert in every layer (checked)")
    return facts


def _model(asked: TokenExpertsSettings, console: Console) -> "tuple[Tokenizer | None, int, int]":
    """Tokenizer, vocabulary and layers."""
    from llmtool.commands.sources import find_tokenizer
    from llmtool.core.run.json_file import read_json_object

    raw: Mapping[str, Any] = {}
    folder = Path(asked.model) if asked.model else Path()
    if asked.model:
        if not folder.exists():
            raise UserError(f"--model {asked.model}: no such file", hint="a checkpoint or a config.json")
        raw = read_json_object(folder / "config.json" if folder.is_dir() else folder)
    tokenizer = find_tokenizer(asked.tokenizer, folder, console) if asked.tokenizer or asked.model else None
    layers = asked.layers or raw.get("num_hidden_layers")
    if raw.get("num_hidden_layers") not in (None, layers):
        held = raw["num_hidden_layers"]
        raise UserError(f"--layers {layers}: {asked.model} has {held}", hint="leave --layers out: --model says it")
    vocabulary = raw.get("vocab_size") or (tokenizer.definition.vocabulary.id_limit if tokenizer else None)
    if type(layers) is not int or type(vocabulary) is not int or min(layers, vocabulary) < 1:
        raise UserError(
            "how many layers and ids the model has is not known", hint="--model CKPT, or --layers N and --tokenizer"
        )
    return tokenizer, vocabulary, layers


def _structure(tokenizer: "Tokenizer | None", counts: Any) -> Any:
    """Special tokens that occur, or that begin, end or pad texts: they see every expert."""
    import numpy as np

    if tokenizer is None:
        return np.zeros(0, dtype=np.int64)
    from llmtool.core.bpe.export import named_tokens

    roles = named_tokens(tokenizer.definition)
    named = [roles.get(role) for role in ("bos_token", "eos_token", "pad_token")]
    found = {
        number for text, number in tokenizer.special_tokens.items()
        if number < len(counts) and (counts[number] or text in named)
    }  # fmt: skip
    return np.array(sorted(found), dtype=np.int64)


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield (
        f"{facts['tokens']:,} tokens counted, {facts['unseen_ids']:,} of {facts['vocabulary']:,} ids never seen; "
        f"{facts['mean_active_experts']:.3f} experts computed a token"
    )
    yield f"{'experts seen':>13}  {'ids':>9}  {'of them seen':>12}  {'occurrences':>11}"
    for row in facts["classes"]:
        yield f"{row['visible']:>13}  {row['ids']:>9,}  {row['seen']:>12,}  {row['occurrences']:>11.2%}"
    worst = max(layer["max_over_mean"] for layer in facts["layers"])
    least = min(layer["min_over_mean"] for layer in facts["layers"])
    yield f"expected load of an expert, over the mean: {least:.2f} to {worst:.2f} (all layers)"
