"""Tuning takes the fastest sound candidate of each size, and nothing else."""

from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench import tune
from llmtool.core.bench.gate import Truth
from llmtool.core.bench.timer import Timing
from llmtool.core.bench.tune import rows_of, tune_op
from llmtool.core.kernels.registry import OPS, load_spec
from llmtool.core.kernels.spec import Tuning, case
from llmtool.core.kernels.tuning import FACTS, lookup, table, tried
from tests.commands.bench.command import bench
from tests.core.bench import planted
from tests.core.bench.planted import Planted
from tests.core.kernels.gate import DEVICE, kernel_test


class Tunable(Planted):
    """Of its candidates the last cannot fit; "backward" says of a kernel that it runs where it does not."""

    late = False

    def tunings(self) -> Mapping[str, Tuning]:
        tiles = [{"BLOCK": size} for size in (1, 2, 4, 1 << 20)]
        found = {"forward": Tuning(tiles, shared=lambda candidate, itemsize: candidate["BLOCK"] * itemsize)}
        return {**found, "backward": Tuning(tiles)} if self.late else found


def block() -> int:
    return lookup("planted", "forward", (), 0, torch.float32)["BLOCK"]


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> Tunable:
    """Ours takes 1 s with a block of 2, with which it is wrong, 2 s with 4, 5 s with 1; the reference takes 3 s."""

    def measure(calls: Mapping[str, Any], *_: Any) -> dict[str, Timing]:
        taken = {name: {1: 5.0, 2: 1.0, 4: 2.0}[block()] if name in ("", "forward float32") else 3.0 for name in calls}
        return {name: Timing(number, number, number, number, 5) for name, number in taken.items()}

    monkeypatch.setattr(tune, "measure", measure)
    monkeypatch.setattr(planted, "ours", lambda x: x * (3 if block() == 2 else 2))
    monkeypatch.setitem(table()["default"], "planted", {"forward": [{"up_to": 1, "BLOCK": 1}]})
    return Tunable()


def test_the_fastest_sound_candidate_wins(spec: Tunable) -> None:
    found = list(tune_op(spec, spec.cases("small"), torch.float32, torch.device("cpu")))
    assert [(each["kernel"], each["candidates"], each["fitting"]) for each in found] == [("forward float32", 4, 3)] * 2
    rows = rows_of("GPU", found)["GPU"]["planted"]["forward float32"]
    assert rows == [
        {"up_to": size, "BLOCK": 4, "seconds": 2.0, "rival": "reference", "rival_seconds": 3.0} for size in (123, 128)
    ]


def test_a_kernel_that_does_not_run_is_not_measured(spec: Tunable) -> None:
    """Timed in a direction in which it is not launched, every candidate of it would seem equal."""
    spec.late = True
    with pytest.raises(LookupError, match="backward float32 does not run in forward"):
        list(tune_op(spec, spec.cases("small"), torch.float32, torch.device("cpu")))


def test_nothing_is_begun_when_time_is_over(spec: Tunable) -> None:
    assert not list(tune_op(spec, spec.cases("small"), torch.float32, torch.device("cpu"), until=0.0))


def test_tried_ends() -> None:
    usual = lookup("swiglu", "forward", (), 64)
    with tried("swiglu", "forward", {"BLOCK": 64, "num_warps": 1}):
        assert lookup("swiglu", "forward", (), 64) == {"BLOCK": 64, "num_warps": 1}
    assert lookup("swiglu", "forward", (), 64) == usual


def test_architecture_before_default() -> None:
    assert lookup("grouped_gemm", "rows", ("NVIDIA Unknown", "sm_90"), 1)["num_warps"] == 8
    assert lookup("swiglu", "forward", ("NVIDIA Unknown", "sm_90"), 1) == lookup("swiglu", "forward", (), 1)


@pytest.mark.parametrize("op", OPS)
def test_every_kernel_of_the_table_has_candidates_with_its_keys(op: str) -> None:
    tunings = load_spec(op).tunings()
    assert tunings
    for kernel, each in tunings.items():
        keys = {key for row in table()["default"][op][kernel] for key in row} - set(FACTS)
        assert all(candidate.keys() == keys for candidate in each.candidates)


@kernel_test
@pytest.mark.parametrize("op", OPS)
def test_every_kernel_is_launched_where_it_is_tuned(op: str) -> None:
    """In its direction, form and element type; with the table's own configuration as the only candidate."""
    spec = load_spec(op)
    for kernel, each in spec.tunings().items():
        case = next(case for case in CASES.get(op, spec.cases("odd")) if each.runs(case))
        usual = lookup(op, kernel, (), spec.tuned_size(case), torch.float32)
        with tried(op, f"{kernel} float32", usual) as used:
            truth = Truth(spec, case, torch.float32, DEVICE)
            assert truth.judge(spec.implementation(each.implementation).load(), each.direction).passed
            assert used(), f"{op} {kernel}"


CASES = {"dsmoe_ffn": [case(tokens=n, width=32, inner=64, experts=4, active=2) for n in (1, 2, 600)]}
"""Where an op's odd cases do not reach all of its kernels."""


@kernel_test
def test_configurations_reach_the_kernel() -> None:
    """A wrong one is refused by the gate, a right one is timed: through the real launch."""
    spec = load_spec("swiglu")
    case, ours = spec.cases("odd")[1], spec.implementation("ours").load()
    truth = Truth(spec, case, torch.float32, DEVICE)
    with tried("swiglu", "forward float32", {"BLOCK": 100, "num_warps": 1}):  # no power of two
        assert not truth.judge(ours, "forward").passed
    with tried("swiglu", "forward float32", {"BLOCK": 1024, "num_warps": 1}):
        assert truth.judge(ours, "forward").passed


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_tune() -> None:
    done = bench("kernels", "swiglu", "--tune")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no GPU is available")
