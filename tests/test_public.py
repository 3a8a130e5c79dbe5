"""`import llmtool`: every public name works by the example in its docstring, and costs nothing until it is used."""

import doctest
import inspect
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")

import llmtool

WITHOUT = {"positions"}
"""Needs losses by position at many steps; tried in tests/commands/scaling."""


def documented() -> Iterator[tuple[str, Any]]:
    """Public functions, those of the modules among them."""
    for name in llmtool.PUBLIC:
        found = getattr(llmtool, name)
        if not isinstance(found, ModuleType):
            yield name, found
            continue
        for verb in ["nextlong"] if name == "data" else found.__all__:
            yield f"{name}.{verb}", getattr(found, verb)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a tokenizer, text, instruction data, logs."""
    folder = tmp_path_factory.mktemp("public")
    draw = random.Random(0)
    words = "the cat sat on a mat while dogs ran far from home and birds sang songs of light rain"
    lines = [" ".join(draw.choice(words.split()) for _ in range(12)) for _ in range(400)]
    (folder / "corpus.txt").write_text("\n".join(lines))
    rows = [{"text": "\n".join(lines[first : first + 20])} for first in range(0, 400, 20)]
    chat = [{"messages": [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": str(n + 1)}]}
            for n in range(20)]  # fmt: skip
    for name, objects in (("corpus", rows), ("chat", chat)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in objects))
    for name, floor in (("log", 2.0), ("lower", 1.9)):
        curve = [{"step": 10 * n, "loss": floor + 3 * (10 * n) ** -0.3 + draw.gauss(0, 0.005), "lr": 1e-3}
                 for n in range(1, 151)]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    sizes = [(n, d, 1.7 + 400 * n**-0.34 + 410 * d**-0.28) for n in (1e7, 4e7, 2e8) for d in (1e9, 5e9, 2e10, 1e11)]
    runs = "".join(f"{n:.0f},{d:.0f},{loss}\n" for n, d, loss in sizes)
    (folder / "runs.csv").write_text("params,tokens,loss\n" + runs)
    llmtool.Tokenizer.train([folder / "corpus.txt"], 300, special=["<|endoftext|>"]).save(folder / "bpe.json")
    llmtool.train(
        [str(folder / "corpus.txt")], folder / "model", model="40K", tokenizer=str(folder / "bpe.json"), length=64,
        batch=256, steps=2, device="cpu",
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("name, function", [pytest.param(*found, id=found[0]) for found in documented()])
def test_the_example_runs(name: str, function: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    if name.rpartition(".")[2] in WITHOUT:
        return
    finder, runner = doctest.DocTestFinder(recurse=name == "Tokenizer"), doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    examples = 0
    for test in finder.find(function, name, globs={}):
        examples += len(test.examples)
        runner.run(test, out=said.append)
    assert examples, f"{name} has no example"
    assert runner.failures == 0, "".join(said)


def test_only_public_names_are_listed() -> None:
    for name in llmtool.PUBLIC:
        found = getattr(llmtool, name)
        if isinstance(found, ModuleType):
            assert dir(found) == sorted(found.__all__)
    assert dir(llmtool.posttrain) == ["sft", "uniattn"]


@pytest.mark.parametrize(
    ("function", "words", "said"),
    [
        ("train", (["x"], "y"), r"llmtool\.train\(\) has no setting 'step' \(did you mean 'steps'\?\)"),
        ("posttrain.sft", ("m", ["x"], "y"), r"llmtool\.posttrain\.sft\(\) has no setting 'step'"),
        ("convert.copy", ("m", "y"), r"llmtool\.convert\.copy\(\) has no setting 'step'"),
        ("convert.dsmoe", ("m", "y"), r"llmtool\.convert\.dsmoe\(\) has no setting 'step'"),
        ("data.nextlong", (["x"], "y"), r"llmtool\.data\.nextlong\(\) has no setting 'step'"),
        ("scaling.fit", (["x"],), r"llmtool\.scaling\.fit\(\) has no setting 'step'"),
        ("eval.loss", ("m", ["x"]), r"llmtool\.eval\.loss\(\) has no setting 'step'"),
        ("verify", ("m", "y"), r"llmtool\.verify\(\) has no setting 'step'"),
    ],
)
def test_a_wrong_name_is_told_by_the_public_one(function: str, words: Any, said: str) -> None:
    found: Any = llmtool
    for part in function.split("."):
        found = getattr(found, part)
    with pytest.raises(TypeError, match=said):
        found(*words, step=2)


def required(function: Any) -> list[Any]:
    """Something for each argument that must be given."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    each = inspect.signature(function).parameters.values()
    return [
        ["x", "y"] if "Sequence" in str(known.annotation) else "x"
        for known in each
        if known.kind in kinds and known.default is inspect.Parameter.empty
    ]


IN_PYTHON_OTHERWISE = {"json", "quiet", "verbose", "config", "print_config", "html", "markdown", "help"}
"""Options of how a result is shown, and of files of settings: docs/api/index.md names them."""


