"""Forecasts in lines for people: a summary, a table of back-tests, and a chart of characters."""

from collections.abc import Iterator, Sequence

import numpy as np

from llmtool.core.run.wording import counted
from llmtool.methods.temporal_scaling.ending import LOW
from llmtool.methods.temporal_scaling.forecast import Forecast
from llmtool.methods.temporal_scaling.intervals import Interval, amount, loss_text
from llmtool.methods.temporal_scaling.laws import POWER
from llmtool.methods.temporal_scaling.saved import skill_over, target_to_json

WIDTH, HEIGHT = 72, 16
LABEL = 18
SHOWN = 6
"""Earlier runs whose misses are listed."""


def lines(forecast: Forecast, targets: Sequence[float] = ()) -> Iterator[str]:
    """The summary of one forecast."""
    run, fitted = forecast.run, forecast.fit
    unit = f"{run.axis}s"
    begun = f" from {amount(run.begin)}" if run.begin else ""
    span_seen = f"{amount(run.cut)} to {amount(run.until)}"
    end = (
        "" if run.open_end or run.goes_on is not None else f" of {amount(run.horizon)} ({100 * run.share:.0f}%{begun})"
    )
    of = f" in {units}" if (units := run.log.units.get(run.metric, "")).startswith("bits") else ""
    yield f"{run.log.name}: {run.metric} loss{of}, fitted on {unit} {span_seen}{end}"
    yield from _ending(forecast)
    if not forecast.confident:
        yield _line("NOT CONFIDENT", "; ".join(forecast.doubts))
    for change in run.changes:
        yield _line("jump", f"of the loss by {100 * np.expm1(change.size):+.1f}% at {unit[:-1]} {amount(change.step)}: "
                    "what lies before is fitted at the level after it")  # fmt: skip
    yield _line("law", f"{fitted.name}: {fitted.formula}")
    yield _line("why", forecast.why)
    if forecast.trial is not None:
        missed = ", ".join(f"{100 * error:+.2f}%" for error in forecast.trial.errors[:SHOWN])
        more = f" and {len(forecast.trial.errors) - SHOWN} more" if len(forecast.trial.errors) > SHOWN else ""
        yield _line("earlier runs", f"each told from here by the others, the ends are missed by {missed}{more}")
    if (asymptote := fitted.asymptote()) is not None:
        yield _line("asymptote", f"{loss_text(asymptote)} (an endless run at the peak rate)")
    for target in targets:
        yield _line(f"loss {target:g}", when(forecast, target))
    yield from backtests(forecast)


def _ending(forecast: Forecast) -> Iterator[str]:
    """How the run ends; how it goes on, where its end is not known; that it has ended, where it has."""
    run = forecast.run
    ways = [f"{span(each)} {name}" for name, each in (forecast.endings | forecast.gains).items()]
    if run.finished and run.goes_on is None:
        how = "the log reaches the horizon"
        if run.low is not None:
            goes_on = " (--horizon, if the run goes on)" if run.low > LOW else ""
            how = f"the learning rate is down to {100 * run.low:.0f}% of its peak{goes_on}"
        lowest = ""
        if risen := run.risen:
            lowest = f", {100 * np.expm1(risen.size):.1f}% above that of step {risen.step:,.0f} (overfitting?)"
        yield _line("finished", f"{how}; its last loss is {loss_text(run.end)}{lowest}")
        return
    if run.finished:
        yield _line("finished?", ways.pop(0))
    elif not run.open_end:
        yield _line("final loss", f"{span(forecast.final)} (90% interval)")
    for way in ways:
        yield _line("", way)
    for step in run.ahead:
        yield _line(f"at {step:,.0f}", f"{span(forecast.at(step))} (90% interval)")
    if run.open_end:
        yield _line("better with", f"--horizon {run.axis.upper()}S and --schedule, or the learning rate in the log")


def _line(label: str, text: str) -> str:
    return f"  {label:<{LABEL}}{text}"


def span(value: Interval) -> str:
    """A value and its interval."""
    return f"{loss_text(value.value)}  [{loss_text(value.low)}, {loss_text(value.high)}]"


