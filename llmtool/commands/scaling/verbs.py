"""`llmtool.scaling`: where a training run will end; one function a command, each returning its report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.commands.scaling import fit as fitting
from llmtool.commands.scaling import laws
from llmtool.commands.scaling.settings import (
    CompareSettings,
    FitSettings,
    LogSettings,
    PositionsSettings,
    PredictSettings,
    SizeSettings,
)
from llmtool.core.run.console import QUIET, Console

__all__ = ["backtest", "compare", "fit", "law", "positions", "predict"]


def __dir__() -> list[str]:
    return __all__


def fit(
    logs: Sequence[str], settings: FitSettings | None = None, *, console: Console = QUIET, **named_settings: Any
) -> list[dict[str, Any]]:
    """Forecasts of runs: the final loss with a 90% interval, by the law that was chosen.

    >>> import llmtool
    >>> [forecast] = llmtool.scaling.fit(["log.jsonl"], law="power", fit_until="60%")
    >>> forecast["law"]
    'power'
    """
    return fitting.forecasts(logs, FitSettings.of(settings, named_settings), console)


def predict(
    saved: str | Path,
    settings: PredictSettings | None = None,
    **named_settings: Any,
) -> dict[str, Any]:
    """Losses of a saved fit at some steps, under its own schedule or another; of a saved law, at another size.

    >>> import llmtool
    >>> [forecast] = llmtool.scaling.fit(["log.jsonl"], law="power", output="fit.json")
    >>> [row] = llmtool.scaling.predict("fit.json", at=[1000])["predictions"]
    >>> row["low"] <= row["value"] <= row["high"]
    True
    """
    asked = PredictSettings.of(settings, named_settings)
    path = Path(saved)
    if asked.of_sizes or laws.is_size_law(path):
        if laws.is_size_law(path):
            laws.refuse_of_runs(asked, path)
        return laws.predict_size(path, asked.params, asked.tokens, asked.unique)
    return laws.predictions(laws.predict_fit(path, asked.at, asked.look(), asked.schedule_of))


def backtest(
    logs: Sequence[str], settings: LogSettings | None = None, *, console: Console = QUIET, **named_settings: Any
) -> dict[str, Any]:
    """How good forecasts of finished runs would have been.

    >>> import llmtool
    >>> llmtool.scaling.backtest(["log.jsonl"], law="power", fit_until="50%")["median_error"] < 0.2
    True
    """
    asked = LogSettings.of(settings, named_settings)
    return laws.backtests(laws.backtest_logs(logs, asked.look(), asked.law, console, asked.like))


def compare(
    logs: Sequence[str],
    settings: CompareSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Which of several runs ends lower, and with what probability.

    >>> import llmtool
    >>> llmtool.scaling.compare(["log.jsonl", "lower.jsonl"], law="power")["schema"]
    'llmtool.scaling-compare/1'
    """
    return laws.compare_logs(logs, settings, console=console, **named_settings)[0]


def positions(log: str, settings: PositionsSettings | None = None, **named_settings: Any) -> list[dict[str, Any]]:
    """The Temporal Scaling Law over positions of a log that holds losses by position: an object an evaluation set."""
    return laws.positions_of(log, PositionsSettings.of(settings, named_settings))


def law(runs: str | Path, settings: SizeSettings | None = None, **named_settings: Any) -> dict[str, Any]:
    """A law over model and data sizes, from a CSV of many finished runs.

    >>> import llmtool
    >>> llmtool.scaling.law("runs.csv", bootstrap=0)["schema"]
    'llmtool.scaling-law/1'
    """
    return laws.size_law(Path(runs), settings, **named_settings)[0]
