"""`convert vocab`: rows kept bit for bit, new ones by each rule, roles renumbered, tables of methods carried."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llmtool import Tokenizer, load_model
from llmtool.commands.convert.upcycle import convert_mask
from llmtool.commands.convert.vocab import convert_vocab
from llmtool.commands.convert.vocab_check import lines, pieces_of
from llmtool.commands.eval.loss import loss
from llmtool.commands.token_experts import token_experts
from llmtool.commands.tokenizer.extend import extend_files
from llmtool.commands.tokenizer.trim import trim_files
from llmtool.commands.verify import verify
from llmtool.core.bpe.correspondence import correspondence
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.eval.same_bytes import cut_by_bytes
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.methods.mask_moe.table import carry_rows
from tests.faults.trial import invoke
from tests.methods.dsmoe.models import QUIET, library, save_dense

SWAHILI = "Hapo mwanzo Mungu aliumba mbingu na nchi. Nchi ilikuwa ukiwa, tena utupu. Mungu akaona kuwa ni vyema. " * 40
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models m (tied) and apart (untied, padded rows) with one tokenizer, and that tokenizer extended and trimmed."""
    path = tmp_path_factory.mktemp("vocab")
    (path / "sw.txt").write_text(SWAHILI)
    tokenizer = Tokenizer.train(library(2), vocab_size=290, special=["<s>", "</s>"], special_position="last")
    for name, tied in (("m", True), ("apart", False)):
        save_dense(path / name, bos_token_id=288, eos_token_id=[289, 288], tie_word_embeddings=tied)
        tokenizer.save(path / name / "llmtool.json")
        (path / name / "generation_config.json").write_text(json.dumps({"eos_token_id": [289], "pad_token_id": 289}))
    extend_files(path / "m", [str(path / "sw.txt")], path / "more", add=40)
    trim_files(path / "m", [str(path / "sw.txt")], path / "less", to=270)
    return path


def tables(path: Path) -> dict[str, Any]:
    checkpoint = open_checkpoint(path)
    return {name: checkpoint.read(name) for name in (EMBEDDING, HEAD) if name in checkpoint}


