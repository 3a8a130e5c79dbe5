"""Tuning takes the fastest sound candidate of each size, and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool.core.bench import tune
from llmtool.core.bench.tune import rows_of, tune_op
from llmtool.core.kernels.registry import OPS, load_spec
from llmtool.core.kernels.spec import Case
from llmtool.core.kernels.tuning import lookup, table, tried
from tests.core.bench.command import bench
from tests.core.bench.planted import Planted
from tests.core.kernels.gate import kernel_test


class Tunable(Planted):
    def candidates(self) -> Mapping[str, Sequence[Mapping[str, int]]]:
        return {"forward": [{"BLOCK": 1}, {"BLOCK": 2}, {"BLOCK": 4}]}


def test_the_fastest_sound_candidate_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds_of(spec: Any, case: Case, *rest: Any) -> float | None:
        block = lookup("planted", "forward", (), 0)["BLOCK"]
        return {(128, 1): None, (128, 2): 3.0, (128, 4): 2.0, (123, 1): 5.0, (123, 2): 1.0, (123, 4): 9.0}[
            case["width"], block
        ]

    monkeypatch.setattr(tune, "seconds_of", seconds_of)
    spec = Tunable()
    found = tune_op(spec, spec.cases("small"), torch.float32, torch.device("cpu"))
    assert found == {"forward": [{"up_to": 123, "BLOCK": 2}, {"up_to": 128, "BLOCK": 4}]}
    assert rows_of("GPU", {"planted": found, "other": {}}) == {"GPU": {"planted": found}}
    monkeypatch.setattr(tune, "seconds_of", lambda *_: None)
    assert tune_op(spec, spec.cases("small"), torch.float32, torch.device("cpu")) == {}


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
    candidates = load_spec(op).candidates()
    if not candidates:
        pytest.skip(f"{op} is not tuned")
    for kernel, rows in table()["default"][op].items():
        if "float32" in kernel:
            continue
        keys = {key for row in rows for key in row} - {"up_to", "interpreted"}
        assert candidates[kernel]
        assert all(candidate.keys() == keys for candidate in candidates[kernel])


@kernel_test
def test_configurations_reach_the_kernel() -> None:
    """A wrong one is refused by the gate, a right one is timed: through the real launch."""
    spec = load_spec("swiglu")
    case, cpu = spec.cases("odd")[1], torch.device("cpu")
    with tried("swiglu", "forward", {"BLOCK": 100, "num_warps": 1}):  # no power of two
        assert tune.seconds_of(spec, case, torch.float32, cpu, 0.001) is None
    with tried("swiglu", "forward", {"BLOCK": 1024, "num_warps": 1}):
        assert tune.seconds_of(spec, case, torch.float32, cpu, 0.001) is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_tune() -> None:
    done = bench("kernels", "swiglu", "--tune")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no GPU is available")
