"""Imports point down: cli > commands > model > tokenizer > catalog > methods > ... > run; and never in a circle.

The dotted names are those of modules without `llmtool.`; a layer may hold several rooms, which do not see each other.
"""

import ast
from collections.abc import Collection, Mapping
from pathlib import Path

import llmtool

ROOT = Path(llmtool.__file__).parent
LAYERS = (
    ("cli",),
    ("commands.data_verbs",),
    (
        "commands.posttrain",
        "commands.bench",
        "commands.eval",
        "commands.data",
        "commands.token_experts",
        "commands.scaling",
        "commands.tokenizer",
        "commands.generate",
        "commands.verify",
        "commands.rerun",
    ),
    ("commands.train", "commands.convert"),
    ("commands.sources", "commands.generation"),
    ("commands.data_settings",),
    ("commands.options", "commands.places"),
    ("model",),
    ("tokenizer",),
    ("catalog",),
    ("methods",),
    ("core.train", "core.eval", "core.bench"),
    ("core.corpus", "core.model"),
    ("core.kernels", "core.checkpoint", "core.bpe"),
    ("core.run",),
    ("version",),
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
            base = ".".join(("llmtool", *path.relative_to(ROOT).parts[: -node.level])) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found.update(f"{module}.{alias.name}" for alias in node.names)
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


def depends() -> dict[str, set[str]]:
    """Which modules each module imports, inside functions and under TYPE_CHECKING too."""
    known = {f"llmtool.{name}".removesuffix(".__init__") for name, _ in modules()}
    found: dict[str, set[str]] = {}
    for name, path in modules():
        targets = set()
        for imported in imports(path):
            module = imported if imported in known else imported.rpartition(".")[0]
            targets.add(module)
        found[f"llmtool.{name}".removesuffix(".__init__")] = targets & known
    return found


def circles(edges: Mapping[str, Collection[str]]) -> list[str]:
    """Modules on a circle, or between two: what is left when those that import, or are imported by, nobody go."""
    left = {name: set(targets) - {name} for name, targets in edges.items()}
    while True:
        imported = {target for targets in left.values() for target in targets}
        kept = {name: targets & left.keys() for name, targets in left.items() if name in imported}
        kept = {name: targets for name, targets in kept.items() if targets}
        if kept == left:
            return sorted(left)
        left = kept


def test_no_module_imports_itself_through_others() -> None:
    assert circles(depends()) == []


def test_a_circle_would_be_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == ["a", "b", "c"]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    closed = circles({**depends(), "llmtool.core.run.errors": {"llmtool.core.run.manifest"}})
    assert {"llmtool.core.run.errors", "llmtool.core.run.manifest"} <= set(closed)


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
    assert problems("commands.train.job", "llmtool.commands.posttrain.data")
    assert problems("commands.train.job", "llmtool.commands.convert.inspect")
    assert not problems("commands.posttrain.sft", "llmtool.commands.train.job")
    assert not problems("methods.lbpe.encoder", "llmtool.core.bpe.policy.PieceCutter")
