"""Forecasts of finished runs, each project judged with what was tuned on the others:
`python benchmarks/scaling.py CURVES [--sweep | --like]`.

CURVES holds a folder a project: mpl/, modded/, zsl/ (no rate), and any others; tiny runs of our own
(benchmarks/curves.py, docs/results/temporal_scaling/curves) are one more. `short` and `longer` beside these, whose
batches are far smaller than anybody's, are scored and shown, but nothing is tuned on them and no mean holds them. A
forecast sees the steps up to a share f of the run and the schedule to the end; the truth is the mean of the last 2% of
the points, and the prediction the mean of the law over the same steps.

`tuned`: the constants of the fit are those of SETTINGS that did best on the *other* projects, and so
is the scale of the intervals. `shipped`: what a user gets, which has seen every project here. --sweep tries the
SETTINGS anew (minutes); without it only the shipped constants are scored. --like leaves one run out instead: each is
told with some of the other runs of its project, drawn at random, as earlier ones (`scaling fit --like`).
"""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.fit import fit
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.intervals import interval_score
from llmtool.methods.temporal_scaling.laws import COOLDOWN, POWER, Law
from llmtool.methods.temporal_scaling.logs import read_log
from llmtool.methods.temporal_scaling.misfit import USUAL, Misfit
from llmtool.methods.temporal_scaling.run import Run, prepare
from llmtool.methods.temporal_scaling.schedule import Plan

OWN = Path(__file__).parents[1] / "docs/results/temporal_scaling/curves"
ORIGINS = (0.3, 0.5, 0.8)
EARLIER = (1, 3, 8)
"""Finished runs that are learnt from; as many as there are where a project has fewer."""


@dataclass(frozen=True)
class Setting:
    """Constants of the fit: the independent part of a law's misfit; the centre of the gain, the powers that it grows
    by, of the length of a fall where the sum of the rates is not known and where it is, and of that sum; and the sd
    that is added below it while the gain is sought."""

    rough: float
    centre: float
    goes_with: float
    goes_with_known: float
    further: float
    below: float

    def law(self) -> Law:
        """The usual law with these."""
        gain = {key: value for key, value in asdict(self).items() if key != "rough"}
        parameters = [replace(each, **gain) if each.name == "gain" else each for each in COOLDOWN.parameters]
        return replace(COOLDOWN, parameters=tuple(parameters))

    def misfit(self) -> Misfit:
        """The usual misfit with its independent part."""
        return replace(USUAL, rough=self.rough)

    def __str__(self) -> str:
        return ", ".join(f"{value:g}" for value in asdict(self).values())


GAINS = product((0.36, 0.39, 0.425), (0.2, 0.3, 0.4), (0.1, 0.2, 0.3), (0.0, 0.2, 0.3, 0.4), (0.7, 0.95))
SETTINGS = tuple(Setting(rough, *gain) for rough, gain in product((4.5e-3, 6e-3), GAINS))
PUBLISHED = {
    "soap_124M_2024-10-09": (6000, 250, Plan("wsd", 0.0, 1800 / 6000)),
    "muon_124M_2024-10-10": (6200, 0, Plan("wsd", 0.0, 1800 / 6200)),
    "modernarch_124M_2024-10-14": (5100, 0, Plan("wsd", 0.0, 1450 / 5100)),
    "scaleup_1.5B_2024-10-20": (15258, 0, Plan("wsd", 0.0, 4359 / 15258)),
}
"""Logs without a rate whose schedule is published: steps, warm-up, and the plan."""
OLMO = {"OLMo-1B": (739_328, 2000, Plan("cosine", peak=4e-4)), "OLMo-7B": (557_000, 5000, Plan("linear", peak=3e-4))}
"""Two of zsl's, whose logs are told again with the schedule in their published configurations (allenai/OLMo; the end of
the 7B's is that of its log), as `fit` asks for: a group of its own, for zsl is scored as its logs are."""
BESIDE = ("short", "longer", "olmo")
METRICS = dict.fromkeys(("modded", "own", "short", "longer"), "val")
Key = tuple[str, str, float]