def brief(forecast: Forecast) -> str:
    """One line for somebody who watches a run: where it is, and how it ends."""
    run, at = forecast.run, f"{forecast.run.axis} {amount(forecast.run.until)}"
    if run.goes_on is not None:
        return f"{at}: " + ", ".join(f"{span(each)} {way}" for way, each in forecast.endings.items())
    if run.open_end:
        return f"{at}: loss {span(forecast.at(run.ahead[0]))} at {amount(run.ahead[0])}"
    if run.finished:
        return f"{at} of {amount(run.horizon)}: finished, its last loss is {loss_text(run.end)}"
    left = run.seconds(run.horizon)
    ahead = f", {duration(left)} to go" if left else ""
    return f"{at} of {amount(run.horizon)}{ahead}: final loss {span(forecast.final)}"


def when(forecast: Forecast, target: float) -> str:
    """When a loss is reached."""
    facts = target_to_json(forecast, target)
    low, high = facts["step_low"], facts["step_high"]
    if facts["step"] is None:
        return "not before the horizon" + ("" if low is None else f" (90%: from step {low:,.0f} on, or later)")
    text = f"at step {facts['step']:,.0f}"
    if low is not None:
        text += f" [{low:,.0f}, {'not before the horizon' if high is None else f'{high:,.0f}'}]"
    if facts["tokens"] is not None:
        text += f", {facts['tokens'] / 1e9:,.3f}B tokens"
    if facts["seconds"] is not None:
        text += f", {duration(facts['seconds'])} from the last step fitted"
    return text


def duration(seconds: float) -> str:
    """Seconds in the unit people use."""
    for name, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"


def backtests(forecast: Forecast) -> Iterator[str]:
    """How the laws would have done so far."""
    power = forecast.backtests[POWER.name]
    origins = counted(len(forecast.backtest.errors), "origin")
    yield f"  back-test at {origins}: error is the root mean square, relative to the loss; skill 1 is perfect"
    yield f"    {'law':<12}{'error':>9}{'MAPE':>9}{'over power law':>17}{'over last value':>17}"
    for name, test in forecast.backtests.items():
        mark = "*" if name == forecast.fit.name else " "
        if not test.errors:
            yield f"   {mark}{name:<12}{'-':>9}"
            continue
        skill = skill_over(test, power)
        yield f"   {mark}{name:<12}{100 * test.error:>8.2f}%{test.mape:>8.2f}%{skill:>17.2f}{test.skill:>17.2f}"


def chart(forecast: Forecast) -> Iterator[str]:
    """Loss over steps: points fitted (o), points beyond (.), the law (-) and its band (:)."""
    run = forecast.run
    grid = np.linspace(run.cut, run.horizon, WIDTH)
    law, lower, upper = (values * run.level(grid) for values in forecast.band(grid))
    shown = run.steps >= run.cut
    steps, loss = run.steps[shown], run.loss[shown]
    column = np.clip(np.searchsorted(grid, steps, side="right") - 1, 0, WIDTH - 1)
    top = float(np.quantile(loss, 0.995))
    low = min(float(loss.min()), forecast.final.low)
    high = max(top, forecast.final.high)

    def row(value: float) -> int:
        return int(np.clip(round((high - value) / max(high - low, 1e-12) * (HEIGHT - 1)), 0, HEIGHT - 1))

    canvas = [[" "] * WIDTH for _ in range(HEIGHT)]
    for place in range(WIDTH):
        if grid[place] > run.until:
            for at in range(row(upper[place]), row(lower[place]) + 1):
                canvas[at][place] = ":"
        canvas[row(law[place])][place] = "-"
    for place in np.unique(column):
        here = column == place
        symbol = "o" if grid[place] <= run.until else "."
        canvas[row(float(np.median(loss[here])))][place] = symbol
    for at, cells in enumerate(canvas):
        label = f"{loss_text(high - (high - low) * at / (HEIGHT - 1)):>9}" if at % 5 == 0 else " " * 9
        yield f"{label} |{''.join(cells)}".rstrip()
    ends = f"{run.cut:,.0f}", f"{run.horizon:,.0f}"
    yield f"{'':9} +{'-' * WIDTH}"
    yield f"{'':11}{ends[0]}{ends[1]:>{WIDTH - len(ends[0])}}"
    yield f"{'':11}{run.axis}s; o fitted  . later  - law  : 90% band"
