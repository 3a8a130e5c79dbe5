"""Encoding as a job: the shards are the corpus, whoever makes them, killed or not."""

import gzip
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
import zstandard

from llmtool import Tokenizer
from llmtool.commands.tokenizer.encode import encode_files
from llmtool.commands.tokenizer.settings import EncodeSettings
from llmtool.commands.tokenizer.shards import encode_shards, parse_part
from llmtool.core.corpus import mds
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.shards import Stage
from llmtool.core.corpus.token_files import open_tokens
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError

QUIET = Console(verbosity=-1)
END = "<|endoftext|>"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shards")
    draw = random.Random(0)
    words = [f"word{number}" for number in range(500)]
    with (place / "corpus.jsonl").open("w") as file:
        for number in range(4000):
            text = " ".join(draw.choices(words, k=draw.randrange(120)))
            file.write(json.dumps({"text": text, "id": number}) + "\n")
    (place / "more.txt").write_text("one more document\n" * 50)
    Tokenizer.train([place / "corpus.jsonl"], 700, special=[END]).save(place / "tok.json")
    return place


def shards(
    place: Path, out: str, inputs: list[str] | None = None, size: str = "150K", console: Console = QUIET, **options: Any
) -> dict[str, Any]:
    settings = EncodeSettings(shards=size, **{"form": "bin", "eos": True, "workers": 1, **options})
    names = [str(place / name) for name in inputs or ["corpus.jsonl", "more.txt"]]
    tokenizer = Tokenizer.load(place / "tok.json")
    return encode_shards(tokenizer, names, place / out, settings, console=console)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "run.json"}


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, bytes]:
    facts = shards(place, "whole")
    assert facts["done"] == facts["shards"] > 8
    return files(place / "whole")


def test_shards_hold_what_one_file_holds(place: Path, whole: dict[str, bytes]) -> None:
    inputs = [str(place / "corpus.jsonl"), str(place / "more.txt")]
    encode_files(Tokenizer.load(place / "tok.json"), inputs, place / "one.bin", form="bin", eos=True)
    one = open_tokens(place / "one.bin")
    parts = [open_tokens(path) for path in sorted((place / "whole").glob("*.bin"))]
    assert (np.concatenate([part.ids for part in parts]) == one.ids).all()
    assert sum(len(part.starts) - 1 for part in parts) == len(one.starts) - 1 == 4001
    about = json.loads((place / "whole" / "run.json").read_text())
    assert len(about["outputs"]) == 4 * len(parts)
    read = ReadReport()
    for path in (place / "whole").glob("*.done"):
        read.merge(json.loads(path.read_text())["facts"]["read"])
    assert read.files == {"jsonl": 1, "text": 1}  # a file in many units is one file
    assert read.rows == {"jsonl": 4000, "text": 1}


def test_parts_and_workers_change_no_byte(place: Path, whole: dict[str, bytes]) -> None:
    for part in ("2/3", "3/3", "1/3"):
        facts = shards(place, "parts", part=part)
    assert facts["done"] == facts["shards"]
    assert files(place / "parts") == whole
    shards(place, "two", workers=2)
    assert files(place / "two") == whole


def test_kills_change_no_byte(place: Path, whole: dict[str, bytes]) -> None:
    """Killed when some more shards stand, again and again; a finished shard is never written again."""
    code = [
        sys.executable,
        "-m",
        "llmtool",
        "tokenizer",
        "encode",
        str(place / "tok.json"),
        str(place / "corpus.jsonl"),
    ]
    code += [str(place / "more.txt"), "--shards", "150K", "--eos", "--no-bos", "-o", str(place / "killed"), "-q"]
    code += ["--workers", "1"]
    times: dict[str, int] = {}
    kills = 0
    for _ in range(40):
        process = subprocess.Popen(code)
        before = len(list((place / "killed").glob("*.done")))
        while process.poll() is None and len(list((place / "killed").glob("*.done"))) < before + 3:
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        if process.returncode == 0 and kills < 3:  # this process was not let run for long: from the start again
            rmtree(place / "killed")
            times.clear()
            kills = 0
            continue
        for path in (place / "killed").glob("*.bin"):
            written = times.setdefault(path.name, path.stat().st_mtime_ns)
            done = path.with_suffix(".done").exists()
            assert written == path.stat().st_mtime_ns or not done
            times[path.name] = path.stat().st_mtime_ns
        if process.returncode == 0:
            break
    assert kills >= 3
    left = files(place / "killed")
    assert {name: data for name, data in left.items() if name not in ("settings.json", "done.json")} == {
        name: data for name, data in whole.items() if name not in ("settings.json", "done.json")
    }


