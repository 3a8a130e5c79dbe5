"""Forecasts of finished public runs against what happened: `python benchmarks/scaling.py CURVES`.

CURVES holds mpl/*.csv (step, lr, loss), and, where present, zsl/*.csv (no rate) and per_position/*.jsonl. Protocol:
drop steps before max(2 x warm-up, 1% of the horizon); fit steps up to f x horizon with the schedule known to the end;
the final loss is the mean of the last 2% of the points, and the prediction the mean of the law over the same steps.
"""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.fit import fit, fit_together
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.intervals import interval_score
from llmtool.methods.temporal_scaling.laws import COOLDOWN, MULTI_POWER, POWER
from llmtool.methods.temporal_scaling.logs import read_log
from llmtool.methods.temporal_scaling.run import Run, prepare
from llmtool.methods.temporal_scaling.saved import elsewhere

SIZES = ("25M", "100M", "400M")
TWELVE = ("constant_72000", "cosine_72000", "cosine_24000", "wsd_20000_24000")
TRAINED = ("constant_72000", "cosine_24000", "wsdcon_9")
ORIGINS = (0.2, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Outcome:
    """One forecast against the truth, in per cent of the final loss."""

    curve: str
    origin: float
    law: str
    error: float
    power: float
    still: float
    low: float
    high: float
    score: float
    confident: bool
    seconds: float

    @property
    def covered(self) -> bool:
        return self.low <= 0 <= self.high


def look(path: Path, origin: float) -> Run:
    log = read_log(path)
    return prepare(log, until=f"{100 * origin:g}%", horizon=max(float(s.steps[-1]) for s in log.losses.values()))


def outcome(path: Path, origin: float) -> Outcome:
    run = look(path, origin)
    begun = time.perf_counter()
    made = forecast(run)
    seconds = time.perf_counter() - begun
    last = run.steps[-max(1, int(np.ceil(0.02 * len(run.steps)))) :]
    truth = float(run.loss[-len(last) :].mean())
    value = float(made.fit.predict(last).mean())
    scale = value / made.final.value
    low, high = made.final.low * scale, made.final.high * scale
    power = float(fit(POWER, *run.seen(), run.horizon).predict(last).mean())
    return Outcome(
        path.stem, origin, made.fit.name, 100 * (value / truth - 1), 100 * (power / truth - 1),
        100 * (run.last_value / truth - 1), 100 * (low / truth - 1), 100 * (high / truth - 1),
        100 * interval_score(low, high, truth), made.confident, seconds,
    )  # fmt: skip


def outcomes(paths: Iterable[Path]) -> list[Outcome]:
    """Every curve at every origin; refusals are printed and counted out."""
    made = []
    heads = f"{'error':>8}{'c+aN^-b':>9}{'last':>8}  {'90% interval':<18}{'score':>7}{'s':>6}"
    print(f"\n{'curve':<22}{'f':>5}  {'law':<10}{heads}")
    for path in paths:
        for origin in ORIGINS:
            try:
                row = outcome(path, origin)
            except UserError as refusal:
                print(f"{path.stem:<22}{origin:>5.1f}  refused: {refusal.what}")
                continue
            made.append(row)
            text = f"{row.curve:<22}{origin:>5.1f}  {row.law:<10}{row.error:>7.2f}%{row.power:>8.2f}%{row.still:>7.2f}%"
            text += f"  [{row.low:6.2f}, {row.high:6.2f}]  {row.score:>7.2f}{row.seconds:>6.1f}"
            print(text + ("" if row.covered else "  missed") + ("" if row.confident else "  not confident"), flush=True)
    return made


def summary(title: str, rows: list[Outcome]) -> dict[str, Any]:
    """Errors per origin; coverage and score over all."""
    print(f"\n{title}")
    facts: dict[str, Any] = {"title": title}
    for origin in ORIGINS:
        some = [row for row in rows if row.origin == origin]
        if not some:
            continue
        error, power, still = (np.abs([getattr(row, name) for row in some]) for name in ("error", "power", "still"))
        ratio = np.median(power) / np.median(error)
        facts[str(origin)] = {"median": float(np.median(error)), "largest": float(error.max()), "ratio": float(ratio)}
        print(f"  f = {origin}: median {np.median(error):.3f}%, mean {error.mean():.3f}%, largest {error.max():.2f}%; "
              f"c + a N^-b {np.median(power):.2f}% ({ratio:.1f}x); last value {np.median(still):.1f}%")  # fmt: skip
    for name, some in (("all", rows), ("confident", [row for row in rows if row.confident])):
        covered = 100 * float(np.mean([row.covered for row in some])) if some else None
        score = float(np.mean([row.score for row in some])) if some else None
        facts[name] = {"count": len(some), "coverage": covered, "interval_score": score}
        if some:
            print(f"  90% intervals, {name} {len(some)}: cover {covered:.1f}%, interval score {score:.2f}% of the loss")
    facts["slowest"] = max(row.seconds for row in rows)
    print(f"  slowest choice, back-test, fit and interval: {facts['slowest']:.1f} s")
    return facts


def joint(directory: Path) -> dict[str, float]:
    """Three whole curves of a model fitted together, its other schedules predicted: mean error over all points."""
    print(f"\nOne law for {', '.join(TRAINED)}; mean absolute error over the other schedules")
    means = {}
    for law in (COOLDOWN, MULTI_POWER):
        for size in SIZES:
            runs = {path.stem: look(path, 1.0) for path in sorted(directory.glob(f"{size}_*.csv"))}
            parts = []
            for name in TRAINED:
                run = runs.pop(f"{size}_{name}")
                assert run.schedule is not None
                parts.append((*run.seen(), run.horizon, run.schedule))
            together = fit_together(law, parts)[0]
            errors = {}
            for name, run in runs.items():
                assert run.schedule is not None
                steps, loss = run.seen()
                predicted = elsewhere(together, run.schedule).predict(steps)
                errors[name.partition("_")[2]] = 100 * float(np.abs(predicted / loss - 1).mean())
            means[f"{law.name} {size}"] = float(np.mean(list(errors.values())))
            each = ", ".join(f"{name} {error:.2f}" for name, error in errors.items())
            print(f"  {law.name:<9} {size:>4}: {means[f'{law.name} {size}']:.3f}%  ({each})")
    return means


def fit_seconds(path: Path) -> float:
    """One fit of the richest law, the best of three."""
    run = look(path, 0.5)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        fit(COOLDOWN, *run.seen(), run.horizon, run.schedule)
        times.append(time.perf_counter() - begun)
    return min(times)


def main(directory: Path) -> None:
    curves = directory / "mpl"
    twelve = outcomes(curves / f"{size}_{schedule}.csv" for size in SIZES for schedule in TWELVE)
    figures: dict[str, Any] = {"twelve": summary("The twelve curves", twelve)}
    held = {row.curve for row in twelve}
    others = outcomes(path for path in sorted(curves.glob("*.csv")) if path.stem not in held)
    figures["other_mpl"] = summary("The other schedules", others)
    figures["mpl"] = summary("All of these", twelve + others)
    for folder, title in (("zsl", "No learning rate in the log"), ("per_position", "By position")):
        if paths := sorted((directory / folder).glob("*.*")):
            figures[folder] = summary(title, outcomes(paths))
    figures["joint"] = joint(curves)
    figures["fit_seconds"] = fit_seconds(curves / f"{SIZES[0]}_{TWELVE[1]}.csv")
    print(f"\none fit: {figures['fit_seconds']:.2f} s")
    print(json.dumps({"schema": "llmtool.bench-scaling/1", **figures}))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/scaling.py DIRECTORY_OF_CURVES")
    main(Path(sys.argv[1]))
