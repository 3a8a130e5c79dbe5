"""The table of ops, as data: `llmtool bench` takes its arguments from it; a row's code is imported when used."""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmtool.core.run.errors import ChoiceError, closest

if TYPE_CHECKING:
    from llmtool.core.kernels.spec import Spec

OPS = {
    "dsmoe_ffn": "llmtool.core.kernels.dsmoe_ffn.spec:SPEC",
    "grouped_gemm": "llmtool.core.kernels.grouped_gemm.spec:SPEC",
    "grouped_swiglu": "llmtool.core.kernels.grouped_swiglu.spec:SPEC",
    "linear_cross_entropy": "llmtool.core.kernels.linear_cross_entropy.spec:SPEC",
    "masked_swiglu": "llmtool.core.kernels.masked_swiglu.spec:SPEC",
    "rms_norm": "llmtool.core.kernels.rms_norm.spec:SPEC",
    "rope": "llmtool.core.kernels.rope.spec:SPEC",
    "shared_softmax_attention": "llmtool.core.kernels.shared_softmax_attention.spec:SPEC",
    "swiglu": "llmtool.core.kernels.swiglu.spec:SPEC",
}
"""Name -> "module:attribute" of its Spec. A new op adds its row here and nothing elsewhere."""


CPU_OPS = ("dsmoe_ffn",)
"""Ops with an implementation "cpu"."""


def known_ops(names: Sequence[str]) -> list[str]:
    """The names, all ops if there are none; an unknown one is refused with the closest match."""
    for name in names:
        if name not in OPS:
            raise ChoiceError(f"op {name!r} is not known", hint=closest(name, list(OPS)) or f"one of {', '.join(OPS)}")
    return list(names) or list(OPS)


def load_spec(name: str) -> "Spec":
    """The spec of an op."""
    known_ops([name])
    module, _, attribute = OPS[name].partition(":")
    spec: Spec = getattr(importlib.import_module(module), attribute)
    return spec
