"""`llmtool.data`: training data checked and made; one function a command, each returning its report."""

from llmtool.commands.data import assemble, chunk, embed, index, mine, nextlong, report, show
from llmtool.commands.posttrain.check import check
from llmtool.commands.token_experts import token_experts

__all__ = ["assemble", "check", "chunk", "embed", "index", "mine", "nextlong", "report", "show", "token_experts"]


def __dir__() -> list[str]:
    return __all__