@dataclass(frozen=True)
class Outcome:
    """One forecast against the truth, in per cent of the final loss. low, high: of the interval, around the truth."""

    group: str
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

    def reach(self) -> float:
        """The factor on the interval's half-widths that would just hold the truth."""
        half = (self.error - self.low) if self.error > 0 else (self.high - self.error)
        return abs(self.error) / max(half, 1e-9)


def curves(directory: Path) -> dict[str, list[Path]]:
    groups = {path.name: sorted(path.glob("*.csv")) for path in sorted(directory.iterdir()) if path.is_dir()}
    groups |= {"own": sorted(OWN.glob("*.csv"))} | {name: sorted(OWN.with_name(name).glob("*.csv")) for name in BESIDE}
    groups["olmo"] = [path for path in groups.get("zsl", []) if path.stem in OLMO]
    return {name: paths for name, paths in groups.items() if paths}


def look(group: str, path: Path, origin: float) -> Run:
    settings: dict[str, Any] = {"metric": METRICS.get(group)}
    known = PUBLISHED | (OLMO if group == "olmo" else {})
    if path.stem in known:
        settings |= dict(zip(("horizon", "warmup", "plan"), known[path.stem], strict=True))
    return prepare(read_log(path), until=f"{100 * origin:g}%", **settings)


def end(run: Run) -> tuple[Any, float]:
    """The steps of the last 2% of the points, and their mean loss."""
    last = max(1, int(np.ceil(0.02 * len(run.steps))))
    return run.steps[-last:], float(run.loss[-last:].mean())


def outcome(group: str, path: Path, origin: float, like: Sequence[Run] = ()) -> Outcome:
    run = look(group, path, origin)
    begun = time.process_time()
    made = forecast(run, like=like)
    seconds = time.process_time() - begun
    steps, truth = end(run)
    value = float(made.fit.predict(steps).mean())
    scale = value / made.final.value
    low, high = made.final.low * scale, made.final.high * scale
    power = float(fit(POWER, *run.seen(), run.horizon).predict(steps).mean())
    return Outcome(
        group, path.stem, origin, made.fit.name, 100 * (value / truth - 1), 100 * (power / truth - 1),
        100 * (run.last_value / truth - 1), 100 * (low / truth - 1), 100 * (high / truth - 1),
        100 * interval_score(low, high, truth), made.confident, seconds,
    )  # fmt: skip


def shipped(groups: dict[str, list[Path]]) -> tuple[list[Outcome], list[Key]]:
    """Every curve at every origin, and what was refused."""
    rows, refused = [], []
    heads = f"{'error':>8}{'c+aN^-b':>9}{'last':>8}  {'90% interval':<18}{'score':>7}{'s':>6}"
    print(f"{'group':<8}{'curve':<28}{'f':>4}  {'law':<10}{heads}")
    for group, path, origin in ((g, p, f) for g, paths in groups.items() for p in paths for f in ORIGINS):
        try:
            row = outcome(group, path, origin)
        except UserError as refusal:
            refused.append((group, path.stem, origin))
            print(f"{group:<8}{path.stem:<28}{origin:>4}  refused: {refusal.what}", flush=True)
            continue
        rows.append(row)
        text = f"{group:<8}{row.curve:<28}{origin:>4}  {row.law:<10}{row.error:>7.2f}%{row.power:>8.2f}%"
        text += f"{row.still:>7.2f}%  [{row.low:6.2f}, {row.high:6.2f}]  {row.score:>7.2f}{row.seconds:>6.1f}"
        print(text + ("" if row.covered else "  missed") + ("" if row.confident else "  not confident"), flush=True)
    return rows, refused


