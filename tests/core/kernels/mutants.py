"""Mistakes planted in the Triton kernels, one at a time, and the tests that must then be red.

    python -m tests.core.kernels.mutants            # all, some ten minutes of one core
    python -m tests.core.kernels.mutants rope tf32  # those whose name has one of these words

Works on a copy of the package. A mutant is run on the tests of its op, or, where no run on small numbers can show it,
through the compiler: what is really launched is compiled and its intermediate code read. Two are not in the list, for
they change nothing: a mask on a load whose value another mask discards, and `maximum` for a branch that equals it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
KERNELS = Path("llmtool/core/kernels")


@dataclass(frozen=True)
class Mutant:
    """One mistake."""

    name: str
    file: str
    """Below core/kernels."""
    old: str
    new: str
    tests: str | None = None
    """A file in tests/core/kernels, with options; None: the compiler is asked."""

    @property
    def op(self) -> str:
        """The kernel's folder."""
        return self.file.partition("/")[0]


def triton(op: str, name: str, old: str, new: str, tests: str | None = "") -> Mutant:
    """A mistake in OP/triton.py, for the tests of the op."""
    return Mutant(f"{op}: {name}", f"{op}/triton.py", old, new, f"test_{op}.py" if tests == "" else tests)


SPARSE = "dsmoe_ffn/triton_prefill.py"
MUTANTS = [
    triton("rms_norm", "32-bit offsets", "row = tl.program_id(0).to(tl.int64) * ROWS", "row = tl.program_id(0) * ROWS",
           None),
    triton("rms_norm", "mean over the lanes", "tl.sum(x * x, 1) / width", "tl.sum(x * x, 1) / COLS"),
    triton("rms_norm", "no epsilon", "/ width + eps)", "/ width)"),
    triton("rms_norm", "not rounded before the weight", "(x * rstd[:, None]).to(loaded.dtype)", "(x * rstd[:, None])"),
    triton("rms_norm", "projection forgotten in dx", "(g - n * (tl.sum(g * n, 1) / width)[:, None])", "g"),
    triton("rms_norm", "tiles of one program only", "tl.num_programs(0)):", "tl.num_programs(0) + 1):"),
    triton("swiglu", "32-bit offsets", "at = tl.program_id(0).to(tl.int64) * BLOCK", "at = tl.program_id(0) * BLOCK",
           None),
    triton("swiglu", "derivative without its second term", "(1.0 + gate * (1.0 - s))", "1.0"),
    triton("swiglu", "last block not written", "(triton.cdiv(count, tile[\"BLOCK\"]),), gate, up, y",
           "(max(1, count // tile[\"BLOCK\"]),), gate, up, y"),
    triton("rope", "output strides of the input", "*q_out.stride()[:3], *k_out.stride()[:3]",
           "*q.stride()[:3], *k.stride()[:3]", "test_hostile.py"),
    triton("rope", "turned forward in backward", "cos, sin, -ctx.sign)", "cos, sin, ctx.sign)"),
    triton("rope", "one table for all heads", "table = (head // groups)[:, None]", "table = (head * 0)[:, None]"),
    triton("rope", "halves exchanged", "(a * cos - b * sin)", "(a * cos + b * sin)"),
    triton("masked_swiglu", "closed blocks read", "col < tl.where(weight != 0, size, 0)", "col < size",
           "test_masked_swiglu.py test_dsmoe_ffn.py"),
    triton("masked_swiglu", "weight forgotten in dup", "(weight * dy * gate * s)", "(dy * gate * s)"),
    triton("linear_cross_entropy", "no largest logit", "tl.exp(x - top) / whole", "tl.exp(x) / whole"),
    triton("linear_cross_entropy", "labels out of range", 'float("nan"), target)', "0.0, target)", "test_hostile.py"),
    triton("linear_cross_entropy", "ignored rows keep their logits", "zero = tl.zeros", "zero = 1 + tl.zeros"),
    triton("grouped_gemm", "a row of the next group", "inside = row < stop", "inside = row <= stop"),
    triton("grouped_gemm", "the first group for all", "group.to(tl.int64) * weight_group", "group.to(tl.int64) * 0"),
    triton("grouped_swiglu", "gate twice", "u = tl.load(up_ptr + weight_at", "u = tl.load(gate_ptr + weight_at"),
    Mutant("dsmoe_ffn: a gate at tau is open", SPARSE, "active = (g > tau)", "active = (g >= tau)", "test_hostile.py"),
    Mutant("dsmoe_ffn: weights not applied", SPARSE, "a = g / (1.0 + tl.exp(-g)) * u * weight[:, None]",
           "a = g / (1.0 + tl.exp(-g)) * u", "test_dsmoe_ffn.py"),
    Mutant("dsmoe_ffn: places of another expert", SPARSE, "place = count + tl.cumsum(on, 0) - 1",
           "place = tl.cumsum(on, 0) - 1", "test_dsmoe_ffn.py"),
    triton("shared_softmax_attention", "32-bit offsets", "place.to(tl.int64)[:, None] * v_place + col",
           "place[:, None] * v_place.to(tl.int32) + col", None),
    triton("shared_softmax_attention", "TF32 for float32", "\"ieee\" if v.dtype == torch.float32 else \"tf32\"",
           "\"tf32\"", None),
    triton("shared_softmax_attention", "a stretch twice", "first = split * stretch", "first = 0"),
]  # fmt: skip


