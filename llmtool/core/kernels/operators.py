"""Our kernels as operators of torch: torch.ops.llmtool.NAME, which torch.compile takes into its graphs.

A host function of triton.py (allocate, look up the tile, launch) becomes an operator by `kernel_op`. Compiled, its body
runs once, while the graph is made, on tensors without numbers: tiles are resolved there, outside of what Dynamo traces,
and the launches stand in the graph as nodes of their own (triton_op of torch), so that Inductor plans the memory
around them and a CUDA graph holds them. Where Triton interprets the operator is opaque and runs as it is.

Nothing in a body may look at a number on the device: that would wait for it, in every forward or backward pass.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import library
from torch._subclasses.fake_tensor import FakeTensor

from llmtool.core.kernels.launch import interpreting


def kernel_op(function: Callable[..., Any]) -> Any:
    """The function as an operator; named after its folder and itself, typed by its annotations, it mutates nothing.

    Its results are new tensors, none a view of an argument; gradients come with `register_autograd`.
    """
    folder = function.__module__.split(".")[-2]
    name = folder if function.__name__ == folder else f"{folder}_{function.__name__}"
    define: Any = library.custom_op if interpreting() else library.triton_op
    made = define(f"llmtool::{name}", function, mutates_args=())
    BODIES[f"llmtool::{name}"] = function
    if interpreting():
        made.register_fake(function)  # on tensors without numbers nothing is launched; see `launch`
    return made


BODIES: dict[str, Callable[..., Any]] = {}
"""The functions by their operators' names, for those who count what they do."""


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """kernel[grid](...), or its node in the graph that is being made."""
    if RECORDER is not None:
        RECORDER(kernel, arguments, constants)
    elif not interpreting():
        library.wrap_triton(kernel)[grid](*arguments, **constants)
    elif not any(isinstance(x, FakeTensor) for x in arguments):
        kernel[grid](*arguments, **constants)


RECORDER: Callable[[Any, tuple[Any, ...], dict[str, Any]], None] | None = None
"""Takes launches in place of the device, where somebody wants to know them (core/bench/launches.py)."""


def refuse_double(*tensors: torch.Tensor) -> None:
    """The kernels compute in float32: float64 in would come back rounded without a word."""
    if any(x.dtype == torch.float64 for x in tensors):
        raise TypeError("the Triton kernels compute in float32, and float64 was given: use --kernels torch")


def autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Under autocast the tensors in its type, as torch's own products take them."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in tensors)
