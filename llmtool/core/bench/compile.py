"""Compile our Triton kernels ahead of time, with no GPU, and judge the machine code.

    python -m llmtool.core.bench.compile rms_norm --archs sm_80,sm_90,sm_100

prints one JSON object a line. It is a process of its own, with TRITON_INTERPRET unset: a Triton that interprets
cannot compile. Each configuration states what its code must look like (core/kernels/spec.py: CompileConfig); here it
is held to it: no spills, registers, the architecture's shared memory, its tensor-core instruction, 128-bit loads.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmtool.core.run.errors import ChoiceError
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.core.run.numbers import whole

if TYPE_CHECKING:
    from llmtool.core.bench.machine_code import MachineCode
    from llmtool.core.kernels.spec import CompileConfig


LIKE = {"sm_86": "sm_80", "sm_89": "sm_80", "sm_103": "sm_100", "sm_120": "sm_80"}
"""Architectures that take the configurations of another: tuning.json gives them its defaults, as it gives sm_80."""


def compile_ops(
    ops: Sequence[str], archs: Sequence[str], *, first: bool = False, cache: str | None = None
) -> Iterator[dict[str, Any]]:
    """Run this module in a child process; a row for each configuration and architecture, as they come.

    first: only the first configuration of each kernel of an op (CI). cache: Triton's cache directory.
    """
    command = [sys.executable, "-m", "llmtool.core.bench.compile", *ops, "--archs", ",".join(archs)]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    if cache is not None:
        environment["TRITON_CACHE_DIR"] = cache
    with subprocess.Popen(
        [*command, "--first"] if first else command, env=environment, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield parse_json(line)
    if child.returncode:
        raise RuntimeError(f"the compiler's process ended with {child.returncode}")


def check_archs(archs: Sequence[str]) -> None:
    """Refuse names that are no architecture with tensor cores that Triton compiles for."""
    from llmtool.core.bench.machine_code import SHARED_MEMORY

    known = [f"sm_{number}" for number in SHARED_MEMORY]
    for arch in archs:
        if arch not in known:
            raise ChoiceError(f"architecture {arch!r} is not known", hint=f"one of {', '.join(known)}")


def chosen(configs: "Sequence[CompileConfig]", first: bool) -> "list[CompileConfig]":
    """All, or the first of each kernel for each architecture."""
    if not first:
        return list(configs)
    seen: dict[tuple[int, tuple[str, ...]], CompileConfig] = {}
    for config in configs:
        seen.setdefault((id(config.kernel), config.archs), config)
    return list(seen.values())


def compile_config(config: "CompileConfig", arch: str) -> tuple["MachineCode", float]:
    """Compile for an architecture ("sm_90"); the code's facts and the seconds it took."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from llmtool.core.bench.machine_code import examine

    capability = _capability(arch)
    names = config.kernel.arg_names
    signature = {name: config.signature.get(name, "constexpr") for name in names}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in config.divisible}
    source = ASTSource(config.kernel, signature, dict(config.constexprs), attributes)
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages, **config.options}
    started = time.perf_counter()
    made: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    seconds = time.perf_counter() - started
    return examine(made.asm["cubin"], capability, int(made.metadata.shared), config.num_warps), seconds


def _capability(arch: str) -> int:
    """sm_90a -> 90."""
    return whole(arch.removeprefix("sm_").rstrip("a"), arch)


def problems(config: "CompileConfig", code: "MachineCode", arch: str) -> list[str]:
    """What the code breaks of its configuration's promises."""
    from llmtool.core.bench.machine_code import SHARED_MEMORY

    room = SHARED_MEMORY[_capability(arch)]
    room = min(room, config.max_shared or room)
    found = []
    if code.spills:
        found.append(f"{code.spills} bytes spilled")
    if code.registers > config.max_registers:
        found.append(f"{code.registers} registers, {config.max_registers} allowed")
    if code.shared > room:
        found.append(f"{code.shared:,} bytes of shared memory, {room:,} allowed")
    if config.max_issue is not None and code.issue is not None and code.issue > config.max_issue:
        found.append(f"{code.issue:.2f} instructions a cycle of the loop's products, {config.max_issue} allowed")
    if config.tensor_cores and not code.tensor_cores:
        found.append("no tensor-core instruction")
    if config.wide_loads and not code.wide_loads:
        found.append("no 128-bit load")
    return found


def compile_op(name: str, archs: Sequence[str], first: bool) -> Iterator[dict[str, Any]]:
    """Every configuration of an op in this process."""
    from llmtool.core.kernels.registry import load_spec

    for config in chosen(load_spec(name).compile_configs(), first):
        for arch in archs:
            if LIKE.get(arch, arch) not in config.archs:
                continue
            row: dict[str, Any] = {
                "op": name, "config": config.name, "arch": arch, "num_warps": config.num_warps,
                "num_stages": config.num_stages, "constexprs": dict(config.constexprs),
            }  # fmt: skip
            try:
                code, seconds = compile_config(config, arch)
            except Exception as error:  # whatever Triton or ptxas raises is a finding
                yield {**row, "problems": [f"does not compile: {type(error).__name__}: {_last_line(error)}"]}
                continue
            yield {**row, **code.__dict__, "seconds": round(seconds, 2), "problems": problems(config, code, arch)}


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def main() -> None:
    """The child process."""
    arguments = sys.argv[1:]
    first = "--first" in arguments
    place = arguments.index("--archs")
    for op in arguments[:place]:
        for row in compile_op(op, arguments[place + 1].split(","), first):
            print(dumps(row), flush=True)


if __name__ == "__main__":
    main()