def survivors(words: list[str]) -> Iterator[tuple[Mutant, bool, str]]:
    """(mutant, whether it was found, what was said last) of those that are asked for."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("llmtool", "tests"):
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)
        for mutant in MUTANTS:
            if words and not any(word in mutant.name for word in words):
                continue
            file = place / KERNELS / mutant.file
            right = file.read_text()
            assert mutant.old in right, f"{mutant.name}: {mutant.old!r} is not in {mutant.file}"
            file.write_text(right.replace(mutant.old, mutant.new))
            found, said = judged(mutant, place)
            file.write_text(right)
            yield mutant, found, said


def judged(mutant: Mutant, place: Path) -> tuple[bool, str]:
    """Whether the tests of a copy with this mistake are red, or the compiler's check names it."""
    if mutant.tests is None:
        done = run(place, COMPILE.format(mutant.op), interpreted=False)
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        return done.returncode == 1 and ("32-bit" in said[0] or "TF32" in said[0]), said[0]
    files = [f"tests/core/kernels/{name}" for name in mutant.tests.split()]
    done = run(place, f"import pytest\nraise SystemExit(pytest.main({[*OPTIONS, *files]!r}))", interpreted=True)
    if done.returncode < 0:  # an address that is none ends the interpreter
        return True, f"ended by {signal.Signals(-done.returncode).name}"
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return done.returncode == 1 and bool(lines), lines[0] if lines else (done.stderr or done.stdout)[-200:]


HERE = """
import sys
sys.meta_path = [each for each in sys.meta_path if not type(each).__module__.startswith(("_editable", "__editable"))]
import llmtool
assert llmtool.__file__.startswith({!r}), llmtool.__file__
"""
"""An editable installation goes before the current directory: here the copy is meant."""

COMPILE = """
from llmtool.core.bench.launches import compile_op
for row in compile_op({!r}, "float32", "sm_90"):
    if row["problems"]:
        raise SystemExit("; ".join(row["problems"]))
"""
OPTIONS = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers"]


def run(place: Path, code: str, *, interpreted: bool) -> subprocess.CompletedProcess[str]:
    """This code in a process that imports the package from `place`."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_INTERPRET": "1"} if interpreted else {}
    command = [sys.executable, "-c", HERE.format(str(place)) + code]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


def main() -> None:
    """A line a mutant; status 3 where one survives."""
    alive = 0
    for mutant, found, said in survivors(sys.argv[1:]):
        alive += not found
        print(f"{'found   ' if found else 'SURVIVED'} {mutant.name}: {said}", flush=True)
    raise SystemExit(3 if alive else 0)


if __name__ == "__main__":
    main()
