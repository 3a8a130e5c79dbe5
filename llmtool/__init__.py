"""llmtool: published methods for building language models, on real text, real checkpoints and real GPUs.

From Python by the names of the command line: a function, or a module with a function for each verb.

    import llmtool
    report = llmtool.train(["corpus.bin"], "out", model="3M", tokens="6M", tokenizer="bpe.json")
    llmtool.convert.dsmoe("out", "sparse", experts=8)
    llmtool.eval.loss("sparse", ["held_out.txt"])
"""

import sys
from importlib import import_module
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

from llmtool.version import __version__

if TYPE_CHECKING:
    from llmtool.commands import data_verbs as data
    from llmtool.commands.convert import verbs as convert
    from llmtool.commands.eval import verbs as eval  # noqa: A004 - the command's name
    from llmtool.commands.generate import generate
    from llmtool.commands.posttrain import verbs as posttrain
    from llmtool.commands.scaling import verbs as scaling
    from llmtool.commands.train.command import train
    from llmtool.commands.verify import verify
    from llmtool.model import load_model
    from llmtool.tokenizer import Tokenizer

PUBLIC = {
    "Tokenizer": "tokenizer:Tokenizer",
    "load_model": "model:load_model",
    "train": "commands.train.command:train",
    "posttrain": "commands.posttrain.verbs",
    "convert": "commands.convert.verbs",
    "eval": "commands.eval.verbs",
    "scaling": "commands.scaling.verbs",
    "data": "commands.data_verbs",
    "generate": "commands.generate:generate",
    "verify": "commands.verify:verify",
}
"""Where the public names stand: a module of llmtool, or one of its functions."""

__all__ = [
    "Tokenizer", "__version__", "convert", "data", "eval", "generate", "load_model", "posttrain", "scaling", "train",
    "verify",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Import the public names on first use: `llmtool --help` must not pay for them."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'llmtool' has no attribute {name!r}")
    module, _, attribute = PUBLIC[name].partition(":")
    found = import_module(f"llmtool.{module}")
    from llmtool.core.run.settings import one_or_several

    if not attribute:
        for verb in found.__all__:
            setattr(found, verb, one_or_several(getattr(found, verb)))
        return found
    public = getattr(found, attribute)
    return one_or_several(public) if isinstance(public, FunctionType) else public


def __dir__() -> list[str]:
    return __all__


def spelled(code: CodeType) -> str:
    """What a function is called from outside, by its code: `llmtool.convert.dsmoe`; its own name where it is inner."""
    for name, place in PUBLIC.items():
        module, _, attribute = place.partition(":")
        found = sys.modules.get(f"llmtool.{module}")
        for verb in [attribute] if attribute else getattr(found, "__all__", ()):
            function = getattr(found, verb, None)
            if getattr(getattr(function, "__wrapped__", function), "__code__", None) is code:
                return f"llmtool.{name}" if attribute else f"llmtool.{name}.{verb}"
    return code.co_qualname
