"""What an op is to the benchmark, the compiler check and the tests: shapes, rivals, tolerance, cost, configurations.

A folder core/kernels/OP holds reference.py (torch, literal, in the precision of its inputs), triton.py (the kernels
and the host functions that launch them) and spec.py with `SPEC`, an instance of a subclass of Spec. registry.py names
it. Importing spec.py needs torch, not triton: what runs is named as "module:attribute" and imported when used.
"""

import importlib
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

import torch

Compute = Callable[..., Any]
"""Called with what `make_inputs` gives, in order; returns a tensor or a tuple of tensors."""

Direction = Literal["forward", "training"]
"""forward: outputs alone, without gradients. training: outputs, then the gradients of `differentiable` inputs."""

Sizes = Literal["odd", "small", "large"]
"""odd: for correctness, 6, 42, 123 and 431 beside powers of two, in seconds even when interpreted. small: timed on a
CPU. large: timed on a GPU, well past its L2 cache."""
SIZES: tuple[Sizes, ...] = ("odd", "small", "large")

REFERENCE, OURS, CPU = "reference", "ours", "cpu"
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 6e-3}
"""Relative error (of the 2-norm) against float64: a few roundings of the type. bfloat16 rounds by up to 2^-9 = 0.002
of the number, 0.0012 on average; the gate allows twice as much where Triton interprets, which cuts off instead."""


@dataclass(frozen=True)
class Case:
    """One shape of an op: names that the op understands, and sizes."""

    sizes: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.sizes[name]

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self.sizes.items())


def case(**sizes: int) -> Case:
    """A Case, written as case(rows=431, width=42)."""
    return Case(sizes)


@dataclass(frozen=True)
class Implementation:
    """One way to compute the op: "reference", "ours" (the Triton kernel), "lean" (ours, any device), or a rival."""

    name: str
    target: str
    """"module:attribute" of a Compute."""
    packages: tuple[str, ...] = ()
    """Modules that must be there."""
    cuda: bool = False
    """Whether it runs on a GPU only. "ours" also runs where Triton interprets (TRITON_INTERPRET=1)."""
    compiled: bool = False
    """Timed through torch.compile."""
    spoils: bool = False
    """Writes into its inputs, or into what autograd saved of them: timed on copies of its own."""
    own: bool = False
    """Ours, not a rival: speed is reported as the ratio of rivals to these."""

    def missing(self, device: torch.device) -> str | None:
        """Why it cannot run on this device, or None."""
        if self.cuda and device.type != "cuda":
            return "needs a GPU"
        absent = [name for name in self.packages if find_spec(name) is None]
        return f"{', '.join(absent)} not installed" if absent else None

    def load(self) -> Compute:
        """The function, imported now."""
        module, _, name = self.target.partition(":")
        compute: Compute = getattr(importlib.import_module(module), name)
        # fullgraph: at its limit of compilations Dynamo then raises, where it else would go on without them in silence.
        return torch.compile(compute, dynamic=False, fullgraph=True) if self.compiled else compute


@dataclass(frozen=True)
class CompileConfig:
    """A kernel with everything fixed that the compiler wants, and what its machine code must look like."""

    name: str
    """Unique in the op: "forward 4096"."""
    kernel: Any
    """The @triton.jit function."""
    signature: Mapping[str, str]
    """Argument -> type: "*bf16", "i32", "fp32"; constexprs are added by themselves."""
    constexprs: Mapping[str, Any]
    divisible: tuple[str, ...] = ()
    """Arguments that are multiples of 16, as a tensor's address and a usual width are: wide loads need to know."""
    num_warps: int = 4
    num_stages: int = 3
    archs: tuple[str, ...] = ARCHITECTURES
    tensor_cores: bool = False
    """The architecture's matrix instruction must occur."""
    wide_loads: bool = False
    """128-bit loads from global memory must occur."""
    max_shared: int | None = None
    """Bytes of shared memory; None: what the architecture has."""
    max_registers: int = 255
    max_issue: float | None = None
    """Instructions a cycle of the matrix products in their loop (core/bench/machine_code.py: Loop.issue)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further compiler options."""


