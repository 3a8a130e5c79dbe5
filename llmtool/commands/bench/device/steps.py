"""Kernels that one decode step launches, counted with no GPU: `python -m llmtool.commands.bench.device.steps`.

The models of `bench device` at Llama-3.2-1B's shape run a prompt and one token on tensors without numbers. Every
operator of torch that computes counts as a kernel (views and allocations do not), and so does every launch of ours.
Torch may take two kernels for one operator (a product split along its depth), and torch.compile fewer for several: it
is eager mode and its CUDA graph that are counted. At batch 1 each costs about predict.LAUNCH beside its bytes.
A process of its own, with TRITON_INTERPRET unset, which the tests start.
"""

from collections import Counter
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from llmtool.commands.bench.device.models import INFERENCE, MODELS, config
from llmtool.core.bench.predict import LAUNCH
from llmtool.core.kernels import operators, tuning
from llmtool.core.kernels.registry import load_spec
from llmtool.core.kernels.spec import OURS
from llmtool.core.model.cache import StaticCache
from llmtool.core.model.generate import plain_step
from llmtool.core.run.json_file import dumps
from llmtool.model import build

FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "promote_types")
"""Operators that allocate, rename or ask, and are no views by their schema."""


CONTEXT = 2048
"""Tokens before the one that is counted: enough for UniAttn to cut them into stretches."""


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names of the kernels that run while this mode is on, with how often."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (own := operators.BODIES.get(func.name())) is not None:
            with self:  # what an operator of ours does beside its launches counts too
                return own(*args, **(kwargs or {}))
        space, _, name = func.name().partition(".")[0].partition("::")
        if not (space == "prim" or func.is_view or name in FREE):
            self.names[name] += 1
        return func(*args, **(kwargs or {}))

    def launched(self, kernel: Any, _: tuple[Any, ...], __: dict[str, Any]) -> None:
        """As operators.RECORDER."""
        self.names[kernel.fn.__name__] += 1


def step(methods: tuple[str, ...], own: bool) -> Counter[str]:
    """Kernels of one token's step of the model with these methods, with our kernels or torch's operators."""
    shape = config(torch.device("cuda"), *methods)
    kernels = {op: load_spec(op).implementation(OURS).load() for op in INFERENCE} if own else {}
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    counted = Counted()
    operators.RECORDER, tuning.PLANNED = counted.launched, ("sm_90",)
    try:
        with FakeTensorMode(), torch.inference_mode():
            decoder = build(shape, kernels).eval().requires_grad_(False)
            run = plain_step(decoder, StaticCache(CONTEXT + 2), None)
            run(torch.zeros(1, CONTEXT, dtype=torch.int64))
            run(torch.zeros(1, 1, dtype=torch.int64))  # makes what a cache makes once
            counted.names.clear()
            with counted:
                run(torch.zeros(1, 1, dtype=torch.int64))
    finally:
        operators.RECORDER, tuning.PLANNED = None, ()
        torch.set_default_dtype(usual)
    return counted.names


def main() -> None:
    """A JSON object a line."""
    for model, methods in MODELS.items():
        for own in (False, True):
            names = step(methods, own)
            number = names.total()
            print(dumps({"model": model, "kernels": "triton" if own else "torch", "launches": number,
                         "microseconds": round(number * LAUNCH * 1e6, 1), "by_name": dict(names.most_common())}),
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
