"""`eval ruler` on tiny models: report, cost, plot, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from llmtool import Tokenizer
from llmtool.commands.eval.ruler import ruler
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS, STDLIB
from tests.core.model.families import save
from tests.faults.trial import invoke


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("m") / "m", "llama3", vocab_size=2000, max_position_embeddings=256)


def test_ids(model: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"length": [128, 200], "samples": 2, "task": ["single", "common"]}
    planned = ruler(model, dry_run=True, **settings)
    assert "cells" not in planned
    report = ruler(model, plot=tmp_path / "p.png", **settings)
    assert (report["kind"], report["cost"]) == ("ids", planned["cost"])
    assert [(cell["task"], cell["length"], cell["depth"]) for cell in report["cells"]] == [
        *(("single", length, depth) for length in (128, 200) for depth in (0.0, 0.5, 1.0)),
        ("common", 128, None), ("common", 200, None),
    ]  # fmt: skip
    assert report["cost"]["questions"] == 16
    assert report["cost"]["flops"] > 2 * report["cost"]["tokens"] * 100_000
    assert (tmp_path / "p.png").stat().st_size > 5000
    assert ruler(model, **settings)["cells"] == report["cells"]


def test_what_it_would_cost_is_a_line_for_people(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "ruler", str(model), "--length", "128", "--samples", "2", "--task", "common", "--dry-run"]
    assert invoke(words) == 0
    result = capsys.readouterr().out
    assert result.startswith(f"{model}: 2 questions of ids, ")
    assert result.count("\n") == 1
    assert invoke([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cost"]["questions"] == 2


def test_a_figure_is_announced(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "p.png"
    ruler(model, plot=figure, length=[128], samples=1, task=["common"], console=Console())
    assert f"{figure}: drawn" in capsys.readouterr().err


def test_words(tmp_path: Path) -> None:
    model = save(tmp_path / "m", "llama3", vocab_size=400, max_position_embeddings=512)
    Tokenizer.train_from_documents([*SCRIPTS, (STDLIB / "textwrap.py").read_text()], 400).save(model / "llmtool.json")
    for data in ([], [str(STDLIB / "textwrap.py")]):
        report = ruler(model, data, length=[480], samples=1, depth=[0.5])
        assert report["kind"] == "words"
        assert {cell["task"] for cell in report["cells"]} == {
            "single", "multikey", "multivalue", "multiquery", "tracking", "common", "qa",
        }  # fmt: skip
        assert 0 <= report["mean"] <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": ["singel"]}, "single"),
        ({"length": [16]}, "do not hold the question"),
        ({"kind": "words"}, "need a tokenizer"),
        ({"plot": Path("x.gif")}, "cannot draw .gif"),
    ],
)
def test_refusals(model: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        ruler(model, **settings)
    assert message in str(caught.value)


def test_a_vocabulary_without_room(tmp_path: Path) -> None:
    small = save(tmp_path / "m", "llama3", max_position_embeddings=256)
    with pytest.raises(UserError, match="more different words than the vocabulary has ids, 97"):
        ruler(small, task=["qa"], length=[2000])
