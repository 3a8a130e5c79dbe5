"""`llmtool eval` from Python, on a tiny model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from llmtool import load_model
from llmtool.commands.eval import loss as evaluation
from llmtool.commands.eval import niah
from llmtool.commands.eval.ruler import ruler
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from tests.core.model.families import oracle, save
from tests.faults.trial import invoke


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"), "llama3", std=0.3)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "t.npy"
    np.save(path, np.random.default_rng(0).integers(0, 97, 1000).astype(np.uint16))
    return path


def test_loss_is_that_of_transformers(model: Path, tokens: Path, tmp_path: Path) -> None:
    report = evaluation.loss(model, [str(tokens)], length=30, tokens=600, plot=tmp_path / "p.svg")
    ids = torch.from_numpy(np.load(tokens).astype(np.int64))
    rows = torch.stack([ids[start : start + 31] for start in range(0, 600, 30)])
    logits = oracle(model)(rows[:, :-1]).logits
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none").detach()
    found = report["sources"]["t"]
    assert found["tokens"] == 600
    assert found["loss"] == pytest.approx(float(losses.mean()), rel=1e-6)
    assert found["positions"] == pytest.approx(losses.mean(0).tolist(), rel=1e-5)
    assert report["all"]["loss"] == pytest.approx(found["loss"])
    assert "bits_per_byte" not in found
    assert b"<svg" in (tmp_path / "p.svg").read_bytes()


def test_figures_are_announced(model: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for measure, figure in ((evaluation.loss, tmp_path / "l.svg"), (niah.needles, tmp_path / "n.svg")):
        measure(model, [str(tokens)], length=20 if measure is evaluation.loss else [20], plot=figure, console=Console())
        assert f"{figure}: drawn" in capsys.readouterr().err


def test_several_sources_are_weighed_by_tokens(model: Path, tokens: Path) -> None:
    report = evaluation.loss(model, [f"a={tokens}", f"b={tokens}"], length=64, tokens="200")
    assert report["sources"]["a"] == report["sources"]["b"]
    assert report["all"]["tokens"] == 2 * report["sources"]["a"]["tokens"] == 400


@pytest.mark.parametrize("length, wanted", [(30, "1M"), (30, 999), (64, 200), (31, 31), (40, 7), (64, 65)])
def test_every_token_is_scored_once_the_last_short_row_too(
    model: Path, tokens: Path, length: int, wanted: str | int
) -> None:
    ids = torch.from_numpy(np.load(tokens).astype(np.int64))
    end, theirs = 999 if wanted == "1M" else int(wanted), oracle(model)
    nats = []
    for start in range(0, end, length):
        row = ids[start : min(start + length, end) + 1]
        log_p = theirs(row[None, :-1]).logits[0].detach().log_softmax(-1)
        nats += [-float(log_p[place, token]) for place, token in enumerate(row[1:])]
    report = evaluation.loss(model, [str(tokens)], length=length, tokens=wanted)
    assert (report["all"]["tokens"], len(nats)) == (end, end)
    assert report["all"]["loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-6)


def test_the_last_row_of_documents_is_scored_too(model: Path, tmp_path: Path) -> None:
    ids = np.random.default_rng(1).integers(0, 97, 75).astype(np.uint16)
    ids.tofile(tmp_path / "d.bin")
    np.save(tmp_path / "d.bin.offsets.npy", np.array([0, 50, 66, 75], np.uint64))
    about = {"schema": "llmtool.tokens/1", "dtype": "uint16", "tokens": 75, "offsets": "d.bin.offsets.npy"}
    (tmp_path / "d.bin.json").write_text(json.dumps(about))
    report = evaluation.loss(model, [str(tmp_path / "d.bin")], length=60, mask_documents=True)
    theirs, nats = oracle(model), []
    for first, last in ((0, 50), (50, 61), (60, 66), (66, 75)):  # documents, and what the end of a row cuts off
        part = torch.from_numpy(ids[first:last].astype(np.int64))
        log_p = theirs(part[None, :-1]).logits[0].detach().log_softmax(-1)
        nats += [-float(log_p[place, token]) for place, token in enumerate(part[1:])]
    assert report["all"]["tokens"] == len(nats)
    assert report["all"]["loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-6)


def test_needles(model: Path, tokens: Path, tmp_path: Path) -> None:
    report = niah.needles(model, samples=2, length=[20, 40], depth=[0.0, 1.0], plot=tmp_path / "n.png")
    assert [(cell["length"], cell["depth"]) for cell in report["cells"]] == [(20, 0.0), (20, 1.0), (40, 0.0), (40, 1.0)]
    assert (tmp_path / "n.png").stat().st_size > 1000
    again = niah.needles(model, [str(tokens)], samples=2, length=[20], depth=[0.0])
    assert again["kind"] == "ids"


def test_bad_requests_are_one_line(model: Path, tokens: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.array([1, 97, 3]))
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: evaluation.loss(model, []), "no text"),
        (lambda: evaluation.loss(model, [str(tmp_path / "large.npy")]), "id 97"),
        (lambda: evaluation.loss(model, [str(tokens)], plot=tmp_path / "x.gif"), "cannot draw .gif"),
        (lambda: evaluation.loss(model, [f"a={tokens}", f"a={tokens}"]), "two sources"),
        (lambda: niah.needles(model, length=[5]), "do not hold"),
        (lambda: niah.needles(model, key=90, value=10), "vocabulary of 97"),
        (lambda: niah.needles(model, kind="words"), "need a tokenizer"),
        (lambda: niah.needles(model, [str(tmp_path / "large.npy")]), "id 97"),
    ]
    for call, line in cases:
        with pytest.raises(UserError, match=line):
            call()


def test_a_figure_of_other_settings_is_replaced_only_with_force(
    model: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    figure = tmp_path / "p.svg"
    base = ["--device", "cpu", "--threads", "1", "--plot", str(figure)]
    for verb, one, other in (
        ("loss", ["--data", str(tokens), "--tokens", "90", "--length", "30"], ["--tokens", "120"]),
        ("niah", ["--samples", "1", "--length", "40", "--depth", "0.5"], ["--seed", "1"]),
    ):
        typed = ["eval", verb, str(model), *one, *base]
        assert invoke(typed) == 0
        assert invoke(typed) == 0  # the same one again
        drawn = figure.read_bytes()
        assert invoke([*typed, *other]) == 1
        assert "p.svg: exists already (use --force to replace it)" in capsys.readouterr().err
        assert figure.read_bytes() == drawn
        assert invoke([*typed, *other, "--force"]) == 0
        assert figure.read_bytes() != drawn
        figure.unlink()


def test_no_figure_is_drawn_into_what_is_read(model: Path, tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "tok").mkdir()
    figure, tokenizer = tmp_path / "tok" / "p.svg", str(tmp_path / "tok")
    with pytest.raises(UserError, match="lies inside the input"):
        evaluation.loss(model, [str(tokens)], tokenizer=tokenizer, plot=figure)
    with pytest.raises(UserError, match="lies inside the input"):
        evaluation.loss(model, [str(tokens)], against=tokenizer, plot=figure)
    with pytest.raises(UserError, match="lies inside the input"):
        niah.needles(model, [str(tokens)], tokenizer=tokenizer, plot=figure)
    with pytest.raises(UserError, match="lies inside the input"):
        ruler(model, [str(tokens)], tokenizer=tokenizer, plot=figure)


@pytest.mark.parametrize("wanted, micro", [(40, 8), (50, 1), (50, 8), (410, 5), (400, 3), (400, 10), (999, 64)])
def test_only_rows_that_exist_are_computed(
    model: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch, wanted: int, micro: int
) -> None:
    """Rows of padding, which predict nothing, cost as much as others and change no figure."""
    from llmtool.commands.sources import HeldOut
    from llmtool.core.corpus.token_files import open_tokens
    from llmtool.core.train.objective import IGNORED, Batch
    from llmtool.core.train.world import World

    held = HeldOut(open_tokens(str(tokens), "t"), 40, wanted, mask_documents=False)
    loaded, sizes = load_model(model, "fp64"), torch.arange(97)
    computed = []

    def losses(batch: Batch) -> torch.Tensor:
        computed.append(len(batch.ids))
        return loaded.losses(batch)

    found = held.score(losses, micro, World(), sizes)
    assert sum(computed) == held.rows == -(-wanted // 40)
    whole = HeldOut.batch

    def padded(self: HeldOut, first: int, count: int) -> Batch:
        batch = whole(self, first, count)
        more = count - len(batch.ids)
        ids = torch.cat([batch.ids, batch.ids[:1].expand(more, -1)])
        return Batch(ids, torch.cat([batch.labels, torch.full((more, held.length), IGNORED)]))

    monkeypatch.setattr(HeldOut, "batch", padded)
    before = held.score(losses, micro, World(), sizes)
    assert found.tokens == before.tokens == wanted
    assert found.bits_per_byte == pytest.approx(before.bits_per_byte, rel=1e-12)
    assert found.positions() == pytest.approx(before.positions(), rel=1e-12)
    beyond = whole(held, held.rows, 4)
    assert (len(beyond.ids), bool((beyond.labels == IGNORED).all())) == (1, True)
