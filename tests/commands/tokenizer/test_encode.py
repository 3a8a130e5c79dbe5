"""Files in, ids out: formats, sidecars, long documents in blocks, and what stands when a run is stopped."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Theirs

from llmtool import Tokenizer
from llmtool.commands.tokenizer.compare import compare_files
from llmtool.commands.tokenizer.encode import decode_files, encode_files
from llmtool.commands.tokenizer.settings import EncodeSettings
from llmtool.commands.tokenizer.shards import encode_shards
from llmtool.core.corpus import blocks, encoding
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, UserError
from tests.conftest import SCRIPTS
from tests.core.bpe.families import CHARACTER_PIPELINES, families

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_from_documents(SCRIPTS * 3, 500, algorithm="scaffold", special=[END])


@pytest.fixture
def corpus(write: Callable[..., Path]) -> str:
    rows = [*SCRIPTS, "", "last"]
    return str(write("corpus.jsonl", "".join(json.dumps({"text": row}) + "\n" for row in rows)))


def expected(tokenizer: Tokenizer, eos: bool = False) -> list[list[int]]:
    end = [tokenizer.special_tokens[END]] if eos else []
    return [tokenizer.encode(row) + end for row in [*SCRIPTS, "", "last"]]


@pytest.mark.parametrize("eos", [False, True])
def test_lines_of_ids(tokenizer: Tokenizer, corpus: str, tmp_path: Path, eos: bool) -> None:
    out = tmp_path / "out.ids"
    totals = encode_files(tokenizer, [corpus], out, eos=eos)
    rows = [[int(word) for word in line.split()] for line in out.read_text().split("\n")[:-1]]
    assert rows == expected(tokenizer, eos)
    assert (totals.documents, totals.tokens) == (len(rows), sum(map(len, rows)))
    manifest = json.loads((tmp_path / "out.ids.run.json").read_text())
    assert manifest["inputs"][0]["bytes"] == Path(corpus).stat().st_size


@pytest.mark.parametrize("form", ["ids", "jsonl", "bin", "npy"])
@pytest.mark.parametrize("family", CHARACTER_PIPELINES)
def test_decoded_as_their_readers_decode(family: str, form: Any, write: Callable[..., Path], tmp_path: Path) -> None:
    """SentencePiece's first space is no part of a document, in whatever format the ids stand."""
    texts = ["hello world", " with a space", "  with two", "", " ", "Größe 🙂"]
    facts = dict(families(texts))[family]
    ours, theirs = Tokenizer.load(write("t.json", json.dumps(facts))), Theirs.from_str(json.dumps(facts))
    corpus = write("texts.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    encode_files(ours, [str(corpus)], tmp_path / f"out.{form}", form=form, bos=False)
    decode_files(ours, str(tmp_path / f"out.{form}"), tmp_path / "back.txt", text_mode="line")
    wanted = [theirs.decode(ours.encode(text), skip_special_tokens=False) for text in texts]
    assert (tmp_path / "back.txt").read_text().split("\n")[:-1] == wanted
    assert [ours.decode(ours.encode(text), errors="surrogateescape") for text in texts] == wanted


@pytest.mark.parametrize("form", ["bin", "npy"])
def test_arrays_and_sidecars(tokenizer: Tokenizer, corpus: str, tmp_path: Path, form: Any) -> None:
    out = tmp_path / f"train.{form}"
    encode_files(tokenizer, [corpus], out, form=form, eos=True)
    flat = [token for row in expected(tokenizer, True) for token in row]
    array = np.load(out) if form == "npy" else np.memmap(out, np.uint16, "r")
    assert array.dtype == np.uint16
    assert array.tolist() == flat
    about = json.loads((tmp_path / f"train.{form}.json").read_text())
    assert about["tokenizer_sha256"] == tokenizer.fingerprint()
    assert (about["dtype"], about["tokens"], about["documents"]) == ("uint16", len(flat), len(SCRIPTS) + 2)
    offsets = np.load(tmp_path / about["offsets"])
    assert np.diff(offsets).tolist() == [len(row) for row in expected(tokenizer, True)]
    assert [p.name for p in tmp_path.glob(".*")] == []
    for entry in json.loads((tmp_path / f"train.{form}.run.json").read_text())["outputs"]:
        assert entry["bytes"] == (tmp_path / entry["path"]).stat().st_size
    with pytest.raises(CompleteError):
        encode_files(tokenizer, [corpus], out, form=form, eos=True)
    restored = tmp_path / "restored"
    assert decode_files(tokenizer, str(out), restored) == len(SCRIPTS) + 2
    assert restored.read_bytes() == b"".join(row.encode() + END.encode() for row in [*SCRIPTS, "", "last"])


@pytest.mark.parametrize("name", ["t.bin", "t.npy", "t.jsonl", "t.ids", "t"])
def test_the_name_says_the_format(tokenizer: Tokenizer, corpus: str, tmp_path: Path, name: str) -> None:
    form: Any = {"t.ids": "ids", "t": "ids"}.get(name, name[2:])
    encode_files(tokenizer, [corpus], tmp_path / name)
    encode_files(tokenizer, [corpus], tmp_path / f"told-{name}", form=form)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"told-{name}").read_bytes()
    assert json.loads((tmp_path / f"{name}.run.json").read_text())["config"]["format"] == form


