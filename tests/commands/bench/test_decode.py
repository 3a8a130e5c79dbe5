"""bench decode: checkpoints side by side, bounds from what tokens use, no speed where the cache is wrong."""

import json
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool.commands.bench import decode as benchmark
from llmtool.core.bench import decode, decode_report
from llmtool.core.bench.ceilings import Ceilings
from llmtool.core.bench.decode import Contender, Decoding, disagreement, used_weights, weights_read
from llmtool.core.model.cache import StaticCache
from llmtool.core.model.carry import Carry
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from tests.commands.bench.command import bench
from tests.core.model.families import save

MEMORY, COMPUTE = Ceilings(1e6, 1e30, "float64"), Ceilings(1e30, 1e6, "float64")
"""Machines that are bound by one thing alone."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("decode")
    return {family: save(root / family, family, 0.3) for family in ("llama2", "llama3.2", "mistral")}


@pytest.fixture
def load(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("llmtool.core.bench.ceilings.measure_ceilings", lambda *_: MEMORY)

    def contender(family: str) -> Contender:
        return benchmark.load_contenders([checkpoints[family]], None, "cpu", "auto")[0][0]

    return contender


def test_rows_of_all(checkpoints: dict[str, Path], load: Any, capsys: Any) -> None:
    report = benchmark.decode(
        list(checkpoints.values()), batch="1,2", context="5,9", new=3, rounds=2, device="cpu", as_json=True,
        console=Console(-1),
    )  # fmt: skip
    assert json.loads(capsys.readouterr().out)["schema"] == "llmtool.bench-decode/1"
    assert len(report["rows"]) == 3 * 2 * 2
    for row in report["rows"]:
        for key in ("first", "token"):
            assert row[key]["low"] <= row[key]["seconds"] <= row[key]["high"]
            assert row[key]["bound"] > 0
        heads = {"llama2": 6, "llama3.2": 2, "mistral": 2}[row["checkpoint"]]
        size = {"llama2": 8, "llama3.2": 12, "mistral": 10}[row["checkpoint"]]
        assert row["kv_bytes_per_token"] == 3 * 2 * heads * size * 8
        assert row["cache_bytes"] == row["kv_bytes_per_token"] * row["batch"] * (row["context"] + 3)
        assert row["ffn_share_read"] == 1


def test_bounds_of_a_dense_model(load: Any) -> None:
    """By hand: layers of 4 d^2 + 3 d i, the head, 2 d elements of keys and values a position and layer."""
    contender = load("llama2")
    d, inner, vocabulary, layers, size = 48, 80, 97, 3, 8
    matrices = layers * (4 * d * d + 3 * d * inner)
    norms = layers * 2 * d
    run = Decoding(contender, 2, 10, 4)
    run.run()
    _, token = run.facts(MEMORY)["bounds"]
    read = (matrices + norms + vocabulary * d) * size + 2 * 12 * layers * 2 * d * size
    assert token == pytest.approx(read / 1e6)
    first, token = run.facts(COMPUTE)["bounds"]
    assert token == pytest.approx(2 * (2 * (matrices + vocabulary * d) + 12 * layers * 4 * d) / 1e6)
    positions = sum(range(1, 11))
    assert first == pytest.approx(2 * (10 * 2 * matrices + 2 * vocabulary * d + positions * layers * 4 * d) / 1e6)
    assert weights_read(contender.decoder) == (matrices + norms + vocabulary * d) * size


def test_a_window_bounds_less(load: Any) -> None:
    """Mistral's window of 5: beyond it a longer context costs no more."""
    contender = load("mistral")
    bounds = []
    for context in (10, 30):
        run = Decoding(contender, 1, context, 2)
        run.run()
        bounds.append(run.facts(MEMORY)["bounds"][1])
    assert bounds[0] == bounds[1]


