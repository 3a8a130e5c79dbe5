"""`llmtool tokenizer trim` and `encode --remap`."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtool import Tokenizer
from llmtool.commands.tokenizer.encode import encode_files
from llmtool.commands.tokenizer.remap import remap_file
from llmtool.commands.tokenizer.trim import trim_files
from llmtool.core.corpus.token_files import open_tokens
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CompleteError, UserError
from tests.faults.trial import Trial

TEXT = "In the beginning God created the heaven and the earth; and the earth was without form. " * 20
OTHER = "the earth and the heaven " * 30


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tok.json"
    tokenizer = Tokenizer.train_from_documents(
        [TEXT], 300, pretokenizer="gpt2", special=["<|end|>"], special_position="last"
    )
    tokenizer.save(path)
    return path


@pytest.mark.parametrize("encoder", [None, "lbpe"])
def test_trimmed_directory(base: Path, encoder: Any, write: Callable[[str, str], Path], tmp_path: Path) -> None:
    text, output = str(write("other.txt", OTHER)), tmp_path / "less"
    report = trim_files(base, [text], output, to=280, encoder=encoder)
    old, new = Tokenizer.load(base), Tokenizer.load(output)
    if encoder:
        old = old.with_encoder(encoder)
    assert new.vocab_size == report["rows"] == 280
    ids = np.load(output / "ids.npy")
    assert new.encode("the earth") == ids[old.encode("the earth")].tolist()
    assert new.special_tokens == {"<|end|>": 279}
    assert (ids == -1).sum() == report["removed"] == 20
    assert len((output / "removed.tsv").read_text().splitlines()) == 21
    with pytest.raises(CompleteError):
        trim_files(base, [text], output, to=280, encoder=encoder)
    pytest.importorskip("transformers")
    assert "transformers" in [check["reader"] for check in report["checks"] if check["skipped"] is None]
    assert report["exact"], report["checks"]


@pytest.mark.parametrize("form", ["bin", "npy"])
def test_arrays_are_renumbered(base: Path, form: str, write: Callable[[str, str], Path], tmp_path: Path) -> None:
    text = str(write("other.txt", OTHER + "\n" + OTHER))
    trim_files(base, [text], tmp_path / "less", min_count=1)
    old, new = Tokenizer.load(base), Tokenizer.load(tmp_path / "less")
    array, again = tmp_path / f"old.{form}", tmp_path / f"again.{form}"
    made: dict[str, Any] = {"form": form, "eos": True, "eos_token": "<|end|>", "text_mode": "line"}
    encode_files(old, [text], array, **made)
    encode_files(new, [text], again, **made)
    totals = remap_file(new, array, tmp_path / f"new.{form}", tmp_path / "less" / "ids.npy", force=False)
    with pytest.raises(CompleteError):  # its directory is the same map
        remap_file(new, array, tmp_path / f"new.{form}", tmp_path / "less", force=False)
    with pytest.raises(UserError, match=r"holds ids, and is no tokenizer.*name the tokenizer first"):
        Tokenizer.load(array)
    assert totals.documents == 2
    assert (tmp_path / f"new.{form}").read_bytes() == again.read_bytes()
    beside = (".json", ".offsets.npy")
    for suffix in beside:
        mine, theirs = ((tmp_path / f"{name}.{form}{suffix}").read_bytes() for name in ("new", "again"))
        assert mine.replace(b"new.", b"again.") == theirs
    assert open_tokens(tmp_path / f"new.{form}").tokenizer == new.fingerprint()


def test_what_is_not_in_the_text_makes_nothing_finer(
    base: Path, write: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = str(write("other.txt", OTHER))
    trim_files(base, [text], tmp_path / "none", min_count=1, console=Console())
    said = capsys.readouterr().err
    assert "none of them is among the" in said
    assert "finer" not in said
    trim_files(base, [text], tmp_path / "some", to=258, console=Console())
    assert "which is cut finer now" in capsys.readouterr().err


def test_arrays_with_what_is_gone_are_refused(base: Path, write: Callable[[str, str], Path], tmp_path: Path) -> None:
    text = str(write("other.txt", OTHER))
    trim_files(base, [text], tmp_path / "less", min_count=1)
    array, new = tmp_path / "old.bin", Tokenizer.load(tmp_path / "less")
    encode_files(Tokenizer.load(base), [str(write("text.txt", TEXT))], array, form="bin")
    with pytest.raises(UserError, match=r"is no id of the trimmed tokenizer.*encode the text again"):
        remap_file(new, array, tmp_path / "new.bin", tmp_path / "less" / "ids.npy", force=False)
    assert not (tmp_path / "new.bin").exists()
    encode_files(new, [text], tmp_path / "wrong.bin", form="bin")
    with pytest.raises(UserError, match="was written with tokenizer"):
        remap_file(new, tmp_path / "wrong.bin", tmp_path / "new.bin", tmp_path / "less" / "ids.npy", force=False)
    np.save(tmp_path / "far.npy", np.array([999]))
    with pytest.raises(UserError, match="maps to id 999"):
        remap_file(new, array, tmp_path / "new.bin", tmp_path / "far.npy", force=False)


@pytest.mark.parametrize("encoder", [None, "lbpe"])
def test_ids_are_labelled_with_the_tokenizer_that_the_map_leads_to(
    base: Path, encoder: Any, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """The old tokenizer, another trimming, or the right one with another encoder would stand beside ids of neither."""
    text, named, less = str(write("other.txt", OTHER)), {"encoder": encoder}, tmp_path / "less"
    trim_files(base, [text], less, to=280, **named)
    trim_files(base, [str(write("text.txt", TEXT))], tmp_path / "another", to=280, **named)
    old, new = Tokenizer.load(base).with_encoder(encoder or "merge"), Tokenizer.load(less)
    array, output = tmp_path / "old.bin", tmp_path / "new.bin"
    encode_files(old, [text], array, form="bin")
    wrong = [old, Tokenizer.load(tmp_path / "another"), new.with_encoder("merge" if encoder else "lbpe")]
    right = f"llmtool tokenizer encode {less} {array} --remap {less} -o {output}"
    for tokenizer in wrong:
        for given in (less, less / "ids.npy"):
            with pytest.raises(UserError, match=r"leads to tokenizer .* and TOK is another") as caught:
                remap_file(tokenizer, array, output, given, force=False)
            assert caught.value.hint == right
    alone = Path(shutil.copy(less / "ids.npy", tmp_path / "alone.npy"))
    with pytest.raises(UserError, match="leads to 280 ids, and TOK has 300: another one"):
        remap_file(old, array, output, alone, force=False)
    assert not output.exists()
    remap_file(new, array, output, less, force=False)
    assert open_tokens(output).ids.tolist() == new.encode(OTHER)
    remap_file(new, array, tmp_path / "again.bin", alone, force=False)
    assert (tmp_path / "again.bin").read_bytes() == output.read_bytes()
    other = Tokenizer.load(base).with_encoder("merge" if encoder else "lbpe")
    encode_files(other, [text], tmp_path / "other.bin", form="bin")  # ids of the old tokens, cut otherwise
    with pytest.raises(UserError, match="was written with tokenizer"):
        remap_file(new, tmp_path / "other.bin", tmp_path / "third.bin", less, force=False)


def test_a_bare_array_is_renumbered(base: Path, write: Callable[[str, str], Path], tmp_path: Path) -> None:
    text, less, bare = str(write("other.txt", OTHER)), tmp_path / "less", tmp_path / "bare.bin"
    trim_files(base, [text], less, min_count=1)
    old, new = Tokenizer.load(base), Tokenizer.load(less)
    np.array(old.encode(OTHER), np.uint16).tofile(bare)
    with pytest.raises(UserError, match=r"which says what the ids are, is missing.*--bin-dtype"):
        remap_file(new, bare, tmp_path / "new.bin", less, force=False)
    words = f"tokenizer encode {less} {bare} --remap {less} -o {tmp_path / 'new.bin'} --bin-dtype uint16"
    status, _, said = Trial(tmp_path).run(words)
    assert not status, said
    assert open_tokens(tmp_path / "new.bin").ids.tolist() == new.encode(OTHER)
    with pytest.raises(UserError, match="--bin-dtype goes with --remap"):
        encode_files(new, [text], tmp_path / "text.bin", bin_dtype="uint16")


def test_what_is_asked(base: Path, write: Callable[[str, str], Path], tmp_path: Path) -> None:
    text = str(write("other.txt", OTHER))
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "say what is to go"),
        ({"to": 280, "min_count": 2}, "say what is to go"),
        ({"to": 999}, "has 300 ids already"),
        ({"to": 100}, "no other token may go"),
    )
    for named, why in cases:
        with pytest.raises(UserError, match=why):
            trim_files(base, [text], tmp_path / "less", **named)
    with pytest.raises(UserError, match="no text to count"):
        trim_files(base, [], tmp_path / "less", to=280)
    token = max(Tokenizer.load(base).definition.vocabulary.id_of, key=len)
    keep = write("keep.txt", token.decode().replace(" ", "Ġ") + "\n")
    assert trim_files(base, [], tmp_path / "kept", keep=keep)["left"] < 300
    assert len(Tokenizer.load(tmp_path / "kept").encode(token)) == 1
