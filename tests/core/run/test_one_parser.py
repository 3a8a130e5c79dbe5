"""Numbers that are read, and JSON that is written, go through one place each; the sources are walked."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import llmtool

ROOT = Path(llmtool.__file__).parent
TEXT = {
    "split", "rsplit", "partition", "rpartition", "strip", "lstrip", "rstrip", "removesuffix", "removeprefix",
    "replace", "group", "groups", "groupdict", "fullmatch", "match", "search", "finditer", "findall", "splitlines",
    "decode",
    "read_text", "read_json_object", "parse_json", "loads", "casefold", "lower", "readline",
}  # fmt: skip
"""Calls that give text, a match of it, or what a file says."""


def readings(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of int() and float() whose argument is text, or comes from a mapping by a name: what somebody wrote."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    owner: dict[ast.AST, set[str]] = {}
    for function in functions:  # outer ones first: an inner function sees its names and theirs
        names = _texts(function) | owner.get(function, set())
        for node in ast.walk(function):
            owner[node] = names
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called, first = ast.unparse(node.func), node.args[0]
        if called == "map" and ast.unparse(first) in ("int", "float"):
            yield node
        if called in ("int", "float") and any(_is_read(part, owner.get(node, set())) for part in _chain(first)):
            yield node


def _texts(function: ast.FunctionDef) -> set[str]:
    """Names of a function that hold text: its parameters that say so, and what is cut out of text."""
    found = set()
    for argument in [*function.args.args, *function.args.kwonlyargs, *function.args.posonlyargs]:
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        if "str" in kind.replace("structure", "") and "Mapping" not in kind:
            found.add(argument.arg)
    for node in ast.walk(function):
        pairs = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.For | ast.comprehension):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.NamedExpr):
            pairs = [(node.target, node.value)]
        for target, value in pairs:
            if any(_is_read(part, found) for part in _chain(value)):
                found |= {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}
    return found


def _chain(node: ast.expr) -> Iterator[ast.expr]:
    """An expression and what it is taken from: a.b(c)[d] -> itself, a.b(c), a."""
    yield node
    if isinstance(node, ast.Subscript | ast.Attribute):
        yield from _chain(node.value)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TEXT | {"get"}:
        yield from _chain(node.func.value)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _chain(value)
    elif isinstance(node, ast.IfExp):
        yield from _chain(node.body)
        yield from _chain(node.orelse)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _chain(node.left)


def _is_read(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        keyed = name == "get" and node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
        return name in TEXT or bool(keyed)
    return ast.unparse(node) in ("os.environ", "sys.argv")


NUMBERS_ALLOWED = {
    "core/run/numbers.py": "the parser itself",
    "core/bpe/decoders.py": "two hexadecimal digits, by a pattern",
    "core/corpus/kinds.py": "six octal digits of a tar's header; what is none is no tar",
    "core/corpus/token_documents.py": "ids by the million, checked in the line above",
    "core/corpus/units.py": "a number that Ray hands on",
    "core/bench/machine_code.py": "cuobjdump's own figures, by a pattern",
    "core/bench/memory.py": "the kernel's own figures",
    "core/run/worker.py": "the kernel's own figures",
    "core/bench/launches.py": "a table of our own",
    "commands/bench/tokenizer/hostile.py": "an argument of our own",
    "commands/bench/device/child.py": "an argument of our own",
    "commands/bench/device/models.py": "a table of our own",
    "methods/dsmoe/part.py": "exported, so it imports nothing of ours; checked above",
    "methods/nextlong/search.py": "numpy's partition, no text",
}
JSON_ALLOWED = {
    "core/run/json_file.py": "the reader and the writer themselves",
    "core/corpus/jsonl.py": "rows by the million, each error a skipped row",
    "core/corpus/kinds.py": "the first value of a file of any size",
    "core/bpe/tokenization_llmtool.py": "exported, so it imports nothing of ours",
    "core/run/worker.py": "a pipe to a process of our own; what a template gives may hold any float",
    "core/bench/launches.py": "a pipe to a process of our own",
    "core/train/sft/rendering.py": "tojson is json.dumps, as transformers has it",
    "core/checkpoint/safetensors_file.py": "looks for names given twice; catches what is thrown",
}


@cache
def sources() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}


def bare_json(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of the standard library's JSON, by whatever name they were imported."""
    bare = {f"json.{name}" for name in ("dump", "dumps", "load", "loads", "JSONEncoder", "JSONDecoder")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in bare:
            yield node
        if isinstance(node, ast.ImportFrom) and node.module == "json":
            yield ast.Call(ast.Name("json"), [], [])


def test_numbers_are_read_in_one_place() -> None:
    found = {
        f"{name}:{call.lineno} {ast.unparse(call)}"
        for name, tree in sources().items()
        for call in readings(tree)
        if name not in NUMBERS_ALLOWED
    }
    assert found == set(), "read it by core/run/numbers.py"


def test_json_is_read_and_written_in_one_place() -> None:
    found = {
        f"{name} {ast.unparse(call)}"
        for name, tree in sources().items()
        for call in bare_json(tree)
        if name not in JSON_ALLOWED
    }
    assert found == set(), "use core/run/json_file.py"


def test_the_lists_are_short_and_needed() -> None:
    for allowed, look in ((NUMBERS_ALLOWED, readings), (JSON_ALLOWED, bare_json)):
        for name in allowed:
            assert any(look(sources()[name])), f"{name} needs no leave"


@pytest.mark.parametrize(
    ("code", "flagged"),
    [
        ("def f(text: str): return int(text)", True),
        ("def f(text: str): return float(text[:-1]) / 100", True),
        ("def f(facts): return int(facts['tokens'])", True),
        ("def f(facts): return float(facts.get('theta') or 1e4)", True),
        ("def f(line): return [int(word) for word in line.split()]", True),
        ("def f(x):\n    a, _, b = x.partition(':')\n    return int(a)", True),
        ("def f(x):\n    if m := re.fullmatch('x', x):\n        return int(m[1])", True),
        ("def f(x): return [*map(int, x)]", True),
        ("n = int(os.environ['RANK'])", True),
        ("def f(x): return int(x.sum())", False),
        ("def f(x): return float(x[0]) + int(x[1:].max())", False),
    ],
)
def test_the_walk_sees_what_is_read(code: str, flagged: bool) -> None:
    assert any(readings(ast.parse(code))) == flagged
    assert any(bare_json(ast.parse("json.dumps({})")))
    assert any(bare_json(ast.parse("from json import dumps")))
