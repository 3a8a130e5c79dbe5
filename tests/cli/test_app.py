"""The command line as a process: exit statuses, streams, start-up, settings files, completions."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtool import Tokenizer, __version__
from llmtool.cli.app import COMMANDS, build
from llmtool.cli.surface import generated
from llmtool.core.bpe import engine
from tests.conftest import SCRIPTS
from tests.processes import await_event, has_read

ROOT = Path(__file__).parents[2]
HEAVY = {
    "torch", "numpy", "scipy", "triton", "tokenizers", "rich", "faiss", "matplotlib", "regex", "pyarrow", "zstandard",
}  # fmt: skip


def run(*arguments: str | Path, text: str | bytes = "", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run llmtool; stdout and stderr are captured."""
    data = text.encode() if isinstance(text, str) else text
    command = [sys.executable, "-m", "llmtool", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=False, **options)


@pytest.fixture(scope="module")
def tok(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tok") / "tok.json"
    tokenizer = Tokenizer.train_from_documents(SCRIPTS * 2, 400, algorithm="scaffold", special=["<|endoftext|>"])
    tokenizer.save(path)
    return path


@pytest.mark.parametrize("command", [[], ["tokenizer"], ["tokenizer", "train"], ["tokenizer", "compare"], ["doctor"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['llmtool', *{command!r}, '--help']\n"
        "try: runpy.run_module('llmtool', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: llmtool")


def test_the_first_help_page_says_what_each_command_says_itself() -> None:
    """It is written from a table, so that no command need be imported."""
    tree = build()
    for name, (_, summary) in COMMANDS.items():
        paragraph = tree.commands.get(name).help.partition("\n\n")[0]  # type: ignore[union-attr]
        assert " ".join(paragraph.split()) == summary


def test_help_imports_no_command() -> None:
    code = (
        "import sys\nfrom llmtool.cli.app import build\n"
        "try: build()(['--help'], prog_name='llmtool')\nexcept SystemExit: pass\n"
        "print(*(name for name in sys.modules if name.startswith('llmtool.commands')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


def test_encoding_a_line_imports_only_what_it_needs(tok: Path) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['llmtool', 'tokenizer', 'encode', {str(tok)!r}]\n"
        "try: runpy.run_module('llmtool', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(*{'numpy', 'rich', 'torch', 'tokenizers', 'scipy', 'zstandard', 'asyncio'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"hello", capture_output=True, check=True)
    assert done.stdout.split(b"\n")[1] == b""


def test_results_go_to_stdout_and_nothing_else_does(tok: Path) -> None:
    done = run("tokenizer", "encode", tok, text="hello")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [int(word) for word in done.stdout.split()] == Tokenizer.load(tok).encode("hello")
    back = run("tokenizer", "decode", tok, "-", text=done.stdout)
    assert back.stdout == b"hello"


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe\x00 a\r\n", "".join(SCRIPTS).encode()])
def test_any_bytes_pass_through_a_pipe(tok: Path, data: bytes) -> None:
    ids = run("tokenizer", "encode", tok, "--input-format", "text", text=data)
    if not data:
        assert ids.returncode == 1
        return
    assert run("tokenizer", "decode", tok, text=ids.stdout).stdout == data


def test_lines_are_documents_if_asked(tok: Path) -> None:
    ids = run("tokenizer", "encode", tok, "--documents", "line", text="one\ntwo\n")
    assert len(ids.stdout.splitlines()) == 2
    assert run("tokenizer", "decode", tok, "--documents", "line", text=ids.stdout).stdout == b"one\ntwo\n"


def test_exit_statuses(tok: Path, tmp_path: Path) -> None:
    said = run("--version").stdout.decode()
    assert said.startswith(f"llmtool {__version__} ({engine.NAME} engine, ")
    assert said.count("\n") == 1
    facts = json.loads(run("--version", "--json").stdout)
    assert (facts["llmtool"], facts["engine"], {"torch", "gpu"} <= facts.keys()) == (__version__, engine.NAME, True)
    failed = run("tokenizer", "encode", "nowhere.json", text="a")
    assert (failed.returncode, failed.stderr) == (1, b"error: nowhere.json: cannot read: no such file or directory\n")
    assert run("tokenizer", "encode", tok, "--format", "xml", text="a").returncode == 2
    assert run("tokenizer", "nothing").returncode == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_141(tok: Path, unbuffered: str) -> None:
    encode = f"{sys.executable} -m llmtool tokenizer encode {tok}"
    script = f"yes | head -c 3000000 | {encode} | head -c 5 >/dev/null; echo ${{PIPESTATUS[2]}}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == (b"141\n", b"")


@pytest.mark.parametrize("command", [["methods"], ["tokenizer", "encode"], ["tokenizer", "inspect"]])
def test_a_full_stdout_is_one_line(tok: Path, command: list[str]) -> None:
    arguments = [*command, *([str(tok)] if len(command) > 1 else [])]
    with Path("/dev/full").open("wb") as full:
        process = [sys.executable, "-m", "llmtool", *arguments]
        done = subprocess.run(process, input=b"some text", stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"error: stdout: no space left on device\n")


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_encoding_leaves_nothing(tok: Path, tmp_path: Path, number: int, status: int) -> None:
    command = [sys.executable, "-m", "llmtool", "tokenizer", "encode", str(tok), "-o", str(tmp_path / "ids")]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(b"word " * 100_000)
    child.stdin.flush()
    await_event(child, lambda: bool(os.listdir(tmp_path)))
    assert len(os.listdir(tmp_path)) == 1
    child.send_signal(number)
    child.communicate()
    assert child.returncode == status
    assert os.listdir(tmp_path) == []


def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "llmtool",
        "tokenizer",
        "train",
        "-",
        "-o",
        str(tmp_path / "t"),
        "--vocab-size",
        "300",
    ]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(b"some text")
    child.stdin.flush()
    pipe = child.stdin
    await_event(child, lambda: has_read(pipe))
    child.send_signal(signal.SIGINT)
    _, error = child.communicate()
    assert (child.returncode, error) == (130, b"interrupted\n")
    assert os.listdir(tmp_path) == []


def test_a_bug_keeps_its_traceback(tok: Path) -> None:
    code = (
        "import llmtool.tokenizer, sys\n"
        "def broken(*_): raise ZeroDivisionError('a bug')\n"
        "llmtool.tokenizer.load = broken\n"
        "from llmtool.__main__ import main\n"
        "sys.argv = ['llmtool', 'tokenizer', 'encode', 'x']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr


def test_train_with_settings_file(write: Callable[..., Path], tmp_path: Path) -> None:
    corpus = write("corpus.txt", "".join(SCRIPTS) * 3)
    config = write("train.toml", 'vocab-size = 300\nalgorithm = "scaffold-lbpe"\nspecial = ["<s>", "</s>"]\n')
    out = tmp_path / "tok.json"
    done = run("tokenizer", "train", corpus, "-o", out, "--config", config, "--vocab-size", "310", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == "llmtool.tokenizer-train/1"
    assert report["vocab_size"] == 310  # the flag goes before the file
    definition = Tokenizer.load(out).definition
    assert (definition.algorithm, definition.encoder, definition.eos) == ("scaffold", "lbpe", "</s>")
    manifest = json.loads(Path(f"{out}.run.json").read_text())
    assert manifest["config"]["vocab_size"] == 310
    again = run("tokenizer", "train", corpus, "-o", out, "--config", config, "--vocab-size", "310")
    assert (again.returncode, b"complete already, nothing to do" in again.stderr) == (0, True)
    wrong = run("tokenizer", "train", corpus, "-o", out, "--config", write("w.toml", "vocab-sizes = 3"))
    assert (wrong.returncode, b"did you mean 'vocab-size'" in wrong.stderr) == (1, True)


def test_dry_run_writes_nothing(write: Callable[..., Path], tmp_path: Path) -> None:
    corpus = write("in/corpus.txt", "text")
    out = tmp_path / "tok.json"
    done = run("tokenizer", "train", corpus, "-o", out, "--vocab-size", "300", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes_on_disk"] == 4
    assert not out.exists()
    wrong = run("tokenizer", "train", corpus, "-o", out, "--vocab-size", "30", "--dry-run")
    assert wrong.returncode == 1


def test_same_manifest_same_bytes(write: Callable[..., Path], tmp_path: Path) -> None:
    """Whatever the threads and the memory: 100,000 distinct pieces in 1 MB must spill."""
    corpus = write("corpus.txt", "".join(SCRIPTS) + " ".join(map(str, range(100_000))))
    outputs = []
    for name, work in (("a", ["--threads", "1"]), ("b", ["--threads", "3", "--max-memory", "1M", "-v"])):
        arguments = ("--vocab-size", "330", "--algorithm", "scaffold", "--pretokenizer", "gpt2", *work)
        outputs.append(run("tokenizer", "train", corpus, "-o", tmp_path / name, *arguments))
    assert [done.returncode for done in outputs] == [0, 0], outputs
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (b"spilled to disk" in outputs[1].stderr) == (engine.NAME == "native")


def test_rows_that_do_not_parse_are_reported(write: Callable[..., Path], tmp_path: Path) -> None:
    corpus = write("rows.jsonl", '{"text": "abab"}\n{"text": 5}\nnot json\n{"text": "abab"}\n')
    arguments = ("tokenizer", "train", corpus, "-o", tmp_path / "t", "--vocab-size", "257")
    strict = run(*arguments, "--strict")
    assert strict.returncode == 1
    assert b"rows.jsonl:2" in strict.stderr
    assert not (tmp_path / "t").exists()
    lenient = run(*arguments)
    assert lenient.returncode == 0
    assert b"rows.jsonl:2" in lenient.stderr
    assert b"rows.jsonl:3" in lenient.stderr


def test_inspect(tok: Path) -> None:
    facts = json.loads(run("tokenizer", "inspect", tok, "--json").stdout)
    assert (facts["vocab_size"], facts["algorithm"]) == (400, "scaffold")
    tokenizer = Tokenizer.load(tok)
    vocabulary = tokenizer.definition.vocabulary
    scaffold = next(unit for unit in map(vocabulary.units.__getitem__, vocabulary.scaffolds) if unit.isalpha())
    cut = json.loads(run("tokenizer", "inspect", tok, scaffold.decode(), "--json").stdout)
    assert cut["ids"] == tokenizer.encode(scaffold)
    assert cut["token"]["scaffold"]
    assert b"<" in run("tokenizer", "inspect", tok, scaffold.decode()).stdout
    assert b"special" in run("tokenizer", "inspect", tok, "<|endoftext|>").stdout
    assert run("tokenizer", "inspect", tok, "#9999").returncode == 1
    assert run("tokenizer", "inspect", tok, "#\u00b2").returncode == 0


def test_methods_and_doctor() -> None:
    rows = json.loads(run("methods", "--json").stdout)["methods"]
    assert {"Scaffold-BPE", "LBPE"} <= {row["name"] for row in rows}
    assert b"arXiv 2404.17808" in run("methods").stdout
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["llmtool"] == __version__
    forced = run("doctor", "--json", env={**os.environ, "LLMTOOL_ENGINE": "python"})
    assert json.loads(forced.stdout)["tokenizer_engine"] == "python"
    assert run("doctor", env={**os.environ, "LLMTOOL_ENGINE": "fast"}).returncode == 1


def test_the_native_engine_is_built() -> None:
    """Only the job that is about the portable engine may run without C++."""
    if os.environ.get("LLMTOOL_ENGINE") != "python":
        assert json.loads(run("doctor", "--json").stdout)["tokenizer_engine"] == "native"


@pytest.mark.parametrize("name, text", generated().items())
def test_completions_and_manuals_are_those_of_the_tree(name: str, text: str) -> None:
    assert (ROOT / name).read_text() == text, "run make golden"


def test_no_manual_is_of_a_command_that_is_gone() -> None:
    assert {f"man/{path.name}" for path in (ROOT / "man").iterdir()} == {n for n in generated() if n.startswith("man/")}


@pytest.mark.parametrize("shell, name", [("bash", "llmtool.bash"), ("zsh", "_llmtool"), ("fish", "llmtool.fish")])
def test_completions_are_valid(shell: str, name: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", ROOT / "completions" / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "line, wanted",
    [
        ("llmtool to", "tokenizer"),
        ("llmtool tokenizer ", "compare decode diff encode export extend inspect train trim"),
        ("llmtool tokenizer train --algorithm sc", "scaffold scaffold-lbpe"),
        ("llmtool tokenizer train x --pretok", "--pretokenizer --pretokenizer-regex"),
        ("llmtool tokenizer encode --format ", "bin ids jsonl mds npy"),
        ("llmtool tokenizer train --algorithm = sc", "scaffold scaffold-lbpe"),  # as readline cuts it
        ("llmtool tokenizer train --algorithm=sc", "--algorithm=scaffold --algorithm=scaffold-lbpe"),
        ("llmtool tokenizer encode --format =", "bin ids jsonl mds npy"),
        ("llmtool completions ", "bash fish zsh"),
        ("llmtool convert dsmoe-baseline st", "static"),
        ("llmtool train {place}/cor", "{place}/corpus.txt"),
        ("llmtool train x --model {place}/che", "{place}/checkpoint"),
        ("llmtool train x --model={place}/che", "--model={place}/checkpoint"),
        ("llmtool train x --config = {place}/cor", "{place}/corpus.txt"),
    ],
)
def test_bash_completes(line: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").touch()
    (tmp_path / "checkpoint").mkdir()
    line, wanted = (text.replace("{place}", str(tmp_path)) for text in (line, wanted))
    script = (
        f"source {ROOT / 'completions' / 'llmtool.bash'}; COMP_WORDS=({line}); "
        f"[[ '{line}' == *' ' ]] && COMP_WORDS+=(''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _llmtool; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == wanted.split()


def test_fish_completes() -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    for typed, wanted in (
        ("tokenizer train --algorithm sca", ["scaffold", "scaffold-lbpe"]),
        ("tokenizer train --algorithm=sca", ["--algorithm=scaffold", "--algorithm=scaffold-lbpe"]),
        ("completions ba", ["bash"]),
    ):
        script = f"source {ROOT / 'completions' / 'llmtool.fish'}; complete -C 'llmtool {typed}'"
        done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
        assert [line.split("\t")[0] for line in done.stdout.splitlines()][: len(wanted)] == wanted


def test_a_dash_is_standard_output(tok: Path, tmp_path: Path) -> None:
    """Wherever a file is written, as it is standard input where text is read; a directory cannot go there."""
    encoded = run("tokenizer", "encode", tok, "-", "-o", "-", cwd=tmp_path, text=b"hello")
    assert (encoded.returncode, encoded.stdout) == (0, run("tokenizer", "encode", tok, text=b"hello").stdout)
    decoded = run("tokenizer", "decode", tok, "-o", "-", cwd=tmp_path, text=encoded.stdout)
    assert (decoded.returncode, decoded.stdout) == (0, b"hello")
    trained = run("tokenizer", "train", "-", "--vocab-size", "260", "-o", "-", cwd=tmp_path, text=b"hello " * 99)
    assert (trained.returncode, json.loads(trained.stdout)["schema"]) == (0, "llmtool.tokenizer/1")
    assert b"next: " not in trained.stderr
    directories: list[list[str | Path]] = [
        ["tokenizer", "export", tok, "-"], ["tokenizer", "extend", tok, tok, "--add", "5", "-o", "-"],
        ["tokenizer", "encode", tok, tok, "--shards", "1M", "--format", "bin", "-o", "-"],
        ["data", "chunk", tok, "-o", "-"], ["data", "nextlong", tok, "--tokenizer", tok, "-o", "-"],
        ["data", "nextlong", tok, "--tokenizer", tok, "--work", "-", "-o", "out"],
        ["train", tok, "--tokenizer", tok, "-o", "-"], ["convert", "copy", tmp_path, "-"],
    ]  # fmt: skip
    for words in directories:
        done = run(*words, cwd=tmp_path)
        said = b"error: - is standard output, and this writes a directory"
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not list(tmp_path.iterdir())
