"""What is launched is compiled as it is launched; 32-bit offsets and TF32, which no small number shows, are seen."""

from importlib.util import find_spec

import pytest

pytest.importorskip("torch")

from llmtool.core.bench.launches import broken, compile_launches, offsets

ADDRESS = """
    %0 = tt.get_program_id x : i32 loc(#loc2)
    %x_ptr_1 = tt.splat %x_ptr : !tt.ptr<f32> -> tensor<16x!tt.ptr<f32>> loc(#loc3)
    %x_ptr_2 = tt.addptr %x_ptr_1, %at : tensor<16x!tt.ptr<f32>>, tensor<16x{0}> loc(#loc3)
    %3 = tt.load %x_ptr_2 : tensor<16x!tt.ptr<f32>> loc(#loc4)
"""
DOT = "    %4 = tt.dot %a, %b, %c{0} : tensor<16x16x{1}> * tensor<16x16x{1}> -> tensor<16x16xf32>\n"


def test_offsets_of_32_bits_are_found() -> None:
    assert offsets(ADDRESS.format("i32"), "x_ptr") == {"i32"}
    assert broken(ADDRESS.format("i32"), {"x_ptr": "*fp32"}) == ["x_ptr is addressed by 32-bit offsets alone"]
    assert broken(ADDRESS.format("i64"), {"x_ptr": "*fp32"}) == []
    scalar = "    %1 = tt.addptr %x_ptr, %0 : !tt.ptr<f32>, i64\n" + ADDRESS.format("i32").replace(
        "splat %x_ptr", "splat %1"
    )
    assert broken(scalar, {"x_ptr": "*fp32"}) == []
    assert broken(ADDRESS.format("i32").replace("x_ptr", "weight_ptr"), {"weight_ptr": "*fp32"}) == []


def test_tf32_is_found() -> None:
    assert broken(DOT.format(", inputPrecision = tf32", "f32"), {}) == ["float32 is multiplied as TF32"]
    assert broken(DOT.format("", "f32"), {}) == []
    assert broken(DOT.format(", inputPrecision = tf32", "bf16"), {}) == []


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
@pytest.mark.parametrize(
    "ops, dtype, kernels",
    [
        (["swiglu", "shared_softmax_attention"], "float32", {"forward_kernel", "backward_kernel", "weigh_kernel"}),
        (["linear_cross_entropy", "grouped_gemm"], "bfloat16", {"step_kernel", "rows_kernel", "weight_kernel"}),
    ],
)
def test_real_launches(ops: list[str], dtype: str, kernels: set[str]) -> None:
    """Of ops by bytes and with products; `python -m llmtool.core.bench.launches` takes all. No row of theirs spills."""
    rows = list(compile_launches(ops, "sm_90", [dtype]))
    assert [f"{row['op']} {row['where']}: {row['problems']}" for row in rows if row["problems"]] == []
    assert {row["kernel"] for row in rows} == kernels
    assert any(row["unaligned"] for row in rows)
    assert any(not row["unaligned"] for row in rows)