def swept(groups: dict[str, list[Path]]) -> dict[Setting, dict[Key, float]]:
    """The error of the usual law under each of the SETTINGS; of the power law where there is no rate."""
    errors: dict[Setting, dict[Key, float]] = {setting: {} for setting in SETTINGS}
    for group, path, origin in ((g, p, f) for g, paths in groups.items() for p in paths for f in ORIGINS[:2]):
        try:
            run = look(group, path, origin)
            steps, truth = end(run)
            # Powers of what a run does not tell, or does not have, leave its fit as it is: half of the fits are spared.
            made: dict[tuple[float, ...], float] = {}
            for setting in SETTINGS:
                law = setting.law()
                gain = next(each for each in law.parameters if each.name == "gain").beside(run.schedule)
                kind = (setting.rough, gain.centre, gain.below)
                if kind not in made:
                    shape = law if run.schedule else POWER
                    told = fit(shape, *run.seen(), run.horizon, run.schedule, 1, setting.misfit()).predict(steps)
                    made[kind] = 100 * (float(told.mean()) / truth - 1)
                errors[setting][group, path.stem, origin] = made[kind]
        except UserError:
            continue
    return errors


def middle(errors: Iterable[float]) -> float:
    return float(np.median(np.abs(list(errors))))


def tuned(errors: dict[Setting, dict[Key, float]]) -> dict[str, Any]:
    """Leave one project out: the setting with the least mean of the others' medians, scored on the one left out."""
    groups = sorted({key[0] for key in errors[SETTINGS[0]]})
    facts: dict[str, Any] = {}
    print("\nConstants chosen on the other projects (rough; of the gain: centre, powers of the fall without the sum")
    print("of the rates, with it, and of that sum, sd below):")
    print("median error at 30% and 50%, within 1% at 30%")
    for left in [*groups, "nothing"]:

        def cost(setting: Setting, left: str = left) -> float:
            return float(np.mean([middle(e for k, e in errors[setting].items() if k[0] == group and k[2] == origin)
                                  for group in groups if group != left for origin in ORIGINS[:2]]))  # fmt: skip

        best = min(SETTINGS, key=cost)
        if left == "nothing":
            print(f"  chosen on all: {best}")
            facts["all"] = asdict(best)
            continue
        at = {f: [e for k, e in errors[best].items() if k[0] == left and k[2] == f] for f in ORIGINS[:2]}
        within = 100 * float(np.mean(np.abs(at[0.3]) < 1))
        facts[left] = {"setting": asdict(best), "0.3": middle(at[0.3]), "0.5": middle(at[0.5]), "within": within}
        print(f"  {left:<8}{best!s:<36}{middle(at[0.3]):>7.2f}%{middle(at[0.5]):>7.2f}%"
              f"{within:>6.0f}%  of {len(at[0.3])}")  # fmt: skip
    means = [float(np.mean([facts[group][f] for group in groups])) for f in ("0.3", "0.5")]
    print(f"  mean of the medians: {means[0]:.2f}%, {means[1]:.2f}%")
    return {**facts, "mean_of_medians": means}


def table(rows: list[Outcome], refused: list[Key]) -> dict[str, Any]:
    """By group and origin: errors beside the two baselines, coverage; and with the scale of the others' intervals."""
    groups = sorted({row.group for row in rows})
    facts: dict[str, Any] = {}
    print(f"\n{'group':<8}{'f':>4}{'runs':>6}{'refused':>9}{'median':>9}{'within 1%':>11}{'power':>8}{'last':>8}"
          f"{'covered':>9}{'confident':>11}{'of these':>10}{'score':>7}{'scale':>7}{'covered':>9}")  # fmt: skip
    for group in groups:
        others = [
            [row.reach() for row in rows if row.group == other] for other in groups if other not in {group, *BESIDE}
        ]
        scale = float(np.mean([np.quantile(each, 0.9) for each in others])) if others else 1.0
        for origin in ORIGINS:
            some = [row for row in rows if row.group == group and row.origin == origin]
            if not some:
                continue
            sure = [row for row in some if row.confident]
            fact = {
                "runs": len(some), "refused": sum(key[0] == group and key[2] == origin for key in refused),
                "median": middle(row.error for row in some),
                "within": 100 * float(np.mean([abs(row.error) < 1 for row in some])),
                "power": middle(row.power for row in some), "last": middle(row.still for row in some),
                "covered": 100 * float(np.mean([row.covered for row in some])),
                "confident": len(sure),
                "covered_confident": 100 * float(np.mean([row.covered for row in sure or some])),
                "score": float(np.mean([row.score for row in some])), "scale": scale,
                "covered_scaled": 100 * float(np.mean([row.reach() <= scale for row in some])),
            }  # fmt: skip
            facts[f"{group} {origin}"] = fact
            print(f"{group:<8}{origin:>4}{fact['runs']:>6}{fact['refused']:>9}{fact['median']:>8.2f}%"
                  f"{fact['within']:>10.0f}%{fact['power']:>7.2f}%{fact['last']:>7.2f}%{fact['covered']:>8.0f}%"
                  f"{fact['confident']:>11}{fact['covered_confident']:>9.0f}%{fact['score']:>7.2f}{scale:>7.2f}"
                  f"{fact['covered_scaled']:>8.0f}%")  # fmt: skip
    every = [
        np.quantile([row.reach() for row in rows if row.group == group], 0.9) for group in groups if group not in BESIDE
    ]
    print(f"mean over the groups of the factor that would hold 90%: {np.mean(every):.2f}; "
          f"slowest forecast {max(row.seconds for row in rows):.1f} s of CPU")  # fmt: skip
    return facts


