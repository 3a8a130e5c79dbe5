"""Which code runs each op, chosen once by the builder, printed once, recorded: no fallback happens in silence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

import torch

from llmtool.core.kernels.launch import device_name, interpreting
from llmtool.core.kernels.registry import CPU_OPS, OPS, load_spec
from llmtool.core.kernels.spec import CPU, OURS, Compute
from llmtool.core.kernels.tuning import wins
from llmtool.core.run.errors import UserError

Wish = Literal["auto", "torch", "triton"]
WISHES: tuple[Wish, ...] = ("auto", "torch", "triton")


@dataclass(frozen=True)
class Choice:
    """What the builder decided: `kernels` goes into decoder.Parts, `described` is printed and recorded."""

    described: str
    kernels: Mapping[str, Compute] = field(default_factory=dict)


def choose(
    wish: Wish | str,
    device: torch.device,
    dtype: torch.dtype | None = None,
    *,
    sizes: Mapping[str, Sequence[int]] | None = None,
    training: bool = False,
) -> Choice:
    """Kernels for a device.

    torch: none. triton: every op's own kernel; refused where none can run. auto: the ops whose own kernel was measured
    on this very device (tuning.json) in this type (None: bfloat16) and beat the fastest rival, at the sizes of this
    model (op -> Spec.tuned_size of its uses; None: at all that were measured), gradients included where they are
    wanted. What nobody has timed is not chosen by default. On a CPU auto takes an op's implementation "cpu", where it
    has one: it was measured to be faster.
    """
    if wish not in WISHES:
        raise UserError(f"kernels {wish!r} are not known", hint=f"one of {', '.join(WISHES)}")
    if wish == "torch":
        return Choice("torch")
    runs = find_spec("triton") is not None and (device.type == "cuda" or interpreting())
    if wish == "triton" and not runs:
        absent = find_spec("triton") is None
        hint = "pip install 'llmtool[kernels]'" if absent else "--kernels torch"
        raise UserError("Triton is not installed" if absent else f"Triton kernels do not run on {device}", hint=hint)
    if wish == "triton" and dtype == torch.float64:
        raise UserError("the Triton kernels compute in float32, and fp64 is asked for", hint="--kernels torch")
    if wish == "auto" and device.type == "cpu" and not interpreting():
        found = {name: each for name in CPU_OPS for each in load_spec(name).implementations if each.name == CPU}
        return Choice(f"torch; {', '.join(found)}: the CPU's own", {name: each.load() for name, each in found.items()})
    names = [
        name
        for name in OPS
        if runs and (wish == "triton" or _wins(name, device, dtype, (sizes or {}).get(name), training))
    ]
    if not names:
        return Choice("torch")
    if device.index is not None:
        torch.cuda.set_device(device)  # Triton launches on the current device, wherever the tensors are
    kernels = {name: load_spec(name).implementation(OURS).load() for name in names}
    return Choice(f"triton for {', '.join(kernels)}", kernels)


def cross_entropy(wish: Wish | str, choice: Choice) -> tuple[str, Compute | None]:
    """The training loss's code, by name: the chosen kernel; under "auto" else the chunked one in torch's operators.

    That one needs no GPU: on a CPU it takes a third of the plain way's memory at 0.98 (8,192 tokens in the vocabulary)
    to 1.22 (50,304) times its speed. None: the plain way.
    """
    if OP in choice.kernels:
        return "triton", choice.kernels[OP]
    if wish == "auto":
        return "lean", load_spec(OP).implementation("lean").load()
    return "torch", None


OP = "linear_cross_entropy"


def _wins(
    op: str, device: torch.device, dtype: torch.dtype | None, sizes: Sequence[int] | None, training: bool
) -> bool:
    if device.type != "cuda" or dtype == torch.float64:
        return False
    index = device.index if device.index is not None else torch.cuda.current_device()
    kernels = [name for name, each in load_spec(op).tunings().items() if training or each.direction == "forward"]
    return wins(op, device_name(index), kernels, dtype or torch.bfloat16, sizes)
