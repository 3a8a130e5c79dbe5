"""What the tests of every op share: where kernels run, and the gate as an assertion."""

from importlib.util import find_spec

import pytest
import torch

from llmtool.core.bench.gate import check
from llmtool.core.kernels.launch import interpreting
from llmtool.core.kernels.spec import OURS, Case, Spec

DEVICE = torch.device("cuda" if torch.cuda.is_available() and not interpreting() else "cpu")

kernel_test = pytest.mark.skipif(
    find_spec("triton") is None or (DEVICE.type == "cpu" and not interpreting()), reason="needs triton"
)
"""Marks a test that runs a Triton kernel: on the GPU, or where there is none in Triton's interpreter."""


def passes(spec: Spec, case: Case, dtype: torch.dtype, implementation: str = OURS) -> None:
    """Outputs and gradients of one case equal the float64 reference's."""
    compute = spec.implementation(implementation).load()
    for direction in spec.directions:
        verdict = check(spec, compute, case, dtype, direction, DEVICE)
        assert verdict.passed, f"{direction}: {verdict.reason}"
