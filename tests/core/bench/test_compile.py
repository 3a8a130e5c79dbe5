"""What the compiler check finds in machine code, and that it finds what is wrong."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")


from llmtool.core.bench.compile import check_archs, compile_ops, problems
from llmtool.core.bench.machine_code import Loop, MachineCode, matrix_loop, resident, resources
from llmtool.core.kernels.spec import CompileConfig
from llmtool.core.run.errors import UserError
from tests.commands.bench.command import bench

GOOD = MachineCode(registers=64, spills=0, shared=1024, tensor_cores=4, wide_loads=2, instructions=100)


def config(**changes: Any) -> CompileConfig:
    return CompileConfig("one", None, {}, {}, tensor_cores=True, wide_loads=True, **changes)


def test_good_code_has_no_problems() -> None:
    assert problems(config(), GOOD, "sm_90") == []


@pytest.mark.parametrize(
    "change, said",
    [
        ({"spills": 8}, "8 bytes spilled"),
        ({"shared": 232_449}, "232,449 bytes of shared memory"),
        ({"tensor_cores": 0}, "no tensor-core instruction"),
        ({"wide_loads": 0}, "no 128-bit load"),
    ],
)
def test_each_promise_is_held(change: dict[str, int], said: str) -> None:
    code = MachineCode(**{**GOOD.__dict__, **change})
    assert [said in problem for problem in problems(config(), code, "sm_90")] == [True]


def test_limits_of_a_configuration() -> None:
    assert problems(config(max_registers=32), GOOD, "sm_80")
    assert problems(config(max_shared=512), GOOD, "sm_80")


def test_shared_memory_is_the_architectures() -> None:
    code = MachineCode(**{**GOOD.__dict__, "shared": 200_000})
    assert problems(config(), code, "sm_80")
    assert not problems(config(), code, "sm_90")


def test_resource_line() -> None:
    line = " Function k:\n  REG:114 STACK:16 SHARED:0 LOCAL:0 CONSTANT[0]:952 TEXTURE:0 SURFACE:0 SAMPLER:0"
    assert resources(line) == {"REG": 114, "STACK": 16, "SHARED": 0, "LOCAL": 0, "CONSTANT": 952} | dict.fromkeys(
        ("TEXTURE", "SURFACE", "SAMPLER"), 0
    )
    with pytest.raises(RuntimeError):
        resources("nothing")


def test_warps_of_a_multiprocessor() -> None:
    """What binds: registers, shared memory, warps, blocks; by hand from the tables of the architectures."""
    assert resident(registers=32, shared=0, warps=4, capability=90) == 64
    assert resident(registers=168, shared=0, warps=4, capability=90) == 12  # 5,376 a warp: 12 warps of 65,536
    assert resident(registers=168, shared=0, warps=8, capability=90) == 8
    assert resident(registers=32, shared=147_456, warps=8, capability=90) == 8  # 228 KiB hold one block
    assert resident(registers=32, shared=65_536, warps=8, capability=80) == 16  # 164 KiB hold two
    assert resident(registers=16, shared=0, warps=1, capability=90) == 32  # blocks
    assert resident(registers=32, shared=0, warps=8, capability=86) == 48


LOOP = """
        /*0100*/                   MOV R1, R2 ;
        /*0110*/                   HGMMA.64x256x16.F32.BF16 R24, gdesc[UR8], R24 ;
        /*0120*/                   IADD3 R1, R1, 0x1, RZ ;
        /*0130*/                   HGMMA.64x256x16.F32.BF16 R24, gdesc[UR8], R24, gsb0 ;
        /*0140*/               @P1 BRA 0x110 ;
        /*0150*/              @!P5 BRA 0x200 ;
        /*0160*/                   BRA 0x100;
        /*0170*/                   BRA 0x170;
"""


def test_the_loop_of_the_products() -> None:
    """The innermost branch backwards; a product of 64 x 256 x 16 takes the four tensor cores 128 cycles."""
    lines = LOOP.strip("\n").splitlines()
    found = matrix_loop(lines, 90)
    assert found == Loop(instructions=4, products=2, cycles=256.0)
    assert found.issue == 4 / 256
    assert matrix_loop(lines[:2] + lines[5:6], 90) is None
    assert matrix_loop(lines, 80) is None
    ampere = [line.replace("HGMMA.64x256x16.F32.BF16", "HMMA.16816.F32.BF16") for line in lines]
    assert matrix_loop(ampere, 80) == Loop(instructions=4, products=2, cycles=16.0)


def test_a_loop_that_starves_the_tensor_cores_is_a_problem() -> None:
    code = MachineCode(**{**GOOD.__dict__, "issue": 1.25})
    assert problems(config(), code, "sm_90") == []
    assert problems(config(max_issue=1.0), code, "sm_90") == [
        "1.25 instructions a cycle of the loop's products, 1.0 allowed"
    ]


def test_unknown_architecture() -> None:
    with pytest.raises(UserError, match="sm_91"):
        check_archs(["sm_91"])


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
def test_other_architectures_are_not_skipped_in_silence(tmp_path: Path) -> None:
    rows = list(compile_ops(["swiglu"], ["sm_89", "sm_120"], cache=str(tmp_path)))
    assert [(row["arch"], row["problems"]) for row in rows] == [("sm_89", []), ("sm_120", [])] * 2


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
def test_command(tmp_path: Path) -> None:
    """`--check` exits with 3 where a promise is broken, 0 where none is."""
    assert bench("compile", "rms_norm", "--arch", "sm_90", "--first", "--check", cache=tmp_path).returncode == 0
    wrong = bench("compile", "rms_nrom", cache=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: op 'rms_nrom' is not known (did you mean 'rms_norm'?)\n"
