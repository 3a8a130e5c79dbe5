"""What a law over sizes may be believed: identifiability, outliers, a back-test on the largest runs; saved and read."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.record import Record
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling import isoflop
from llmtool.methods.temporal_scaling.across_runs import KAPLAN, SIZE_LAWS, SizeLaw, fit_sizes, optimal_sizes
from llmtool.methods.temporal_scaling.logs.names import words
from llmtool.methods.temporal_scaling.saved import array, refuse_no_number
from llmtool.methods.temporal_scaling.size_table import BY_HAND, COLUMNS, FLOPS, Table

Array = NDArray[np.float64]
SCHEMA = "llmtool.scaling-law/1"
SPREAD = 1.5
"""Runs whose sizes differ by less than this factor are of one size: no exponent of it can be told."""
TOGETHER = 0.995
"""Where log N and log D go together like this, as at a fixed D / N, the two terms cannot be told apart."""
FEW = 2
"""Runs for each parameter of the law, below which it is flagged."""
FAR = 10.0
"""Compute beyond that of the largest run at which a prediction is flagged."""
OUTLIER = 6.0
"""Robust standard deviations of the log loss beyond which a run is named."""
SMALLEST_ERROR = 2e-3
HELD = 0.2
"""The share of the runs, those with most compute, that the back-test predicts."""


def require_identifiable(runs: Table) -> None:
    """Refuse a table that cannot tell an exponent at all."""
    for what, values in (("parameters", runs.params), ("tokens", runs.tokens)):
        if values.max() < SPREAD * values.min():
            raise UserError(f"all runs have about {values.max():.3g} {what}: what the loss owes to them cannot be told",
                            hint="add runs of other sizes")  # fmt: skip


def doubts(law: SizeLaw, runs: Table, theta: Array, draws: Array, compute: Sequence[float]) -> list[str]:
    """What speaks against the law, each in a line."""
    found = []
    if runs.runs < FEW * len(law.names):
        found.append(f"{counted(runs.runs, 'run')} for {len(law.names)} parameters")
    if together(runs):
        ratio = np.median(runs.tokens / runs.params)
        found.append(f"parameters and tokens go together (D / N about {ratio:.3g}): their terms, and the best sizes, "
                     "cannot be told apart")  # fmt: skip
    values = law.named(theta)
    if law is not KAPLAN and values["E"] < 0.05 * runs.loss.min():
        found.append(f"E runs to {values['E']:.2g}: these runs do not tell the irreducible loss")
    for place, (name, log) in enumerate(zip(law.names, law.logarithms, strict=True)):
        if not log and len(draws):
            low, high = np.quantile(draws[:, place], [0.05, 0.95])
            if high > 2 * max(low, 1e-9):
                found.append(f"{name} is poorly determined: 90% of the bootstrap in [{low:.2g}, {high:.2g}]")
    far = [budget for budget in compute if budget > FAR * runs.compute.max()]
    if far:
        found.append(f"{max(far):.3g} FLOP is {max(far) / runs.compute.max():,.0f} times the largest run")
    return found


def together(runs: Table) -> bool:
    """Whether parameters and tokens cannot be told apart."""
    return bool(abs(np.corrcoef(np.log(runs.params), np.log(runs.tokens))[0, 1]) > TOGETHER)


def outliers(law: SizeLaw, runs: Table, theta: Array) -> list[dict[str, Any]]:
    """The runs that lie far off the law, by name, the farthest first."""
    missed = np.log(runs.loss) - law.log_loss(theta, runs)
    robust = max(1.4826 * float(np.median(np.abs(missed - np.median(missed)))), SMALLEST_ERROR / 2)
    places = [int(place) for place in np.argsort(-np.abs(missed)) if abs(missed[place]) > OUTLIER * robust]
    names = runs.names or tuple(f"run {place + 1}" for place in range(len(missed)))
    return [{"run": names[place], "error": 100 * float(np.expm1(missed[place]))} for place in places]


def on_the_largest(law: SizeLaw, runs: Table) -> dict[str, float] | None:
    """The law of the smaller runs against the largest fifth; None where too few are left."""
    group = runs.group if len(runs.group) else np.arange(len(runs.loss))
    labels = np.unique(group)
    order = np.argsort([runs.compute[group == run].max() for run in labels])
    count = max(1, round(HELD * len(order)))
    held = np.isin(group, labels[order[-count:]])
    small = runs.rows(np.flatnonzero(~held))
    if len(small.loss) < len(law.names) + 1:
        return None
    large = runs.rows(np.flatnonzero(held))
    error = np.exp(law.log_loss(fit_sizes(law, small), large)) / large.loss - 1
    return {"runs": float(count), "median_error": 100 * float(np.median(np.abs(error))),
            "mean_error": 100 * float(error.mean())}  # fmt: skip


def predict(law: SizeLaw, theta: Array, draws: Array, sd: float, params: float, tokens: float) -> dict[str, float]:
    """The loss of a run of some size with its 90% interval; sd: of the runs around the law, in the log of the loss."""
    run = Table.one(params, tokens)
    value = float(law.log_loss(theta, run)[0])
    noise = sd * np.random.default_rng(0).standard_normal(max(len(draws), 400))
    others = np.array([law.log_loss(draws[at % len(draws)], run)[0] if len(draws) else value
                       for at in range(len(noise))]) + noise  # fmt: skip
    low, high = np.quantile(others, [0.05, 0.95])
    return {"params": params, "tokens": tokens, "value": float(np.exp(value)), "low": float(np.exp(min(low, value))),
            "high": float(np.exp(max(high, value)))}  # fmt: skip


def to_json(law: SizeLaw, runs: Table, theta: Array, draws: Array, compute: Sequence[float]) -> dict[str, Any]:
    """The law as an object, from which `predict` reads it again; intervals are 90% of the bootstrap."""
    missed = np.exp(law.log_loss(theta, runs)) / runs.loss - 1
    parameters = {}
    for place, (name, value) in enumerate(law.named(theta).items()):
        parameters[name] = {"value": value}
        if len(draws):
            column = np.exp(draws[:, place]) if law.logarithms[place] else draws[:, place]
            parameters[name] |= {"low": float(np.quantile(column, 0.05)), "high": float(np.quantile(column, 0.95))}
    sizes = []
    for budget in compute if not together(runs) else ():
        params, tokens, loss = optimal_sizes(law, theta, budget)
        row = {"compute": budget, "params": params, "tokens": tokens, "loss": loss}
        if len(draws):
            others = [optimal_sizes(law, each, budget)[0] for each in draws]
            row |= {"params_low": float(np.quantile(others, 0.05)), "params_high": float(np.quantile(others, 0.95))}
        sizes.append(row)
    found = doubts(law, runs, theta, draws, compute)
    return {
        "schema": SCHEMA, "law": law.name, "formula": law.formula, "runs": runs.runs, "rows": len(runs.loss),
        "columns": dict(runs.columns),
        "parameters": parameters,
        "mape": 100 * float(np.abs(missed).mean()), "largest_error": 100 * float(np.abs(missed).max()),
        "confident": not found, "doubts": found, "outliers": outliers(law, runs, theta),
        "backtest": on_the_largest(law, runs), "envelope": isoflop.envelope(runs),
        "isoflops": isoflop.parabolas(runs), "compute_optimal": sizes,
        "fit": {"theta": theta.tolist(), "draws": draws.tolist(), "sd": 1.4826 * float(np.median(np.abs(missed))),
                "largest_compute": float(runs.compute.max())},
    }  # fmt: skip


def predict_saved(facts: dict[str, Any], params: float, tokens: float, where: str) -> dict[str, Any]:
    """The loss at a size under a law that was saved, with its interval and what speaks against it."""
    saved = Record(facts, where)
    law, fit = SIZE_LAWS[saved.choice("law", tuple(SIZE_LAWS))], saved.record("fit")
    theta, draws = array(fit, "theta", (len(law.names),)), array(fit, "draws", (-1, len(law.names)))
    with np.errstate(all="ignore"):
        row = predict(law, theta, draws, fit.real("sd", low=0), params, tokens)
    refuse_no_number([row], where)
    against = saved.texts("doubts")
    times = FLOPS * params * tokens / fit.real("largest_compute", low=1)
    if times > FAR:
        against.append(f"{times:,.0f} times the compute of the largest run")
    return {"schema": "llmtool.scaling-predict/1", "predictions": [row], "confident": not against, "doubts": against}


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The law for people."""
    runs = counted(facts["runs"], "run")
    runs = runs if facts["rows"] == facts["runs"] else f"{facts['rows']:,} rows of {runs}"
    yield f"{facts['law']}: {facts['formula']}, {runs}, MAPE {facts['mape']:.3f}%"
    read = {key: name for key, name in facts["columns"].items() if key in BY_HAND}
    if any(" ".join(words(name)) not in COLUMNS[key] for key, name in read.items()):
        yield f"  columns: {', '.join(f'{key} {name}' for key, name in read.items())}"
    for doubt in facts["doubts"]:
        yield f"  NOT CONFIDENT: {doubt}"
    for name, value in facts["parameters"].items():
        spread = f"  [{value['low']:.4g}, {value['high']:.4g}]" if "low" in value else ""
        yield f"  {name:<8}{value['value']:>12.5g}{spread}"
    for each in facts["outliers"][:5]:
        yield f"  far off the law: {each['run']}, {each['error']:+.1f}%"
    if len(facts["outliers"]) > 5:
        yield f"  and {len(facts['outliers']) - 5} more"
    if (test := facts["backtest"]) is not None:
        yield (f"  fitted without the largest {test['runs']:.0f} runs, it misses them by {test['median_error']:.2f}% "
               f"(median; mean {test['mean_error']:+.2f}%)")  # fmt: skip
    if (first := facts["envelope"]) is not None:
        wins = len({row["params"] for row in first["budgets"]})
        yield f"  lower envelope of the curves ({wins} sizes win): best N grows as C^{first['exponent']:.3f}"
    if (iso := facts["isoflops"]) is not None:
        yield f"  IsoFLOP parabolas at {len(iso['budgets'])} budgets: best N grows as C^{iso['exponent']:.3f}"
    if facts["compute_optimal"]:
        yield f"  {'compute':>10}{'parameters':>14}{'tokens':>12}{'loss':>9}   90% of the parameters"
    for row in facts["compute_optimal"]:
        spread = f"   [{row['params_low']:.3g}, {row['params_high']:.3g}]" if "params_low" in row else ""
        yield f"  {row['compute']:>10.3g}{row['params']:>14.4g}{row['tokens']:>12.4g}{row['loss']:>9.4f}{spread}"
