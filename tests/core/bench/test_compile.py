"""What the compiler check finds in machine code, and that it finds what is wrong."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")


from llmtool.core.bench.compile import check_archs, compile_ops, problems
from llmtool.core.bench.machine_code import MachineCode, resources
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
    assert wrong.returncode == 1
    assert wrong.stderr == "error: op 'rms_nrom' is not known (did you mean 'rms_norm'?)\n"
