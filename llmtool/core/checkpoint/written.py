"""In which element types a model is written that was trained: as it came, whatever it was trained in.

Weights move in float32 (the states keep them so), since an update of 2e-5 is less than bfloat16 can tell apart. The
finished model has the type of the checkpoint that training started from, tensor by tensor where that one mixes types.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.checkpoint.dtypes import ELEMENT_TYPES, ElementType, element_type, torch_dtype
from llmtool.core.run.dataclass import dataclass

if TYPE_CHECKING:
    import torch

KEPT = ("BF16", "F16", "F32")
"""Types that a trained model is written in; float64 and quantized types become float32, as they are trained."""


@dataclass(frozen=True)
class Written:
    """usual: of all tensors but the `others`, new ones too. Tables of whole numbers keep their own type."""

    usual: ElementType
    others: Mapping[str, ElementType] = field(default_factory=dict)

    def typed(self, tensors: Iterable[tuple[str, "torch.Tensor"]]) -> Iterator[tuple[str, "torch.Tensor"]]:
        """The tensors, by their checkpoint's names, in their types."""
        for name, tensor in tensors:
            kind = torch_dtype(self.others.get(name, self.usual))
            yield name, tensor.to(kind) if tensor.is_floating_point() else tensor
            del tensor  # or it would live until the next one is complete


def written_types(checkpoint: CheckpointReader | None, asked: str | None = None) -> Written:
    """Those of the checkpoint, or float32 for a new model; asked: one for all, as --save-dtype spells it."""
    if asked is not None:
        return Written(element_type(asked))
    sizes: dict[str, int] = {}
    held: dict[str, ElementType] = {}
    for name in checkpoint.names() if checkpoint else ():
        entry = checkpoint.entry(name)  # type: ignore[union-attr]
        if entry.kind.floating:
            held[name] = entry.kind if entry.kind.code in KEPT else ELEMENT_TYPES["F32"]
            sizes[held[name].code] = sizes.get(held[name].code, 0) + entry.elements
    usual = ELEMENT_TYPES[max(sizes, key=sizes.__getitem__, default="F32")]
    return Written(usual, {name: kind for name, kind in held.items() if kind != usual})
