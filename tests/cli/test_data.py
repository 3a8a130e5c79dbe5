"""`llmtool data` as a process: hostile corpora, one-line errors, help without heavy imports."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from llmtool import catalog
from llmtool.commands import data_settings
from llmtool.methods.nextlong.baselines import NAMES
from llmtool.methods.nextlong.comparison import BASELINES
from tests.methods.nextlong.corpora import corpus, tokenizer


def run(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmtool", "data", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, check=False, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    corpus(directory / "corpus.jsonl", 40)
    tokenizer().save(directory / "tok.json")
    return directory


def test_a_hostile_corpus(place: Path) -> None:
    hostile = place / "hostile"
    hostile.mkdir()
    (hostile / "empty.txt").write_text("")
    (hostile / "blank.txt").write_text(" \n\n ")
    (hostile / "broken.txt").write_bytes(b"caf\xe9 au lait\n" * 300)
    (hostile / "line.txt").write_text("endless " * 60_000)
    (hostile / "binary.dat").write_bytes(b"\0" * 4096)
    (hostile / "rows.jsonl").write_text('{"text": "short"}\n{"text": 3}\nnot json\n{"text": ""}\n')
    for number in range(2):  # the same document twice
        (hostile / f"copy{number}.txt").write_text("\n".join(f"line {i} of a copied text" for i in range(200)))
    options: list[str | Path] = ["--tokenizer", place / "tok.json", "--target", "2048", "--workers", "1", "--json"]
    done = run("nextlong", hostile, place / "corpus.jsonl", "-o", place / "out", *options)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["schema"] == "llmtool.data-nextlong/1"
    assert facts["samples"] > 0
    assert "not UTF-8 in 1 (replaced by U+FFFD)" in done.stderr
    told = json.loads(run("report", place / "out", "--json", "--plot", place / "out.svg").stdout)
    assert (told["same_document_leaks"], told["all_metas_inside"], told["zero_gaps"]) == (0, 1, 0)
    assert (place / "out.svg").stat().st_size > 10_000
    chunks = json.loads((place / "out" / "work" / "chunks" / "done.json").read_text())
    assert chunks["rejects"]["empty"] >= 2
    assert chunks["skipped"]["not text (NUL bytes)"] == 1
    shown = run("show", place / "out", "0")
    assert "[meta]" in shown.stdout
    assert "[negative 1, similarity 0." in shown.stdout
    one = json.loads(run("show", place / "out", "0", "--json").stdout)
    assert one["schema"] == "llmtool.data-show/1"
    assert run("show", place / "out", one["id"], "--json").stdout.startswith("{")


def test_stdin_and_sentences(place: Path) -> None:
    text = "\n".join(
        json.dumps({"text": " ".join(f"Sentence {i} of text {n} says {i * n}." for i in range(40))}) for n in range(60)
    )
    options: list[str | Path] = [
        "--tokenizer",
        place / "tok.json",
        "--target",
        "2048",
        "--workers",
        "1",
        "--json",
        "--chunk",
        "512",
    ]
    done = run("nextlong", "-", "-o", place / "piped", "--split", "sentences", *options, text=text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nextlong", "none.jsonl", "-o", "{place}/x", "--tokenizer", "{tok}"], "none.jsonl: cannot read: no such"),
        (["nextlong", "{corpus}", "-o", "{place}/x", "--tokenizer", "{place}/no.json"], "no.json: cannot read"),
        (["nextlong", "{corpus}", "-o", "{place}/x/y/z", "--tokenizer", "{tok}"], "directory to write into does not"),
        (["nextlong", "{corpus}", "-o", "{corpus}", "--tokenizer", "{tok}"], "is a file"),
        (["nextlong", "{corpus}", "-o", "{place}/x", "--tokenizer", "{tok}", "--cap", "a"], "not SOURCE=SHARE"),
        (["nextlong", "{corpus}", "-o", "{place}/x", "--tokenizer", "{tok}", "--embedder", "e5"], "embedder 'e5'"),
        (["nextlong", "{corpus}", "-o", "{place}/x", "--tokenizer", "{tok}", "--embedder", "hf:no"], "no config.json"),
        (["nextlong", "{corpus}", "-o", "{place}/x", "--tokenizer", "{tok}", "--min-chunks", "1"], "no dependency"),
        (["nextlong", "{tiny}", "-o", "{place}/tiny", "--tokenizer", "{tok}"], "no sample reaches 131,072 tokens"),
        (["embed", "{place}/nothing"], "run `llmtool data chunk` first"),
        (["report", "{place}/nothing"], "no such directory"),
        (["report", "{place}", "--plot", "a.gif"], "cannot draw .gif"),
    ],
)
def test_errors_are_one_line(place: Path, arguments: list[str], says: str) -> None:
    (place / "tiny.jsonl").write_text('{"text": "a"}\n')
    names = {"place": place, "tok": place / "tok.json", "corpus": place / "corpus.jsonl", "tiny": place / "tiny.jsonl"}
    done = run(*(argument.format(**names) for argument in arguments), "-q")
    assert done.returncode == 1, done.stderr
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
    assert done.stderr.startswith("error: ")
    assert says in done.stderr


def test_a_full_disk_is_said_before_the_work(place: Path) -> None:
    options: list[str | Path] = ["--tokenizer", place / "tok.json", "--samples", str(10**12), "--workers", "1"]
    done = run("nextlong", place / "corpus.jsonl", "-o", place / "huge", *options)
    assert done.returncode == 1
    assert "not enough disk space" in done.stderr


def test_dry_run_writes_nothing(place: Path) -> None:
    options: list[str | Path] = ["--tokenizer", place / "tok.json", "--target", "4096", "--dry-run", "--json"]
    facts = json.loads(run("nextlong", place / "corpus.jsonl", "-o", place / "dry", *options).stdout)
    assert facts["dry_run"]
    assert facts["exact"]
    made = run("nextlong", place / "corpus.jsonl", "-o", place / "wet", *options[:-2], "--json", "--workers", "1")
    assert facts["chunks"] == json.loads((place / "wet/work/chunks/done.json").read_text())["chunks"]
    assert made.returncode == 0
    assert not (place / "dry").exists()


def test_methods_are_those_of_the_catalog() -> None:
    assert catalog.options(catalog.DATA) == ["nextlong", *NAMES]
    assert tuple(BASELINES) == NAMES
    assert get_args(data_settings.Method) == tuple(catalog.options(catalog.DATA))
    for name, kind in BASELINES.items():
        assert catalog.attribute(catalog.DATA, name) is kind


@pytest.mark.parametrize("command", [[], ["nextlong"], ["report"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['llmtool', 'data', *{command!r}, '--help']\n"
        "try: runpy.run_module('llmtool', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'numpy', 'scipy', 'rich', 'matplotlib', 'faiss', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