def test_a_run_that_was_killed_while_it_began_goes_on(place: Path, whole: dict[str, bytes]) -> None:
    (place / "begun").mkdir()
    (place / "begun" / ".settings.json.abcdefgh.partial").write_text("{")
    shards(place, "begun")
    assert files(place / "begun") == whole
    (place / "others").mkdir()
    (place / "others" / ".hidden").touch()
    with pytest.raises(UserError, match="holds other files"):
        shards(place, "others")


def repair(said: str) -> None:
    """What --verify says is to be removed."""
    removed = re.search("rm -f (.*), and the same command without --verify", said)
    assert removed is not None
    for name in shlex.split(removed[1]):
        Path(name).unlink(missing_ok=True)


def test_verify_finds_what_does_not_fit(
    place: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    shards(place, "checked", form="npy")
    assert shards(place, "checked", form="npy", verify=True)["wrong"] == {}
    (place / "checked" / "00001.npy").write_bytes((place / "checked" / "00001.npy").read_bytes()[:-2] + b"\1\1")
    (place / "checked" / "00002.npy").unlink()
    found = shards(place, "checked", form="npy", verify=True)
    assert set(found["wrong"]) == {"00001.npy", "00002.npy"}
    facts = shards(place, "checked", form="npy")  # what is missing is made again
    assert facts["done"] == facts["shards"]
    repair(capsys.readouterr().err)
    shards(place, "checked", form="npy")
    assert shards(place, "checked", form="npy", verify=True)["wrong"] == {}
    assert "rm -f" not in capsys.readouterr().err


def test_verify_without_the_size_names_the_set_s_own(place: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    shards(place, "sized")
    size = json.loads((place / "sized" / "settings.json").read_text())["shards"]
    for directory, hint in ((place / "sized", f"--shards {size}"), (tmp_path, "--shards SIZE, as the set is made")):
        with pytest.raises(UserError, match="--part and --verify go with --shards") as caught:
            encode_files(Tokenizer.load(place / "tok.json"), [], directory, verify=True)
        assert caught.value.hint == hint


def test_requests_that_cannot_be(place: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(UserError, match="begun with other settings: --eos"):
        shards(place, "whole", eos=False)
    with pytest.raises(UserError, match="begun with other settings: INPUT"):
        shards(place, "whole", inputs=["corpus.jsonl"])
    (place / "full").mkdir()
    (place / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        shards(place, "full", force=True)
    with pytest.raises(UserError, match="holds no shards to verify"):
        shards(place, "nowhere", verify=True)
    with pytest.raises(UserError, match="too little for a shard"):
        shards(place, "small", size="1K")
    with pytest.raises(UserError, match="a weight cannot be encoded"):
        shards(place, "weighted", inputs=["more.txt@2"])
    for text in ("0/2", "3/2", "1", "a/b", "1/0"):
        with pytest.raises(UserError, match="wanted I/N"):
            parse_part(text)


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "corpus.jsonl.zst"])
def test_packed_shards_hold_what_one_file_holds(name: str, place: Path) -> None:
    """One member: one reader, threads that encode; killed or made in parts, the same bytes."""
    data = (place / "corpus.jsonl").read_bytes() * 4
    packed = gzip.compress(data, 1) if name.endswith("gz") else zstandard.ZstdCompressor(level=1).compress(data)
    (place / name).write_bytes(packed)
    facts = shards(place, f"{name}-packed", inputs=[name], workers=2)
    assert facts["shards"] > 2
    encode_files(Tokenizer.load(place / "tok.json"), [str(place / name)], place / f"{name}.bin", form="bin", eos=True)
    one = open_tokens(place / f"{name}.bin")
    parts = [open_tokens(path) for path in sorted((place / f"{name}-packed").glob("*.bin"))]
    assert (np.concatenate([part.ids for part in parts]) == one.ids).all()
    whole = files(place / f"{name}-packed")
    for part in ("2/2", "1/2"):
        shards(place, f"{name}-parts", inputs=[name], workers=1, part=part)
    assert files(place / f"{name}-parts") == whole
    (place / f"{name}-packed" / "00001.done").unlink()
    shards(place, f"{name}-packed", inputs=[name])
    assert files(place / f"{name}-packed") == whole
    assert shards(place, f"{name}-packed", inputs=[name], verify=True)["wrong"] == {}


@pytest.mark.parametrize("name", ["long.txt", "long.txt.gz"])
@pytest.mark.parametrize("form", ["bin", "mds"])
def test_one_long_text_goes_on_from_shard_to_shard(name: str, form: str, place: Path) -> None:
    """No token is cut, and the ids around a document stand at its ends alone; killed, only what is missing is made."""
    text = "".join(f"word{number % 500} and\n{number}.  Next\r\n" for number in range(140_000)).encode()
    (place / name).write_bytes(gzip.compress(text, 1) if name.endswith("gz") else text)
    out, inputs = f"{name}-{form}", [name, "more.txt"]
    facts = shards(place, out, inputs=inputs, size="1M" if name == "long.txt" else "200K", form=form)
    assert facts["shards"] > 2
    assert facts["documents"] == 2
    encode_files(
        Tokenizer.load(place / "tok.json"), [str(place / each) for each in inputs], place / "long.bin", form="bin",
        eos=True, force=True,
    )  # fmt: skip
    if form == "bin":
        parts = [open_tokens(path) for path in sorted((place / out).glob("*.bin"))]
        found = np.concatenate([part.ids for part in parts])
        assert all(int(part.starts[-1]) == len(part.ids) for part in parts)
    else:
        found = np.concatenate([ids for path in sorted((place / out).glob("*.mds")) for ids in mds.read_ids(path)])
    assert (found == open_tokens(place / "long.bin").ids).all()
    before = files(place / out)
    (place / out / "00001.done").unlink()
    shards(place, out, inputs=inputs, size="1M" if name == "long.txt" else "200K", form=form, workers=2)
    assert files(place / out) == before
    assert shards(place, out, inputs=inputs, size="1M" if name == "long.txt" else "200K", form=form,
                  verify=True)["wrong"] == {}  # fmt: skip


def test_mds_shards_are_samples_of_one_corpus(
    place: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mds, "SIZE_LIMIT", 60_000)  # several files a unit
    facts = shards(place, "mds", form="mds")
    stored = [ids for path in sorted((place / "mds").glob("*.mds")) for ids in mds.read_ids(path)]
    parts = [open_tokens(path) for path in sorted((place / "whole").glob("*.bin"))]
    assert (np.concatenate(stored) == np.concatenate([part.ids for part in parts])).all()
    assert len(stored) == facts["documents"] == 4001
    listed = json.loads((place / "mds" / "index.json").read_text())["shards"]
    names = [entry["raw_data"]["basename"] for entry in listed]
    assert names == sorted(path.name for path in (place / "mds").glob("*.mds"))
    assert len(names) > 2 * facts["shards"]
    assert all(entry["raw_data"]["bytes"] == (place / "mds" / name).stat().st_size
               for name, entry in zip(names, listed, strict=True))  # fmt: skip
    before = files(place / "mds")
    shards(place, "mds-parts", form="mds", part="2/2")
    assert not (place / "mds-parts" / "index.json").exists()
    shards(place, "mds-parts", form="mds", part="1/2")
    assert files(place / "mds-parts") == before
    assert shards(place, "mds", form="mds", verify=True)["wrong"] == {}
    (place / "mds" / names[0]).write_bytes(before[names[0]][:-1] + b"x")
    (place / "mds" / "index.json").write_text("{}")
    assert set(shards(place, "mds", form="mds", verify=True)["wrong"]) == {"00000.mds", "index.json"}
    repair(capsys.readouterr().err)
    shards(place, "mds", form="mds")
    assert (shards(place, "mds", form="mds", verify=True)["wrong"], files(place / "mds")) == ({}, before)
    with pytest.raises(UserError, match="format 'mds' is written in shards"):
        encode_files(Tokenizer.load(place / "tok.json"), [str(place / "more.txt")], place / "x.mds", form="mds")


def test_mosaic_reads_the_shards(place: Path) -> None:
    streaming = pytest.importorskip("streaming", reason="mosaicml-streaming is not installed")
    shards(place, "streamed", form="mds")
    tokenizer = Tokenizer.load(place / "tok.json")
    texts = [json.loads(line)["text"] for line in (place / "corpus.jsonl").open()]
    found = list(streaming.StreamingDataset(local=str(place / "streamed"), shuffle=False, batch_size=1))
    wanted = [[*tokenizer.encode(text), tokenizer.eos_id] for text in texts]
    assert [row["input_ids"].tolist() for row in found[:-1]] == wanted
    assert all(row["indices"].tolist() == [[0, row["length"]]] for row in found)
    assert found[0]["domain"] == str(place / "corpus.jsonl")
    assert found[-1]["domain"] == str(place / "more.txt")


@pytest.mark.slow
def test_ray_makes_the_same_shards(place: Path, whole: dict[str, bytes]) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    path = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, sys.path)])
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    try:
        shards(place, "ray", workers=2, engine="ray")
    finally:
        ray.shutdown()
    assert files(place / "ray") == whole


