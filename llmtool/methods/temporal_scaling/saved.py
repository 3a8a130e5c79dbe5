"""Fits as JSON: what `fit` prints and keeps, and reading it back to predict elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.numbers import real
from llmtool.core.run.numbers import whole as count
from llmtool.methods.temporal_scaling.backtest import Backtest
from llmtool.methods.temporal_scaling.choice import TEMPORAL, Fitted
from llmtool.methods.temporal_scaling.fit import Fit
from llmtool.methods.temporal_scaling.forecast import Forecast
from llmtool.methods.temporal_scaling.intervals import Interval
from llmtool.methods.temporal_scaling.laws import LAWS, POWER
from llmtool.methods.temporal_scaling.positions import TemporalFit
from llmtool.methods.temporal_scaling.schedule import Schedule

SCHEMA = "llmtool.scaling-fit/1"
ELSEWHERE = 4e-3
"""Relative sd of a final loss under another schedule: three public models fitted on three schedules each and asked for
the ends of six others were off by 0.3% to 0.7% where these had the longest decays."""


def to_json(forecast: Forecast, targets: list[float]) -> dict[str, Any]:
    """The forecast as an object; `fit` in it is what `from_json` reads."""
    run, fitted, test = forecast.run, forecast.fit, forecast.backtest
    power = forecast.backtests[POWER.name]
    return {
        "schema": SCHEMA,
        "log": run.log.name,
        "metric": run.metric,
        "fitted_from": run.cut,
        "fitted_until": run.until,
        "horizon": None if run.open_end else run.horizon,
        "finished": run.finished,
        "final_loss": None if run.open_end else interval_to_json(forecast.final),
        "ahead": [{"step": step, **interval_to_json(forecast.at(step))} for step in run.ahead],
        "endings": {name: interval_to_json(each) for name, each in forecast.endings.items()},
        "confident": forecast.confident,
        "doubts": list(forecast.doubts),
        "law": fitted.name,
        "formula": fitted.formula,
        "why": forecast.why,
        "parameters": fitted.parameters(),
        "asymptote": fitted.asymptote(),
        "backtest": {
            "error": _finite(test.error),
            "mape": _finite(test.mape),
            "skill_over_last_value": test.skill,
            "skill_over_power_law": skill_over(test, power),
            "laws": {name: _finite(each.error) for name, each in forecast.backtests.items()},
        },
        "targets": [target_to_json(forecast, target) for target in targets],
        "notes": list(run.log.notes),
        "fit": fit_to_json(fitted, test.surprise),
    }


def interval_to_json(value: Interval) -> dict[str, float]:
    """A value and its 90% interval."""
    return {"value": value.value, "low": value.low, "high": value.high}


def target_to_json(forecast: Forecast, target: float) -> dict[str, float | None]:
    """When a loss is reached: step with the ends of its 90% interval, tokens, seconds from the last step
    looked at; None where it is not before the horizon."""
    step = forecast.steps_to(target)
    earliest, latest = forecast.steps_between(target)
    facts: dict[str, float | None] = {
        "loss": target, "step": step, "step_low": earliest, "step_high": latest, "tokens": None, "seconds": None,
    }  # fmt: skip
    if step is not None:
        facts |= {"tokens": forecast.run.tokens(step), "seconds": forecast.run.seconds(step)}
    return facts


def skill_over(test: Backtest, other: Backtest) -> float:
    """1 for a perfect law, 0 for one as good as the other."""
    return 1 - test.error / max(other.error, 1e-12) if test.errors and other.errors else 0.0


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def fit_to_json(fitted: Fitted, surprise: float) -> dict[str, Any]:
    """What predicting again needs."""
    facts: dict[str, Any] = {
        "law": fitted.name,
        "horizon": fitted.horizon,
        "until": fitted.until,
        "surprise": surprise,
        "elsewhere": fitted.own_error(np.array([fitted.until]))[0],
        "schedule": fitted.schedule.to_json() if fitted.schedule else None,
    }
    if isinstance(fitted, Fit):
        return facts | {
            "theta": fitted.theta.tolist(), "spread": fitted.spread.tolist(), "reference": fitted.reference,
        }  # fmt: skip
    assert isinstance(fitted, TemporalFit)
    return facts | {
        "form": fitted.form, "k": fitted.k, "positions": fitted.positions,
        "coefficients": fitted.coefficients.tolist(), "spread": fitted.spread.tolist(),
        "together": fitted.together,
    }  # fmt: skip


def load(path: Path) -> tuple[Fitted, float]:
    """A saved fit, and the surprise of its back-test."""
    whole = read_json_object(path)
    if whole.get("schema") != SCHEMA:
        raise UserError("not a saved fit", where=str(path), hint="written by: llmtool scaling fit LOG -o FILE")
    try:
        return _from_json(whole["fit"]), real(whole["fit"]["surprise"], "surprise", where=str(path))
    except (KeyError, TypeError, ValueError, IndexError, UserError):
        raise UserError("damaged: a field is missing or is no number", where=str(path)) from None


def _from_json(facts: dict[str, Any]) -> Fitted:
    held = facts["schedule"]
    schedule = Schedule(np.array(held["steps"]), np.array(held["eta"]), held["warmup"]) if held else None
    spread = np.array(facts["spread"], dtype=np.float64)
    horizon, until = real(facts["horizon"], "horizon"), real(facts["until"], "until")
    elsewhere = real(facts.get("elsewhere", 0.0), "elsewhere")
    if facts["law"] == TEMPORAL:
        coefficients = np.array(facts["coefficients"], dtype=np.float64)
        form, k, positions = str(facts["form"]), real(facts["k"], "k"), count(facts["positions"], "positions")
        return TemporalFit(form, k, positions, coefficients, spread, horizon, schedule, until, elsewhere,
                           real(facts.get("together", 0.0), "together"))  # fmt: skip
    theta = np.array(facts["theta"], dtype=np.float64)
    return Fit(LAWS[facts["law"]], theta, spread, horizon, schedule, until, facts["reference"], elsewhere)


def elsewhere(fitted: Fitted, schedule: Schedule) -> Fitted:
    """The same model and data under another schedule: only the laws that know the rate can tell."""
    if not isinstance(fitted, Fit) or not fitted.knows_rate or fitted.schedule is None:
        raise UserError(f"the law {fitted.name!r} knows no schedule, so it cannot tell another one",
                        hint="fit with --law cooldown or mpl")  # fmt: skip
    reference = fitted.reference or fitted.schedule.total
    return replace(
        fitted,
        horizon=schedule.horizon,
        schedule=schedule,
        reference=reference,
        elsewhere=max(ELSEWHERE, fitted.elsewhere),
    )
