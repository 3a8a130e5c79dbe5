"""Logs that go on a little beyond the horizon that their reader names."""

from dataclasses import replace

import numpy as np
import pytest

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.forecast import forecast
from llmtool.methods.temporal_scaling.run import prepare
from tests.methods.temporal_scaling import synthetic

LOG = synthetic.log("cosine", every=20)
WITHIN = 19_960.0


@pytest.mark.parametrize("until", ["50%", "10000", "100%"])
def test_what_lies_beyond_is_left_out(until: str) -> None:
    """10 steps of 7,640 beyond a horizon of 7,630 were refused, with the hint to give --fit-until, which was given."""
    run = prepare(LOG, until=until, horizon=WITHIN)
    assert run.horizon == WITHIN
    assert run.steps[-1] == WITHIN
    assert run.left_out == 2
    assert run.until == {"50%": WITHIN / 2, "10000": 10_000, "100%": WITHIN}[until]


def test_the_forecast_is_that_of_the_log_that_ends_there() -> None:
    train = LOG.losses["train"]
    keep = train.steps <= WITHIN
    short = replace(LOG, losses={"train": replace(train, steps=train.steps[keep], values=train.values[keep])})
    made, alike = (forecast(prepare(log, until="50%", horizon=WITHIN)) for log in (LOG, short))
    assert made.final.value == alike.final.value


def test_without_a_place_to_look_to_it_is_refused() -> None:
    with pytest.raises(UserError, match=r"the horizon 19,960 lies before the last step 20,000"):
        prepare(LOG, horizon=WITHIN)
    with pytest.raises(UserError, match="lies outside the run"):
        prepare(LOG, horizon=WITHIN, until="19980")


def test_whole_logs_leave_nothing_out() -> None:
    run = prepare(LOG, until="50%")
    assert run.left_out == 0
    assert np.array_equal(run.steps, LOG.losses["train"].steps)
