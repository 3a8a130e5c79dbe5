"""generate, verify and convert export as processes: what they print, what they refuse, how they exit."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch  # noqa: E402

from llmtool import Tokenizer, load_model  # noqa: E402
from llmtool.core.bpe.export import export_huggingface  # noqa: E402
from llmtool.core.run.errors import UserError  # noqa: E402
from tests.cli.test_app import run  # noqa: E402
from tests.conftest import SCRIPTS  # noqa: E402
from tests.core.model.families import save  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 400 tokens with a tokenizer of ours in Hugging Face's form (tokenizer.json only)."""
    root = tmp_path_factory.mktemp("checkpoint")
    path = save(root / "model", "llama3.2", 0.5, vocab_size=400, eos_token_id=0)
    tokenizer = Tokenizer.train_from_documents(SCRIPTS * 2, 400, special=["<|endoftext|>"])
    export_huggingface(tokenizer, root / "tok")
    for file in (root / "tok").iterdir():
        if file.name != "llmtool.json":
            (path / file.name).write_bytes(file.read_bytes())
    return path


def test_text_streams_to_stdout(checkpoint: Path) -> None:
    done = run("generate", checkpoint, "The quick", "--max-tokens", "12")
    assert done.returncode == 0, done.stderr
    assert b"12 tokens in" in done.stderr
    pieces = list(load_model(checkpoint).stream("The quick", max_new_tokens=12))
    assert done.stdout.decode() == "".join(pieces) + "\n"
    assert run("generate", checkpoint, "-", "--max-tokens", "12", text="The quick").stdout == done.stdout


def test_a_character_is_shown_when_it_is_whole(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(checkpoint)
    wanted = "猫が🎉 é"
    ids = model.tokenizer.encode(wanted)
    monkeypatch.setattr(model, "generate", lambda *_, **__: iter([[token] for token in ids]))
    pieces = list(model.stream("a"))
    assert "".join(pieces) == wanted
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_batch_is_what_its_prompts_are_alone(checkpoint: Path) -> None:
    prompts = ("1 2 3", "7 8 9 10 11")
    done = run("generate", checkpoint, *prompts, "--ids", "--max-tokens", "6", "--json", "-q")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["prompt"] for row in rows] == list(prompts)
    for prompt, row in zip(prompts, rows, strict=True):
        alone = run("generate", checkpoint, prompt, "--ids", "--max-tokens", "6", "-q")
        assert [int(word) for word in alone.stdout.split()] == [token for token in row["ids"] if token]
        assert alone.stderr == b""


def test_sampling_follows_its_seed(checkpoint: Path) -> None:
    def draw(*options: str) -> bytes:
        settings = ("--temperature", "2", "--top-k", "50", "--top-p", "0.9", "--ids", "--max-tokens", "8", "-q")
        return run("generate", checkpoint, "1 2 3", *settings, *options).stdout

    assert draw("--seed", "1") == draw("--seed", "1")
    assert draw("--seed", "1") != draw("--seed", "2")


