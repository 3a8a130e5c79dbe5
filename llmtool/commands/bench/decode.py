"""`llmtool bench decode`: checkpoints side by side."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.bench.machine import find_place, require_torch
from llmtool.commands.bench.settings import DecodingSettings
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import code
from llmtool.core.run.numbers import whole
from llmtool.core.run.page import Page

if TYPE_CHECKING:
    from llmtool.core.bench.decode import Contender

SCHEMA = "llmtool.bench-decode/1"
MOST = 1 << 24
"""Rows or tokens; a number beyond is a slip."""


def decode(
    checkpoints: Sequence[Path],
    settings: DecodingSettings | None = None,
    *,
    as_json: bool = False,
    console: Console,
    **named_settings: Any,
) -> dict[str, Any]:
    """Time all of them at each batch and context; `failed` names those whose logits are wrong."""
    asked = DecodingSettings.of(settings, named_settings)
    batches, contexts = counts(asked.batch, "--batch"), counts(asked.context, "--context")
    require_torch()
    from llmtool.core.bench import decode_report
    from llmtool.core.bench.ceilings import measure_ceilings
    from llmtool.core.bench.decode import compare, disagreement
    from llmtool.core.bench.machine import describe
    from llmtool.core.bench.rows import append, refuse_existing

    until = math.inf if asked.budget is None else time.monotonic() + asked.budget
    refuse_existing(asked.rows, checkpoints)
    claim_figure(asked.plot, read=checkpoints, force=asked.force)
    place = find_place(asked.device)
    contenders, chosen = load_contenders(checkpoints, asked.dtype, str(place), asked.kernels)
    refuse_long(contenders, max(contexts) + asked.new)
    failed = {each.name: said for each in contenders if (said := disagreement(each))}
    for name, said in failed.items():
        console.warn(f"{name}: {said}: no speed is given")
    sound = [each for each in contenders if each.name not in failed]
    ceilings = measure_ceilings(place, contenders[0].decoder.lm_head.weight.dtype)
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, int]] = []
    with console.progress("decoding", len(batches) * len(contexts) * (len(sound) + asked.rounds), "rounds") as bar:
        for batch in batches:
            for context in contexts:
                if time.monotonic() >= until:
                    left_out.append({"batch": batch, "context": context})
                    console.warn(f"batch {batch}, context {context}: left out, no time was left")
                    continue
                found = compare(
                    sound, batch, context, asked.new, ceilings, rounds=asked.rounds, told=lambda: bar.advance(1)
                )
                if asked.rows is not None:
                    for row in found:
                        append(asked.rows, {"schema": SCHEMA, **row})
                rows += found
    if left_out and sound and not rows:
        what = "nothing was measured: loading, checking and the machine's own rates took the time"
        raise UserError(what, where=f"--budget {asked.budget:g}", hint="a larger --budget")
    facts = describe(place)
    report = {
        "schema": SCHEMA, "machine": facts, "ceilings": ceilings.to_json(), "kernels": chosen,
        "rows": rows, "failed": failed, "left_out": left_out,
    }  # fmt: skip
    title = f"{facts['device']}, {ceilings.dtype}, torch {facts['versions']['torch']}, {code(facts['commit'])}"
    own = any(each.decoder.config.methods for each in contenders)
    notes = [*decode_report.NOTE.splitlines(), f"kernels: {chosen if own else chosen.partition(';')[0]}"]
    if as_json:
        print(dumps(report))
    elif asked.markdown:
        print(decode_report.markdown(rows, title, notes))
    if isinstance(console, Page) or not (as_json or asked.markdown):
        console.table(title, decode_report.HEADER, list(decode_report.table_rows(rows)), "\n".join(notes), result=True)
    if asked.plot is not None and rows:
        decode_report.plot(rows, asked.plot, title)
        console.info(f"{asked.plot}: written")
    return report


def counts(text: str, option: str) -> list[int]:
    """Whole numbers with commas between, each at least 1."""
    return [whole(word, option, low=1, high=MOST) for word in text.split(",")]


def load_contenders(
    checkpoints: Sequence[Path], dtype: str | None, device: str, kernels: str
) -> "tuple[list[Contender], str]":
    """The models, named by their directories (by their paths where these are alike), and the kernels they run on."""
    from llmtool.commands.convert.inspect import describe
    from llmtool.core.bench.decode import Contender
    from llmtool.core.checkpoint.directory import open_checkpoint
    from llmtool.model import load_model, without_kernels

    names = [path.resolve().name for path in checkpoints]
    if len(set(names)) < len(names):
        names = [str(path) for path in checkpoints]
    if len(set(names)) < len(names):
        raise UserError("a checkpoint is named twice", where=", ".join(names))
    models = [load_model(path, dtype, device, kernels) for path in checkpoints]
    types = {str(model.decoder.lm_head.weight.dtype) for model in models}
    if len(types) > 1:
        raise UserError(f"checkpoints of {' and '.join(sorted(types))}", hint="choose one with --dtype")
    contenders = [
        Contender(name, model.decoder, describe(open_checkpoint(path)), without_kernels(model.decoder))
        for name, path, model in zip(names, checkpoints, models, strict=True)
    ]
    return contenders, models[0].kernels


def refuse_long(contenders: "Sequence[Contender]", length: int) -> None:
    """A context that a model was not made for."""
    for each in contenders:
        if length > (most := each.decoder.config.max_position_embeddings):
            raise UserError(
                f"{length:,} positions asked for, the model has {most:,}", where=each.name, hint="a shorter --context"
            )
