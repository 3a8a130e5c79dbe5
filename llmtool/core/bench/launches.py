"""What the host functions really launch, compiled with no GPU: element types, sizes that 16 does not divide, strides.

    python -m llmtool.core.bench.launches swiglu rope --arch sm_90

prints one JSON object a launch that is unlike the others. A case runs on tensors without numbers; each launch is taken
down in place of the device, specialised as Triton's launcher does it (1 is compiled in, multiples of 16 are known to
be), and compiled. Beside what compile.py looks at, two promises are read from the intermediate code that no run on
small numbers can see: the address of every large tensor is computed in 64 bits, and float32 is multiplied as float32,
not as TF32. A process of its own, with TRITON_INTERPRET unset.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

ELEMENTS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int32": "i32", "int64": "i64"}
SMALL = ("weight_ptr", "rstd_ptr", "partial_ptr", "bias_ptr", "router_ptr", "ends_ptr", "counts_ptr", "losses_ptr",
         "labels_ptr", "cos_ptr", "sin_ptr", "gates_ptr", "weights_ptr", "dweights_ptr", "places_ptr", "lists_ptr",
         "p_ptr")  # fmt: skip
"""Pointers to what has a number a row or a column: no model's reach 2^31 elements."""
FEW = {"triton_decode": ("x_ptr", "a_ptr", "delta_ptr")}
"""By the kernel's module: pointers to a few rows, since the host hands over 16 at most (dsmoe_ffn/triton.py)."""

Row = dict[str, Any]


def compile_launches(ops: Sequence[str], arch: str, dtypes: Sequence[str] = ("bfloat16", "float32")) -> Iterator[Row]:
    """Run this module in a child process; a row for each distinct launch, as they come."""
    command = [sys.executable, "-m", "llmtool.core.bench.launches", *ops, "--arch", arch, "--dtypes", ",".join(dtypes)]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield json.loads(line)
    if child.returncode:
        raise RuntimeError(f"the compiler's process ended with {child.returncode}")


def taken_down(op: str, dtype_name: str, arch: str) -> Iterator[tuple[str, Any, dict[str, Any], dict[str, Any]]]:
    """(implementation and case, kernel, arguments by name, launch options) of an op's odd cases, both directions."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from llmtool.core.bench.gate import draw_inputs, outputs_of
    from llmtool.core.kernels import operators, tuning
    from llmtool.core.kernels.registry import load_spec

    spec, dtype = load_spec(op), getattr(torch, dtype_name)
    found: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    operators.RECORDER = lambda kernel, arguments, constants: found.append((kernel, arguments, constants))
    tuning.PLANNED = (arch,)
    for each in spec.implementations:
        if not each.own or "triton" not in each.packages:
            continue
        for shape in spec.cases("odd"):
            inputs = draw_inputs(spec, shape, dtype, torch.device("cpu"), 0)
            found.clear()
            with FakeTensorMode() as mode:
                fake = tuple(mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for x in inputs)
                outputs_of(spec, each.load(), fake, spec.directions[-1], 0)
            for kernel, arguments, constants in found:
                given = {**dict(zip(kernel.arg_names, arguments, strict=False)), **constants}
                options = {name: given.pop(name) for name in ("num_warps", "num_stages") if name in given}
                yield f"{each.name}, {shape}", kernel, given, options


def specialised(kernel: Any, given: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Signature, compiled-in values, and names of what 16 divides: as a launch makes them."""
    import torch

    signature, constants, divisible = {}, {}, []
    for name in kernel.arg_names:
        value = given[name]
        if name.isupper() or (type(value) is int and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = "*" + ELEMENTS[str(value.dtype).removeprefix("torch.")]
            divisible.append(name)  # what torch allocates is aligned
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if -(1 << 31) <= value < 1 << 31 else "i64"
            if value % 16 == 0:
                divisible.append(name)
    return signature, constants, divisible


def broken(ir: str, signature: dict[str, str]) -> list[str]:
    """What the intermediate code breaks: offsets of 32 bits alone from a large tensor, TF32 for float32."""
    found = []
    for name, kind in signature.items():
        used = offsets(ir, name)  # a pointer that a compiled-in value switches off is not addressed at all
        if kind.startswith("*") and name not in SMALL and used and "i64" not in used:
            found.append(f"{name} is addressed by 32-bit offsets alone")
    if re.search(r"tt\.dot [^\n]*inputPrecision = tf32[^\n]*xf32> \* tensor<[0-9x]+xf32>", ir):
        found.append("float32 is multiplied as TF32")
    return found


def offsets(ir: str, pointer: str) -> set[str]:
    """Integer types of what is added to a pointer argument, and to what that gives."""
    derived, kinds = {f"%{pointer}"}, set()
    for line in ir.splitlines():
        made = re.match(r"\s*(%[\w#:]+) = (tt\.\w+) (%[\w#]+)", line)
        if not made or made[3] not in derived:
            continue
        if made[2] in ("tt.splat", "tt.broadcast", "tt.expand_dims", "tt.addptr"):
            derived.add(made[1])
        if made[2] == "tt.addptr" and (kind := re.search(r", (?:tensor<[0-9x]+x)?(i32|i64)>?(?: loc.*)?$", line)):
            kinds.add(kind[1])
    return kinds


def compile_op(op: str, dtype_name: str, arch: str) -> Iterator[Row]:
    """Every distinct launch of an op in this process."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from llmtool.core.bench.machine_code import SHARED_MEMORY, examine

    capability, seen = int(arch.removeprefix("sm_")), set()
    for where, kernel, given, options in taken_down(op, dtype_name, arch):
        signature, constants, divisible = specialised(kernel, given)
        key = repr((kernel.fn.__name__, signature, constants, divisible, options))
        if key in seen:
            continue
        seen.add(key)
        places = {name: place for place, name in enumerate(kernel.arg_names)}
        attributes = {(places[name],): [["tt.divisibility", 16]] for name in divisible}
        source = ASTSource(kernel, signature, constants, attributes)
        made: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        code = examine(made.asm["cubin"], capability, int(made.metadata.shared), options.get("num_warps", 4))
        few = FEW.get(kernel.fn.__module__.split(".")[-1], ())
        wrong = broken(made.asm["ttir"], {name: kind for name, kind in signature.items() if name not in few})
        if code.spills:
            wrong.append(f"{code.spills} bytes spilled")
        if code.shared > SHARED_MEMORY[capability]:
            wrong.append(f"{code.shared:,} bytes of shared memory")
        yield {"op": op, "kernel": kernel.fn.__name__, "dtype": dtype_name, "arch": arch, "where": where,
               "unaligned": [n for n, kind in signature.items() if kind == "i32" and n not in divisible],
               **code.__dict__, "problems": wrong}  # fmt: skip


def main() -> None:
    """The child process."""
    words = sys.argv[1:]
    place = words.index("--arch")
    for op in words[:place]:
        for dtype in words[place + 3].split(","):
            for row in compile_op(op, dtype, words[place + 1]):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