def test_logits_have_the_shape_of_the_ids(checkpoint: Path) -> None:
    model = load_model(checkpoint, dtype="fp32")
    logits = model([[1, 2, 3], [4, 5, 6]])
    assert (tuple(logits.shape), logits.dtype) == ((2, 3, 400), torch.float32)
    assert load_model(checkpoint, dtype=torch.bfloat16)(torch.tensor([[1]])).dtype == torch.bfloat16
    for wrong, message in (([[400]], "id 400 is out of range"), ([[-1]], "id -1"), ([[1], [2, 3]], "one length")):
        with pytest.raises(UserError, match=message):
            model(wrong)
    with pytest.raises(UserError, match="shape"):
        model(torch.tensor([1, 2]))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--ids", "1 2 900"], b"id 900 is out of range: model.embed_tokens.weight holds 400 rows"),
        (["--ids", "one"], b"not ids"),
        ([""], b"a prompt without a single token"),
        (["a", "--device", "abacus"], b"device 'abacus' is not known"),
    ],
)
def test_bad_prompts_are_one_line(checkpoint: Path, arguments: list[str], message: bytes) -> None:
    done = run("generate", checkpoint, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert message in done.stderr


def test_bad_checkpoints_are_one_line(checkpoint: Path, tmp_path: Path) -> None:
    def refuse(name: str, message: str, **changes: object) -> None:
        path = tmp_path / name
        path.mkdir()
        for file in checkpoint.iterdir():
            (path / file.name).write_bytes(file.read_bytes())
        facts = {**json.loads((path / "config.json").read_text()), **changes}
        (path / "config.json").write_text(json.dumps(facts))
        done = run("generate", path, "a")
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1
        assert message in done.stderr.decode()

    refuse("unknown", "config.json: logit_scale = 2 is not understood", logit_scale=2)
    refuse("small", "model.embed_tokens.weight: shape [400, 48], wanted [300, 48]", vocab_size=300)
    refuse("wide", "mlp.gate_proj.weight: shape [80, 48], wanted [81, 48]", intermediate_size=81)
    refuse("deep", "model.layers.3.self_attn.q_proj.weight is missing, wanted [72, 48]", num_hidden_layers=4)


def test_a_tokenizer_larger_than_the_embedding_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "small", "llama3", vocab_size=300)
    (path / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    done = run("generate", path, "a")
    assert b"the tokenizer has 400 tokens, model.embed_tokens.weight 300" in done.stderr
    assert run("generate", path, "1 2", "--ids", "--max-tokens", "2").returncode == 0


def test_verify(checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(SCRIPTS))
    same = run("verify", checkpoint, checkpoint, text, "--max-kl", "0", "--json", "--length", "60")
    assert same.returncode == 0, same.stderr
    report = json.loads(same.stdout)
    assert (report["kl"], report["max_abs_difference"], report["top1_agreement"], report["on"]) == (0, 0, 1, "text")
    assert report["tokens"] == len(load_model(checkpoint).tokenizer.encode(text.read_text()))
    other = save(tmp_path / "other", "mistral", 0.5, vocab_size=400)
    differs = run("verify", checkpoint, other, "--max-kl", "0.01", "--tokens", "128", "--json")
    assert differs.returncode == 3
    assert json.loads(differs.stdout)["kl"] > 0.01
    assert run("verify", checkpoint, other, "--tokens", "128").returncode == 0
    rows = run("verify", checkpoint, checkpoint, "-", "--ids", "--json", text="1 2 3\n4 5\n")
    assert json.loads(rows.stdout)["tokens"] == 5
    smaller = save(tmp_path / "smaller", "llama3", vocab_size=300)
    assert b"vocabularies of 400 and 300" in run("verify", checkpoint, smaller).stderr


def test_verify_sees_a_small_change(checkpoint: Path, tmp_path: Path) -> None:
    copied = tmp_path / "bf16"
    assert run("convert", "copy", checkpoint, copied, "--dtype", "bf16", "-q").returncode == 0
    done = run("verify", checkpoint, copied, "--dtype", "fp32", "--tokens", "256", "--json", "--max-kl", "1")
    report = json.loads(done.stdout)
    assert 0 < report["kl"] < 1
    assert 0.5 < report["top1_agreement"] <= 1


def test_export_command(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "export"
    done = run("convert", "export", checkpoint, output, "--json")
    assert done.returncode == 0, done.stderr
    assert "modeling_llmtool.py" in json.loads(done.stdout)["files"]
    assert run("verify", checkpoint, output, "--max-kl", "0", "--tokens", "64").returncode == 0
    again = run("convert", "export", checkpoint, output)
    assert (again.returncode, b"--force" in again.stderr) == (1, True)
    assert run("convert", "export", checkpoint, output, "--force").returncode == 0
