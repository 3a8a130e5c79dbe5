"""90% intervals: how wide, to which side, and whether they cover."""

from dataclasses import replace

import numpy as np
import pytest

from llmtool.methods.temporal_scaling.choice import Fitted
from llmtool.methods.temporal_scaling.fit import UNCOUNTED, Array, Fit, fit, standard_noise
from llmtool.methods.temporal_scaling.forecast import bounds, forecast, lower
from llmtool.methods.temporal_scaling.intervals import (
    ALONE,
    SCALE,
    UNKNOWN_RATE,
    Interval,
    interval,
    interval_score,
    one_sided,
)
from llmtool.methods.temporal_scaling.laws import COOLDOWN
from llmtool.methods.temporal_scaling.run import prepare
from llmtool.methods.temporal_scaling.schedule import Shape
from tests.methods.temporal_scaling.synthetic import HORIZON, log

SHAPES: tuple[Shape, ...] = ("cosine", "wsd", "linear")


def test_intervals_cover() -> None:
    """Runs whose parameters scatter half as much as the prior says, as those of the public runs do."""
    generator = np.random.default_rng(5)
    covered = []
    for number in range(12):
        scatter = np.exp(generator.standard_normal(3) * (0.25, 0.03, 0.05))
        shape: Shape = SHAPES[number % 3]
        made = log(shape, every=200, seed=number, gain=0.38 * scatter[0], alpha=0.45 * scatter[1], p=0.9 * scatter[2])
        run = prepare(made, until="40%")
        final = bounds(fit(COOLDOWN, *run.seen(), run.horizon, run.schedule), run.horizon, 1.0)
        covered.append(final.low <= made.losses["train"].values[-1] <= final.high)
        assert final.high - final.low < 0.12 * final.value
    assert sum(covered) >= 9


def test_an_interval_widens_with_surprise_and_down_where_the_rate_may_fall() -> None:
    noise = standard_noise(0)
    posterior, drift = 3 * np.exp(0.01 * noise[:, 0]), 1e-3 * noise[:, -1]
    sizes = one_sided(len(noise))
    assert (sizes[::2] == 0).all()
    assert (sizes[1::2] > 0).all()
    assert np.quantile(sizes, 0.95) == pytest.approx(1.645, abs=0.2)

    def width(surprise: float, below: float = 0.0) -> float:
        made = interval(3.0, posterior, drift, surprise, below * sizes)
        assert made.low < 3.0 < made.high
        return made.high - made.low

    assert width(2.0) == pytest.approx(2 * width(1.0), rel=0.02)
    assert width(0.5) == width(1.0)
    assert width(1.0, UNKNOWN_RATE) > 1.5 * width(1.0)
    assert width(1.0) == pytest.approx(3 * 2 * 1.645 * 0.008 * SCALE, rel=0.15)
    upper = [interval(3.0, posterior, drift, 1.0, below * sizes).high for below in (0.0, UNKNOWN_RATE)]
    assert upper[1] == upper[0]


def test_an_interval_is_narrowed_where_no_earlier_runs_tell_but_for_what_speaks_against_the_run() -> None:
    fitted = forecast(prepare(log("wsd"), until="60%")).fit
    assert isinstance(fitted, Fit)
    assert fitted.schedule is not None
    at, noise = np.array([HORIZON]), standard_noise(0)
    value, posterior = float(fitted.predict(at)[0]), fitted.draws(at, noise)[:, 0]

    def widths(made: Interval) -> Array:
        return np.abs(np.log(np.array([made.low, made.high]) / value))

    whole = interval(value, posterior, fitted.own_error(at)[0] * noise[:, -1], 1.0, lower(fitted, at, len(noise))[:, 0])
    assert widths(bounds(fitted, HORIZON, 1.0)) == pytest.approx(ALONE * widths(whole), rel=1e-3)
    known = replace(fitted, earlier=1)
    whole = interval(value, posterior, known.own_error(at)[0] * noise[:, -1], 1.0, np.zeros(len(noise)))
    assert widths(bounds(known, HORIZON, 1.0)) == pytest.approx(widths(whole))
    doubted = replace(fitted, elsewhere=0.2)
    assert widths(bounds(doubted, HORIZON, 1.0))[1] == pytest.approx(0.2 * 1.645 * SCALE, rel=0.1)
    uncounted = replace(fitted, elsewhere=0.0, schedule=replace(fitted.schedule, updates=2.0))
    now, then = fitted.schedule.rate(np.array([fitted.until, HORIZON]))
    assert uncounted.own_error(at, 0.0)[0] == pytest.approx(UNCOUNTED * (now - then))


def test_intervals_reach_down_by_the_fall_of_the_rate_ahead() -> None:
    early, late = (forecast(prepare(log("wsd"), until=until)) for until in ("60%", "98%"))
    horizon, draws = np.array([HORIZON]), 200

    def below(fitted: Fitted) -> float:
        """The relative sd of what may be lower, from its draws."""
        return float(np.max(lower(fitted, horizon, draws)) / np.max(one_sided(draws)))

    # Nothing of the fall is seen: a gain of another project takes off 0.08 of the constant where the fall is whole.
    assert isinstance(early.fit, Fit)
    assert 0.03 < below(early.fit) < 0.08
    # Of a fall that is over the gain is known.
    assert below(late.fit) < 0.25 * below(early.fit)
    assert below(late.fit) > 0
    final = early.final
    assert final.value - final.low > 2 * (final.high - final.value)
    most, some = early.gains.values()
    assert some.value < most.value - 0.04
    assert final.low == pytest.approx(np.quantile(final.draws, 0.05))
    assert below(replace(early.fit, schedule=None)) == pytest.approx(UNKNOWN_RATE)
    assert below(replace(early.fit, earlier=1)) == 0
    flat = forecast(prepare(log("constant"), until="60%"))
    assert below(flat.fit) == 0
    assert not flat.gains


def test_interval_score() -> None:
    assert interval_score(1.0, 3.0, 2.0) == pytest.approx(1.0)
    assert interval_score(1.0, 3.0, 4.0) == pytest.approx((2 + 20) / 4)
    assert interval_score(1.0, 3.0, 0.5) == pytest.approx((2 + 10) / 0.5)