def test_shards_stay_until_those_that_replace_them_are_whole(
    place: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """An error in between leaves the old set as it was; the same command goes on, and one exchange brings the new."""
    shards(place, "old", form="npy", eos=False)
    old, manifest = files(place / "old"), (place / "old" / "run.json").read_bytes()
    made = Stage.finish

    def breaks(self: Stage, unit: int, *rest: Any) -> None:
        if unit == 3:
            raise UserError("no more")
        made(self, unit, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="no more"):
        patch.setattr(Stage, "finish", breaks)
        shards(place, "old", force=True)
    assert files(place / "old") == old
    assert (place / "old" / "run.json").read_bytes() == manifest
    assert shards(place, "old", form="npy", eos=False, verify=True)["wrong"] == {}
    (begun,) = place.glob(".old.*.next")
    assert len(list(begun.glob("*.done"))) == 3
    assert shards(place, "old", form="npy", eos=False)["done"] > 8  # what stands is complete, whatever is begun
    capsys.readouterr()
    shards(place, "old", form="npy", eos=False, console=Console())
    said = capsys.readouterr().err
    assert f"{begun}: begun with --force and not finished" in said
    assert "old: complete already, nothing to do; " in said

    kept = (begun / "00001.bin").stat().st_mtime_ns
    shards(place, "old", force=True, part="1/2")
    assert files(place / "old") == old
    facts = shards(place, "old", force=True, part="2/2")
    assert facts["done"] == facts["shards"]
    assert files(place / "old") == whole
    assert (place / "old" / "00001.bin").stat().st_mtime_ns == kept  # it went on
    outputs = json.loads((place / "old" / "run.json").read_text())["outputs"]
    assert all(Path(name).is_file() for name in outputs)
    assert not list(place.glob(".old.*"))


def test_force_takes_nothing_along_that_is_not_of_the_set(place: Path) -> None:
    shards(place, "visited")
    before = files(place / "visited")
    (place / "visited" / "notes.bin").write_text("precious")
    with pytest.raises(UserError, match=r"visited: holds 'notes.bin', which is not of what --force replaces"):
        shards(place, "visited", eos=False, force=True)
    assert files(place / "visited") == {**before, "notes.bin": b"precious"}
    (place / "visited" / "notes.bin").unlink()
    (place / "visited" / "00002.idx").unlink()
    (place / "visited" / "settings.json").write_text("{}")  # damaged: replaced with --force
    shards(place, "visited", force=True)
    assert files(place / "visited") == before
    (place / ".visited.0123abcd.next").mkdir()  # begun with settings that are no longer wanted
    (place / "link").symlink_to(place / "visited")
    (place / "empty.txt").write_text("")
    with pytest.raises(UserError, match="no text found"):
        shards(place, "link", ["empty.txt"], force=True)
    assert files(place / "visited") == before
    assert not list(place.glob(".visited.*"))
    shards(place, "link", eos=False, force=True)
    assert (place / "link").is_symlink()
    assert files(place / "visited") != before
    assert not list(place.glob(".visited.*"))


@pytest.mark.parametrize("name", ["done.json", "00000.bin"])
def test_force_makes_again_what_is_damaged(place: Path, whole: dict[str, bytes], name: str, tmp_path: Path) -> None:
    """A seal that had been cut short stood as it was, and the set was said to be complete already."""
    shards(place, str(tmp_path / "hurt"))
    damaged = tmp_path / "hurt" / name
    damaged.write_bytes(damaged.read_bytes()[:-9])
    shards(place, str(tmp_path / "hurt"), force=True)
    assert files(tmp_path / "hurt") == whole
