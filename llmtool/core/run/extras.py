"""Optional dependencies: a missing one is one line that names the extra to install."""

import importlib
from types import ModuleType

from llmtool.core.run.errors import UserError

EXTRAS = {
    "models": ("torch", "safetensors"),
    "kernels": ("triton",),
    "plots": ("matplotlib",),
    "index": ("faiss",),
    "parquet": ("pyarrow",),
    "logs": ("tensorboard",),
    "hf": ("transformers",),
    "ray": ("ray",),
    "sft": ("jinja2",),
    "remote": ("fsspec", "aiohttp"),
    "gguf": ("gguf",),
}


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import `module` (dotted names allowed), or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or module).partition(".")[0]
        raise UserError(f"{missing} is needed {why}", hint=f"pip install 'llmtool[{extra}]'") from None