def by_others(groups: dict[str, list[Path]]) -> dict[str, Any]:
    """Leave one run out: each run of a project told with 1, 3 and 8 of the others as earlier runs."""
    generator = np.random.default_rng(1)
    facts: dict[str, Any] = {}
    print(f"{'group':<8}{'earlier':>8}{'f':>5}{'runs':>6}{'median':>9}{'within 1%':>11}{'covered':>9}{'width':>8}"
          f"{'confident':>11}{'of these':>10}{'largest':>9}")  # fmt: skip
    for group, paths in groups.items():
        whole = {path: run for path in paths if (run := look(group, path, 1.0)).schedule is not None}
        for count, origin in product(EARLIER if len(whole) > 2 else (), ORIGINS):
            rows = []
            for path in whole:
                others = [other for other in whole if other != path]
                drawn = generator.choice(len(others), min(count, len(others)), replace=False)
                rows.append(outcome(group, path, origin, [whole[others[place]] for place in drawn]))
            sure = [row for row in rows if row.confident]
            fact = {
                "runs": len(rows), "median": middle(row.error for row in rows),
                "within": 100 * float(np.mean([abs(row.error) < 1 for row in rows])),
                "covered": 100 * float(np.mean([row.covered for row in rows])),
                "width": float(np.median([row.high - row.low for row in rows])), "confident": len(sure),
                "covered_confident": 100 * float(np.mean([row.covered for row in sure or rows])),
                "largest_confident": max((abs(row.error) for row in sure), default=0.0),
            }  # fmt: skip
            facts[f"{group} {count} {origin}"] = fact
            print(f"{group:<8}{count:>8}{origin:>5}{fact['runs']:>6}{fact['median']:>8.2f}%{fact['within']:>10.0f}%"
                  f"{fact['covered']:>8.0f}%{fact['width']:>7.2f}%{fact['confident']:>11}"
                  f"{fact['covered_confident']:>9.0f}%{fact['largest_confident']:>8.2f}%", flush=True)  # fmt: skip
    return facts


def main(directory: Path, sweep: bool, like: bool) -> None:
    groups = curves(directory)
    if like:
        print(json.dumps({"schema": "llmtool.bench-scaling/2", "like": by_others(groups)}))
        return
    figures: dict[str, Any] = {"smooth": USUAL.smooth, "rough": USUAL.rough}
    if sweep:
        figures["tuned"] = tuned(swept({name: paths for name, paths in groups.items() if name not in BESIDE}))
    rows, refused = shipped(groups)
    figures["shipped"] = table(rows, refused)
    print(json.dumps({"schema": "llmtool.bench-scaling/2", **figures}))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[2:] not in ([], ["--sweep"], ["--like"]):
        sys.exit("usage: python benchmarks/scaling.py DIRECTORY_OF_CURVES [--sweep | --like]")
    main(Path(sys.argv[1]), "--sweep" in sys.argv, "--like" in sys.argv)
