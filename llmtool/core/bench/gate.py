"""The correctness gate: no speed is printed for an implementation that does not pass here.

An implementation runs on random inputs in its dtype; the reference runs on the same numbers in float64. Memory that
the implementation gets from torch.empty is poisoned with NaN, so that an element it forgets to write is found.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from llmtool.core.kernels.launch import interpreting
from llmtool.core.kernels.spec import REFERENCE, Case, Compute, Direction, Spec
from llmtool.core.run.dataclass import dataclass

ELEMENT = 16
"""An element may be off by so many tolerances of its own size and the tensor's root mean square together: rounding
stays under 3, a single wrong element among millions, which moves no norm, does not."""


@dataclass(frozen=True)
class Verdict:
    """What the gate found."""

    passed: bool
    error: float
    """The largest relative error of an output or gradient."""
    tolerance: float
    reason: str | None = None
    """Where it failed."""


@contextmanager
def poisoned() -> Iterator[None]:
    """torch.empty and torch.empty_like give NaN, and integers that no index survives."""
    empty, like, new = torch.empty, torch.empty_like, torch.Tensor.new_empty

    def poison(x: torch.Tensor) -> torch.Tensor:
        if x.is_meta:
            return x
        return x.fill_(torch.nan if x.is_floating_point() else False if x.dtype == torch.bool else 101)

    torch.empty = lambda *a, **k: poison(empty(*a, **k))
    torch.empty_like = lambda *a, **k: poison(like(*a, **k))
    torch.Tensor.new_empty = lambda *a, **k: poison(new(*a, **k))  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.empty, torch.empty_like = empty, like
        torch.Tensor.new_empty = new  # type: ignore[method-assign]


def outputs_of(
    spec: Spec, compute: Compute, inputs: tuple[Any, ...], direction: Direction, seed: int
) -> list[tuple[str, torch.Tensor]]:
    """Named outputs and, for training, gradients of the differentiable inputs under random output gradients."""
    training = direction == "training"
    given = with_gradients(inputs, spec.differentiable if training else ())
    with torch.set_grad_enabled(training):
        made = compute(*given)
    outputs = list(made) if isinstance(made, tuple) else [made]
    named = [(f"output {index}", x.detach()) for index, x in enumerate(outputs)]
    if training:
        upstream = upstream_of(spec, outputs, seed)
        gradients = torch.autograd.grad(outputs, [given[place] for place in spec.differentiable], upstream)
        named += [(f"gradient of input {place}", x) for place, x in zip(spec.differentiable, gradients, strict=True)]
    return named


def with_gradients(inputs: tuple[Any, ...], places: tuple[int, ...]) -> list[Any]:
    """Copies of the inputs in their own layout, those at `places` with gradients."""
    return [
        x.detach().clone().requires_grad_(place in places) if isinstance(x, torch.Tensor) else x
        for place, x in enumerate(inputs)
    ]


def upstream_of(spec: Spec, outputs: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Gradients of the outputs: normal numbers, or one for all where the op asks for it."""
    generator = torch.Generator(outputs[0].device).manual_seed(seed)
    shapes = [(1,) * x.dim() if spec.uniform_upstream else tuple(x.shape) for x in outputs]
    drawn = [torch.randn(shape, generator=generator, device=generator.device) for shape in shapes]
    return [u.to(device=x.device, dtype=x.dtype).expand_as(x) for u, x in zip(drawn, outputs, strict=True)]


class Truth:
    """The inputs of a case, drawn once where they are used, and what they come to in float64, once a direction.

    Both cost more than what is judged by them: for the large cases of all ops 94 thousand million numbers are drawn,
    and the reference in float64 of one linear_cross_entropy is 26 TFLOP.
    """

    def __init__(
        self, spec: Spec, case: Case, dtype: torch.dtype, device: torch.device, seed: int = 0, *, whole: bool = False
    ) -> None:
        """whole: both directions will be asked for; training has what forward gives in it."""
        self.spec, self.case, self.dtype, self.device, self.seed = spec, case, dtype, device, seed
        self.whole = whole
        self.inputs = draw_inputs(spec, case, dtype, device, seed)
        self._wanted: dict[str, list[tuple[str, torch.Tensor]]] = {}

    def wanted(self, direction: Direction) -> list[tuple[str, torch.Tensor]]:
        """The reference's outputs and, for training, gradients."""
        if direction in self._wanted:
            return self._wanted[direction]
        if direction == "forward" and self.whole:
            return [each for each in self.wanted("training") if each[0].startswith("output")]
        precise = tuple(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in self.inputs)
        reference = self.spec.implementation(REFERENCE).load()
        self._wanted[direction] = outputs_of(self.spec, reference, precise, direction, self.seed)
        return self._wanted[direction]

    def judge(self, compute: Compute, direction: Direction) -> Verdict:
        """Run `compute` and compare."""
        tolerance = self.spec.tolerance(self.dtype) * (2 if interpreting() and self.dtype == torch.bfloat16 else 1)
        at = "the float64 reference"
        try:
            wanted = self.wanted(direction)
            at = "it"
            with poisoned():
                found = outputs_of(self.spec, compute, self.inputs, direction, self.seed)
        except Exception as error:  # whatever a kernel or a compiler raises, memory included: a verdict, not a crash
            said = str(error).partition("\n")[0]
            return Verdict(False, float("nan"), tolerance, f"{at} raises {type(error).__name__}: {said}")
        return compare(found, wanted, tolerance)


def draw_inputs(spec: Spec, case: Case, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    """Drawn by the device itself."""
    return spec.make_inputs(case, dtype, device, torch.Generator(device).manual_seed(seed))


def check(
    spec: Spec, compute: Compute, case: Case, dtype: torch.dtype, direction: Direction, device: torch.device,
    seed: int = 0,
) -> Verdict:  # fmt: skip
    """Run `compute` and the float64 reference on one case."""
    return Truth(spec, case, dtype, device, seed).judge(compute, direction)


def compare(found: list[tuple[str, torch.Tensor]], wanted: list[tuple[str, torch.Tensor]], tolerance: float) -> Verdict:
    """Relative error of each tensor in the 2-norm, and of each element; both must hold, NaN never does."""
    if len(found) != len(wanted):
        return Verdict(False, float("nan"), tolerance, f"{len(found)} tensors, wanted {len(wanted)}")
    worst = 0.0
    for (name, x), (_, y) in zip(found, wanted, strict=True):
        if x.shape != y.shape:
            return Verdict(False, float("nan"), tolerance, f"{name} of shape {list(x.shape)}, wanted {list(y.shape)}")
        if not x.numel():
            continue
        difference = (x.double() - y.double()).abs()
        error = float(difference.norm() / y.norm().clamp(min=1e-30))
        worst = max(worst, error)
        if not error <= tolerance:
            return Verdict(False, error, tolerance, f"{name}: relative error {error:.2g}, allowed {tolerance:.2g}")
        scale = y.double().square().mean().sqrt() + y.abs()
        wrong = int((~(difference <= ELEMENT * tolerance * scale)).sum())
        if wrong:
            return Verdict(False, error, tolerance, f"{name}: {wrong:,} of {x.numel():,} elements are wrong")
    return Verdict(True, worst, tolerance)
