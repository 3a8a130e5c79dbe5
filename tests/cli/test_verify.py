"""`llmtool verify`: what it compares on, and when it exits with 3."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_app import run

torch = pytest.importorskip("torch")
from llmtool import Tokenizer  # noqa: E402
from llmtool.commands.verify import verify  # noqa: E402
from llmtool.core.bpe.export import export_huggingface  # noqa: E402
from llmtool.core.checkpoint.directory import open_checkpoint  # noqa: E402
from llmtool.core.checkpoint.writer import write_checkpoint  # noqa: E402
from llmtool.core.model.config import parse_config  # noqa: E402
from llmtool.core.model.decoder import Decoder, expected_shapes  # noqa: E402
from llmtool.core.run.console import Console  # noqa: E402
from llmtool.core.run.errors import UserError  # noqa: E402
from llmtool.core.run.manifest import Run  # noqa: E402
from tests.conftest import SCRIPTS  # noqa: E402
from tests.core.checkpoint.files import CONFIG  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a, with a tokenizer; same: its weights again; near: in bf16; other: drawn anew."""
    root = tmp_path_factory.mktemp("verify")
    tokenizer = Tokenizer.train_from_documents(SCRIPTS, 300)
    export_huggingface(tokenizer, root / "tokenizer")
    files = {file.name: file.read_bytes() for file in (root / "tokenizer").iterdir()}
    config = {**CONFIG, "vocab_size": 300, "hidden_act": "silu"}
    shapes = expected_shapes(Decoder(parse_config(config)))
    for name, seed in (("a", 1), ("other", 2)):
        generator = torch.Generator().manual_seed(seed)
        weights = ((key, torch.randn(shape, generator=generator) * 0.3) for key, shape in shapes.items())
        write_checkpoint(root / name, weights, config, run=Run("test", {}), files=files)
    source = open_checkpoint(root / "a")
    for name, dtype in (("same", None), ("near", "bf16")):
        write_checkpoint(root / name, source.tensors(), source.config, run=Run("test", {}), source=source, dtype=dtype)
    return root


def report(models: Path, a: str, b: str, inputs: Sequence[str | Path] = (), **options: Any) -> Any:
    settings = {"device": "cpu", "console": Console(-1), **options}
    return verify(models / a, models / b, [str(path) for path in inputs], **settings)


def test_the_same_weights_are_identical(models: Path) -> None:
    facts = report(models, "a", "same", max_kl=0, tokens=300, length=64)
    assert (facts["identical"], facts["kl"], facts["max_abs_difference"], facts["top1_agreement"]) == (True, 0, 0, 1)
    assert (facts["tokens"], facts["passed"]) == (300, True)
    assert facts["norm_loss"] == facts["other_loss"] > 0


def test_the_limit(models: Path) -> None:
    near = report(models, "a", "near", dtype="fp32", tokens=300)
    assert (near["passed"], near["identical"]) == (None, False)
    assert 0 < near["kl"] < 1e-3
    assert report(models, "a", "near", dtype="fp32", tokens=300, max_kl=near["kl"])["passed"]
    assert report(models, "a", "other", tokens=300)["kl"] > 100 * near["kl"]
    arguments = ("verify", models / "a", models / "near", "--dtype", "fp32", "--tokens", "300", "--device", "cpu")
    failed = run(*arguments, "--max-kl", str(near["kl"] / 2), "--json")
    assert failed.returncode == 3, failed.stderr
    assert json.loads(failed.stdout) == {**near, "passed": False}
    assert b" KL " not in failed.stderr
    said = run(*arguments)
    assert said.stdout.startswith(b"300 tokens of random ids, seed 0: KL ")  # the result, where results stand
    assert b" KL " not in said.stderr


def test_on_text_and_on_ids(models: Path, write: Callable[[str, str], Path]) -> None:
    ids = Tokenizer.load(models / "a").encode(SCRIPTS[0])
    from_text = report(models, "a", "other", [write("a.txt", SCRIPTS[0])])
    from_ids = report(models, "a", "other", [write("ids.txt", " ".join(map(str, ids)))], ids=True)
    assert from_text["tokens"] == from_ids["tokens"] == len(ids)
    assert from_text["kl"] == from_ids["kl"]
    with pytest.raises(UserError, match="id 300 is out of range"):
        report(models, "a", "other", [write("ids.txt", "1 300 2")], ids=True)
    with pytest.raises(UserError, match="no text found: the input is empty"):
        report(models, "a", "other", [write("ids.txt", "\n")], ids=True)
