"""A step of post-training: the loss is a mean over the answers, the penalty one over every token that is read."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.model.config import parse_config
from llmtool.core.model.decoder import Decoder
from llmtool.core.train.loop import Plan, Row, train
from llmtool.core.train.objective import Objective, token_losses
from llmtool.core.train.optimizers import Optimizers, OptimizerSettings
from llmtool.core.train.parallel import Trainee
from llmtool.core.train.schedules import Schedule
from llmtool.core.train.sft.batches import PackedExamples
from llmtool.core.train.sft.example import Examples
from llmtool.core.train.state import Progress
from llmtool.core.train.world import World
from llmtool.methods.dsmoe.objective import Sparsity
from llmtool.methods.dsmoe.part import GATES
from tests.methods.dsmoe.models import RAW, build

LAYERS, COEFFICIENT, LENGTH = (0, 2), 3.0, 24
ENTRY = {"name": "dsmoe", "version": 1, "experts": 8, "layers": [0, 2], "gate_scale": [1.0, 1.0], "tau": 0.5}


def made() -> Decoder:
    torch.manual_seed(3)
    raw = {**RAW, "model_type": "llmtool", "llmtool": {"family": "llama", "methods": [ENTRY]}}
    return build(parse_config(raw)).double().train()


def rows_of_talk() -> PackedExamples:
    """Four rows: long prompts with short answers, a short prompt with a long answer, padding of every size."""
    generator, examples = torch.Generator().manual_seed(4), Examples()
    for prompt, answer in ((20, 2), (1, 18), (9, 1), (14, 11)):
        ids = torch.randint(0, 300, (prompt + answer,), generator=generator).tolist()
        examples.add(ids, [False] * prompt + [True] * answer)
    return PackedExamples(examples, LENGTH, 4, 0, packing=False)


def literal(data: PackedExamples) -> dict[str, Any]:
    """One row after another: sums over answers and over tokens, divided at the end."""
    decoder = made()
    losses, gates, targets, tokens = torch.zeros(()), torch.zeros(()), 0, 0
    for number in range(data.rows):
        batch = data.batch(0, range(number, number + 1))
        assert batch.documents is not None
        read = batch.documents != LENGTH
        h, carry = decoder.hidden(batch.ids, documents=batch.documents)
        losses = losses + token_losses(decoder, h[0], batch.labels[0]).sum()
        found = torch.stack([carry.shared[f"{GATES}{layer}"] for layer in LAYERS])
        gates = gates + found[:, read].mean((0, 2)).sum()
        targets += int(batch.targets)
        tokens += int(read.sum())
    assert (targets, tokens) == (2 + 18 + 1 + 11, 21 + 18 + 9 + 24)
    (losses / targets + COEFFICIENT * gates / tokens).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in decoder.parameters() if p.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    return {"loss": (losses / targets).item(), "penalty": (gates / tokens).item(), "norm": norm.item()}


def step(data: PackedExamples, micro: int) -> Row:
    """The row of one update."""
    world: Any = SimpleNamespace(device=torch.device("cpu"), distributed=False, size=1, rank=0, leader=True)
    world.own, world.total = lambda rows, size: World.own(world, rows, size), lambda values: values
    decoder, objective = made(), Objective({"dsmoe": Sparsity(LAYERS, COEFFICIENT)})
    trainee = Trainee(decoder, objective, world)
    optimizers = Optimizers(
        decoder.named_parameters(), OptimizerSettings("adamw", 1e-3, None, 0.0, 0.9, 0.95), objective.vector
    )
    rows: list[Row] = []
    plan = Plan(Schedule("constant", 1, 0, 0.0), micro=micro, clip=0.0)
    train(
        trainee, data, optimizers, plan, Progress(), record=rows.append, save=lambda progress: None,
        evaluate=dict,
    )  # fmt: skip
    return rows[0]


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_prompts_count_for_the_penalty_and_answers_for_the_loss(micro: int) -> None:
    data = rows_of_talk()
    wanted, row = literal(data), step(data, micro)
    assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
    assert row["figures"]["dsmoe.penalty"] == pytest.approx(wanted["penalty"], rel=1e-6)
    assert row["grad_norm"] == pytest.approx(wanted["norm"], rel=1e-6)
