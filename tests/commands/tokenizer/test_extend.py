"""`llmtool tokenizer extend`: the directory, its table, and what `transformers` makes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtool import Tokenizer
from llmtool.commands.tokenizer.extend import extend_files, rows_of
from llmtool.commands.tokenizer.trim import trim_files
from llmtool.core.bpe import agreement as agreements
from llmtool.core.run.errors import CheckError, CompleteError, UserError
from tests.core.bpe.families import families

SWAHILI = "Hapo mwanzo Mungu aliumba mbingu na nchi. Nchi ilikuwa ukiwa, tena utupu. Mungu akaona kuwa ni vyema. " * 20
ENGLISH = "In the beginning God created the heaven and the earth; and the earth was without form. " * 20


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tok.json"
    Tokenizer.train_from_documents([ENGLISH], 300, pretokenizer="gpt2", special=["<|end|>"]).save(path)
    return path


def test_extended_directory(base: Path, write: Callable[[str, str], Path], tmp_path: Path) -> None:
    text, control = str(write("sw.txt", SWAHILI)), str(write("en.txt", ENGLISH))
    output = tmp_path / "more"
    named: dict[str, Any] = {"add": 60, "multiple": 8, "control": [control], "held_out": [text]}
    report = extend_files(base, [text], output, **named)
    old, new = Tokenizer.load(base), Tokenizer.load(output)
    assert new.vocab_size == report["rows"] == 360
    assert new.encode(ENGLISH) == old.encode(ENGLISH)
    assert len(new.encode(SWAHILI)) < 0.6 * len(old.encode(SWAHILI))
    rows = [line.split("\t") for line in (output / "added.tsv").read_text().splitlines()[1:]]
    assert [int(row[1]) for row in rows] == list(range(300, 360))
    counts = [int(row[5]) for row in rows]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 2
    first, last = report["cutoffs"][0], report["cutoffs"][-1]
    assert (first["added"], first["ids"], last["added"], last["ids"]) == (0, 300, 60, 360)
    assert first["bytes a token, en"] == last["bytes a token, en"] == len(ENGLISH) / len(old.encode(ENGLISH))
    assert last["bytes a token, held out"] == len(SWAHILI) / len(new.encode(SWAHILI))
    assert first["new tokens in use"] is None
    assert 0 < last["new tokens in use"] <= 1
    header, *lines = (line.split("\t") for line in (output / "cutoffs.tsv").read_text().splitlines())
    assert header == list(last)
    assert lines[-1][:3] == ["60", "360", f"{last['bytes a token, en']:.3f}"]
    assert (report["asked"], report["ran_out"], report["characters_outside"]) == (60, False, 0)
    assert report["unreachable"] == 0
    with pytest.raises(CompleteError):
        extend_files(base, [text], output, **named)
    fewer = tmp_path / "fewer"
    extend_files(base, [text], fewer, add=21)
    assert Tokenizer.load(fewer).definition.vocabulary.merges == new.definition.vocabulary.merges[: 300 - 257 + 21]


def test_fewer_than_asked_says_why(
    base: Path, write: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = str(write("sw.txt", SWAHILI))
    report = extend_files(base, [text], tmp_path / "all", add=5000, min_count=20)
    said = capsys.readouterr().err
    assert report["ran_out"]
    assert f"{report['added']} of 5,000: no other pair occurs 20 times" in said
    assert "no new token can hold" not in said
    extend_files(base, [text], tmp_path / "filtered", add=5000, veto=["u"])
    assert "of 5,000: no other pair that may be merged occurs twice" in capsys.readouterr().err
    extend_files(base, [text], tmp_path / "short", add=5000, max_token_bytes=4)
    assert "of 5,000: no other pair occurs twice and makes 4 bytes at most" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "fallback", "why"),
    [("Llama 2, TinyLlama, Yi", True, "fall back to bytes"), ("Llama 2, TinyLlama, Yi", False, "are <unk>")],
)
def test_characters_that_no_new_token_can_hold_are_told(
    family: str, fallback: bool, why: str, write: Callable[[str, str], Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Merges end at what is unknown, on both sides: of a script that the tokenizer lacks nothing is learned."""
    facts = dict(families([ENGLISH]))[family]
    facts["model"]["byte_fallback"] = fallback
    theirs = write("theirs.json", json.dumps(facts))
    script = "શરૂઆતમાં ઈશ્વરે આકાશ અને પૃથ્વી ઉત્પન્ન કર્યાં. the end. " * 20
    report = extend_files(theirs, [str(write("gu.txt", script))], tmp_path / "more", add=300)
    said = capsys.readouterr().err
    units = Tokenizer.load(theirs).definition.vocabulary.unit_of
    lacks = {character for character in script if character != " " and character.encode() not in units}
    assert report["ran_out"]
    assert report["characters_outside"] == sum(script.count(character) for character in lacks) > 0
    share = report["characters_outside"] / report["characters"]
    assert f"{share:.1%} of the text's characters {why}: the tokenizer lacks them" in said
    assert f"{report['added']} of 300: no other pair occurs twice" in said
    new = [line.split("\t")[2] for line in (tmp_path / "more" / "added.tsv").read_text().splitlines()[1:]]
    assert new
    assert not lacks & set("".join(new))
    only = str(write("only.txt", "".join(sorted(lacks)) * 9))
    with pytest.raises(UserError, match=rf"no new pair occurs twice: nothing to add; .* {why}"):
        extend_files(theirs, [only], tmp_path / "none", add=300)


