"""Imports point down: cli > commands > model > tokenizer > catalog > methods > ... > run. Held by a test."""

import ast
from pathlib import Path

import llmtool

ROOT = Path(llmtool.__file__).parent
LAYERS = (
    ("cli",),
    ("commands",),
    ("model",),
    ("tokenizer",),
    ("catalog",),
    ("methods",),
    ("core.train", "core.eval", "core.bench"),
    ("core.corpus", "core.model"),
    ("core.kernels", "core.checkpoint", "core.bpe"),
    ("core.run",),
)
TYPER_IMPORTERS = "cli"


def modules() -> list[tuple[str, Path]]:
    """Dotted name without `llmtool.` and path of each module."""
    paths = [path for path in ROOT.rglob("*.py") if "native" not in path.parts]
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts), path) for path in paths]


def layer(name: str) -> int | None:
    """Index of the layer that a module belongs to; None for llmtool itself, which every layer may import."""
    for index, prefixes in enumerate(LAYERS):
        if any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes):
            return index
    return None


def imports(path: Path) -> set[str]:
    """Absolute names that a module imports, however deep inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or "part" in path.name, f"relative import in {path}"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def problems(name: str, imported: str) -> str | None:
    """Why a module may not import another, if it may not."""
    root = imported.partition(".")[0]
    if root in ("typer", "click") and (not name.startswith(TYPER_IMPORTERS) or root == "click"):
        return f"{name} imports {root}"
    if root != "llmtool":
        return None
    target = imported.removeprefix("llmtool").removeprefix(".")
    above, below = layer(name), layer(target)
    if above is None or below is None:
        return None
    if below < above:
        return f"{name} imports {target}: that is up"
    same_method = name.split(".")[:2] == target.split(".")[:2]
    if name.startswith("methods.") and target.startswith("methods.") and not same_method:
        return f"{name} imports its sibling {target}"
    same_part = next(p for p in LAYERS[above] if name.startswith(p)) == next(
        p for p in LAYERS[below] if target.startswith(p)
    )
    return f"{name} imports {target} beside it" if below == above and not same_part else None


def test_every_module_has_a_layer() -> None:
    loose = [name for name, _ in modules() if layer(name) is None and not name.endswith("__init__")]
    assert loose == ["__main__"]


def test_imports_point_down() -> None:
    found = [problems(name, imported) for name, path in modules() for imported in imports(path)]
    assert [problem for problem in found if problem] == []


def test_the_rule_can_fail() -> None:
    assert problems("core.bpe.encoder", "llmtool.core.corpus.readers.read_documents")
    assert problems("methods.lbpe.encoder", "llmtool.methods.scaffold_bpe.training")
    assert problems("core.corpus.readers", "llmtool.core.model.config")
    assert problems("catalog", "typer")
    assert not problems("methods.lbpe.encoder", "llmtool.core.bpe.policy.PieceCutter")
