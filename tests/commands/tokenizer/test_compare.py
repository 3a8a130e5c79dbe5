"""Comparison on files: parallel rows are matched by id wherever they come from."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool import Tokenizer
from llmtool.commands.tokenizer.compare import compare_files, short_names
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    trained = Tokenizer.train_from_documents(SCRIPTS * 3, 400)
    return {"bpe": trained, "lbpe": trained.with_encoder("lbpe")}


def test_parity_by_id(tokenizers: dict[str, Tokenizer], write: Callable[..., Path]) -> None:
    rows = [{"id": str(number), "text": text} for number, text in enumerate(SCRIPTS)]
    reference = write("reference.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    reverse = "".join(json.dumps(row | {"text": row["text"] * 2}) + "\n" for row in rows[::-1])
    doubled = write("doubled.jsonl.gz", gzip.compress(reverse.encode()))
    plain = write("plain.txt", SCRIPTS[0])
    comparison = compare_files(tokenizers, [str(doubled), str(plain)], reference=str(reference))
    figures = comparison.measured["bpe"].corpora
    once, twice = ([len(tokenizers["bpe"].encode(text * n)) for text in SCRIPTS] for n in (1, 2))
    assert figures["doubled"].parity_rows == len(SCRIPTS)
    assert figures["doubled"].parity == pytest.approx(sum(twice) / sum(once))
    assert figures["plain"].parity is None


def test_names() -> None:
    assert short_names(["a/x.jsonl.gz", "b/y.json"]) == ["x", "y"]
    assert short_names(["a/x.json", "b/x.json"]) == ["a/x.json", "b/x.json"]
    with pytest.raises(UserError, match="named twice"):
        short_names(["a", "a"])


def run(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "llmtool", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_worse_than_before(tokenizers: dict[str, Tokenizer], write: Callable[..., Path], tmp_path: Path) -> None:
    """--baseline: exit status 3 where bytes a token have fallen by more than --max-worse, on the same text only."""
    text = write("text.txt", SCRIPTS[0])
    for name, tokenizer in tokenizers.items():
        tokenizer.save(tmp_path / f"{name}.json")
    words = ["tokenizer", "compare", str(tmp_path / "bpe.json"), str(tmp_path / "lbpe.json"), "--corpus", str(text)]
    first = run(*words, "--json", "--html", str(tmp_path / "page.html"))
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    page = (tmp_path / "page.html").read_text()
    assert "How text is cut" in page
    assert page.count('class="cut"') == 2
    baseline = tmp_path / "before.json"
    baseline.write_text(json.dumps(report))
    assert run(*words, "--baseline", str(baseline)).returncode == 0
    report["tokenizers"]["bpe"]["corpora"]["text"]["bytes_per_token"] *= 1.02
    baseline.write_text(json.dumps(report))
    worse = run(*words, "--baseline", str(baseline), "--markdown", "-")
    assert worse.returncode == 3
    assert "| bpe | text |" in worse.stdout
    assert "1.96% fewer bytes a token than before" in worse.stderr
    alone = run(*words[:3], *words[4:], "--baseline", str(baseline), "--plot", str(tmp_path / "alone.svg"))
    assert alone.returncode == 3
    assert "1.96% fewer" in alone.stderr
    del report["tokenizers"]["lbpe"]
    baseline.write_text(json.dumps(report))
    assert f"warning: {baseline} has nothing of lbpe on text: not checked" in run(*words, "--baseline", baseline).stderr
    assert run(*words, "--baseline", str(baseline), "--max-worse", "0.05").returncode == 0
    report["tokenizers"]["bpe"]["corpora"]["text"]["bytes"] += 1
    baseline.write_text(json.dumps(report))
    other = run(*words, "--baseline", str(baseline))
    assert other.returncode == 1
    assert "not the same text" in other.stderr


def test_a_figure_that_cannot_be_drawn_is_refused_first(tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(UserError, match="name it"):
        compare_files(tokenizers, ["nowhere.txt"], plot=Path("figure.gif"))
