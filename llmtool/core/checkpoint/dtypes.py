"""Element types: the codes that safetensors headers carry, what torch calls them, how people write them, and whether
a tensor of theirs holds numbers."""

import math
from typing import TYPE_CHECKING, Any

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ElementType:
    """`code` as in a header, `size` in bytes, `torch_name` as in `torch.bfloat16`; `quantized`: wants scales beside."""

    code: str
    size: int
    torch_name: str
    floating: bool = False
    quantized: bool = False


ELEMENT_TYPES = {
    kind.code: kind
    for kind in (
        ElementType("BOOL", 1, "bool"),
        ElementType("U8", 1, "uint8"),
        ElementType("I8", 1, "int8"),
        ElementType("U16", 2, "uint16"),
        ElementType("I16", 2, "int16"),
        ElementType("U32", 4, "uint32"),
        ElementType("I32", 4, "int32"),
        ElementType("U64", 8, "uint64"),
        ElementType("I64", 8, "int64"),
        ElementType("F8_E4M3", 1, "float8_e4m3fn", floating=True, quantized=True),
        ElementType("F8_E5M2", 1, "float8_e5m2", floating=True, quantized=True),
        ElementType("F16", 2, "float16", floating=True),
        ElementType("BF16", 2, "bfloat16", floating=True),
        ElementType("F32", 4, "float32", floating=True),
        ElementType("F64", 8, "float64", floating=True),
    )
}
"""Sub-byte and complex types are left out: no supported model holds them."""

SPELLINGS = {"bf16": "BF16", "fp16": "F16", "fp32": "F32", "fp64": "F64"}
"""What --dtype takes."""


def element_type(spelling: str) -> ElementType:
    """The type that --dtype names: bf16, fp16, fp32 or fp64."""
    if spelling not in SPELLINGS:
        raise UserError(f"dtype {spelling!r} is not known", hint=f"one of {', '.join(SPELLINGS)}")
    return ELEMENT_TYPES[SPELLINGS[spelling]]


def torch_dtype(kind: ElementType) -> "torch.dtype":
    """torch's own object for the type."""
    dtype: torch.dtype = getattr(torch_for_weights(), kind.torch_name)
    return dtype


def type_of(tensor: "torch.Tensor") -> ElementType:
    """The type of a tensor."""
    name = str(tensor.dtype).removeprefix("torch.")
    for kind in ELEMENT_TYPES.values():
        if kind.torch_name == name:
            return kind
    raise UserError(f"elements of type {name} have no place in a safetensors file")


def torch_for_weights() -> Any:
    """torch, or one line that says how to install it."""
    return require("torch", extra="models", why="to read and write weights")


def refuse_not_finite(tensor: "torch.Tensor", where: str, hint: str | None = None) -> None:
    """Refuse a tensor that holds NaN or infinity, saying how many and where the first one is."""
    torch = torch_for_weights()
    if not tensor.numel() or not type_of(tensor).floating:
        return
    if type_of(tensor).quantized:  # torch does no arithmetic on these
        tensor = tensor.float()
    # NaN propagates through aminmax; unlike isfinite it makes no second tensor.
    if all(math.isfinite(bound.item()) for bound in tensor.aminmax()):
        return
    wrong = ~torch.isfinite(tensor)
    first = [int(place) for place in wrong.nonzero()[0]]
    what = f"{int(wrong.sum()):,} of {tensor.numel():,} numbers are NaN or infinite, the first at {first}"
    raise UserError(what, where=where, hint=hint)
