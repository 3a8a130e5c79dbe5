"""Samples from a work directory: the stage `assemble`; and `llmtool data nextlong`, from corpus to output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.arrays import map_array
from llmtool.core.corpus.provenance import describe
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.units import Means
from llmtool.core.run.alone import alone
from llmtool.core.run.atomic import new_directories, require_space
from llmtool.core.run.errors import UserError
from llmtool.core.run.manifest import Run
from llmtool.methods.nextlong import comparison, mixture, output, stages
from llmtool.methods.nextlong.assembly import NExtLong, assemble_unit
from llmtool.methods.nextlong.building import Builder
from llmtool.methods.nextlong.chance import stable_hash
from llmtool.methods.nextlong.mining import Mined
from llmtool.methods.nextlong.mixture import Mixture, Samples
from llmtool.methods.nextlong.place import SPELLED, WORK, check_place, nothing_left, open_output, replaced
from llmtool.methods.nextlong.places import spells_all
from llmtool.methods.nextlong.reading import total
from llmtool.methods.nextlong.recipe import Recipe
from llmtool.methods.nextlong.short import pack, read_inputs
from llmtool.methods.nextlong.stages import Choice
from llmtool.methods.nextlong.store import Store, claim_work
from llmtool.methods.nextlong.tokens import token_counts, token_stage

COMMAND = "data nextlong"


def rows_wanted(recipe: Recipe, tokens: int) -> int:
    """As many rows or tokens as asked for; if nobody asked, as many tokens as the corpus has."""
    if recipe.samples is not None:
        return recipe.samples
    return max(1, (tokens if recipe.tokens is None else recipe.tokens) // recipe.target)


def make_samples(
    directory: Path, tokenizer: BaseTokenizer, recipe: Recipe, counted: Stage, wanted: int, means: Means
) -> tuple[Samples, dict[str, Any]]:
    """`wanted` samples of a work directory, or as many as there can be, and counts; counted: tokens of the chunks."""
    store = Store(directory)
    if recipe.method != "nextlong":
        embedded = stages.embedded(directory).stage if recipe.needs_vectors else None
        more = {
            "vectors": embedded.fingerprint if embedded else None,
            "wanted": wanted,
            "corpus": stages.upstream(store),
        }
        stage = part_stage(directory, recipe, tokenizer, more)
        units, counts = comparison.make_samples(directory, stage, store, tokenizer, counted, recipe, wanted, means)
        return Samples(stage, units), counts
    choice = recipe.choice(stages.measured_ratio(store, counted))
    size = choice.unit_seeds()
    units = -(-int(wanted * 1.1 + 1) // size)
    while True:
        mined = stages.mine(directory, choice, means, seeds=units * size)
        units = min(units, mined.totals()["units"])
        stage = _assemble(directory, mined, units, tokenizer, recipe, choice, means)
        facts = [stage.facts(unit) for unit in range(units)]
        accepted = sum(each["accepted"] for each in facts)
        if accepted >= wanted or units * size >= mined.totals()["candidates"]:
            break
        units = max(units + 1, int(units * 1.3 * wanted / max(1, accepted)) if accepted else 2 * units)
    seeds = np.asarray(map_array(mined.directory / "seeds.npy"))[: units * size]
    for name, share in recipe.caps.items():
        if not (store.source[seeds] == store.sources.index(name)).any():
            means.console.info(f"no sample of {name}: --cap {name}={share:g} takes all of its seeds")
    counts = {
        "not_candidates": mined.totals()["rejects"], "candidates": mined.totals()["candidates"],
        "tried": sum(each["seeds"] for each in facts), "rejects": total(each["rejects"] for each in facts),
        "accepted": accepted,
        "left_out": mined.totals()["left_out"], "min_similarity": round(stages.floor(directory, mined), 4),
    }  # fmt: skip
    return Samples(stage, units), counts


def make_mixture(
    directory: Path, tokenizer: BaseTokenizer, recipe: Recipe, counted: Stage, wanted: int, means: Means
) -> tuple[Mixture, dict[str, Any]]:
    """Rows of several kinds, in the shares asked for, as many as the scarcest kind allows."""
    need = mixture.counts(recipe.shares, wanted)
    long, counts = make_samples(directory, tokenizer, recipe, counted, need[mixture.LONG], means)
    available, packed, short, per_row = [long.count, 0, 0], None, None, 1
    if recipe.packed is not None:
        per_row = recipe.target // recipe.packed
        # other seeds than those of the long samples, but for chance
        other = replace(recipe, target=recipe.packed, seed=stable_hash(recipe.seed, "packed") % (1 << 31))
        packed, more = make_samples(directory, tokenizer, other, counted, need[mixture.PACKED] * per_row, means)
        available[mixture.PACKED], counts = packed.count // per_row, {**counts, "packed": more}
    if recipe.short_data:
        short = pack(directory, tokenizer, recipe, need[mixture.SHORT], means)
        available[mixture.SHORT] = short.rows
        counts["short_contaminated"] = short.contaminated
    rows = mixture.fitting(recipe.shares, wanted, available)
    counts["rows"] = dict(zip(mixture.KINDS, rows, strict=True))
    scarce = [f"{held:,} {name} of {most:,}" for name, held, most in zip(mixture.KINDS, available, need, strict=True)
              if held < most]  # fmt: skip
    if scarce:
        means.console.warn(f"{sum(rows):,} rows instead of {wanted:,}: there are only {', '.join(scarce)}")
    return Mixture(rows, long, packed, short, per_row), counts


def _assemble(
    directory: Path, mined: Stage, units: int, tokenizer: BaseTokenizer, recipe: Recipe, choice: Choice, means: Means
) -> Stage:
    stage = part_stage(
        directory, recipe, tokenizer, {"mined": mined.fingerprint, "plan": recipe.plan, "position": recipe.position,
                                       "keep_long": recipe.keep_long},
    )  # fmt: skip
    stage.begin(force=means.force)
    size = mined.settings["unit_seeds"]
    work = partial(_assemble_work, directory, stage, mined, tokenizer, recipe, choice, size)
    means.run(stage, range(units), work, "assembling")
    return stage


def part_stage(directory: Path, recipe: Recipe, tokenizer: BaseTokenizer, more: Mapping[str, Any]) -> Stage:
    """Where the parts of the samples stand, one directory for each combination of settings."""
    settings = {
        "stage": "assemble", "method": recipe.method, "target": recipe.target, "separator": recipe.separator,
        "tokenizer": tokenizer.fingerprint(), "seed": recipe.seed, "text": recipe.form == "jsonl",
        "bos": recipe.bos, "eos": recipe.eos, **more, **({} if spells_all(tokenizer) else {"places": 2}),
    }  # fmt: skip
    return Stage(directory / f"samples-{Stage(directory, settings).fingerprint[:8]}", settings)


def _assemble_work(
    directory: Path, stage: Stage, mined: Stage, tokenizer: BaseTokenizer, recipe: Recipe, choice: Choice, size: int
) -> Callable[[int], None]:
    store = Store(directory)
    tokens = token_counts(_tokens_of(directory, store, tokenizer, recipe))
    builder = Builder(store, tokenizer, recipe.target, recipe.separator, bos=recipe.bos, eos=recipe.eos)
    order = np.asarray(map_array(mined.directory / "seeds.npy"))
    caps = {store.sources.index(name): share for name, share in recipe.caps.items()}

    def work(unit: int) -> None:
        seeds = order[unit * size : (unit + 1) * size]
        method = NExtLong(
            store, builder, tokens, Mined(mined, store, seeds, unit), recipe.plan, recipe.position, recipe.seed,
            store.stage.settings["size"], choice.chars_per_token, recipe.keep_long, caps, recipe.max_overlap,
        )  # fmt: skip
        assemble_unit(stage, method, builder, seeds, text=recipe.form == "jsonl", unit=unit)

    return work


def _tokens_of(directory: Path, store: Store, tokenizer: BaseTokenizer, recipe: Recipe) -> Stage:
    return token_stage(directory, store, tokenizer, recipe.separator)


def synthesize(
    corpora: Sequence[str],
    target_directory: Path,
    tokenizer: BaseTokenizer,
    recipe: Recipe,
    means: Means,
    *,
    work: Path | None = None,
    read: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Corpus to samples; what was done before is not done again. read: where the tokenizer came from."""
    recipe.check()
    run = Run(COMMAND, _config(recipe, tokenizer), seed=recipe.seed, backend=recipe.embedder, spelled=SPELLED)
    directory = work or target_directory / WORK
    read = [*corpora, *recipe.short_data, *recipe.decontaminate, *read]

    def found() -> list[dict[str, Any]]:
        return [describe(name, Event(), read_whole=True) for name in (*corpora, *recipe.short_data)]

    check_place(target_directory, read)
    if work is not None:
        claim_work(work, read)
    old = replaced(target_directory, work=work is None)
    with nothing_left(target_directory, old):
        out = open_output(target_directory, run, found, means, old)
        with new_directories(directory), alone(directory):
            facts = _synthesize(corpora, directory, out, tokenizer, recipe, means, run)
        old.drop()
    return facts