def options() -> Iterator[tuple[str, str]]:
    """Each public function with each option of its command, as a name of Python's."""
    from llmtool.cli.surface import tree

    commands = {command.path.partition(" ")[2]: command for command in tree().walk()}
    for name, found in llmtool.PUBLIC.items():
        verbs = [name] if ":" in found else [f"{name}.{verb}" for verb in getattr(llmtool, name).__all__]
        for verb in verbs:
            if command := commands.get(verb.replace(".", " ").replace("_", "-")):
                for option in command.options:
                    longs = [flag for flag in option.names if flag.startswith("--")]
                    yield verb, (longs[-1] if len(longs) == 1 else longs[0])[2:].replace("-", "_")


def test_every_option_is_taken_by_its_name() -> None:
    refused = []
    for verb, option in options():
        function: Any = llmtool
        for part in verb.split("."):
            function = getattr(function, part)
        if option in IN_PYTHON_OTHERWISE or option in inspect.signature(function).parameters:
            continue
        with pytest.raises(TypeError) as told:  # of two names the first is told that is not known
            function(*required(function), **{option: None}, nothing_of_ours=None)
        if "'nothing_of_ours'" not in str(told.value):
            refused.append(f"{verb}: {option}: {told.value}")
    assert not refused
    assert len(list(options())) > 500
    page = (Path(llmtool.__file__).parents[1] / "docs/api/index.md").read_text()
    assert not [name for name in IN_PYTHON_OTHERWISE - {"help"} if f"`--{name.replace('_', '-')}`" not in page]


def test_finished_work_is_told_as_the_page_says(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtool.core.run.errors import CompleteError, UserError

    monkeypatch.chdir(place)
    llmtool.convert.copy("model", "twice")
    with pytest.raises(CompleteError) as done:
        llmtool.convert.copy("model", "twice")
    assert (done.value.output, isinstance(done.value, UserError)) == (Path("twice"), True)
    page = (Path(llmtool.__file__).parents[1] / "docs/api/index.md").read_text()
    assert f"from {CompleteError.__module__} import CompleteError, UserError" in page


def test_samples_are_looked_at_by_the_name_of_their_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    llmtool.data.nextlong("corpus.jsonl", "looked", tokenizer="bpe.json", target=1024, chunk=256, samples=2, workers=1)
    row = llmtool.data.show("looked", 0, quiet=True)
    assert llmtool.data.show(Path("looked"), row["id"], quiet=True) == row
    assert llmtool.data.report("looked")[0]


def test_one_text_stands_for_a_list_of_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    [row] = llmtool.generate("model", "hi", max_tokens=1)
    assert row["prompt"] == "hi"
    assert llmtool.scaling.fit("log.jsonl", law="power") == llmtool.scaling.fit(["log.jsonl"], law="power")
    assert llmtool.eval.loss("model", data=Path("corpus.jsonl"), tokens="600", documents="file")["all"]["tokens"] == 600  # type: ignore[arg-type]
    settings: dict[str, Any] = {"model": "40K", "tokenizer": Path("bpe.json"), "length": 32, "steps": 1}
    report = llmtool.train("corpus.jsonl", "one_file", field="text", valid=Path("corpus.txt"), **settings)
    assert report["step"] == 1


def test_every_list_of_texts_may_be_one() -> None:
    """Whatever a function does with a list, it never sees a bare text or path."""
    from llmtool.core.run.settings import one_or_several

    found = 0
    for name in llmtool.PUBLIC:
        public = getattr(llmtool, name)
        for function in (
            [getattr(public, verb) for verb in public.__all__] if isinstance(public, ModuleType) else [public]
        ):
            hints = [str(each.annotation) for each in inspect.signature(function).parameters.values()]
            if not isinstance(function, type) and any(hint.startswith("collections.abc.Sequence") for hint in hints):
                assert hasattr(function, "__wrapped__"), function
                assert one_or_several(function) is function
                found += 1
            assert not any(hint.startswith("list[") for hint in hints), function
    assert found >= 18


def test_importing_costs_nothing() -> None:
    code = "import sys, llmtool; print([n for n in sys.modules if n.partition('.')[0] in ('numpy', 'torch', 'typer')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert {*llmtool.PUBLIC, "__version__"} == {*dir(llmtool)}
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        llmtool.trian  # noqa: B018 - what a misspelt name says


def test_every_verb_of_the_command_line_is_there() -> None:
    from llmtool.cli.surface import tree

    groups = {command.path.rpartition(" ")[2]: command for command in tree().commands}
    for name in llmtool.PUBLIC:
        if name in groups and groups[name].commands:
            verbs = {command.path.rpartition(" ")[2].replace("-", "_") for command in groups[name].commands}
            missing = {verb for verb in verbs if not callable(getattr(getattr(llmtool, name), verb, None))}
            assert not missing, name
