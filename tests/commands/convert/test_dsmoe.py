"""Conversion: exact is bitwise the dense model, dense its inverse, analytic usable; exports run without llmtool."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool import load_model, model
from llmtool.commands.convert import dsmoe as commands
from llmtool.commands.convert import dsmoe_baseline as baselines
from llmtool.commands.convert.export import export_model
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.layers import numbers
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.model.config import parse_config
from llmtool.core.model.upcycling import PROBE
from llmtool.core.run.errors import UserError
from llmtool.methods.dsmoe import report, ridge, router_init
from tests.methods.dsmoe.models import QUIET, entry, library, save_dense, tokenizer

IDS = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(4))


def dsmoe(path: Path, output: Path | None = None, **settings: Any) -> dict[str, Any]:
    return commands.convert_dsmoe(
        path, output, console=QUIET, **settings
    )  # fmt: skip


def logits(path: Path, settings: Any = None) -> torch.Tensor:
    return load_model(path, settings=settings)(IDS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("changes", [{}, {"mlp_bias": True, "intermediate_size": 96, "hidden_size": 40}])
def test_exact_is_the_dense_model_bit_for_bit(tmp_path: Path, dtype: torch.dtype, changes: dict[str, Any]) -> None:
    dense = save_dense(tmp_path / "m", dtype=dtype, **changes)
    plan = dsmoe(dense)
    assert plan["verified"] == {"layers": 3, "tokens": PROBE, "identical": True}
    sparse = Path(plan["output"])
    assert sparse == tmp_path / "m-dsmoe"
    assert logits(dense).equal(logits(sparse))
    assert logits(sparse, {"dsmoe": {"tau": "0.8"}}).equal(logits(sparse)) is False
    for kind in ("fp32", "bf16", "fp64"):
        assert load_model(dense, kind)(IDS).equal(load_model(sparse, kind)(IDS))
    commands.convert_dense(sparse, tmp_path / "back", console=QUIET)
    first, second = (json.loads((path / "config.json").read_text()) for path in (dense, tmp_path / "back"))
    assert parse_config(first) == parse_config(second)
    assert {key: second.get(key) for key in first} == first
    assert second["architectures"] == ["LlamaForCausalLM"]
    first, second = open_checkpoint(dense), open_checkpoint(tmp_path / "back")
    assert set(first.names()) == set(second.names())
    assert all(first.read(name).equal(second.read(name)) for name in first.names())


def test_in_training_mode_the_exact_start_is_exact_too(tmp_path: Path) -> None:
    sparse = Path(dsmoe(save_dense(tmp_path / "m"))["output"])
    decoder = load_model(sparse).decoder.train()
    assert decoder(IDS).detach().equal(logits(tmp_path / "m"))


def test_chosen_layers(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    plan = dsmoe(dense, layers="1-2", experts=4)
    sparse = open_checkpoint(plan["output"])
    assert plan["layers"] == entry(tmp_path / "m-dsmoe")["layers"] == [1, 2]
    assert [name for name in sparse.names() if "router.weight" in name] == [
        f"model.layers.{layer}.mlp.router.weight" for layer in (1, 2)
    ]
    assert logits(dense).equal(logits(tmp_path / "m-dsmoe"))
    held = {name: math.prod(sparse.shape(name)) for name in sparse.names()}
    assert sum(held.values()) == plan["after"]["parameters"]
    assert [numbers(text, 9) for text in ("4-6", "0,3,7-8", "8")] == [[4, 5, 6], [0, 3, 7, 8], [8]]


def test_a_check_that_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_init, "SCALE", router_init.SCALE * (1 + 2e-7))
    with pytest.raises(UserError, match="layer 0: the converted layer is not the dense one"):
        dsmoe(save_dense(tmp_path / "m"))
    assert not (tmp_path / "m-dsmoe").exists()


def test_paper_routers(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    sparse = Path(dsmoe(dense, router_init="paper", seed=3)["output"])
    found = entry(sparse)
    assert (found["router_bias"], found["gate_scale"]) == (False, [1.0, 1.0, 1.0])
    usage = report.use(load_model(sparse).decoder, IDS.tolist())
    assert 0.3 < sum(usage.share) / 3 < 0.7
    assert not logits(dense).equal(logits(sparse))
    first = open_checkpoint(sparse).read("model.layers.1.mlp.router.weight")
    dsmoe(dense, sparse, router_init="paper", seed=4, force=True)
    assert not first.equal(open_checkpoint(sparse).read("model.layers.1.mlp.router.weight"))


def test_analytic_routers_are_nearer_than_random_ones(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    tokenizer(dense)
    text = library(6)
    plan = dsmoe(dense, tmp_path / "a", router_init="analytic", calibration=text[2:4], calibration_tokens=1500)
    dsmoe(dense, tmp_path / "p", router_init="paper")
    rows = [
        load_model(dense).tokenizer.encode(Path(text[5]).read_text()[:1500])[i : i + 100] for i in range(0, 500, 100)
    ]
    norm = load_model(dense)(rows)

    def error(path: Path, settings: Any = None) -> float:
        other = load_model(path, settings=settings)(rows)
        return float((other.log_softmax(-1) - norm.log_softmax(-1)).square().mean())

    shares = [fact["active"] for fact in plan["fitted"]]
    assert all(abs(share - 0.375) < 0.02 for share in shares)
    assert error(tmp_path / "a") < 0.85 * error(tmp_path / "p")  # 0.745, with fewer blocks on
    usage = report.use(load_model(tmp_path / "a").decoder, rows)
    assert 0.25 < sum(usage.share) / 3 < 0.5


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dense model m and what calibration makes of it with the defaults, u."""
    folder = tmp_path_factory.mktemp("ordered")
    dense = save_dense(folder / "m")
    tokenizer(dense)
    dsmoe(dense, folder / "u", calibration=library(4)[2:4], calibration_tokens=1500, off_mean=True)
    return folder


