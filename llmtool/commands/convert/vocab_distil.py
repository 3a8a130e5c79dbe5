"""Rows of new tokens by Token Distillation, in the one training loop: what `convert vocab --init distil` does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmtool.commands.convert.settings import VocabSettings
from llmtool.core.bpe.correspondence import Correspondence
from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.corpus.encoding import encode_documents
from llmtool.core.corpus.readers import Reading, read_documents
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.model import build, find_device
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from llmtool.core.model.config import Config
    from llmtool.core.model.token_rows import RowPlan


def distil(
    source: CheckpointReader, config: "Config", tokenizer: Tokenizer, found: Correspondence, plan: "RowPlan",
    asked: VocabSettings, console: Console, reading: Reading,
) -> "tuple[torch.Tensor, dict[str, Any]]":  # fmt: skip
    """The embedding [rows, d] in float32, its new rows learned; and facts for the report."""
    from dataclasses import replace

    import torch

    from llmtool.core.model.loading import load_decoder
    from llmtool.core.model.token_rows import INITS, new_table
    from llmtool.core.train.distillation import Distillation, PairBatches, choose, hold_old_rows, pair
    from llmtool.core.train.loop import Plan, train
    from llmtool.core.train.optimizers import Optimizers, OptimizerSettings, freeze
    from llmtool.core.train.parallel import Trainee
    from llmtool.core.train.schedules import Schedule
    from llmtool.core.train.state import Progress
    from llmtool.core.train.world import World

    forward = found.new_of()
    # The model speaks new ids throughout: an old piece that has lost its id cannot be read by the teacher.
    pieces = {new: [forward[i] for i in ids] for new, ids in found.pieces.items() if all(i in forward for i in ids)}
    rows = choose(_rows(tokenizer, asked, reading), pieces, asked.snippets, asked.rows)
    pairs = [pair(row, pieces) for row in rows]
    if not pairs:
        raise UserError(
            "no new token occurs in the text", where=", ".join(asked.corpus), hint="is it of that language?"
        )
    device = torch.device(find_device(asked.device))
    decoder = load_decoder(source.path, build, dtype=torch.float32, device="cpu", override=asked.override)
    table = new_table(decoder.model.embed_tokens.weight.detach(), plan, INITS["pieces"])
    before = table.clone()
    decoder.model.embed_tokens.weight = torch.nn.Parameter(table)
    decoder.config = replace(config, vocab_size=plan.rows)
    for name, buffer in list(decoder.named_buffers()):
        if buffer.dim() == 2 and buffer.shape[0] == config.vocab_size:  # a method's table by token id
            owner, _, key = name.rpartition(".")
            setattr(decoder.get_submodule(owner), key, buffer[plan.sources()])
    decoder.to(device)
    batches = PairBatches(pairs, asked.batch, asked.seed)
    objective = Distillation()
    freeze(decoder.named_parameters(), objective.trainable)
    weight = decoder.model.embed_tokens.weight
    new = sorted(pieces)
    hold_old_rows(weight, new)
    optimizers = Optimizers(decoder.named_parameters(), OptimizerSettings(lr=asked.lr, weight_decay=0.0).check())
    schedule = Schedule("linear", batches.steps, warmup=max(1, batches.steps // 20), final=0.0).check()
    losses: list[float] = []
    seen = {number for each in pairs for number in each.student if number in pieces}
    console.info(
        f"distilling {len(seen):,} of {len(new):,} new tokens from {len(pairs):,} rows, {batches.steps:,} steps"
    )
    with console.progress("distilling", batches.steps, "steps") as bar:

        def record(row: dict[str, Any]) -> None:
            losses.append(row["loss"])
            bar.advance(1)

        train(
            Trainee(decoder, objective, World(str(device))), batches, optimizers,
            Plan(schedule, micro=asked.batch, clip=1.0), Progress(), record=record, save=lambda _: None, evaluate=dict,
        )  # fmt: skip
    tail = max(1, len(losses) // 10)
    first, last = sum(losses[:tail]) / tail, sum(losses[-tail:]) / tail
    console.info(f"mean squared difference of the last states {first:.4f} -> {last:.4f}")
    before[torch.tensor(new)] = weight.detach().cpu()[torch.tensor(new)]
    return before, {
        "distilled": len(seen), "rows_of_text": len(pairs), "steps": batches.steps,
        "difference_first": first, "difference_last": last,
    }  # fmt: skip


def _rows(tokenizer: Tokenizer, asked: VocabSettings, reading: Reading) -> Iterator[list[int]]:
    import numpy as np

    documents = read_documents(list(asked.corpus), reading, whole=tokenizer.needs_whole())
    for encoded in encode_documents(tokenizer, documents, threads=1):
        ids = np.frombuffer(encoded.ids, np.uint32)
        for start, end in zip([0, *encoded.ends], encoded.ends, strict=False):
            for first in range(start, end, asked.length):
                yield ids[first : min(first + asked.length, end)].tolist()
