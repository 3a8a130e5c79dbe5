"""data check, posttrain sft and uniattn, LoRA and its merge: as processes where the command line matters."""

import json
import shutil
from pathlib import Path
from shutil import copytree
from statistics import median
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("jinja2")

import torch

from llmtool import Tokenizer
from llmtool.commands.convert.dsmoe import convert_dsmoe
from llmtool.commands.convert.lora import merge_lora
from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.commands.posttrain import sft as posttraining
from llmtool.commands.posttrain.check import check as data_check
from llmtool.commands.posttrain.data import Reader, open_reader
from llmtool.commands.posttrain.settings import CheckSettings, LoraOptions
from llmtool.commands.posttrain.start import open_start
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.kernels import peaks
from llmtool.core.model.cost import training_flops
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.train.sft.examples import Counts
from llmtool.core.train.sft.template_files import BUILT_IN
from llmtool.model import load_model
from tests.cli.test_app import run
from tests.conftest import SCRIPTS, STDLIB
from tests.core.model.families import oracle, save

QUIET = Console(verbosity=-1)
TEXT = str(STDLIB / "textwrap.py")
QUICK: dict[str, Any] = {
    "template": "plain", "length": 64, "batch": 128, "lr": 3e-3, "epochs": 2, "eval_every": 4, "save_every": 2,
    "device": "cpu", "console": QUIET,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers, with a tokenizer of bytes and an end-of-text token."""
    path = save(tmp_path_factory.mktemp("m") / "model", "llama3", 0.1, vocab_size=300, num_hidden_layers=4)
    Tokenizer.train_from_documents(SCRIPTS, 300, special=["<|endoftext|>"]).save(path / "llmtool.json")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("d") / "chat.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": str(n + 1)}]}
        for n in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return dict(open_checkpoint(path).tensors())


@pytest.mark.parametrize("packing", [True, False])
def test_utilisation_counts_no_padding(
    base: Path, data: Path, tmp_path: Path, packing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks, "BF16", (("cpu", 2e9),))
    settings = {**QUICK, "packing": packing, "dtype": "bf16", "epochs": 0.5}
    report = posttraining.sft(base, [str(data)], tmp_path / "out", **settings)
    fill = data_check([str(data)], tokenizer=base, template="plain", length=64, packing=packing)["fill"]
    assert (fill > 0.8) == packing
    flops = training_flops(load_model(base).decoder, 64)
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    rate = median(row["tokens_per_s"] for row in rows[len(rows) // 10 :])
    assert (report["flops_per_token"], report["flops_per_s"]) == (flops, pytest.approx(flops * fill * rate))
    assert report["mfu"] == report["flops_per_s"] / 2e9


def test_sft_learns_the_answers_and_resumes_strictly(base: Path, data: Path, tmp_path: Path) -> None:
    report = posttraining.sft(base, [str(data)], tmp_path / "out", valid=[str(data)], **QUICK)
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert rows[0]["schema"] == "llmtool.metrics/1"
    assert report["eval"]["valid"]["loss"] < 0.9 * rows[0]["loss"]
    assert (tmp_path / "out/run.json").is_file()
    assert load_model(tmp_path / "out").tokenizer.vocab_size == 300
    for change, words in (
        ({}, "complete already"),
        ({"lr": 1e-3}, "lr"),
    ):
        settings: dict[str, Any] = {**QUICK, "valid": [str(data)], **change}
        with pytest.raises(UserError, match=words):
            posttraining.sft(base, [str(data)], tmp_path / "out", **settings)


def test_held_out_conversations_that_are_trained_on_are_told(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(data.read_text().splitlines(keepends=True)[:-1]))
    for held, told in ((data, True), (other, False)):
        settings = {**QUICK, "console": Console(0), "dry_run": True}
        posttraining.sft(base, [str(data)], tmp_path / "out", valid=[str(held)], **settings)
        assert ("warning: --valid: the same conversations" in capsys.readouterr().err) == told


def test_the_named_parameters_move_alone(base: Path, data: Path, tmp_path: Path) -> None:
    names = ["model.layers.1.mlp.*", "*.self_attn.o_proj.weight"]
    settings: dict[str, Any] = {**QUICK, "steps": 2, "only": names}
    posttraining.sft(base, [str(data)], tmp_path / "out", **settings)
    before, after = tensors(base), tensors(tmp_path / "out")
    moved = {name for name in before if not after[name].double().equal(before[name].float().double())}
    assert moved == {name for name in before if "layers.1.mlp." in name or "o_proj" in name}
    with pytest.raises(UserError, match="begun with other settings"):
        posttraining.sft(base, [str(data)], tmp_path / "out", **{**settings, "only": names[:1]})
    with pytest.raises(UserError, match=r"--only \*\.router\.\*"):
        posttraining.sft(base, [str(data)], tmp_path / "none", **{**settings, "only": ["*.router.*"]})


def test_a_run_that_was_broken_off_goes_on_bit_for_bit_and_not_with_other_data(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posttraining.sft(base, [str(data)], tmp_path / "whole", **QUICK)
    from llmtool.core.train.sft.batches import PackedExamples

    batch, calls = PackedExamples.batch, []

    def fail(self: PackedExamples, step: int, rows: range) -> Any:
        calls.append(step)
        if step == 5:
            raise KeyboardInterrupt
        return batch(self, step, rows)

    monkeypatch.setattr(PackedExamples, "batch", fail)
    with pytest.raises(KeyboardInterrupt):
        posttraining.sft(base, [str(data)], tmp_path / "broken", **QUICK)
    monkeypatch.setattr(PackedExamples, "batch", batch)
    other = tmp_path / "other.jsonl"
    other.write_text(data.read_text().replace("39 + 1", "38 + 2"))
    with pytest.raises(UserError, match=r"begun with other settings or data.*the data's content"):
        posttraining.sft(base, [str(other)], tmp_path / "broken", **QUICK)
    assert len(list((tmp_path / "broken/tokens").iterdir())) == 2
    monkeypatch.setattr(Reader, "examples", None)  # they are found where the first run put them
    posttraining.sft(base, [str(data)], tmp_path / "broken", **QUICK)
    assert len(list((tmp_path / "broken/tokens").iterdir())) == 1
    whole, broken = tensors(tmp_path / "whole"), tensors(tmp_path / "broken")
    assert all(whole[name].equal(broken[name]) for name in whole)


def test_uniattn_trains_the_compensations_first(base: Path, data: Path, tmp_path: Path) -> None:
    start = tmp_path / "u"
    convert_uniattn(base, start, groups="2:0:4", init="zero", calibration=[TEXT], samples=4, window=32, console=QUIET)
    assert "head_map" in (start / "config.json").read_text()
    report = posttraining.uniattn(start, [str(data)], tmp_path / "out", **QUICK)
    before, first, last = tensors(start), tensors(tmp_path / "out.stage1"), tensors(tmp_path / "out")
    moved = {name for name in before if not first[name].double().equal(before[name].float().double())}
    assert moved == {f"model.layers.{layer}.self_attn.compensation.weight" for layer in (1, 3)}
    assert all(not first[name].equal(last[name]) for name in before if "embed" not in name)
    assert report["loss"] < report["stage1"]["loss"]
    # Stage 2 was lost: the same command takes stage 1 as it is.
    (tmp_path / "out").rename(tmp_path / "lost")
    posttraining.uniattn(start, [str(data)], tmp_path / "out", **QUICK)
    again = tensors(tmp_path / "out")
    assert all(again[name].equal(last[name]) for name in last)
    with pytest.raises(UserError, match="no shared softmax"):
        posttraining.uniattn(base, [str(data)], tmp_path / "o", **QUICK)


@pytest.mark.parametrize("kind", ["dense", "uniattn", "dsmoe"])
def test_lora_moves_adapters_alone_and_merges(base: Path, data: Path, tmp_path: Path, kind: str) -> None:
    start, out, merged = base, tmp_path / "out", tmp_path / "merged"
    settings = {**QUICK, "lora": 4, "lora_targets": "q_proj,v_proj,down_proj"}
    if kind == "uniattn":
        start = tmp_path / "u"
        convert_uniattn(
            base, start, groups="2:0:4", init="zero", rank=4, calibration=[TEXT], samples=4, window=32, leaders="any",
            console=QUIET,
        )  # fmt: skip
        posttraining.uniattn(start, [str(data)], out, **settings)
    elif kind == "dsmoe":  # the unit form, some blocks closed
        start = tmp_path / "s"
        convert_dsmoe(base, start, calibration=[TEXT], calibration_tokens=400, share=0.5, off_mean=True, console=QUIET)
        posttraining.sft(start, [str(data)], out, **settings)
    else:
        posttraining.sft(start, [str(data)], out, **settings)
    before, after = tensors(start), tensors(out)
    new = {name for name in after if name not in before}
    assert new
    assert all(".lora_" in name for name in new)
    assert not any("layers.1.self_attn.q_proj" in name for name in new) or kind != "uniattn"
    moved = {name for name in before if not before[name].float().equal(after[name])}
    assert moved == {name for name in before if "compensation" in name}
    merge_lora(out, merged, console=QUIET)
    assert set(tensors(merged)) == set(before)
    ids = torch.arange(2, 40)[None]
    found, wanted = load_model(merged)(ids), load_model(out)(ids)
    assert (found - wanted).abs().max() < 1e-5
    assert (wanted - load_model(start, dtype="fp32")(ids)).abs().max() > 1e-3
    if kind == "dense":
        assert (oracle(merged, torch.float32)(ids).logits - found).abs().max() < 1e-5
    else:
        with pytest.raises(UserError, match="has no adapters"):
            merge_lora(merged, tmp_path / "m2", console=QUIET)
    with pytest.raises(UserError, match="has adapters already"):
        posttraining.sft(out, [str(data)], tmp_path / "o2", **settings)


def test_new_adapters_are_drawn_by_rows_as_for_a_whole_model(base: Path) -> None:
    """FSDP2 cuts a model on the meta device: what each process reads and draws is the whole model's."""
    start = open_start(base, LoraOptions(4))
    whole, (shape, rows) = start.decoder(3).state_dict(), start.shards(3)
    assert all(value.is_meta for value in shape.state_dict().values())
    assert {name for name in whole if ".lora_" in name}
    for name, value in whole.items():
        if name != "lm_head.weight" or not start.config.tie_word_embeddings:
            assert rows(name, range(1, len(value))).equal(value[1:]), name
            assert rows(name, range(0)).shape == (0, *value.shape[1:])
    down, up = (whole[f"model.layers.2.mlp.down_proj.lora_{kind}"] for kind in ("down", "up"))
    assert float(down.std()) == pytest.approx(down.shape[1] ** -0.5, rel=0.2)
    assert not up.any()
    assert not start.decoder(4).state_dict()["model.layers.2.mlp.down_proj.lora_down"].equal(down)


def test_data_check_shows_what_is_trained(base: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("data", "check", data, "--tokenizer", base, "--length", "64")
    done = run(*arguments, "--template", "plain", "--row", "3")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "User: 2 + 1?\nAssistant:⟦ 3<|endoftext|>\n⟧" in text
    assert "40" in text
    report = json.loads(run(*arguments, "--template", "plain", "--json").stdout)
    assert (report["counts"]["kept"], report["schema"]) == (40, "llmtool.data-check/1")
    assert "".join(piece["text"] for piece in report["example"]).startswith("User: 0 + 1?\nAssistant: 1")
    bare = run(*arguments)
    assert (bare.returncode, bare.stdout, bare.stderr.count(b"\n")) == (1, b"", 1)
    assert b"no chat template" in bare.stderr


def test_nothing_to_train_is_exit_3_in_check_and_one_line_in_training(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "masked.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "hello"}]}) + "\n")
    done = run("data", "check", file, "--tokenizer", base, "--template", "plain")
    assert done.returncode == 3
    assert b"nothing is trainable" in done.stdout
    wrong = run("posttrain", "sft", base, file, "-o", tmp_path / "o", "--template", "plain", "--length", "64")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count(b"\n")) == (1, b"", 1)
    assert f"{file}:1: nothing is trainable: of 1 row 1 without an answer that is trained" in wrong.stderr.decode()


def test_posttrain_as_a_process(base: Path, data: Path, tmp_path: Path) -> None:
    common = (data, "-o", tmp_path / "o", "--template", "plain", "--length", "64", "--batch", "256", "--lora", "2")
    plan = json.loads(run("posttrain", "sft", base, *common, "--dry-run").stdout)
    assert plan["dry_run"]
    assert plan["steps"] >= 1
    assert not (tmp_path / "o").exists()
    done = run("posttrain", "sft", base, *common, "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == plan["steps"]
    merged = run("convert", "merge-lora", tmp_path / "o", tmp_path / "m", "--json")
    assert merged.returncode == 0, merged.stderr
    for arguments, words in (
        (
            ("posttrain", "sft", base, data, "-o", tmp_path / "p", "--length", "99"),
            b"convert rope CKPT OUT --target",
        ),
        (("posttrain", "sft", base, *common[:7], "--lora-alpha", "3"), b"give --lora RANK"),
        (("posttrain", "sft", base, *common, "--lora-targets", "router"), b"targets ['router']"),
        (("convert", "merge-lora", base, tmp_path / "n"), b"has no adapters"),
    ):
        wrong = run(*arguments)
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count(b"\n")) == (1, b"", 1), wrong.stderr
        assert words in wrong.stderr


def stops(path: Path) -> tuple[Any, ...]:
    """What the files of a checkpoint say ends a text, and its template."""
    files = [json.loads((path / name).read_text()) for name in ("config.json", "generation_config.json")]
    own = Tokenizer.load(path).definition
    return (*(facts["eos_token_id"] for facts in files), own.eos, own.chat_template)


def test_the_template_and_the_end_that_were_trained_go_into_the_result(base: Path, data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(base, model)
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer.train_from_documents(SCRIPTS, 300, special=marks)
    tokenizer.save(model / "llmtool.json")
    posttraining.sft(model, [str(data)], tmp_path / "out", **{**QUICK, "template": "chatml", "steps": 1})
    end = tokenizer.special_tokens["<|im_end|>"]
    config, generation, eos, template = stops(tmp_path / "out")
    assert (config, eos, template) == (end, "<|im_end|>", BUILT_IN["chatml"])
    assert (generation if isinstance(generation, int) else generation[0]) == end
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == BUILT_IN["chatml"]
    assert end in load_model(tmp_path / "out").stop_ids
    report = data_check([str(data)], tokenizer=base, template="chatml", length=200)
    assert "the chat template writes what the tokenizer has no tokens for: '<|im_end|>'" in report["warnings"][0]
    assert "no special token ends" in report["warnings"][1]


def test_a_foreign_tokenizer_goes_into_the_result_with_its_template(base: Path, data: Path, tmp_path: Path) -> None:
    """Beside the model's licence and defaults; nothing of its old tokenizer stays."""
    model, other = tmp_path / "model", tmp_path / "other"
    shutil.copytree(base, model)
    (model / "LICENSE").write_text("free")
    (model / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": 0}')
    (model / "tokenizer_config.json").write_text('{"chat_template": "old"}')
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    foreign = Tokenizer.train_from_documents(SCRIPTS[1:], 290, special=marks)
    other.mkdir()
    foreign.save(other / "llmtool.json")
    (other / "chat_template.jinja").write_text(BUILT_IN["chatml"])
    settings = {**QUICK, "template": None, "steps": 1}
    posttraining.sft(model, [str(data)], tmp_path / "out", tokenizer=other, **settings)
    made = Tokenizer.load(tmp_path / "out")
    texts = [text.decode() if isinstance(text, bytes) else text for text in SCRIPTS]
    assert [made.encode(text) for text in texts] == [foreign.encode(text) for text in texts]
    assert [made.encode(text) for text in texts] != [Tokenizer.load(base).encode(text) for text in texts]
    assert (made.special_tokens, made.definition.chat_template) == (foreign.special_tokens, BUILT_IN["chatml"])
    assert (tmp_path / "out" / "LICENSE").read_text() == "free"
    defaults = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (defaults["temperature"], defaults["eos_token_id"]) == (0.6, [made.special_tokens["<|im_end|>"], 0])
    report = data_check([str(data)], tokenizer=tmp_path / "out", length=64)
    assert report["counts"]["ends"] == {str(made.special_tokens["<|im_end|>"]): 40}
    assert not report["warnings"]


def test_what_a_dsmoe_model_has_is_kept_unless_set(base: Path, data: Path, tmp_path: Path) -> None:
    start = tmp_path / "blocks"
    convert_dsmoe(base, start, experts=4, console=QUIET)
    settings = {**QUICK, "steps": 4}
    posttraining.sft(start, [str(data)], tmp_path / "kept", **settings)
    rows = [json.loads(line)["figures"] for line in (tmp_path / "kept/metrics.jsonl").read_text().splitlines()]
    assert rows[0]["dsmoe.coefficient"] == rows[1]["dsmoe.coefficient"] == pytest.approx(0.01)
    first = sum(rows[0]["dsmoe.active"]) / len(rows[0]["dsmoe.active"])
    second = sum(rows[1]["dsmoe.active"]) / len(rows[1]["dsmoe.active"])
    moved = 0.012 if second > first else 0.01 / 1.2
    assert rows[2]["dsmoe.coefficient"] == pytest.approx(moved)
    posttraining.sft(start, [str(data)], tmp_path / "set", set=["dsmoe.coefficient=0.5"], **settings)
    rows = [json.loads(line)["figures"] for line in (tmp_path / "set/metrics.jsonl").read_text().splitlines()]
    assert {row["dsmoe.coefficient"] for row in rows} == {0.5}
    for setting, words in (("dsmoe.colour=1", "dsmoe.colour is not known"), ("lbpe.x=1", "no such method in use")):
        with pytest.raises(UserError, match=words):
            posttraining.sft(start, [str(data)], tmp_path / "no", set=[setting], **settings)


def test_a_stream_is_refused_as_it_would_be_read_twice(base: Path) -> None:
    with pytest.raises(UserError, match="read from files only"):
        open_reader(["-"], CheckSettings(tokenizer=base, template="plain", length=64).reading())


def test_nothing_is_written_into_what_is_read(base: Path, data: Path, tmp_path: Path) -> None:
    """A tokenizer of its own, the file of a template, and the directory of stage 1 are read and written too."""
    copytree(base, tmp_path / "tok")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "chat.jinja").write_text("{{ messages[0].content }}")
    sft = {**QUICK, "steps": 1}
    with pytest.raises(UserError, match="lies inside the input"):
        posttraining.sft(base, [str(data)], tmp_path / "tok" / "out", **sft, tokenizer=tmp_path / "tok")
    with pytest.raises(UserError, match="contains the input"):
        posttraining.sft(base, [str(data)], tmp_path / "t", **{**sft, "template": str(tmp_path / "t" / "chat.jinja")})
    convert_uniattn(base, tmp_path / "u", groups="2:0:4", init="zero", calibration=[TEXT], samples=4, window=32,
                    console=QUIET)  # fmt: skip
    posttraining.uniattn(tmp_path / "u", [str(data)], tmp_path / "out", **sft)
    stage = tmp_path / "out.stage1"
    before = tensors(stage)
    with pytest.raises(UserError, match=r"out\.stage1: is also an input"):
        posttraining.uniattn(stage, [str(data)], tmp_path / "out", **{**sft, "lr": 1e-4}, force=True)
    assert all(value.equal(before[name]) for name, value in tensors(stage).items())


def test_lone_surrogates_are_counted_and_warned_of(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "d.jsonl"
    for rows in (
        ['{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}',
         '{"messages": [{"role": "user", "content": "a\\ud800"}, {"role": "assistant", "content": "b\\udc00"}]}'],
        ['{"text": "one"}', '{"text": "a\\udfff"}'],
        ['{"text": "\\ud83d\\ude00"}', '{"text": "\\udbff\\ud83d\\ude00"}'],
    ):  # fmt: skip
        file.write_text("\n".join(rows))
        found = data_check([str(file)], CheckSettings(tokenizer=base, template="plain"))
        assert found["counts"]["broken"] == 1
        assert ["rows with lone surrogates", f"1, the first at {file}:2"] in [list(line) for line in found["lines"]]
        assert any(f"in 1 row, the first at {file}:2" in warning for warning in found["warnings"])
    posttraining.sft(base, [str(file)], tmp_path / "out", **{**QUICK, "steps": 1, "console": Console(verbosity=-1)})
    counts = json.loads((tmp_path / "out" / "train.json").read_text())["config"]["counts"]
    assert (counts["broken"], "broken" in Counts().facts(), Counts().to_json()["broken"]) == (1, False, 0)
    assert "lone surrogates, no characters, in 1 row" in " ".join(capsys.readouterr().err.split())