@dataclass(frozen=True)
class Tuning:
    """What `llmtool bench kernels --tune` tries for a kernel, and the calls in which that kernel really runs."""

    candidates: Sequence[Mapping[str, int]]
    """Launch configurations: the keys of the kernel's rows in tuning.json."""
    direction: Direction = "forward"
    """What is timed: a kernel of the backward pass runs in training only."""
    implementation: str = OURS
    runs: Callable[[Case], bool] = lambda _: True
    """Whether the kernel runs on a case."""
    shared: Callable[[Mapping[str, int], int], int] = lambda _, __: 0
    """(candidate, bytes of an element) -> shared memory that its tiles take at least: what cannot fit is not tried."""


def tiles(one: Sequence[str], *others: Sequence[str]) -> Callable[[Mapping[str, int], int], int]:
    """Shared memory of a loop that keeps tiles in flight, each of two named sizes: stages times their bytes."""

    def shared(candidate: Mapping[str, int], itemsize: int) -> int:
        held = sum(math.prod(candidate[name] for name in tile) for tile in (one, *others))
        return held * itemsize * candidate["num_stages"]

    return shared


class Spec(ABC):
    """An op. Tensors in the docstrings of the subclasses carry the names of their cases' sizes."""

    name: str
    """Its folder in core/kernels."""
    summary: str
    implementations: tuple[Implementation, ...]
    """The first is the reference."""
    differentiable: tuple[int, ...] = ()
    """Places among the inputs of the tensors that get gradients; none: forward only."""
    uniform_upstream: bool = False
    """Timed and checked under one upstream gradient for all outputs, as a mean over tokens gives; the op's own tests
    look at others."""
    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16, torch.float32)

    @abstractmethod
    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """Shapes of a kind; see Sizes."""

    @abstractmethod
    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """Random inputs, never zeros nor ones, drawn where the generator is: a GPU draws billions in a second, a
        processor in minutes."""

    @abstractmethod
    def flops(self, case: Case, direction: Direction) -> float:
        """Operations that the definition needs (2 a multiply-add), not those that an implementation happens to do."""

    @abstractmethod
    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """Bytes that must cross the memory bus at least: each input read once, each output written once."""

    @abstractmethod
    def compile_configs(self) -> Sequence[CompileConfig]:
        """What `llmtool bench compile` compiles, the shapes of real models; the first is the one CI takes.

        Imports triton; never called where it interprets.
        """

    def tolerance(self, dtype: torch.dtype) -> float:
        """Largest relative error of each output and gradient; an op with a longer chain of roundings may say more."""
        return TOLERANCES[dtype]

    @property
    def directions(self) -> tuple[Direction, ...]:
        """What is checked and timed."""
        return ("forward", "training") if self.differentiable else ("forward",)

    def tunings(self) -> Mapping[str, Tuning]:
        """Kernel in tuning.json -> what `bench kernels --tune` tries for it."""
        return {}

    def tuned_size(self, case: Case) -> int:
        """The size by which a case's configuration is looked up."""
        return case["width"]

    def implementation(self, name: str) -> Implementation:
        """By name."""
        return next(each for each in self.implementations if each.name == name)


def pointers(element: str, *names: str) -> dict[str, str]:
    """Part of a signature: arguments that point to elements of this type ("bf16")."""
    return dict.fromkeys(names, f"*{element}")


def draw(
    generator: torch.Generator, *shape: int, dtype: torch.dtype, device: torch.device, scale: float = 1.0
) -> torch.Tensor:
    """Normal numbers [*shape], the same on every device and (but for rounding) in every dtype."""
    drawn = torch.randn(*shape, generator=generator, device=generator.device) * scale
    return drawn.to(device=device, dtype=dtype)


def uniform(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Numbers in [0, 1), float32, on the generator's device."""
    return torch.rand(*shape, generator=generator, device=generator.device)


def grid(**choices: Sequence[int]) -> list[dict[str, int]]:
    """Every combination, as configurations."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def itemsize(dtype: torch.dtype) -> int:
    """Bytes of an element."""
    return dtype.itemsize


def elements(*sizes: int) -> int:
    """Their product."""
    return math.prod(sizes)
