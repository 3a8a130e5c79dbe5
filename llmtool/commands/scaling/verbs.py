"""`llmtool.scaling`: where a training run will end; one function a command, each returning its report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.commands.scaling import fit as fitting
from llmtool.commands.scaling import laws
from llmtool.commands.scaling.settings import FitSettings, LogSettings
from llmtool.core.run.console import QUIET, Console

__all__ = ["backtest", "compare", "fit", "law", "positions", "predict"]


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
    at: Sequence[float] = (),
    *,
    schedule_of: str | None = None,
    settings: LogSettings | None = None,
    **named_settings: Any,
) -> list[dict[str, float]]:
    """Losses of a saved fit at some steps, under its own schedule or another.

    >>> import llmtool
    >>> [forecast] = llmtool.scaling.fit(["log.jsonl"], law="power", output="fit.json")
    >>> [row] = llmtool.scaling.predict("fit.json", [1000])
    >>> row["low"] <= row["value"] <= row["high"]
    True
    """
    return laws.predict_fit(Path(saved), at, LogSettings.of(settings, named_settings).look(), schedule_of)


def backtest(
    logs: Sequence[str], settings: LogSettings | None = None, *, console: Console = QUIET, **named_settings: Any
) -> dict[str, Any]:
    """How good forecasts of finished runs would have been.

    >>> import llmtool
    >>> llmtool.scaling.backtest(["log.jsonl"], law="power", fit_until="50%")["median_error"] < 0.2
    True
    """
    asked = LogSettings.of(settings, named_settings)
    return laws.backtests(laws.backtest_logs(logs, asked.look(), asked.law, console))


def compare(
    logs: Sequence[str],
    settings: LogSettings | None = None,
    *,
    plot: Path | None = None,
    force: bool = False,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Which of several runs ends lower, and with what probability.

    >>> import llmtool
    >>> llmtool.scaling.compare(["log.jsonl", "lower.jsonl"], law="power")["schema"]
    'llmtool.scaling-compare/1'
    """
    asked = LogSettings.of(settings, named_settings)
    return laws.compare_logs(logs, asked.look(), asked.law, plot, console, force=force)[0]


def positions(
    log: str, settings: LogSettings | None = None, *, sets: Sequence[str] = (), plot: Path | None = None,
    **named_settings: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """The Temporal Scaling Law over positions of a log that holds losses by position: an object an evaluation set."""
    return laws.positions_of(log, LogSettings.of(settings, named_settings).look(), plot, sets)


def law(
    runs: str | Path,
    law: str = "chinchilla",
    *,
    bootstrap: int = 100,
    compute: Sequence[float] = (),
    seed: int = 0,
    plot: Path | None = None,
    output: Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """A law over model and data sizes, from a CSV of many finished runs.

    >>> import llmtool
    >>> llmtool.scaling.law("runs.csv", bootstrap=0)["schema"]
    'llmtool.scaling-law/1'
    """
    return laws.size_law(Path(runs), law, bootstrap, compute, seed, plot, output, force=force)[0]
