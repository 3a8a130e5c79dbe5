"""How often a short run evaluates, and which losses are jumps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool.core.train.evaluations import plan
from llmtool.core.train.jumps import Jumps

COUNTS = st.integers(1, 200_000)


@given(st.lists(COUNTS, min_size=1, max_size=4), st.integers(1, 3000), st.integers(2, 5000))
def test_by_default_evaluation_reads_no_more_than_the_updates(sizes: list[int], steps: int, batch: int) -> None:
    found = plan(None, None, sizes, steps, batch)
    times = sum(step == steps or step % found.every == 0 for step in range(1, steps + 1))  # as the loop counts
    read = times * sum(min(found.tokens, size) for size in sizes)
    assert found.every >= 1
    assert found.tokens >= 1
    if steps * batch >= len(sizes) * times:
        assert read <= steps * batch
    usual = 20 * sum(min(32768, size) for size in sizes)
    assert bool(found.note) == (found.every != max(1, steps // 20) or found.tokens != 32768)
    if usual <= steps * batch and steps % 20 == 0:
        assert (found.every, found.tokens) == (steps // 20, 32768)


def test_what_was_asked_for_stays_and_its_share_is_said() -> None:
    assert plan(3, 100, [5000], 30, 1000) == plan(3, 100, [100], 30, 1000)
    asked = plan(1, 32768, [40_000, 40_000], 7, 8192)
    assert (asked.every, asked.tokens) == (1, 32768)
    assert "458,752 tokens, the updates 57,344: about 73% of the time" in asked.note
    assert plan(0, 10_000, [10_000], 1000, 10).every == 0
    assert plan(None, 32768, [40_000], 7, 8192).every == 7  # once, at the end
    assert plan(None, None, [], 100, 10).every == 5


def first_jump(losses: list[float]) -> int | None:
    jumps = Jumps()
    found = [jumps.above(loss) for loss in losses]
    return next((place for place, above in enumerate(found) if above is not None), None)


def test_jumps_are_told_from_noise() -> None:
    draw = np.random.default_rng(0)
    fresh = 4 + 5 * np.exp(-np.arange(300) / 40) + draw.normal(0, 0.15, 300)
    assert first_jump(fresh.tolist()) is None
    answers = 1.5 + draw.normal(0, 0.4, 300)  # one short row a step
    assert first_jump(answers.tolist()) is None
    assert first_jump([6.40, 10.37, 7.61, 6.71]) == 1
    assert first_jump([3.1, 3.0, 3.1, 4.6]) == 3
    by_turns = [3.784, 2.314, 3.394, 2.648, 2.376, 4.019, 2.914, 3.415]  # rows of prose and of code, four a step
    assert first_jump(by_turns) is None
    calm = (2.2 + draw.normal(0, 0.04, 60)).tolist()
    assert first_jump([*calm, 2.9, *calm]) == 60
    rising = [*calm, *(2.2 + 0.05 * step for step in range(40))]
    assert 60 < (first_jump(rising) or 0) < 80
    resumed = Jumps(calm)
    assert resumed.above(2.9) == pytest.approx(0.7, abs=0.05)
