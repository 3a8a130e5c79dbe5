"""llmtool: published methods for building language models, on real text, real checkpoints and real GPUs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmtool.model import load_model
    from llmtool.tokenizer import Tokenizer

__all__ = ["Tokenizer", "__version__", "load_model"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the public names on first use: `llmtool --help` must not pay for them."""
    if name == "Tokenizer":
        from llmtool.tokenizer import Tokenizer

        return Tokenizer
    if name == "load_model":
        from llmtool.model import load_model

        return load_model
    raise AttributeError(f"module 'llmtool' has no attribute {name!r}")