def permutation(dense: Path, other: Path, layer: int) -> list[int]:
    """Where the channels of a layer stood, found by their rows of gate_proj."""
    name = f"model.layers.{layer}.mlp.gate_proj.weight"
    before, after = (open_checkpoint(path).read(name) for path in (dense, other))
    return [int((before == row).all(1).nonzero()) for row in after]


def test_calibration_gives_importance_order_and_unit_gates(ordered: Path) -> None:
    found = entry(ordered / "u")
    assert {key: found[key] for key in ("version", "form", "partition", "always_on", "off_mean", "refit")} == {
        "version": 2, "form": "unit", "partition": "importance", "always_on": 0, "off_mean": True, "refit": False,
    }  # fmt: skip
    assert found["gate_scale"] == [1.0, 1.0, 1.0]
    assert found["beyond_paper"] == [
        "unit gates without n / #active", "channels sorted by importance", "closed blocks add their mean",
    ]  # fmt: skip
    dense, sparse = open_checkpoint(ordered / "m"), open_checkpoint(ordered / "u")
    for layer in range(3):
        moved = permutation(ordered / "m", ordered / "u", layer)
        assert sorted(moved) == list(range(80))
        assert moved != list(range(80))
        for name in ("up_proj", "down_proj"):
            before, after = (source.read(f"model.layers.{layer}.mlp.{name}.weight") for source in (dense, sparse))
            assert after.equal(before[moved] if name == "up_proj" else before[:, moved])
    usage = report.use(load_model(ordered / "u").decoder, IDS.tolist())
    assert 0.5 < sum(usage.share) / 3 < 0.95
    with pytest.raises(UserError, match="depend on the token"):
        commands.convert_dense(ordered / "u", ordered / "x", console=QUIET)


@pytest.mark.parametrize("form", ["paper", "unit"])
@pytest.mark.parametrize("changes", [{}, {"mlp_bias": True, "intermediate_size": 96, "hidden_size": 40}])
def test_an_exact_start_in_importance_order(tmp_path: Path, form: str, changes: dict[str, Any]) -> None:
    """Bit for bit the dense model of the reordered weights, which `convert dense` gives back."""
    dense = save_dense(tmp_path / "m", **changes)
    tokenizer(dense)
    settings = {"partition": "importance", "form": form, "calibration": library(3)[2:], "calibration_tokens": 600}
    plan = dsmoe(dense, tmp_path / "s", router_init="exact", **settings)
    assert plan["verified"] == {"layers": 3, "tokens": PROBE, "identical": True}
    commands.convert_dense(tmp_path / "s", tmp_path / "back", console=QUIET)
    assert logits(tmp_path / "s").equal(logits(tmp_path / "back"))
    moved, (before, after) = permutation(dense, tmp_path / "s", 1), map(open_checkpoint, (dense, tmp_path / "back"))
    for name in before.names():
        tensor = before.read(name)
        if ".layers.1.mlp." in name and "down_proj.bias" not in name:
            tensor = tensor[:, moved] if "down_proj" in name else tensor[moved]
        if ".layers.1.mlp." in name or ".mlp." not in name:
            assert after.read(name).equal(tensor), name
    assert torch.allclose(logits(dense), logits(tmp_path / "back"), rtol=1e-4, atol=1e-4)