@pytest.mark.parametrize("init", ["pieces", "mean", "zero"])
@pytest.mark.parametrize("model", ["m", "apart"])
def test_rows(work: Path, tmp_path: Path, model: str, init: str) -> None:
    report = convert_vocab(work / model, tmp_path / "out", tokenizer=str(work / "more"), init=init, multiple=16)
    assert (report["rows"], report["new"], report["gone"]) == (336, 40, 0)
    old, new = Tokenizer.load(work / model), Tokenizer.load(tmp_path / "out")
    assert new.encode(SWAHILI) == Tokenizer.load(work / "more").encode(SWAHILI)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 336
    before, after = tables(work / model), tables(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, table in after.items():
        assert torch.equal(table[:290], before[name][:290])
        wanted = {"mean": before[name][:290].mean(0), "zero": torch.zeros(32)}
        for number in range(290, 330):
            pieces = old.encode(new.token_bytes(number))
            expected = wanted.get(init, before[name][pieces].mean(0))
            torch.testing.assert_close(table[number], expected)
        assert torch.equal(table[330:336], before[name][290:296])  # padding rows that the model had
    others = set(open_checkpoint(work / model).names()) - {EMBEDDING, HEAD}
    for name in others:
        assert torch.equal(open_checkpoint(work / model).read(name), open_checkpoint(tmp_path / "out").read(name))


def test_nothing_is_resized_where_the_new_ids_fit(work: Path, tmp_path: Path) -> None:
    extend_files(work / "m", [str(work / "sw.txt")], tmp_path / "few", add=99, fit_rows=str(work / "m"))
    report = convert_vocab(work / "m", tmp_path / "out", tokenizer=str(tmp_path / "few"))
    assert (report["rows"], report["new"], report["padding"]) == (300, 10, 0)


@pytest.mark.parametrize("model", ["m", "apart"])
def test_trimmed_model_computes_the_same(work: Path, tmp_path: Path, model: str) -> None:
    report = convert_vocab(work / model, tmp_path / "out", tokenizer=str(work / "less"))
    assert (report["rows"], report["new"], report["gone"]) == (270, 0, 20)
    facts = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (facts["bos_token_id"], facts["eos_token_id"]) == (268, [269, 268])
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": [269], "pad_token_id": 269}
    found = correspondence(Tokenizer.load(work / model), Tokenizer.load(tmp_path / "out"))
    old, new = load_model(work / model), load_model(tmp_path / "out")
    ids = sorted(found.kept)[:60]
    kept = [found.kept[number] for number in sorted(found.kept)]
    assert torch.equal(new([ids]), old([[found.kept[number] for number in ids]])[..., kept])


def test_verify_of_two_vocabularies(work: Path, tmp_path: Path) -> None:
    convert_vocab(work / "m", tmp_path / "out", tokenizer=str(work / "more"))
    text = [str(work / "sw.txt"), library(1)[0]]
    found = verify(work / "m", tmp_path / "out", text, tokens=500)
    assert found["identical"] is True
    assert 0 < found["mass_on_new"] < 1
    assert (found["shared"], found["new"]) == (290, 40)
    sides = found["texts"]["sw.txt"]
    assert sides["before"]["bytes"] == sides["after"]["bytes"] == 2000
    assert sides["after"]["tokens"] < sides["before"]["tokens"]
    spoiled = tmp_path / "spoiled"
    save_dense(spoiled, vocab_size=330, seed=1)
    Tokenizer.load(work / "more").save(spoiled / "llmtool.json")
    assert verify(work / "m", spoiled, text, tokens=500)["identical"] is False
    with pytest.raises(UserError, match="no KL divergence"):
        verify(work / "m", tmp_path / "out", text, max_kl=0.1)
    with pytest.raises(UserError, match=r"vocabularies of 300 and 330: .*name a TEXT, over whose bytes"):
        verify(work / "m", spoiled)
    with pytest.raises(UserError, match="drop --ids"):
        verify(work / "m", spoiled, text, ids=True)
    (spoiled / "llmtool.json").unlink()
    with pytest.raises(UserError, match="with a tokenizer in each directory"):
        verify(work / "m", spoiled)


def test_ids_that_are_not_there_take_nothing(work: Path, tmp_path: Path) -> None:
    for tokenizer, new in (("less", False), ("more", True)):
        report = convert_vocab(
            work / "m", tmp_path / tokenizer, tokenizer=str(work / tokenizer), check=[str(work / "sw.txt")]
        )
        said = "\n".join(lines(report["check"]))
        assert ("new ids take" in said) == new
        assert "shared ids" in said


@pytest.mark.parametrize(("tokenizer", "multiple", "new", "padding"), [("m", 512, 0, 222), ("more", 512, 40, 182)])
def test_every_other_row_is_counted(
    work: Path, tmp_path: Path, tokenizer: str, multiple: int, new: int, padding: int
) -> None:
    """Padding takes probability as new ids do, and is told apart; the cost is that of both."""
    out = tmp_path / "out"
    convert_vocab(work / "apart", out, tokenizer=str(work / tokenizer), multiple=multiple)
    text = [str(work / "sw.txt")]
    found = verify(work / "apart", out, text, tokens=32)
    assert (found["shared"], found["new"], found["padding"]) == (290, new, padding)
    old, model = load_model(work / "apart"), load_model(out)
    pieces = pieces_of(text, 128, [old.config.max_position_embeddings], None)[text[0]]
    rows = [ids for ids in map(old.tokenizer.encode, pieces) if len(ids) > 1]
    assert found["positions"] == sum(map(len, rows))
    shares = torch.cat([model([ids]).double().softmax(-1)[0] for ids in rows])
    assert found["mass_on_new"] == pytest.approx(float(shares[:, 290 : 290 + new].sum(-1).mean()), rel=1e-4)
    assert found["mass_on_padding"] == pytest.approx(float(shares[:, 290 + new :].sum(-1).mean()), rel=1e-4)
    assert found["cost"] == pytest.approx(float(-shares[:, :290].sum(-1).log().mean()), rel=1e-4)
    before = torch.cat([old([ids]).double().softmax(-1)[0, :, :290].sum(-1) for ids in rows])
    assert found["cost_before"] == pytest.approx(float(-before.log().mean()), rel=1e-4)  # 10 rows of no id
    line = next(line for line in lines(found) if "nats a token" in line)
    assert ("new ids take" in line, "padding rows take" in line) == (new > 0, True)
    assert "in the old model" in line


def test_eval_loss_over_the_same_bytes(work: Path, tmp_path: Path) -> None:
    convert_vocab(work / "m", tmp_path / "out", tokenizer=str(work / "more"))
    text = str(work / "sw.txt")
    report = loss(work / "m", [text], against=str(tmp_path / "out"), bytes=1500)
    mine, theirs = report["sources"]["sw"].values()
    assert mine["bytes"] == theirs["bytes"] == 1500
    assert len(set(report["tokenizers"].values())) == 2
    # By hand: the first piece, after the end-of-text token, summed over its tokens.
    model, codec = load_model(work / "m"), Tokenizer.load(work / "m")
    nats = 0.0
    for piece in cut_by_bytes([SWAHILI.encode()], report["piece_bytes"], 1500):
        ids = [codec.eos_id or 0, *codec.encode(piece)]
        logs = model([ids]).double().log_softmax(-1)[0]
        nats -= float(sum(logs[place, number] for place, number in enumerate(ids[1:])))
    assert mine["bits_per_byte"] == pytest.approx(nats / 0.6931471805599453 / 1500, rel=1e-5)
    with pytest.raises(UserError, match="ids of one tokenizer"):
        (tmp_path / "x.bin").write_bytes(b"")
        loss(work / "m", [str(tmp_path / "x.bin")], against=str(tmp_path / "out"))


def test_distillation_moves_new_rows_only_and_learns(work: Path, tmp_path: Path) -> None:
    named: dict[str, Any] = {"corpus": [str(work / "sw.txt")], "length": 16, "batch": 4, "lr": 0.05, "rows": 200}
    out = tmp_path / "out"
    report = convert_vocab(work / "apart", out, tokenizer=str(work / "more"), init="distil", snippets=1000, **named)
    assert report["difference_last"] < 0.8 * report["difference_first"]
    before, after = tables(work / "apart"), tables(out)
    assert torch.equal(after[EMBEDDING][:290], before[EMBEDDING][:290])
    convert_vocab(work / "apart", tmp_path / "pieces", tokenizer=str(work / "more"))
    start = tables(tmp_path / "pieces")
    assert not torch.equal(after[EMBEDDING][290:330], start[EMBEDDING][290:330])
    assert torch.equal(after[HEAD], start[HEAD])
    with pytest.raises(UserError, match="give --corpus"):
        convert_vocab(work / "m", tmp_path / "no", tokenizer=str(work / "more"), init="distil")
    (tmp_path / "none.txt").write_text("1 2 3")
    with pytest.raises(UserError, match="no new token occurs in the text"):
        convert_vocab(work / "m", tmp_path / "no", tokenizer=str(work / "more"), init="distil",
                      corpus=[str(tmp_path / "none.txt")])  # fmt: skip


def test_table_of_mask_moe(work: Path, tmp_path: Path) -> None:
    token_experts([library(1)[0]], tmp_path / "table", model=str(work / "m"), experts=4, console=QUIET)
    convert_mask(work / "m", tmp_path / "masked", tmp_path / "table", console=QUIET)
    convert_vocab(tmp_path / "masked", tmp_path / "out", tokenizer=str(work / "more"))
    name = "model.layers.1.mlp.mask"
    old, new = (open_checkpoint(tmp_path / each).read(name) for each in ("masked", "out"))
    tokenizers = Tokenizer.load(work / "m"), Tokenizer.load(tmp_path / "out")
    sources = [n if n < 290 else tokenizers[0].encode(tokenizers[1].token_bytes(n))[0] for n in range(330)]
    expected = carry_rows(old.numpy()[None], torch.tensor(sources).numpy())[0]
    assert torch.equal(new, torch.from_numpy(expected))
    assert load_model(tmp_path / "out")([[1, 2, 329]]).isfinite().all()


def test_what_is_asked(work: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        convert_vocab(save_dense(tmp_path / "bare"), tmp_path / "no", tokenizer=str(work / "more"))
    big = Tokenizer.train(library(2), vocab_size=400)
    big.save(tmp_path / "bare" / "llmtool.json")
    with pytest.raises(UserError, match="ids need 400 rows, and it has 300"):
        convert_vocab(tmp_path / "bare", tmp_path / "no", tokenizer=str(work / "more"))


def test_the_check_is_read_before_anything_is_written_and_made_again(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, more = tmp_path / "out", str(work / "more")
    with pytest.raises(UserError, match="no such file"):
        convert_vocab(work / "m", out, tokenizer=more, check=[str(tmp_path / "none.txt")])
    assert not out.exists()
    first = convert_vocab(work / "m", out, tokenizer=more, check=[str(work / "sw.txt")], check_bytes=500)
    again = convert_vocab(work / "m", out, tokenizer=more, check=[str(work / "sw.txt")], check_bytes=500)
    assert again == first
    assert again["check"]["identical"]
    line = ["convert", "vocab", str(work / "m"), str(out), "--tokenizer", more, "--check-bytes", "500"]
    assert invoke([*line, "--check", str(work / "sw.txt")]) == 0
    said = capsys.readouterr().err
    assert "complete already, only the check is made" in said
    assert "equal bit for bit" in said
    with pytest.raises(CompleteError):
        convert_vocab(work / "m", out, tokenizer=more)


def test_transformers_loads_it(work: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    convert_vocab(work / "m", tmp_path / "out", tokenizer=str(work / "more"))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = Tokenizer.load(tmp_path / "out").encode(SWAHILI[:200])
    assert theirs.encode(SWAHILI[:200], add_special_tokens=False) == ids
    torch.testing.assert_close(
        model(torch.tensor([ids])).logits, load_model(tmp_path / "out")([ids]), atol=1e-4, rtol=1e-4
    )
