"""generate and convert export: what they print, what they refuse, how they exit. In this process: torch loads once."""

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from llmtool import Tokenizer, load_model
from llmtool.__main__ import main
from llmtool.core.bpe.export import export_huggingface
from llmtool.core.run.errors import UserError
from tests.conftest import SCRIPTS
from tests.core.model.families import save

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run llmtool: (exit status, stdout, stderr)."""

    def run_command(*arguments: str | Path, text: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llmtool", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, error = capfd.readouterr()
        return int(ended.value.code or 0), out, error

    return run_command


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


def test_text_streams_to_stdout(checkpoint: Path, run: Run) -> None:
    status, out, error = run("generate", checkpoint, "The quick", "--max-tokens", "12")
    assert (status, "12 tokens in" in error) == (0, True)
    assert out == "".join(load_model(checkpoint).stream("The quick", max_new_tokens=12)) + "\n"
    assert run("generate", checkpoint, "-", "--max-tokens", "12", text="The quick")[1] == out


def test_a_character_is_shown_when_it_is_whole(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(checkpoint)
    wanted = "猫が🎉 é"
    ids = model.tokenizer.encode(wanted)
    monkeypatch.setattr(model, "generate", lambda *_, **__: iter([[token] for token in ids]))
    pieces = list(model.stream("a"))
    assert "".join(pieces) == wanted
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_batch_is_what_its_prompts_are_alone(checkpoint: Path, run: Run) -> None:
    prompts = ("1 2 3", "7 8 9 10 11")
    _, out, _ = run("generate", checkpoint, *prompts, "--ids", "--max-tokens", "6", "--json", "-q")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["prompt"] for row in rows] == list(prompts)
    for prompt, row in zip(prompts, rows, strict=True):
        _, alone, error = run("generate", checkpoint, prompt, "--ids", "--max-tokens", "6", "-q")
        assert [int(word) for word in alone.split()] == [token for token in row["ids"] if token]
        assert error == ""


def test_sampling_follows_its_seed(checkpoint: Path, run: Run) -> None:
    def draw(*options: str) -> str:
        settings = ("--temperature", "2", "--top-k", "50", "--top-p", "0.9", "--ids", "--max-tokens", "8", "-q")
        return run("generate", checkpoint, "1 2 3", *settings, *options)[1]

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
        (["--ids", "1 2 900"], "id 900 is out of range: model.embed_tokens.weight holds 400 rows"),
        (["--ids", "one"], "id one: not a whole number"),
        ([""], "a prompt without a single token"),
        (["a", "--device", "abacus"], "device 'abacus' is not known"),
    ],
)
def test_bad_prompts_are_one_line(checkpoint: Path, run: Run, arguments: list[str], message: str) -> None:
    status, out, error = run("generate", checkpoint, *arguments, "--max-tokens", "8")
    assert (status, out, error.count("\n"), error[:7]) == (2 if "--device" in arguments else 1, "", 1, "error: ")
    assert message in error


def test_export_command(checkpoint: Path, run: Run, tmp_path: Path) -> None:
    output = tmp_path / "export"
    status, out, _ = run("convert", "export", checkpoint, output, "--json")
    assert (status, "modeling_llmtool.py" in json.loads(out)["files"]) == (0, True)
    assert run("verify", checkpoint, output, "--max-kl", "0", "--tokens", "64")[0] == 0
    status, _, error = run("convert", "export", checkpoint, output)
    assert (status, "complete already, nothing to do" in error) == (0, True)
    status, _, error = run("convert", "export", checkpoint, output, "--dtype", "fp64")
    assert (status, "--force" in error) == (1, True)
    assert run("convert", "export", checkpoint, output, "--force")[0] == 0


def test_prompts_of_a_file_and_conversations(checkpoint: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        '{"id": 7, "prompt": "The quick"}\n{"messages": [{"role": "user", "content": "The quick"}]}\n'
    )
    settings = ("--max-tokens", "6", "--template", "plain")
    _, out, _ = run("generate", checkpoint, "--input", tmp_path / "p.jsonl", "--json", *settings)
    first, second = map(json.loads, out.splitlines())
    assert (first["id"], first["prompt"], "id" in second) == (7, "The quick", False)
    assert second["messages"] == [{"role": "user", "content": "The quick"}]
    _, plain, _ = run("generate", checkpoint, "The quick", "--max-tokens", "6", "--json")
    assert json.loads(plain)["ids"] == first["ids"]
    _, chat, _ = run("generate", checkpoint, "The quick", "--chat", "--json", *settings)
    assert json.loads(chat)["ids"] == second["ids"] != first["ids"]
    _, system, _ = run("generate", checkpoint, "The quick", "--chat", "--system", "Be short.", "--json", *settings)
    assert json.loads(system)["ids"] != second["ids"]


def test_a_conversation_remembers_its_turns(checkpoint: Path, run: Run) -> None:
    settings = ("--chat", "--template", "plain", "--max-tokens", "5", "--json", "--threads", "1")
    _, out, _ = run("generate", checkpoint, *settings, text="One\n\nTwo\n")
    first, second = map(json.loads, out.splitlines())
    assert (first["prompt"], second["prompt"]) == ("One", "Two")
    model = load_model(checkpoint)
    from llmtool.commands.generation.chat import Chat
    from llmtool.core.train.sft.conversation import Message

    talk = Chat(model, "plain")
    turns = [Message("user", "One"), Message("assistant", first["text"]), Message("user", "Two")]
    ids = talk.ids(turns)
    assert model.tokenizer.decode(ids).endswith("User: Two\nAssistant:")
    wanted = [token for (token,) in model.generate([ids], max_new_tokens=5) if token is not None]
    assert second["ids"] == wanted


def test_a_stop_string_ends_the_text(checkpoint: Path, run: Run) -> None:
    _, whole, _ = run("generate", checkpoint, "The quick", "--max-tokens", "12", "-q")
    stop = whole.strip()[4:7]
    _, out, _ = run("generate", checkpoint, "The quick", "--max-tokens", "12", "--stop", stop, "-q")
    assert out == whole[: whole.find(stop)] + "\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a", "--system", "b"], "--system without --chat"),
        (["1 2", "--ids", "--chat"], "--ids with --chat"),
        (["a", "--input", "x.jsonl"], "both as arguments and in --input"),
        (["a", "--stop", ""], "--stop with an empty text"),
        (["a", "--chat"], "has no chat template"),
        (["a", "--override", "rope_theta"], "wanted KEY=VALUE"),
        (["a", "--override", "rope_theta=fast"], "rope_theta = 'fast' is a text"),
    ],
)
def test_what_contradicts_is_one_line(checkpoint: Path, run: Run, arguments: list[str], message: str) -> None:
    status, _, error = run("generate", checkpoint, *arguments)
    assert (status, error.count("\n")) == (1, 1)
    assert message in error


def test_more_tokens_than_the_model_was_made_for_is_a_warning(checkpoint: Path, run: Run) -> None:
    status, out, error = run("generate", checkpoint, "1 2 3", "--ids", "--max-tokens", "62", "--ignore-eos", "-q")
    assert (status, len(out.split())) == (0, 62)
    assert error == "warning: 65 tokens, but the model was made for 64\n"


TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
SEES = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.tool_calls %}CALL{{ m.tool_calls|tojson }}{% endif %}"
    "{% if m.reasoning_content %}THINK{{ m.reasoning_content }}{% endif %}{% endfor %}"
    "{% if tools %}TOOLS{{ tools|tojson }}{% endif %}{% if documents %}DOCS{{ documents|length }}{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}NOTHINK{% endif %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
BLIND = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
USER = {"role": "user", "content": "hi"}
ROW: dict[str, Any] = {
    "id": 1,
    "messages": [USER, {"role": "assistant", "content": "a", "tool_calls": [TOOL], "thinking": "so"},
                 {"role": "tool", "content": [{"type": "text", "text": "3"}, {"type": "text", "text": "4"}]}],
    "tools": [TOOL], "documents": [{"text": "y"}], "chat_template_kwargs": {"enable_thinking": False}, "grade": 5,
}  # fmt: skip


def test_conversations_of_a_file_are_rendered_as_those_of_training(
    checkpoint: Path, run: Run, tmp_path: Path
) -> None:  # fmt: skip
    from llmtool.core.train.sft.formats import read_conversations
    from llmtool.core.train.sft.template import Specials, Template

    (tmp_path / "sees.jinja").write_text(SEES)
    path = tmp_path / "rows.jsonl"
    asked = ("--input", path, "--template", tmp_path / "sees.jinja", "--max-tokens", "4", "--ignore-eos")
    path.write_text(json.dumps(ROW))
    status, out, error = run("generate", checkpoint, *asked, "--json")
    assert status == 0, error
    (row,) = read_conversations([str(path)])
    text = Template(SEES, Specials(), "sees").prompt(row)
    assert all(word in text for word in ("get_weather", "CALL", "THINKso", "DOCS1", "NOTHINK", "[tool]34TOOLS"))
    model = load_model(checkpoint)
    ids = model.tokenizer.encode(text, allow_special=True)
    made = model.generate([ids], max_new_tokens=4, stop=frozenset())
    assert json.loads(out)["ids"] == [token for (token,) in made]
    assert f"field grade: 1, the first at {path}:1: not read" in error
    bare = {"id": 1, "messages": [{key: turn[key] for key in ("role", "content")} for turn in ROW["messages"]]}
    path.write_text(json.dumps(bare))
    assert json.loads(run("generate", checkpoint, *asked, "--json")[1])["ids"] != json.loads(out)["ids"]
    path.write_text(json.dumps({"prompt": "hi", "tools": [TOOL]}))
    _, chat, _ = run("generate", checkpoint, *asked, "--json", "--chat")
    path.write_text(json.dumps({"prompt": [USER], "tools": [TOOL]}))
    assert json.loads(run("generate", checkpoint, *asked, "--json")[1])["ids"] == json.loads(chat)["ids"]


@pytest.mark.parametrize(
    "row, message",
    [
        ({"messages": [USER], "tools": [TOOL]}, r"tools: the chat template \(.*\) does not read it"),
        ({"messages": [{**USER, "tool_calls": [TOOL]}]}, r"messages\[0\].tool_calls: the chat template"),
        ({"messages": [{**USER, "reasoning": "x"}]}, r"messages\[0\].reasoning_content: the chat template"),
        ({"messages": [USER], "documents": [{"text": "y"}]}, "documents: the chat template"),
        (
            {"messages": [{**USER, "content": [{"type": "image_url"}]}]},
            r"messages\[0\].content\[0\] is a part of 'image_url'",
        ),
        ({"messages": [USER, {"role": "assistant", "content": "a"}]}, "the last message is an answer already"),
        ({"messages": []}, "a conversation without a turn"),
        ({"prompt": "hi", "tools": [TOOL]}, "tools: a prompt is taken as it is, without a chat template"),
        ({"prompt": None}, "a row without prompt or messages"),
        ({"prompt": 3}, "prompt is a int, not a string"),
        ({"conversation": "hi"}, "no list of messages"),
    ],
)
def test_rows_that_cannot_be_rendered_are_refused_by_name(
    checkpoint: Path, run: Run, tmp_path: Path, row: object, message: str
) -> None:
    (tmp_path / "blind.jinja").write_text(BLIND)
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    asked = ("--input", tmp_path / "rows.jsonl", "--template", tmp_path / "blind.jinja", "--max-tokens", "1")
    status, out, error = run("generate", checkpoint, *asked)
    assert (status, out, error.count("\n")) == (1, "", 1)
    assert re.search(rf"rows.jsonl:1: {message}", error)
    if "tools" in message:
        assert run("generate", checkpoint, *asked, "--ignore", "tools")[0] == 0
