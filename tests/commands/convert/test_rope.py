"""`convert rope`: stock rope types are read by transformers, options are checked, the check scores both checkpoints."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import transformers

from llmtool import Tokenizer, model
from llmtool.commands.convert.rope import convert_rope, with_rotary
from llmtool.core.model.config import parse_config
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS, STDLIB
from tests.core.model.families import draw_ids, oracle, save, spell_as_4x

QUIET = Console(verbosity=-1)


def rotary(directory: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return facts


@pytest.mark.parametrize("old_spelling", [False, True])
@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("abf", {"rope_type": "default", "rope_theta": 5e5}),
        ("pi", {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}),
        ("yarn", {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5e5, "original_max_position_embeddings": 64}),
        ("ntk", {"rope_type": "default", "rope_theta": 5e5 * 4 ** (8 / 6)}),
    ],
)
def test_stock_types_need_no_code(tmp_path: Path, method: str, wanted: dict[str, Any], old_spelling: bool) -> None:
    source, output = save(tmp_path / "m", "llama3", 0.5), tmp_path / "o"
    if old_spelling:
        spell_as_4x(source)
    report = convert_rope(source, output, method=method, target=256, console=QUIET)
    assert report["after"] == wanted
    facts = rotary(output)
    assert (facts["model_type"], facts["max_position_embeddings"], "llmtool" in facts) == ("llama", 256, False)
    ids = draw_ids(1, 90)
    stock = oracle(output)
    assert (stock(ids).logits - model.load_model(output, "fp64")(ids)).abs().max() < 1e-9
    before = oracle(source)(ids).logits
    moved = (stock(ids).logits - before).abs().max() > 1e-4
    assert moved == (method != "abf")  # 5M times 256 / 128K is below the model's own base, which stays


def test_a_scaling_is_replaced(tmp_path: Path) -> None:
    source = save(tmp_path / "m", "llama3.2", 0.3)
    report = convert_rope(source, tmp_path / "o", method="yarn", target=64, console=QUIET)
    assert (report["original"], report["after"]["factor"]) == (16, 4.0)
    assert (report["before"]["rope_type"], report["after"]["rope_type"]) == ("llama3", "yarn")
    report = convert_rope(source, tmp_path / "h", target=4096, range_="1M:2M", console=QUIET)
    assert report["bases"] == [1e6, 2e6]
    facts = rotary(tmp_path / "h")
    assert (facts["model_type"], facts["llmtool"]["family"]) == ("llmtool", "llama")
    entry = facts["llmtool"]["methods"][0]
    assert (entry["original"]["rope_type"], entry["original"]["factor"]) == ("llama3", 8.0)


@pytest.mark.parametrize("old_spelling", [False, True])
def test_a_base_that_changes_with_the_length_is_refused(tmp_path: Path, old_spelling: bool) -> None:
    source = save(tmp_path / "m", "llama3", rope_scaling={"rope_type": "dynamic", "factor": 4.0})
    if old_spelling:
        spell_as_4x(source)
    with pytest.raises(UserError, match="rope_type dynamic"):
        convert_rope(source, tmp_path / "o", target=512, console=QUIET)
    assert not (tmp_path / "o").exists()
    report = convert_rope(source, tmp_path / "a", method="abf", target=512, console=QUIET)
    assert report["after"]["rope_type"] == "default"


def test_the_default_choice_of_bases(tmp_path: Path) -> None:
    source = save(tmp_path / "m", "llama3")
    assert convert_rope(source, tmp_path / "o", target=131_072, dry_run=True, console=QUIET)["bases"] == [1e6, 5e6]
    many = save(tmp_path / "many", "llama2", hidden_size=64, num_attention_heads=32, num_key_value_heads=32)
    found = convert_rope(many, tmp_path / "o", target=131_072, dry_run=True, console=QUIET)
    assert (found["choice"], found["bases"][:3], len(found["bases"])) == ("paper", [1e6, 1.15e6, 1.3e6], 32)
    grouped = save(tmp_path / "grouped", "llama3", hidden_size=64, num_attention_heads=32, num_key_value_heads=8)
    found = convert_rope(grouped, tmp_path / "o", target=131_072, dry_run=True, console=QUIET)
    assert (found["choice"], len(found["bases"])) == ("paper", 8)
    assert not (tmp_path / "o").exists()


def test_the_check_scores_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "m", "llama3", 0.3, vocab_size=300)
    Tokenizer.train_from_documents(SCRIPTS, 300).save(source / "llmtool.json")
    text = str(STDLIB / "textwrap.py")
    report = convert_rope(
        source, tmp_path / "o", target=512, range_="2000:9000", check=[text], check_length=256, check_tokens=512,
        console=Console(verbosity=0)
    )  # fmt: skip
    said = " ".join(capsys.readouterr().err.split())
    assert "up to 2,048 tokens to score, in rows of 64 and 256, before and after" in said
    for place in ("4 to 7", "32 to 63", "16 to 31", "128 to 255"):
        assert place in said
    for place in ("64 to 64", "256 to 256", "2 to 3"):  # of a position, and of less than a sixteenth of the row
        assert place not in said
    # a row of 64 predicts 64 tokens: its first from what stands before
    assert [row["tokens"] for row in report["check"]] == [512, 512]
    assert [row["length"] for row in report["check"]] == [64, 256]
    for row in report["check"]:
        assert row["before"] != row["after"]
        assert [first for first, _ in row["positions"]["after"]] == [2**k for k in range(row["length"].bit_length())]
    again = convert_rope(
        source, tmp_path / "o", target=512, range_="2000:9000", check=[text], check_length=256, check_tokens=512,
        console=Console(verbosity=0)
    )  # fmt: skip
    assert again == report
    assert "complete already, only the check is made" in capsys.readouterr().err
    from llmtool.commands.eval.loss import loss

    again = loss(tmp_path / "o", [text], length=64, tokens=512)["sources"]["textwrap"]["loss"]
    assert report["check"][0]["after"] == again


def test_bases_that_change_nothing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The range of a short target ends below the model's own base, and each base is then that."""
    source = save(tmp_path / "m", "llama2")
    for target, said in ((128, True), (131_072, False)):
        found = convert_rope(source, tmp_path / "o", target=target, dry_run=True, console=Console(verbosity=0))
        assert ({*found["bases"]} == {found["before"]["rope_theta"]}) is said
        assert ("nothing changes" in capsys.readouterr().err) is said


