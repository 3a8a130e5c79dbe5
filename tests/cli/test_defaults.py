"""An option is said once: its default stands in a settings object, and no function of the command line or below says it
again."""

import ast
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

import llmtool
from llmtool.cli.surface import tree
from llmtool.core.run.settings import Settings, describe

ROOT = Path(llmtool.__file__).parent
PRINTING = {"as_json", "quiet", "verbose", "config", "version"}
"""How a command speaks, not what it does: false, or not given."""
INPUTS = {"inputs", "prompts", "ops", "text", "source", "data", "output", "out", "directory", "tokenizer", "table"}
"""What a command reads and where it writes; not given, or "-"."""


def kinds() -> list[type[Settings]]:
    """Every settings class that a command has."""
    tree()
    found: list[type[Settings]] = []
    waiting = list(Settings.__subclasses__())
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("llmtool.") and is_dataclass(kind):
            found.append(kind)
    return found


def options() -> set[str]:
    return {field.name for kind in kinds() for field in describe(kind) if field.option}


def spelled(code: str, names: set[str], classes: set[str]) -> Iterator[str]:
    """Parameters, and fields of other classes than `classes`, that carry a default although they are options."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            given = node.args
            plain = [*given.posonlyargs, *given.args]
            pairs = [*zip(plain[len(plain) - len(given.defaults) :], given.defaults, strict=True)]
            pairs += [(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is not None]
            for argument, default in pairs:
                if argument.arg in names - INPUTS and not _refers(default):
                    yield f"{node.name}({argument.arg}={ast.unparse(default)})"
        elif isinstance(node, ast.ClassDef) and node.name not in classes:
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and field.value is not None and not _refers(field.value):
                    name = ast.unparse(field.target)
                    if name in names:
                        yield f"{node.name}.{name} = {ast.unparse(field.value)}"


def _refers(default: ast.expr) -> bool:
    """Whether a default is taken from where it stands, Settings.name or NAME, or says that nothing was given: None."""
    return isinstance(default, ast.Attribute | ast.Name) or (
        isinstance(default, ast.Constant) and default.value is None
    )


def test_the_command_line_says_no_default() -> None:
    wrong = []
    for path in (ROOT / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name != "root":
                wrong += [f"{path.name}: {found}" for found in _own(node)]
    assert wrong == []


def _own(node: ast.FunctionDef) -> Iterator[str]:
    """Defaults of a command's function that are no matter of printing, and no missing input."""
    given = node.args
    plain = [*given.args]
    pairs = [*zip(plain[len(plain) - len(given.defaults) :], given.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is not None]
    commands = any("Settings" in ast.unparse(a.annotation) for a in given.args + given.kwonlyargs if a.annotation)
    for argument, default in pairs:
        value = ast.unparse(default)
        fine = argument.arg in PRINTING and value in ("False", "None")
        fine |= argument.arg in INPUTS and value in ("None", "'-'")
        if not fine and commands | any("option" in ast.unparse(a.annotation) for a in given.args if a.annotation):
            yield f"{node.name}({argument.arg}={value})"


def test_no_command_says_the_default_of_an_option_again() -> None:
    names, classes = options(), {kind.__name__ for kind in kinds()}
    wrong = []
    for path in (ROOT / "commands").rglob("*.py"):
        code = path.read_text()
        wrong += [f"{path.relative_to(ROOT)}: {found}" for found in spelled(code, names, classes)]
    assert wrong == []


def test_the_tests_can_fail() -> None:
    names = {"tau", "seed"}
    assert [*spelled("def f(x, tau=0.5, *, seed=0, y=1): ...", names, set())] == ["f(tau=0.5)", "f(seed=0)"]
    assert [*spelled("class Plan:\n    tau: float = 0.5", names, set())] == ["Plan.tau = 0.5"]
    assert not [*spelled("class Plan:\n    tau: float = 0.5", names, {"Plan"})]
    assert not [*spelled("def f(tau=Plan.tau): ...", names, set())]
    (function,) = ast.parse("def f(checkpoint: options.Checkpoint, tau: float = 0.5): ...").body
    assert isinstance(function, ast.FunctionDef)
    assert [*_own(function)] == ["f(tau=0.5)"]


ALLOWED = {
    "methods/nextlong/reference.py": "the paper's own numbers, in its definition",
    "methods/nextlong/assembly.py": "the paper's own number, of a class that stands without a command",
    "methods/dsmoe/part.py": "what a config.json means that names none",
    "methods/temporal_scaling/schedule.py": "of logs, not of what is trained here",
    "core/train/optimizers.py": "AdamW's own, for callers without a command",
    "core/train/schedules.py": "TrainSettings takes it from there",
    "core/train/muon.py": "Muon's own, for callers without a command",
}


def numbers_below(names: dict[tuple[str, float], str], code: str, classes: set[str]) -> Iterator[str]:
    """Defaults of the library that say the same number under the same name as an option."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            given = node.args
            plain = [*given.posonlyargs, *given.args]
            pairs = [*zip(plain[len(plain) - len(given.defaults) :], given.defaults, strict=True)]
            pairs += [(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is not None]
            said = [(argument.arg, default) for argument, default in pairs]
        elif isinstance(node, ast.ClassDef) and node.name not in classes:
            fields = [field for field in node.body if isinstance(field, ast.AnnAssign) and field.value is not None]
            said = [(ast.unparse(field.target), field.value) for field in fields if field.value is not None]
        else:
            continue
        for name, value in said:
            number = value.value if isinstance(value, ast.Constant) else None
            if isinstance(number, int | float) and (name, number) in names:
                yield f"{node.name}: {name} = {number}, also {names[name, number]}"


def test_the_library_says_no_number_of_an_option_again() -> None:
    """Only numbers that someone has chosen: 0, 1, true and words are said by many for reasons of their own."""
    found = {
        (field.name, field.default): kind.__name__
        for kind in kinds()
        for field in describe(kind)
        if isinstance(field.default, int | float) and field.default not in (0, 1, 2)
    }
    classes = {kind.__name__ for kind in kinds()}
    wrong = []
    for room in ("core", "methods", "model.py", "tokenizer.py"):
        for path in [ROOT / room] if room.endswith(".py") else (ROOT / room).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            again = [f"{name}: {each}" for each in numbers_below(found, path.read_text(), classes)]
            wrong += [] if name in ALLOWED else again
    assert wrong == []
    assert [*numbers_below(found, "def f(max_tokens=128): ...", classes)]
