"""A law over sizes as an object and in lines, saved and read; what it predicts."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.record import Record
from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling import isoflop
from llmtool.methods.temporal_scaling.across_runs import SIZE_LAWS, SizeLaw, optimal_sizes
from llmtool.methods.temporal_scaling.logs.names import words
from llmtool.methods.temporal_scaling.saved import array, refuse_no_number
from llmtool.methods.temporal_scaling.size_columns import BY_HAND, COLUMNS
from llmtool.methods.temporal_scaling.size_doubts import FAR, doubts, few_sizes, on_the_largest, outliers, together
from llmtool.methods.temporal_scaling.size_table import FLOPS, Table

Array = NDArray[np.float64]
SCHEMA = "llmtool.scaling-law/1"


def predict(
    law: SizeLaw, theta: Array, draws: Array, sd: float, params: float, tokens: float, unique: float | None = None
) -> dict[str, float]:
    """The loss of a run of some size with its 90% interval; sd: of the runs around the law, in the log of the loss."""
    run = Table.one(params, tokens, unique)
    value = float(law.log_loss(theta, run)[0])
    noise = sd * np.random.default_rng(0).standard_normal(max(len(draws), 400))
    others = np.array([law.log_loss(draws[at % len(draws)], run)[0] if len(draws) else value
                       for at in range(len(noise))]) + noise  # fmt: skip
    low, high = np.quantile(others, [0.05, 0.95])
    repeated = {} if unique is None else {"unique": unique}
    return {"params": params, "tokens": tokens, **repeated, "value": float(np.exp(value)),
            "low": float(np.exp(min(low, value))), "high": float(np.exp(max(high, value)))}  # fmt: skip


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
    for budget in () if together(runs) or few_sizes(runs) else compute:
        params, tokens, loss = optimal_sizes(law, theta, budget)
        row = {"compute": budget, "params": params, "tokens": tokens, "loss": loss}
        if len(draws):
            others = [optimal_sizes(law, each, budget)[0] for each in draws]
            row |= {"params_low": float(np.quantile(others, 0.05)), "params_high": float(np.quantile(others, 0.95))}
        sizes.append(row)
    test = on_the_largest(law, runs)
    found = doubts(law, runs, theta, draws, compute, test)
    return {
        "schema": SCHEMA, "law": law.name, "formula": law.formula, "runs": runs.runs, "rows": len(runs.loss),
        "columns": dict(runs.columns), "notes": list(runs.notes),
        "parameters": parameters,
        "mape": 100 * float(np.abs(missed).mean()), "largest_error": 100 * float(np.abs(missed).max()),
        "confident": not found, "doubts": found, "outliers": outliers(law, runs, theta),
        "backtest": test, "envelope": isoflop.envelope(runs),
        "isoflops": isoflop.parabolas(runs), "compute_optimal": sizes,
        "fit": {"theta": theta.tolist(), "draws": draws.tolist(), "sd": 1.4826 * float(np.median(np.abs(missed))),
                "largest_compute": float(runs.compute.max())},
    }  # fmt: skip


def predict_saved(
    facts: dict[str, Any], params: float, tokens: float, unique: float | None = None, *, where: str
) -> dict[str, Any]:
    """The loss at a size under a law that was saved, with its interval and what speaks against it."""
    saved = Record(facts, where)
    law, fit = SIZE_LAWS[saved.choice("law", tuple(SIZE_LAWS))], saved.record("fit")
    theta, draws = array(fit, "theta", (len(law.names),)), array(fit, "draws", (-1, len(law.names)))
    with np.errstate(all="ignore"):
        row = predict(law, theta, draws, fit.real("sd", low=0), params, tokens, unique)
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
    yield from (f"  {note}" for note in facts["notes"])
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
