"""`llmtool bench tokenizer` gives no ratio for a contender whose result is not ours."""

from pathlib import Path
from typing import Any

import pytest

from llmtool.commands.bench.tokenizer import measure
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError


def run(digest: str, wall: float) -> dict[str, Any]:
    return {
        "sha256": digest, "head_sha256": "head", "bytes": 10**6, "wall": wall, "cpu": wall, "warm_wall": wall,
        "mib_peak": 30, "mib_before": 10,
    }  # fmt: skip


def test_a_ratio_only_for_the_same_ids() -> None:
    runs = {"llmtool": [run("ours", 1.0)], "fastokens": [run("ours", 2.0)], "gigatoken": [run("other", 2.0)]}
    rows = [measure._row(name, runs, "encode") for name in runs]
    assert [(row["same"], row["ratio"]) for row in rows] == [(True, 1.0), (True, 2.0), (False, None)]
    _, header, cells = measure.table({"task": "encode", "rows": rows})
    assert [row[-1] for row in cells] == ["1.00x", "2.00x", "NOT OUR RESULT"]
    assert {len(row) for row in cells} == {len(header)}
    slow = [{"job": "merge", "text": "one letter", "seconds": [0.1, 1.0], "growth": 10.0}]
    _, header, cells = measure.table({"task": "hostile", "rows": slow})
    assert cells == [["merge", "one letter", "0.100", "1.000", "10.0x"]]


def test_a_slow_peer_is_held_against_the_first_part() -> None:
    short = run("head", 1.0) | {"bytes": 10**5}
    row = measure._row("tiktoken", {"llmtool": [run("ours", 1.0)], "tiktoken": [short]}, "encode")
    assert (row["same"], row["ratio"]) == (True, 10.0)


def test_bad_requests_are_one_line(tmp_path: Path) -> None:
    console = Console(verbosity=-1)
    with pytest.raises(UserError, match="no such file"):
        measure.benchmark(tmp_path / "none", console=console)
    (tmp_path / "c.txt").write_text("text")
    with pytest.raises(UserError, match="contender 'sentencepiece' is not known"):
        measure.benchmark(tmp_path / "c.txt", only=["sentencepiece"], console=console)