def test_megatron_index(tokenizer: Tokenizer, corpus: str, tmp_path: Path) -> None:
    """Read back as Megatron's MMapIndexedDataset lays it out."""
    encode_files(tokenizer, [corpus], tmp_path / "train.bin", form="bin")
    raw = (tmp_path / "train.idx").read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    version, code = int.from_bytes(raw[9:17], "little"), raw[17]
    count, documents = (int.from_bytes(raw[at : at + 8], "little") for at in (18, 26))
    rows = expected(tokenizer)
    assert (version, code, count, documents) == (1, 8, len(rows), len(rows) + 1)
    lengths = np.frombuffer(raw, np.int32, count, 34)
    pointers = np.frombuffer(raw, np.int64, count, 34 + 4 * count)
    assert lengths.tolist() == [len(row) for row in rows]
    assert (pointers // 2).tolist() == [sum(map(len, rows[:i])) for i in range(count)]
    assert np.frombuffer(raw, np.int64, count + 1, 34 + 12 * count).tolist() == list(range(count + 1))
    assert len(raw) == 34 + 12 * count + 8 * (count + 1)


def test_wide_vocabularies_take_four_bytes(corpus: str, tmp_path: Path) -> None:
    from dataclasses import replace

    from llmtool.core.bpe.definition import Definition
    from llmtool.core.bpe.vocabulary import Vocabulary

    units = [bytes([byte]) for byte in range(256)]
    vocabulary = Vocabulary(units, [], [(70_000 + number,) for number in range(256)])
    tokenizer = Tokenizer(replace(Definition(vocabulary, "gpt2")))
    encode_files(tokenizer, [corpus], tmp_path / "wide.bin", form="bin")
    assert np.fromfile(tmp_path / "wide.bin", np.uint32).min() >= 70_000
    assert json.loads((tmp_path / "wide.bin.json").read_text())["dtype"] == "uint32"
    assert (tmp_path / "wide.idx").read_bytes()[17] == 4


def test_jsonl_with_offsets(tokenizer: Tokenizer, corpus: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    encode_files(tokenizer, [corpus], out, form="jsonl", offsets=True, eos=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["ids"] for row in rows] == expected(tokenizer, True)
    assert [row["row"] for row in rows] == list(range(1, len(SCRIPTS) + 3))
    for row, text in zip(rows, [*SCRIPTS, "", "last"], strict=True):
        data = text.encode()
        spelled = [data[start:end] for start, end in row["offsets"][:-1]]
        assert spelled == [tokenizer.token_bytes(token) for token in row["ids"][:-1]]
        assert row["offsets"][-1] == [len(data), len(data)]


@pytest.mark.parametrize("form", ["ids", "jsonl", "bin"])
def test_a_file_in_blocks_is_one_document(
    tokenizer: Tokenizer, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, form: Any, tmp_path: Path
) -> None:
    """Blocks and batches far smaller than the file change nothing."""
    text = "".join(SCRIPTS) * 40
    paths = [str(write("a.txt", text)), str(write("b.txt", "second")), str(write("c.txt", text[::-1]))]
    whole = tmp_path / f"whole.{form}"
    encode_files(tokenizer, paths, whole, form=form, eos=True)
    monkeypatch.setattr(blocks, "BLOCK", 700)
    monkeypatch.setattr(encoding, "BATCH_BYTES", 1500)
    cut = tmp_path / f"cut.{form}"
    encode_files(tokenizer, paths, cut, form=form, eos=True, threads=1)
    assert cut.read_bytes() == whole.read_bytes()
    restored = tmp_path / "restored"
    decode_files(tokenizer, str(cut), restored)
    assert restored.read_bytes() == f"{text}{END}second{END}{text[::-1]}{END}".encode()


@pytest.mark.parametrize("form", ["ids", "jsonl", "bin"])
def test_documents_begin_and_end_with_the_named_tokens(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, form: Any, tmp_path: Path
) -> None:
    """Once for each document, in however many blocks and batches it comes."""
    tokenizer = Tokenizer.train_from_documents(SCRIPTS, 400, special=["<s>", "</s>", "<turn>"])
    text = "".join(SCRIPTS) * 40
    paths = [str(write("a.txt", text)), str(write("b.txt", "second")), str(write("c.txt", text[::-1]))]
    monkeypatch.setattr(blocks, "BLOCK", 700)
    monkeypatch.setattr(encoding, "BATCH_BYTES", 1500)
    out = tmp_path / f"out.{form}"
    encode_files(tokenizer, paths, out, form=form, bos=True, eos_token="<turn>", threads=1)
    decode_files(tokenizer, str(out), tmp_path / "text")
    wanted = "".join(f"<s>{t}<turn>" for t in (text, "second", text[::-1]))
    assert (tmp_path / "text").read_bytes() == wanted.encode()
    if form == "bin":
        about = json.loads((tmp_path / "out.bin.json").read_text())
        assert (about["documents_begin_with"], about["documents_end_with"]) == (0, 2)
        starts = np.load(tmp_path / about["offsets"])
        ids = np.memmap(out, np.uint16, "r")
        assert ids[starts[:-1]].tolist() == [0, 0, 0]
        assert ids[starts[1:] - 1].tolist() == [2, 2, 2]
    if form == "jsonl":
        rows = [json.loads(line)["ids"] for line in out.read_text().splitlines()]
        assert [(row[0], row[-1], len(row)) for row in rows] == [
            (0, 2, len(tokenizer.encode(t)) + 2) for t in (text, "second", text[::-1])
        ]


def test_offsets_of_what_is_put_around_a_text(tokenizer: Tokenizer, write: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    encode_files(tokenizer, [str(write("a.txt", "ab"))], out, form="jsonl", offsets=True, bos_token=END, eos=True)
    row = json.loads(out.read_text())
    number = tokenizer.special_tokens[END]
    assert row["ids"] == [number, *tokenizer.encode("ab"), number]
    assert (row["offsets"][0], row["offsets"][-1]) == ([0, 0], [2, 2])


def test_a_habit_that_is_not_followed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`transformers` begins each text with BOS here; encode adds nothing that was not asked for, and says so."""
    plain = Tokenizer.train_from_documents(SCRIPTS, 400, special=["<s>"])
    tokenizer = Tokenizer(replace(plain.definition, add_bos=True))
    source = tmp_path / "a.txt"
    source.write_text("hello")
    for bos, told, first in ((None, "would put <s> before each text", False), (True, "", True), (False, "", False)):
        out = tmp_path / f"{bos}.ids"
        encode_files(tokenizer, [str(source)], out, bos=bos, console=Console())
        err = capsys.readouterr().err
        assert told in err
        assert bool(err) is bool(told)
        assert (out.read_text().split()[0] == "0") is first


def test_a_file_is_cut_at_separators(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = tmp_path / "stories.txt"
    source.write_text(f"one\n{END}two{END}{END}\nthree{END}")
    out = tmp_path / "out.jsonl"
    encode_files(tokenizer, [str(source)], out, form="jsonl", eos=True, document_separator=END)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [tokenizer.decode(row["ids"][:-1]) for row in rows] == ["one\n", "two", "", "\nthree"]
    assert [row["row"] for row in rows] == [1, 2, 3, 4]


def test_special_tokens_with_spaces_are_not_cut(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
                                                tmp_path: Path) -> None:  # fmt: skip
    tokenizer = Tokenizer.train_from_documents(SCRIPTS, 300, special=["<new line>"])
    monkeypatch.setattr(blocks, "BLOCK", 64)
    text = "word<new line> " * 60
    out = tmp_path / "out"
    encode_files(tokenizer, [str(write("a.txt", text))], out, allow_special=True)
    assert out.read_text().split().count("0") == 60


def test_requests_that_cannot_be(tokenizer: Tokenizer, corpus: str, tmp_path: Path) -> None:
    nameless = Tokenizer.train_from_documents(SCRIPTS, 300)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"form": "ids", "offsets": True}, "use --format jsonl"),
        ({"form": "bin", "output": None}, "cannot go to stdout"),
        ({"form": "bin", "output": tmp_path / "out.npy"}, r"wants a name that ends in \.bin"),
        ({"output": Path(corpus)}, "is also an input"),
        ({"output": tmp_path / "no" / "out"}, "does not exist"),
        ({"output": tmp_path}, "is a directory"),
        ({"output": tmp_path / "out", "read": [tmp_path]}, "lies inside the input"),
        ({"eos": True, "tokenizer": nameless}, "names no end-of-text token"),
        ({"bos": True}, "names no beginning-of-text token.*--bos-token"),
        ({"eos_token": "<|endoftex|>"}, "not an added token of the tokenizer.*did you mean"),
        ({"bos": False, "bos_token": END}, "contradict"),
        ({"document_separator": ""}, "the document separator is empty"),
        ({"document_separator": "x", "text_mode": "line"}, "not both"),
    ]
    for arguments, what in wrong:
        options: dict[str, Any] = {"tokenizer": tokenizer, "inputs": [corpus], "output": tmp_path / "out", **arguments}
        with pytest.raises(UserError, match=what):
            encode_files(**options)
    assert not list(tmp_path.glob("*out*"))


def test_outputs_are_not_overwritten_by_accident(tokenizer: Tokenizer, corpus: str, tmp_path: Path) -> None:
    out = tmp_path / "out.ids"
    encode_files(tokenizer, [corpus], out)
    with pytest.raises(CompleteError):
        encode_files(tokenizer, [corpus], out)
    with pytest.raises(UserError, match="--eos: off -> on"):
        encode_files(tokenizer, [corpus], out, eos=True)
    Path(corpus).write_text('{"text": "changed"}\n')
    with pytest.raises(UserError, match="the inputs' content"):
        encode_files(tokenizer, [corpus], out)
    encode_files(tokenizer, [corpus], out, force=True)
    assert out.read_text() == " ".join(map(str, tokenizer.encode("changed"))) + "\n"


def test_arrays_of_another_tokenizer_or_cut_short(tokenizer: Tokenizer, corpus: str, tmp_path: Path) -> None:
    out = tmp_path / "train.bin"
    encode_files(tokenizer, [corpus], out, form="bin")
    other = Tokenizer.train_from_documents(SCRIPTS, 300)
    with pytest.raises(UserError, match="written with another tokenizer"):
        decode_files(other, str(out), tmp_path / "text")
    out.write_bytes(out.read_bytes()[:-2])
    with pytest.raises(UserError, match="truncated"):
        decode_files(tokenizer, str(out), tmp_path / "text")


@pytest.mark.parametrize("line", ["1 2 x", '{"tokens": [1]}', '{"ids": ["1"]}', "{", "99999"])
def test_lines_that_are_no_ids(tokenizer: Tokenizer, write: Callable[..., Path], tmp_path: Path, line: str) -> None:
    path = write("ids", f"1 2\n{line}\n")
    with pytest.raises(UserError, match=r"ids:2|document 2"):
        decode_files(tokenizer, str(path), tmp_path / "text")
    assert not (tmp_path / "text").exists()


@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_what_the_vocabulary_lacks_is_told(
    unknown: str | None, write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: dict[str, Any] = {"type": "BPE", "unk_token": unknown, "vocab": {"<unk>": 0, "a": 1, "b": 2}, "merges": []}
    theirs = write("t.json", json.dumps({"model": model, "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": []}))
    tokenizer, text = Tokenizer.load(theirs), str(write("in/x.txt", "ab ab zß ab"))
    said = "2 of 8 tokens (25.00%) are <unk>" if unknown else "2 of 11 characters (18.18%) are left out"
    encode_files(tokenizer, [text], tmp_path / "x.bin", console=Console())
    assert capsys.readouterr().err.count(f"warning: {said}") == 1
    sharded = EncodeSettings(form="bin", shards="1M", workers=1)
    encode_shards(tokenizer, [text], tmp_path / "shards", sharded, console=Console())
    assert capsys.readouterr().err.count(f"warning: {said}") == 1
    comparison = compare_files({"theirs": tokenizer}, [text], console=Console())
    assert capsys.readouterr().err.count(f"warning: theirs: {said}") == 1
    lost = comparison.to_json()["tokenizers"]["theirs"]["lost"]
    assert lost["unknown" if unknown else "left_out"] == 2
    encode_files(tokenizer, [str(write("in/y.txt", "ab ab"))], tmp_path / "y.bin", console=Console())
    assert "warning" not in capsys.readouterr().err