def test_the_text_of_the_check_is_read_once_and_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "m", "llama3", 0.3, vocab_size=300)
    Tokenizer.train_from_documents(SCRIPTS, 300).save(source / "llmtool.json")
    (tmp_path / "empty.txt").write_text("")
    for name in ("none.txt", "empty.txt"):
        with pytest.raises(UserError, match=name):
            convert_rope(source, tmp_path / "o", target=128, check=[str(tmp_path / name)], console=QUIET)
    with pytest.raises(UserError, match=r"none\.txt"):
        convert_rope(
            source, tmp_path / "o", target=128, check=[str(tmp_path / "none.txt")], dry_run=True, console=QUIET
        )
    assert not (tmp_path / "o").exists()
    (tmp_path / "rows.jsonl").write_text('{"text": "%s"}\n' % ("word " * 400))
    report = convert_rope(
        source, tmp_path / "o", target=128, check=[str(tmp_path / "rows.jsonl")], check_tokens=200,
        console=Console(verbosity=0)
    )  # fmt: skip
    assert capsys.readouterr().err.count("read 1 file as JSONL") == 1
    assert [row["length"] for row in report["check"]] == [64, 128]  # not of 8,192, which nobody asked the model for


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 64}, "made for 64 positions already.*--override max_position_embeddings=N"),
        ({"target": "many"}, "--target many"),
        ({"method": "pi", "bases": "uniform"}, "are for --method harpe"),
        ({"base": 1e6}, "--base is for --method abf, not harpe"),
        ({"method": "pi", "base": 1e6}, "--base is for --method abf, not pi"),
        ({"target": 10**20}, "9,007,199,254,740,992 at most"),
        ({"target": "99999T"}, "9,007,199,254,740,992 at most"),
        ({"method": "abf", "base": 0.5}, "above 1"),
        ({"range_": "5M:1M"}, "--range 5M:1M"),
        ({"range_": "5M"}, "--range 5M"),
        ({"bases": "no-such-file"}, "no such file"),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    source = save(tmp_path / "m", "llama3")
    with pytest.raises(UserError, match=message):
        convert_rope(source, tmp_path / "o", **{"target": 256, **settings}, console=QUIET)
    assert not (tmp_path / "o").exists()