def test_skipped_weights_bound_less(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that uses a quarter: each token another one, so that a batch may read more."""
    contender = load("llama2")
    plain = used_weights(contender, 2, 8)
    assert (plain.share, plain.read, plain.flops_saved, plain.bytes_saved) == (1, 1, 0, 0)
    part = contender.decoder.model.layers[0].mlp

    def used(carry: Carry) -> torch.Tensor:
        assert carry.ids is not None
        return torch.nn.functional.one_hot(torch.arange(2).remainder(4), 4).bool()[:, None].expand(2, 8, 4)

    object.__setattr__(part, "used", used)
    sparse = used_weights(contender, 2, 8)
    size = 3 * 48 * 80
    assert sparse.share == pytest.approx((2 + 0.25) / 3)
    assert sparse.read == pytest.approx((2 + 0.5) / 3)
    assert sparse.flops_saved == pytest.approx(2 * size * 0.75)
    assert sparse.bytes_saved == pytest.approx(size * 0.5 * 8)


def test_dsmoe_says_what_it_uses() -> None:
    from tests.methods.dsmoe.models import carry, layer, settings

    part, through = layer(settings(4)), carry()
    part(torch.randn(2, 3, 32, dtype=torch.float64), torch.zeros(0), through)
    used = part.used(through)
    assert used.shape == (2, 3, 4)
    assert used.dtype == torch.bool


def test_a_wrong_cache_gets_no_speed(
    checkpoints: dict[str, Path], load: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert disagreement(load("llama2")) is None
    write = StaticCache._write

    def forgets(self: StaticCache, store: Any, layer: int, new: torch.Tensor) -> torch.Tensor:
        return write(self, store, layer, new if layer != 1 or new.shape[2] > 1 else torch.zeros_like(new))

    monkeypatch.setattr(decode, "StaticCache", type("Forgetful", (StaticCache,), {"_write": forgets}))
    report = benchmark.decode([checkpoints["llama2"]], context="8", device="cpu", as_json=True, console=Console(-1))
    assert not report["rows"]
    assert "differ" in report["failed"]["llama2"]
    assert "no speed is given" in capsys.readouterr().err


def test_errors_are_one_line(checkpoints: dict[str, Path], tmp_path: Path, load: Any) -> None:
    one = checkpoints["llama2"]
    settings: dict[str, Any] = {"device": "cpu", "console": Console(-1)}
    with pytest.raises(UserError, match="the model has 64"):
        benchmark.decode([one], context="100", **settings)
    with pytest.raises(UserError, match="named twice"):
        benchmark.decode([one, one], **settings)
    with pytest.raises(UserError, match="cannot draw"):
        benchmark.decode([one], plot=tmp_path / "a.gif", **settings)


def test_command(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    figure = tmp_path / "decode.svg"
    words = ["--batch", "1,2", "--context", "4,8", "--new", "2", "--rounds", "2", "--dtype", "fp32"]
    done = bench(
        "decode", str(checkpoints["llama2"]), str(checkpoints["mistral"]), *words, "--markdown", "--plot", str(figure)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| mistral |") == 4
    assert figure.read_text().startswith("<?xml")
    wrong = bench("decode", str(checkpoints["llama2"]), "--batch", "1,x")
    assert wrong.returncode == 1
    assert wrong.stderr == "error: --batch x: not a whole number\n"


def test_the_bound_of_one_context_is_drawn(checkpoints: dict[str, Path], load: Any) -> None:
    """A line of one point is none: the legend named what nobody could see."""
    figures = pytest.importorskip("matplotlib.figure")
    report = benchmark.decode(
        [checkpoints["llama2"]], context="8", new=2, rounds=2, device="cpu", as_json=True, console=Console(-1)
    )
    axes = figures.Figure().subplots()
    decode_report._lines(axes, report["rows"], "first")
    bounds = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert len(bounds) == 2  # the checkpoint's, and the legend's
    assert {line.get_marker() for line in bounds} == {"_"}


def test_nothing_within_the_budget_is_an_error(
    checkpoints: dict[str, Path], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(monotonic=count(0, 5).__next__))
    with pytest.raises(UserError, match=r"--budget 1: nothing was measured: .*a larger --budget"):
        benchmark.decode([checkpoints["llama2"]], context="8", device="cpu", budget=1, console=Console(-1))


def test_kernels_are_told_once(checkpoints: dict[str, Path], load: Any, capsys: Any) -> None:
    """And an op's that no checkpoint has are not."""
    benchmark.decode([checkpoints["llama2"]], context="8", new=2, rounds=2, device="cpu", console=Console(0))
    said = "".join(capsys.readouterr())
    assert said.count("kernels: ") == 1
    assert "dsmoe_ffn" not in said
