"""What is installed, without importing it."""

from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmtool.core.run.extras import EXTRAS
from llmtool.core.run.manifest import machine

BASE = ("typer", "rich", "numpy", "scipy", "tokenizers", "regex", "zstandard")
DISTRIBUTIONS = {"faiss": "faiss-cpu"}

__all__ = ["extras", "gpu", "machine", "packages", "report"]


def version(module: str) -> str | None:
    """Installed version of the distribution that brings a module."""
    try:
        return metadata.version(DISTRIBUTIONS.get(module, module))
    except metadata.PackageNotFoundError:
        return None


def packages() -> dict[str, str | None]:
    """Versions of every package that llmtool may use; None where missing."""
    return {module: version(module) for module in (*BASE, *(m for modules in EXTRAS.values() for m in modules))}


def gpu() -> str | None:
    """The first NVIDIA GPU's name as the driver tells it; importing torch for it would take seconds."""
    for place in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = place.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                return value.strip()
    return None


def extras() -> dict[str, bool]:
    """Which extras are complete."""
    return {name: all(find_spec(module) is not None for module in modules) for name, modules in EXTRAS.items()}


def report(facts: dict[str, Any]) -> Iterator[str]:
    """The facts as lines."""
    machine = facts["machine"]
    yield f"llmtool {facts['llmtool']}, Python {facts['python']}, {machine['cores']} cores, {machine['platform']}"
    engine = facts["tokenizer_engine"]
    slow = " (portable and about 50 times slower: reinstall with a C++ compiler)" if engine == "python" else ""
    yield f"tokenizer engine: {engine}{slow}"
    yield "packages: " + ", ".join(f"{name} {number}" for name, number in facts["packages"].items() if number)
    for name, complete in facts["extras"].items():
        yield f"extra {name:8} " + ("ready" if complete else f"missing: pip install 'llmtool[{name}]'")
