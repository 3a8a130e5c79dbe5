"""Every leaf command without any extra: it works, or says in one line which one it needs; never a traceback.

`python -m tests.cli.test_missing_extras DIRECTORY` runs them all, each in a fork of a process that cannot import what
the extras bring, and prints a line of JSON a command.
"""

import json
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llmtool.core.run.extras import EXTRAS
from tests.faults.commands import CONFIG
from tests.faults.inputs import write_inputs

BLOCKED = {module for modules in EXTRAS.values() for module in modules} | {
    "pandas",
    "datasets",
    "sentence_transformers",
}
MADE = ("tokenizer train text.txt -o tok.json --vocab-size 300", "tokenizer encode tok.json text.txt -o ids.txt")
WORKING = {
    "methods": "", "doctor": "", "help": "", "completions": "bash",
    "tokenizer train": "text.txt -o a.json --vocab-size 270",
    "tokenizer extend": "tok.json text.txt -o more --add 3", "tokenizer trim": "tok.json text.txt -o less --to 280",
    "tokenizer encode": "tok.json text.txt", "tokenizer decode": "tok.json ids.txt",
    "tokenizer inspect": "tok.json abc", "tokenizer compare": "tok.json less --corpus text.txt",
    "tokenizer diff": "tok.json tok.json", "tokenizer export": "tok.json export",
    "scaling fit": "log.jsonl --law power --fit-until 60%", "scaling predict": "fit.json",
    "scaling backtest": "log.jsonl --law power --fit-until 50%", "scaling compare": "log.jsonl log.jsonl --law power",
    "scaling positions": "positions.jsonl", "scaling law": "runs.csv --bootstrap 0", "convert inspect": "ckpt",
    "data chunk": "corpus.jsonl -o stages --chunk 128 --workers 1", "data embed": "stages --workers 1",
    "data index": "stages --workers 1", "data mine": "stages --tokenizer tok.json --target 256 --workers 1",
    "data assemble": "stages -o long --tokenizer tok.json --target 256 --workers 1",
    "data nextlong": "corpus.jsonl -o whole --tokenizer tok.json --target 256 --chunk 128 --workers 1",
    "data report": "whole", "data show": "whole 0",
}  # fmt: skip
"""What the base install does."""
NEEDING = {
    "generate": "ckpt abc", "verify": "rmsnorm ckpt ckpt", "train": "text.txt -o run --tokenizer tok.json",
    "convert copy": "ckpt o", "convert export": "ckpt o", "convert dsmoe": "ckpt o --experts 4",
    "convert dsmoe-baseline": "topk ckpt o --experts 4", "convert dense": "ckpt o",
    "convert uniattn": "ckpt o --followers 1 --init zero", "convert rope": "ckpt o --target 64 --method pi",
    "convert gguf": "log.jsonl o", "convert topk": "ckpt o --experts 4",
    "convert cartesian": "ckpt o --layers 1 --experts 4", "convert mask": "ckpt o --table text.txt",
    "convert finedeep": "ckpt o --experts 4", "convert merge-lora": "ckpt o",
    "convert vocab": "ckpt o --tokenizer tok.json --multiple 8", "eval loss": "ckpt --data text.txt",
    "eval niah": "ckpt", "eval ruler": "ckpt", "eval attention": "ckpt --data text.txt",
    "eval experts": "ckpt --data text.txt",
    "eval activations": "ckpt --data text.txt", "data check": "chat.jsonl --tokenizer tok.json --template plain",
    "data token-experts": "text.txt -o table.safetensors --model ckpt --experts 4 --tokenizer tok.json",
    "posttrain sft": "ckpt chat.jsonl -o run", "posttrain uniattn": "ckpt chat.jsonl -o run", "bench kernels": "swiglu",
    "bench compile": "swiglu", "bench machine": "", "bench device": "swiglu --out out", "bench decode": "ckpt",
    "bench tokenizer": "no-such-file", "rerun": "text.txt",
}  # fmt: skip
"""What needs an extra, or a checkpoint of another kind; a line either way."""


class _Blind:
    """A finder of modules that finds none of those: as if they had never been installed."""

    def __init__(self, finder: Any) -> None:
        self.finder = finder

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command that has none below it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(words)
    for name, inner in (below or {}).items():
        yield from leaves(inner, (*words, name))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    place = tmp_path_factory.mktemp("bare")
    command = [sys.executable, "-m", "tests.cli.test_missing_extras", str(place)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2])
    return {found["leaf"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("leaf", [*WORKING, *NEEDING])
def test_a_missing_extra_is_one_line(leaf: str, outcomes: dict[str, dict[str, Any]]) -> None:
    found = outcomes[leaf]
    assert "Traceback" not in found["said"], found["said"]
    assert found["status"] in ((0,) if leaf in WORKING else (0, 1, 2)), found["said"]
    if found["status"]:
        [line] = [line for line in found["said"].splitlines() if line.startswith("error: ")]
        assert "No module" not in line
        if "is needed" in line:
            assert "pip install" in line


def test_every_leaf_is_tried(outcomes: dict[str, dict[str, Any]]) -> None:
    from llmtool.cli.app import build

    assert set(leaves(build())) == set(outcomes) == set(WORKING) | set(NEEDING)
    needing = [leaf for leaf, found in outcomes.items() if "is needed" in found["said"]]
    assert len(needing) > 15  # so that the modules are really missing


def main(place: Path) -> None:
    """Each command, a line of JSON each."""
    from tests.faults.trial import invoke

    os.chdir(place)
    write_inputs(place)
    (place / "ckpt").mkdir()
    (place / "ckpt" / "config.json").write_text(json.dumps(CONFIG))
    (place / "ckpt" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    sys.meta_path[:] = [_Blind(finder) for finder in sys.meta_path]
    for words in (*MADE, "scaling fit log.jsonl --law power --fit-until 60% -o fit.json"):
        status, said = _forked(shlex.split(words), invoke)
        assert status == 0, said
    for leaf, words in {**WORKING, **NEEDING}.items():
        status, said = _forked([*leaf.split(), *shlex.split(words)], invoke)
        print(json.dumps({"leaf": leaf, "status": status, "said": said}), flush=True)


def _forked(words: list[str], invoke: Any) -> tuple[int, str]:
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = invoke(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended), Path("said").read_text()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
