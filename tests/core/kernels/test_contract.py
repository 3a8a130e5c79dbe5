"""Every op's folder, spec and tests are where the contract says; every kernel compiles well for every architecture."""

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

import llmtool.core.kernels
from llmtool.core.bench.compile import compile_ops
from llmtool.core.kernels.registry import OPS, load_spec
from llmtool.core.kernels.spec import ARCHITECTURES, OURS, REFERENCE, SIZES

FOLDER = Path(llmtool.core.kernels.__file__).parent


@pytest.mark.parametrize("op", OPS)
def test_names_are_mirrored(op: str) -> None:
    assert {"reference.py", "triton.py", "spec.py", "__init__.py"} <= {path.name for path in (FOLDER / op).iterdir()}
    assert (Path(__file__).parent / f"test_{op}.py").exists()
    spec = load_spec(op)
    assert spec.name == op
    assert spec.implementations[0].name == REFERENCE
    assert spec.implementation(OURS).own


def test_no_folder_without_a_row() -> None:
    assert {path.parent.name for path in FOLDER.glob("*/spec.py")} == set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_costs_and_inputs(op: str) -> None:
    spec = load_spec(op)
    for sizes in SIZES:
        for case in spec.cases(sizes):
            for direction in spec.directions:
                assert spec.flops(case, direction) > 0
                assert spec.bytes(case, torch.bfloat16, direction) > 0
    for case in spec.cases("odd"):
        made = [
            spec.make_inputs(case, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(1))
            for _ in range(2)
        ]
        for x, again in zip(*made, strict=True):
            if isinstance(x, torch.Tensor):
                assert torch.equal(x, again)
                assert not x.is_floating_point() or bool((x != 0).any())


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
@pytest.mark.parametrize("op", OPS)
def test_compiles_well(op: str, tmp_path: Path) -> None:
    """One configuration of each kernel for each architecture; `llmtool bench compile` does them all."""
    rows = list(compile_ops([op], ARCHITECTURES, first=True, cache=str(tmp_path)))
    assert {row["arch"] for row in rows} == set(ARCHITECTURES)
    assert [f"{row['config']} {row['arch']}: {row['problems']}" for row in rows if row["problems"]] == []
