"""Runs made from the laws, with known parameters and noise, and logs of them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.methods.temporal_scaling.laws import COOLDOWN, Law, view
from llmtool.methods.temporal_scaling.logs import Log
from llmtool.methods.temporal_scaling.logs.series import Series
from llmtool.methods.temporal_scaling.schedule import Plan, Schedule, Shape

Array = NDArray[np.float64]
HORIZON = 20_000.0
TRUTH = {"r": 0.12, "alpha": 0.47, "gain": 0.36, "C": 0.04, "beta": 0.5, "gamma": 0.65, "p": 0.85}
"""About what whole public runs of 100M parameters are fitted by."""


def schedule(shape: Shape = "cosine", horizon: float = HORIZON, warmup: float = 500.0) -> Schedule:
    return Plan(shape).schedule(horizon, warmup)


def losses(
    steps: Array, planned: Schedule, law: Law = COOLDOWN, constant: float = 2.7, noise: float = 3e-4, seed: int = 0,
    reference: float | None = None, **changed: float,
) -> Array:  # fmt: skip
    """Losses of a law at some steps; parameters not given are TRUTH's, else the law's centres.

    reference: the area that the parameters are relative to, for runs of one model under several schedules.
    """
    values = {parameter.name: parameter.centre for parameter in law.parameters} | TRUTH | changed
    theta = np.log([constant, *(values[parameter.name] for parameter in law.parameters)])
    exact = law.log_loss(theta, view(steps, planned.horizon, planned, reference))
    return np.asarray(np.exp(exact + noise * np.random.default_rng(seed).standard_normal(len(steps))))


def log(
    shape: Shape = "cosine", *, every: int = 100, horizon: float = HORIZON, name: str = "run", peak: float = 3e-4,
    **settings: Any,
) -> Log:  # fmt: skip
    """A finished run as a log with its learning rate."""
    planned = schedule(shape, horizon)
    steps = np.arange(every, horizon + 1, every, dtype=np.float64)
    rate = Series(steps, peak * planned.rate(steps))
    return Log(name, {"train": Series(steps, losses(steps, planned, **settings))}, rate=rate)


def rows(made: Log) -> list[dict[str, float]]:
    """The log's rows as plain records."""
    train = made.losses["train"]
    rates = made.rate.values if made.rate else np.zeros(len(train))
    return [
        {"step": int(step), "loss": float(loss), "lr": float(rate)}
        for step, loss, rate in zip(train.steps, train.values, rates, strict=True)
    ]


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def position_log(horizon: float = 4000.0, positions: int = 64, k: float = 1.5, noise: float = 0.01) -> Log:
    """Evaluations whose hyperbolas follow log N and the rate exactly, with noise that all steps share and some of its
    own."""
    planned = schedule("linear", horizon, 50.0)
    steps = np.arange(50.0, horizon + 1, 50.0)
    n, i = np.log(steps / horizon), np.arange(1, positions + 1)
    g = 1.5 + 0.15 * n
    a2 = 2.0 - 0.2 * n + 0.1 * planned.rate(steps)
    generator = np.random.default_rng(3)
    exact = a2[:, None] + g[:, None] / (i + k)
    common = 5 * noise * generator.standard_normal(positions)
    values = exact + common + noise * generator.standard_normal(exact.shape)
    rate = Series(steps, planned.rate(steps))
    return Log("by position", {"val": Series(steps, values.mean(axis=1))}, {"val": Series(steps, values)}, rate)