def test_entries_without_anything_new_stay_of_version_1(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    dsmoe(dense, tmp_path / "e")
    assert entry(tmp_path / "e").keys() == {
        "name", "version", "experts", "tau", "router_bias", "layers", "gate_scale",
    }  # fmt: skip
    assert entry(tmp_path / "e")["version"] == 1
    dsmoe(dense, tmp_path / "p", router_init="paper", form="paper", partition="contiguous")
    assert entry(tmp_path / "p")["version"] == 1


def streams(path: Path, rows: list[list[int]]) -> torch.Tensor:
    """The residual stream [N, d] behind the last layer."""
    decoder, seen = load_model(path, "fp32").decoder, []
    decoder.model.norm.register_forward_pre_hook(lambda _, got: seen.append(got[0][0]))
    with torch.inference_mode():
        for row in rows:
            decoder(torch.tensor([row]))
    return torch.cat(seen)


def test_always_on_and_refit(ordered: Path) -> None:
    plan = dsmoe(
        ordered / "m", ordered / "q", calibration=library(3)[2:], calibration_tokens=1500, experts=16, share=0.5,
        refit=True,
    )  # fmt: skip
    assert (plan["always_on"], entry(ordered / "q")["always_on"]) == (4, 4)
    usage = report.use(load_model(ordered / "q").decoder, IDS.tolist())
    assert (usage.active[:, :4] == usage.tokens).all()
    assert not (usage.active[:, 4:] == usage.tokens).all()
    first, *_, last = plan["fitted"]
    assert first["error"] <= first["routed"]
    # What the report says of the stream is what the written model does, on the quarter that nothing was fitted to.
    dsmoe(ordered / "m", ordered / "r", calibration=library(3)[2:], calibration_tokens=1500, experts=16, share=0.5)
    encode = model.load_tokenizer(ordered / "m").encode_prompt
    rows = text_rows(encode, library(3)[2:], 1500, 128)
    dense, *others = (streams(ordered / name, rows) for name in ("m", "q", "r"))
    refitted, plain = (ridge.error(dense[-len(dense) // 4 :], other[-len(dense) // 4 :]) for other in others)
    assert refitted == pytest.approx(last["stream"], rel=1e-3)
    assert refitted < plain


@pytest.mark.parametrize("changes", [{}, {"mlp_bias": True}], ids=str)
def test_a_refit_of_open_blocks_changes_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The stream is the dense one's already, a bias of down_proj included."""
    dense = save_dense(tmp_path / "m", **changes)
    tokenizer(dense)
    dsmoe(dense, tmp_path / "q", calibration=library(3)[2:], calibration_tokens=600, share=1.0, refit=True)
    assert torch.allclose(logits(dense), logits(tmp_path / "q"), atol=1e-4)


def test_static_is_pruning(ordered: Path) -> None:
    arguments: dict[str, Any] = {"calibration": library(3)[2:], "calibration_tokens": 600, "console": QUIET}
    baselines.convert_baseline("static", ordered / "m", ordered / "s", share=0.5, **arguments)
    usage = report.use(load_model(ordered / "s").decoder, IDS.tolist())
    assert (usage.active == torch.tensor([usage.tokens] * 4 + [0] * 4)).all()
    commands.convert_dense(ordered / "s", ordered / "s-dense", console=QUIET)
    assert torch.allclose(logits(ordered / "s"), logits(ordered / "s-dense"), atol=1e-4)
    baselines.convert_baseline("static", ordered / "m", ordered / "sm", share=0.5, off_mean=True, **arguments)
    with pytest.raises(UserError, match="closed blocks add a constant"):
        commands.convert_dense(ordered / "sm", ordered / "x", console=QUIET)
    with pytest.raises(UserError, match="belong to static"):
        baselines.convert_baseline("channels", ordered / "m", ordered / "x", refit=True, **arguments)


def test_the_unit_form_exports(ordered: Path) -> None:
    pytest.importorskip("transformers")
    export_model(ordered / "u", ordered / "e", set=["dsmoe.tau=0.55"], console=QUIET)
    ours = load_model(ordered / "u", settings={"dsmoe": {"tau": "0.55"}})
    found, made = elsewhere(ordered / "e", ordered)
    assert found.equal(ours(IDS))
    assert "Not in the method's paper: dsmoe: unit gates" in " ".join((ordered / "e/README.md").read_text().split())
    steps = ours.generate(IDS[:, :8].tolist(), max_new_tokens=12, stop=())
    assert torch.tensor([list(step) for step in steps]).T.equal(made[:, 8:])


def test_stream_matches_the_model(tmp_path: Path) -> None:
    """The calibration's residual stream is the model's own."""
    from llmtool.core.model.loading import read_architecture
    from llmtool.methods.dsmoe.calibration import Stream, chunked

    source = open_checkpoint(save_dense(tmp_path / "m"))
    config = read_architecture(source)
    stream = Stream(source, config, model.build_parts(config), IDS.tolist())
    seen: list[torch.Tensor] = []
    decoder = load_model(tmp_path / "m").decoder
    blocks: Any = decoder.model.layers
    for block in blocks:
        block.mlp.register_forward_hook(lambda _, got, __: seen.append(got[0].flatten(0, 1)))
    with torch.inference_mode():
        decoder(IDS)
        for layer, block, x in stream.layers():
            assert torch.allclose(x, seen[layer], atol=1e-5)
            stream.add(chunked(block.mlp, x))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"experts": 7}, "7 experts: intermediate_size 80 is not cut evenly"),
        ({"tau": 1.0}, "--tau 1"), ({"tau": 0.75}, "exact start has gates of 0.748"),
        ({"layers": "2-5"}, "the layers of this model are 0 to 2"),
        ({"layers": "a"}, "--layers a: a: not a whole number"),
        ({"router_init": "analytic"}, "without --calibration"),
        ({"router_init": "exact", "calibration": ["x"]}, "exact with --calibration"),
        ({"share": 0.0}, "--share 0"), ({"router_init": "ridge"}, "ridge without --calibration"),
        ({"calibration": ["x"], "form": "paper"}, "massive ones"), ({"off_mean": True}, "--off-mean with"),
        ({"calibration": ["x"], "router_init": "analytic", "form": "unit"}, "analytic with --form unit"),
        ({"partition": "importance"}, "--partition importance without"), ({"always_on": 1}, "--always-on with"),
        ({"calibration": ["x"], "always_on": 7}, "of 8 blocks 0.75"), ({"form": "units"}, "no such choice"),
        ({"router_init": "analytic", "calibration": ["/nowhere"]}, "nowhere"),
    ],
)  # fmt: skip
def test_bad_arguments_are_one_line(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    dense = save_dense(tmp_path / "m")
    tokenizer(dense)
    with pytest.raises(UserError, match=said):
        dsmoe(dense, **settings)
    assert not (tmp_path / "m-dsmoe").exists()


def test_refused_sources(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    sparse = Path(dsmoe(dense)["output"])
    with pytest.raises(UserError, match=r"layer 0 is no dense feed-forward layer: mlp holds .*router"):
        dsmoe(sparse)
    with pytest.raises(UserError, match="complete already"):
        dsmoe(dense)
    with pytest.raises(UserError, match="is not a DSMoE checkpoint"):
        commands.convert_dense(dense, tmp_path / "x", console=QUIET)
    dsmoe(dense, tmp_path / "p", router_init="paper")
    with pytest.raises(UserError, match="layer 0: the gates depend on the token"):
        commands.convert_dense(tmp_path / "p", tmp_path / "x", console=QUIET)


def test_constant_gates_that_moved_go_into_down(tmp_path: Path) -> None:
    """A block whose constant gate is off is merged as zeros, one whose gate moved with its weight."""
    sparse = Path(dsmoe(save_dense(tmp_path / "m"))["output"])
    from safetensors.torch import load_file, save_file

    state = load_file(sparse / "model.safetensors")
    state["model.layers.1.mlp.router.bias"] += torch.tensor([0.5, -9, 0, 0, 1, 0, 0, 0])
    save_file(state, sparse / "model.safetensors", {"format": "pt"})
    expected = logits(sparse)
    facts = commands.convert_dense(sparse, tmp_path / "back", console=QUIET)
    assert facts["layers_rescaled"] == 1
    found = logits(tmp_path / "back")
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    down = open_checkpoint(tmp_path / "back").read("model.layers.1.mlp.down_proj.weight")
    assert down[:, 10:20].abs().max() == 0


ELSEWHERE = """
import sys
import torch, transformers
ids = torch.load(sys.argv[2])
a = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
assert not any(name.partition(".")[0] == "llmtool" for name in sys.modules)
made = a.generate(ids[:, :8], max_new_tokens=12, do_sample=False, eos_token_id=-1, pad_token_id=0)
torch.save((a(ids).logits.detach(), made), sys.argv[3])
"""


def elsewhere(export: Path, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and greedy ids of an export where llmtool is not on the path."""
    torch.save(IDS, folder / "ids.pt")
    environment = {**os.environ, "HF_HOME": str(folder / "hf"), "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    arguments = [str(export), str(folder / "ids.pt"), str(folder / "out.pt")]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], env=environment, check=True, cwd=folder)
    found: Sequence[torch.Tensor] = torch.load(folder / "out.pt")
    return found[0], found[1]


def test_export_runs_in_stock_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    sparse = tmp_path / "p"
    dsmoe(save_dense(tmp_path / "m"), sparse, router_init="paper")
    export_model(sparse, tmp_path / "e", set=["dsmoe.tau=0.55"], console=QUIET)
    assert entry(tmp_path / "e")["tau"] == 0.55
    ours = load_model(sparse, settings={"dsmoe": {"tau": "0.55"}})
    found, made = elsewhere(tmp_path / "e", tmp_path)
    assert found.equal(ours(IDS))
    steps = ours.generate(IDS[:, :8].tolist(), max_new_tokens=12, stop=())
    assert torch.tensor([list(step) for step in steps]).T.equal(made[:, 8:])


@pytest.mark.parametrize("kind", ["topk", "channels", "2:4"])
def test_baselines(tmp_path: Path, kind: str) -> None:
    dense = save_dense(tmp_path / "m")
    tokenizer(dense)
    text = [] if kind == "topk" else library(1)
    arguments: dict[str, Any] = {"console": QUIET}
    facts = baselines.convert_baseline(
        kind, dense, tmp_path / "b", calibration=text, calibration_tokens=600, **arguments
    )
    made = load_model(tmp_path / "b")
    mlp: Any = made.decoder.model.layers[1].mlp
    if kind == "channels":
        assert (made.config.intermediate_size, facts["share"], made.config.methods) == (30, 0.375, ())
        assert mlp.down_proj.weight.shape == (32, 30)
    elif kind == "2:4":
        for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
            assert ((part.weight.view(-1, 4) != 0).sum(-1) == 2).all()
        optimizer = torch.optim.AdamW(made.decoder.parameters(), lr=1e-2)
        zeros = mlp.up_proj.weight == 0
        made.decoder.train()
        for _ in range(3):
            made.decoder(IDS).logsumexp(-1).sum().backward()
            optimizer.step()
        assert mlp.up_proj.weight.eq(0).equal(zeros)
    else:
        _, carry = made.decoder.hidden(IDS)
        scores, chosen = carry.shared["experts.scores.1"], carry.shared["experts.chosen.1"]
        assert chosen.shape == (2, 40, 3)
        assert chosen.sort(-1).values.equal(scores.topk(3).indices.sort(-1).values)
        assert torch.allclose(scores.sum(-1), torch.ones(2, 40))
    assert torch.isfinite(made(IDS)).all()
    with pytest.raises(UserError, match="--calibration"):
        baselines.convert_baseline(kind, dense, tmp_path / "c", calibration=[] if text else ["x"], **arguments)


def test_all_channels_and_all_experts_are_the_dense_model(tmp_path: Path) -> None:
    dense = save_dense(tmp_path / "m")
    tokenizer(dense)
    arguments: dict[str, Any] = {"console": QUIET, "share": 1.0}
    baselines.convert_baseline("channels", dense, tmp_path / "c", calibration=library(1), **arguments)
    assert torch.allclose(logits(tmp_path / "c"), logits(dense), atol=1e-4)