@pytest.mark.parametrize("algorithm", ["bpe", "scaffold"])
def test_transformers_gives_the_same_ids(
    base: Path, algorithm: str, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    report = extend_files(base, [str(write("sw.txt", SWAHILI))], tmp_path / "more", add=40, algorithm=algorithm)
    ran = [check for check in report["checks"] if check["skipped"] is None]
    assert "transformers" in [check["reader"] for check in ran]
    assert report["exact"], report["checks"]
    assert (report["scaffolds"] > 0) == (algorithm == "scaffold")


def test_rows_of_a_checkpoint(tmp_path: Path, base: Path, write: Callable[[str, str], Path]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 340}))
    assert rows_of(str(tmp_path)) == 340
    assert rows_of("151936") == 151936
    text = str(write("sw.txt", SWAHILI))
    assert extend_files(base, [text], tmp_path / "fits", add=99, fit_rows=str(tmp_path))["rows"] == 340
    with pytest.raises(UserError, match=r"no room for one more token: 300 ids, 300 rows"):
        extend_files(base, [text], tmp_path / "full", add=99, fit_rows="300")
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": "many"}))
    with pytest.raises(UserError, match="vocab_size 'many' is no number of rows"):
        rows_of(str(tmp_path))


def test_an_unequal_directory_is_said_to_be_so_again(
    base: Path, write: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreements, "_differences", lambda *_: ["a prompt is another"])
    text, out = str(write("sw.txt", SWAHILI)), tmp_path / "more"
    writers: list[Callable[[], dict[str, Any]]] = [
        lambda: extend_files(base, [text], out, add=20),
        lambda: trim_files(out, [text], tmp_path / "less", min_count=1),
    ]
    for do in writers:
        assert not do()["exact"]
        with pytest.raises(CheckError, match=r"complete already, and not equal: .*a prompt is another"):
            do()


def test_what_cannot_be_read_is_not_left(
    base: Path, write: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise agreements.CannotReadError("they cannot read the export")

    monkeypatch.setattr(agreements, "_by_tokenizers", broken)
    text, out = str(write("in/sw.txt", SWAHILI)), tmp_path / "out"
    out.mkdir()
    for _ in range(2):
        with pytest.raises(UserError, match="more: they cannot read the export"):
            extend_files(base, [text], out / "more", add=20)
        with pytest.raises(UserError, match="less: they cannot read the export"):
            trim_files(base, [text], out / "less", min_count=1)
        assert not list(out.iterdir())


@pytest.mark.parametrize("family", ["Llama 2, TinyLlama, Yi", "Mistral 7B", "Gemma 1"])
def test_scaffolds_of_characters_are_refused_before_anything_is_read(family: str, tmp_path: Path) -> None:
    facts = dict(families([ENGLISH]))[family]
    (tmp_path / "theirs.json").write_text(json.dumps(facts))
    for _ in range(2):
        with pytest.raises(UserError, match="scaffolds of a vocabulary of characters cannot be written"):
            extend_files(
                tmp_path / "theirs.json", [str(tmp_path / "none")], tmp_path / "more", add=20, algorithm="scaffold"
            )
    assert not (tmp_path / "more").exists()