def test_bases_are_given_once(tmp_path: Path) -> None:
    source = save(tmp_path / "m", "llama3")
    convert_rope(source, tmp_path / "o", target=256, console=QUIET)
    with pytest.raises(UserError, match="a base for each head already"):
        convert_rope(tmp_path / "o", tmp_path / "p", target=512, console=QUIET)
    dynamic = save(tmp_path / "d", "dynamic")
    assert convert_rope(dynamic, tmp_path / "q", method="pi", target=64, console=QUIET)["after"]["factor"] == 4.0


def test_tables_of_other_kinds_are_refused(tmp_path: Path) -> None:
    for family, message in (("gemma3", "several tables"), ("phi3-long", "a part of each head"),
                            ("ministral3", "grow with their position")):  # fmt: skip
        source = save(tmp_path / family, family)
        for method in ("harpe", "yarn"):
            with pytest.raises(UserError, match=message):
                convert_rope(source, tmp_path / "o", method=method, target=4096, console=QUIET)
    assert not (tmp_path / "o").exists()


def test_a_family_is_not_given_what_stock_engines_cannot_hold(tmp_path: Path) -> None:
    """transformers takes a Phi-3 with plain or LongRoPE frequencies only, and takes "yarn" there for LongRoPE."""
    source = save(tmp_path / "m", "phi3", 0.3)
    for method in ("pi", "yarn"):
        for dry_run in (True, False):
            with pytest.raises(UserError, match=rf"--method {method} is rope_type .*do not take for phi3.*abf, ntk"):
                convert_rope(source, tmp_path / "o", method=method, target=256, dry_run=dry_run, console=QUIET)
    assert not (tmp_path / "o").exists()
    ids = draw_ids(1, 90)
    for method in ("abf", "ntk", "harpe"):
        output = tmp_path / method
        convert_rope(source, output, method=method, target=4096, console=QUIET)
        ours = model.load_model(output, "fp64")(ids)
        assert method == "harpe" or (oracle(output)(ids).logits - ours).abs().max() < 1e-9


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("kind", ["mixtral", "ministral", "llama", "qwen2"])
def test_the_size_of_a_head_is_said(tmp_path: Path, kind: str, null: bool) -> None:
    """transformers 5.23 computes with None where a Mixtral does not say it, as published ones do not."""
    source = save(tmp_path / "m", "llama3", 0.3, num_hidden_layers=1)
    facts = {**rotary(source), "model_type": kind, "num_local_experts": 2, "sliding_window": None}
    facts = {**facts, "rope_theta": 1e4, "rope_scaling": None, "head_dim": None, "num_key_value_heads": 2}
    unwanted = ["rope_parameters", "architectures", *([] if null else ["head_dim"])]
    unwanted += [] if kind == "mixtral" else ["num_local_experts"]
    raw = {key: value for key, value in facts.items() if key not in unwanted}
    new = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
    changed = with_rotary(raw, new, 256, 8)
    assert changed["head_dim"] == 8
    assert parse_config(changed).head_dim == parse_config(raw).head_dim == 8
    config = transformers.AutoConfig.for_model(**changed)
    assert transformers.AutoModelForCausalLM.from_config(config).config.head_dim == 8