def _synthesize(
    corpora: Sequence[str], directory: Path, out: Stage, tokenizer: BaseTokenizer, recipe: Recipe, means: Means,
    run: Run,
) -> dict[str, Any]:  # fmt: skip
    store = stages.chunk(corpora, directory, recipe.reading, means)
    ids_size = 2 if tokenizer.definition.vocabulary.id_limit <= 1 << 16 else 4
    wanted = rows_wanted(recipe, recipe.target)
    require_space(out.directory / "x", store.chunks * 700 + wanted * recipe.target * ids_size)
    if recipe.needs_vectors:
        stages.embed(directory, recipe.embedder, means, seed=recipe.seed, decontaminate=recipe.decontaminate,
                     ngram=recipe.ngram, fields=recipe.decontaminate_fields, prefix=recipe.embedder_prefix)  # fmt: skip
        stages.index(directory, recipe.index, means, seed=recipe.seed, dedupe=recipe.dedupe)
    inputs = [*store.stage.settings["inputs"], *read_inputs(recipe)]
    return write_samples(directory, out, tokenizer, recipe, means, run, inputs)


def assemble(
    directory: Path,
    target_directory: Path,
    tokenizer: BaseTokenizer,
    recipe: Recipe,
    means: Means,
    *,
    read: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Samples from a work directory whose earlier stages are complete."""
    recipe.check()
    store = Store(directory)
    inputs: list[dict[str, Any]] = [*store.stage.settings["inputs"], *read_inputs(recipe)]
    config = _config(recipe, tokenizer)
    run = Run("data assemble", config, inputs, seed=recipe.seed, kind=COMMAND, spelled=SPELLED)
    if directory.absolute() != target_directory.absolute() / WORK:  # where `data nextlong` itself puts it
        read = [*read, *recipe.short_data, directory]
    check_place(target_directory, read)
    old = replaced(target_directory, work=False)
    with nothing_left(target_directory, old), alone(directory):
        out = open_output(target_directory, run, lambda: inputs, means, old)
        facts = write_samples(directory, out, tokenizer, recipe, means, run, inputs)
        old.drop()
    return facts


def write_samples(
    directory: Path, out: Stage, tokenizer: BaseTokenizer, recipe: Recipe, means: Means, run: Run,
    inputs: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Make the samples and write them as their users read them, run.json last."""
    counted = stages.count_tokens(directory, tokenizer, recipe.separator, means)
    wanted = rows_wanted(recipe, counted.totals()["tokens"])
    about = {"rows": "equal", "row_tokens": recipe.target, "method": recipe.method}
    if recipe.mixed:
        made, counts = make_mixture(directory, tokenizer, recipe, counted, wanted, means)
        output.write_mixture(made, out.directory, recipe.form, tokenizer, about)
        rows, written = sum(made.rows), made.samples
    else:
        samples, counts = make_samples(directory, tokenizer, recipe, counted, wanted, means)
        rows = written = output.write(
            samples.stage, samples.units, wanted, out.directory, recipe.form, tokenizer, about
        )
    if not rows:
        why = ", ".join(f"{number:,} {reason}" for reason, number in
                        {**counts.get("not_candidates", {}), **counts["rejects"]}.items())  # fmt: skip
        raise UserError(f"no sample reaches {recipe.target:,} tokens: {why}", where=str(out.directory),
                        hint="a smaller --target, or more text")  # fmt: skip
    if recipe.holdout:
        store = Store(directory)
        held, of = output.write_held_out(store, recipe.holdout, out.directory), len(store.keys)
        what = f"held out: {held:,} of {of:,} documents ({held / of:.1%}), in held-out.jsonl"
        means.console.info(f"{what}; nor is what copies them in a sample")
    facts = {
        "schema": "llmtool.data-nextlong/1", "output": str(out.directory), "method": recipe.method, "samples": written,
        "target": recipe.target, "tokens": rows * recipe.target, "wanted": wanted, **counts,
    }  # fmt: skip
    told = {"work": _relative(directory, out), "separator": recipe.separator}
    if recipe.method == "nextlong":
        told["position"] = recipe.position
    out.seal({key: value for key, value in facts.items() if key != "output"} | told)
    run.inputs = inputs
    run.save(out.directory / "run.json", sorted(p.relative_to(out.directory) for p in out.directory.glob("s*-*.jsonl")))
    if (accepted := counts["accepted"]) > written and not recipe.mixed:
        what = f"{accepted:,} seeds make samples, the first {written:,} are written"
        means.console.info(f"{what}: many are tried at once")
    if rows < wanted and not recipe.mixed:
        means.console.warn(f"{written:,} samples instead of {wanted:,}: no candidate is left")
    return facts


def _relative(directory: Path, out: Stage) -> str:
    """The work directory as the output names it: below it if it stands there, so that both can move together."""
    if directory.resolve().is_relative_to(out.directory.resolve()):
        return directory.resolve().relative_to(out.directory.resolve()).as_posix()
    return str(directory.resolve())


def _config(recipe: Recipe, tokenizer: BaseTokenizer) -> dict[str, Any]:
    return {**asdict(recipe), "tokenizer": tokenizer.fingerprint()}
