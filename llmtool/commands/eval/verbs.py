"""`llmtool.eval`: what a checkpoint knows and does on text; one function a command, each returning its report."""

from llmtool.commands.eval.activations import activations
from llmtool.commands.eval.attention import attention
from llmtool.commands.eval.experts import experts
from llmtool.commands.eval.loss import loss
from llmtool.commands.eval.niah import needles as niah
from llmtool.commands.eval.ruler import ruler

__all__ = ["activations", "attention", "experts", "loss", "niah", "ruler"]


def __dir__() -> list[str]:
    return __all__
