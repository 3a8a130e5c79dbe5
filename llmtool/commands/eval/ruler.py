"""`llmtool eval ruler`: long-context tasks of RULER's kinds, by length and depth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.eval.niah import open_haystack
from llmtool.commands.eval.settings import RulerSettings
from llmtool.commands.options import method_settings
from llmtool.commands.sources import find_tokenizer, parse_sources
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.figures import claim_figure
from llmtool.core.run.wording import counted, prefixed

if TYPE_CHECKING:
    from llmtool.core.eval.ruler import Answer, Cell, Haystack, Plan, Speller
    from llmtool.model import Model
    from llmtool.tokenizer import Tokenizer

SCHEMA = "llmtool.eval-ruler/1"
MICRO_TOKENS = 8192
"""Tokens of a batch of questions."""


class WordSpeller:
    """Pieces of text as a tokenizer cuts them, special tokens left alone."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer

    def spell(self, text: str) -> list[int]:
        """Ids of a piece."""
        return list(self._tokenizer.encode(text))

    def read(self, ids: Sequence[int]) -> str:
        """Text; broken characters are marked."""
        return bytes(self._tokenizer.decode_bytes(list(ids))).decode(errors="replace")


def ruler(
    checkpoint: str | Path,
    data: Sequence[str] = (),
    settings: RulerSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Scores by task, length and depth; with dry_run what they would cost.

    data: text or tokens to hide things in; without it random ids, or a few sentences again and again. reading:
    of text.

    >>> import llmtool
    >>> llmtool.eval.ruler("model", task=["single"], length=[64], depth=[0.5], samples=1, kind="ids")["schema"]
    'llmtool.eval-ruler/1'
    """
    require("torch", extra="models", why="to run models")
    from llmtool.core.eval.plot import draw_scores
    from llmtool.core.eval.ruler import run
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.model import load_model

    reading, named_settings = Reading.split(reading, named_settings, RulerSettings)
    asked = RulerSettings.of(settings, named_settings)
    use_threads(asked.threads)
    named = [source.path for source in parse_sources(data)]
    claim_figure(asked.plot, read=[checkpoint, *named, *filter(None, [asked.tokenizer])], force=asked.force)
    model = load_model(checkpoint, asked.dtype, asked.device, settings=method_settings(asked.set))
    codec = find_tokenizer(asked.tokenizer, model.path, console)
    speller, kind = _speller(asked, codec, model)
    plan = _plan(asked, model)
    haystack = _haystack(data, codec, model, console, max(plan.lengths), speller, kind, reading, asked.bin_dtype)
    cost = _cost(plan, speller, haystack, checkpoint)
    facts = {"schema": SCHEMA, "checkpoint": str(checkpoint), "kind": kind, "samples": asked.samples, "cost": cost}
    if asked.dry_run:
        return {**facts, "dry_run": True}
    console.info(_planned(facts))
    if max(plan.lengths) > model.config.max_position_embeddings:
        longest = model.config.max_position_embeddings
        console.warn(f"{max(plan.lengths):,} tokens, but the model was made for {longest:,}")
    with console.progress("asking", cost["questions"], "questions") as bar:
        cells = run(plan, answers_of(model), speller, haystack,
                    rows=lambda length: max(1, MICRO_TOKENS // length), done=bar.advance)  # fmt: skip
    if asked.plot:
        draw_scores(
            cells,
            asked.plot,
            f"{Path(checkpoint).name}: % of what was asked for,\n{counted(asked.samples, 'question')} each, {kind}",
        )
        console.info(f"{asked.plot}: drawn")
    return {**facts, "mean": _mean(cells), "cells": [asdict(cell) for cell in cells]}


def _mean(cells: "Sequence[Cell]") -> float:
    """Mean over tasks of the mean over their cells: a task with depths does not count for more."""
    tasks = {cell.task: [c.score for c in cells if c.task == cell.task] for cell in cells}
    return sum(sum(scores) / len(scores) for scores in tasks.values()) / len(tasks)


def _plan(asked: RulerSettings, model: "Model") -> "Plan":
    from llmtool.core.eval.ruler import TASKS, Plan

    known = {task.name: task for task in TASKS}
    longest = model.config.max_position_embeddings
    lengths = list(asked.length) or [longest * part // 4 for part in range(1, 5)]
    tasks = [known[name] for name in dict.fromkeys(asked.task or known)]
    return Plan(tasks, lengths, list(asked.depth) or [0.0, 0.5, 1.0], asked.samples, asked.seed)


def _speller(asked: RulerSettings, codec: "Tokenizer | None", model: "Model") -> "tuple[Speller, str]":
    from llmtool.core.eval.ruler import IdSpeller

    kind = ("ids" if codec is None else "words") if asked.kind == "auto" else asked.kind
    if kind == "ids":
        return IdSpeller(model.config.vocab_size, asked.seed), kind
    if codec is None:
        raise UserError("questions of words need a tokenizer", where=str(model.path), hint="--kind ids, or --tokenizer")
    return WordSpeller(codec), kind


FILLER = "The path goes on. The light is good. The wind is low. We walk along. "
"""Where no text is given: nothing in it is ever asked for."""


def _haystack(
    data: Sequence[str], codec: "Tokenizer | None", model: "Model", console: Console, longest: int, speller: "Speller",
    kind: str, reading: Reading, bin_dtype: str | None,
) -> "Haystack":  # fmt: skip
    import numpy as np

    if data or kind == "ids":
        return open_haystack(data, codec, model, console, longest, model.config.vocab_size, reading, bin_dtype)
    filler = np.asarray(speller.spell(FILLER), np.int64)
    return lambda length, random: np.resize(np.roll(filler, -int(random.integers(len(filler)))), length)


def _cost(plan: "Plan", speller: "Speller", haystack: "Haystack", checkpoint: str | Path) -> dict[str, float]:
    """Questions, tokens read, tokens decoded at most, and FLOPs, from one sample of each cell."""
    from dataclasses import replace

    from llmtool.commands.convert.inspect import describe
    from llmtool.core.checkpoint.directory import open_checkpoint

    facts = describe(open_checkpoint(checkpoint), 1)
    each, far = facts["flops_per_token"], facts["attention_flops_per_token_and_position"]
    questions = tokens = decoded = 0
    flops = 0.0
    for task, length, depth in plan.cells():
        try:
            (one,) = replace(plan, samples=1).questions(task, length, depth, speller, haystack)
        except ValueError as error:
            raise UserError(f"{task.name}: {error}", hint="a larger --length, or other --task") from None
        questions += plan.samples
        tokens += plan.samples * len(one.ids)
        decoded += plan.samples * one.room
        read = len(one.ids) * (each + far * len(one.ids) / 2)
        flops += plan.samples * (read + one.room * (each + far * len(one.ids)))
    return {"questions": questions, "tokens": tokens, "decoded": decoded, "flops": flops}


def answers_of(model: "Model") -> "Answer":
    """Greedy decoding; what follows an end of text counts no more."""

    def answer(prompts: Sequence[Sequence[int]], room: int) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in prompts]
        for step in model.generate(prompts, max_new_tokens=room):
            for ids, number in zip(found, step, strict=True):
                if number is not None:
                    ids.append(number)
        return found

    return answer


def _planned(facts: Mapping[str, Any]) -> str:
    cost = facts["cost"]
    return (
        f"{counted(cost['questions'], 'question')} of {facts['kind']}, {cost['tokens']:,} tokens to read, up to "
        f"{cost['decoded']:,} to decode, {prefixed(cost['flops'])}FLOPs"
    )


def show(report: Mapping[str, Any], console: Console) -> None:
    """The result for people: scores, or what they would cost."""
    if "cells" in report:
        lines(report, console)
    else:
        console.result([f"{report['checkpoint']}: {_planned(report)}"])


def lines(report: Mapping[str, Any], console: Console) -> None:
    """Scores for people: a row a task and depth, lengths across."""
    cells = report["cells"]
    lengths = sorted({cell["length"] for cell in cells})
    rows = []
    for task in dict.fromkeys(cell["task"] for cell in cells):
        of = [cell for cell in cells if cell["task"] == task]
        for depth in dict.fromkeys(cell["depth"] for cell in of):
            at = {cell["length"]: cell["score"] for cell in of if cell["depth"] == depth}
            place = "-" if depth is None else f"{depth:.0%}"
            rows.append([task, place, *(f"{100 * at[length]:.0f}%" for length in lengths)])
    means = [[c["score"] for c in cells if c["length"] == length] for length in lengths]
    rows.append(["all cells", "", *(f"{100 * sum(m) / len(m):.0f}%" for m in means)])
    each = f"{counted(report['samples'], 'question')} a cell, {report['kind']}"
    note = f"share of what was asked for that the answer held, {each}"
    heads = ["task", "depth", *(f"{n:,}" for n in lengths)]
    console.table(str(report["checkpoint"]), heads, rows, f"{note}; mean over tasks {report['mean']:.1%}", result=True)
