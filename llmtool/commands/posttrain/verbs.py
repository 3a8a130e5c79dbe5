"""`llmtool.posttrain`: a checkpoint trained on conversations; one function a command, each returning its report."""

from llmtool.commands.posttrain.sft import sft, uniattn

__all__ = ["sft", "uniattn"]


def __dir__() -> list[str]:
    return __all__
