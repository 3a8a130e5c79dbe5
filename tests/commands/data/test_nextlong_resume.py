"""The same samples however often the work is interrupted, by however many workers, in whatever order rows come."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmtool.commands import data
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import stages
from llmtool.methods.nextlong.store import Store
from tests.commands.data.nextlong import TARGET, files, make, rows
from tests.methods.nextlong.corpora import corpus, write_jsonl


def test_workers_change_no_byte(place: Path) -> None:
    base = files(make(place, "base"))
    assert files(make(place, "two", workers=2)) == base
    assert files(make(place, "other", seed=1)) != base


@pytest.mark.slow
def test_many_units_with_few_open_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 units of a corpus of 13 GB, in small: files that are open are no more than the process may have."""
    base = files(make(place, "base"))
    monkeypatch.setattr(stages, "GROUP_BYTES", (place / "corpus.jsonl").stat().st_size // 400)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, opened + 128), hard))
    try:
        output = make(place, "many")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Stage.existing(output / "work" / "chunks", "").totals()["units"] > 300
    assert files(output) == base


@pytest.mark.slow
def test_ray_makes_the_same_samples(place: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    path = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, sys.path)])
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    try:
        output = make(place, "ray", workers=2, engine="ray")
    finally:
        ray.shutdown()
    assert files(output) == files(make(place, "base"))


def test_stages_one_by_one(place: Path) -> None:
    work = place / "stages"
    settings: dict[str, Any] = {"tokenizer": str(place / "tok.json"), "target": TARGET, "workers": 1}
    with pytest.raises(UserError, match="run `llmtool data chunk` first"):
        data.embed(work)
    data.chunk([str(place / "corpus.jsonl")], work, size=1024, source_field="kind", workers=1)
    data.embed(work, workers=1)
    data.index(work)
    data.mine(work, **settings)
    data.assemble(work, place / "assembled", **settings)
    one, other = files(make(place, "base")), files(place / "assembled")
    assert {n: b for n, b in one.items() if n.startswith("samples")} == {
        n: b for n, b in other.items() if n.startswith("samples")
    }


def test_complete_and_changed_outputs_are_refused(place: Path) -> None:
    make(place, "base")
    settings: dict[str, Any] = {"tokenizer": str(place / "tok.json"), "target": TARGET, "size": 1024, "workers": 1}
    corpora = [str(place / "corpus.jsonl")]
    with pytest.raises(UserError, match="complete already"):
        data.nextlong(corpora, place / "base", source_field="kind", **settings)
    with pytest.raises(UserError, match="--target: 4096 -> 2048"):
        data.nextlong(corpora, place / "base", source_field="kind", **settings | {"target": 2048})
    with pytest.raises(UserError, match=r"other settings: --chunk: 1024 -> 512; --cap email: not given -> 0\.5 \("):
        data.nextlong(corpora, place / "base", source_field="kind", **settings | {"size": 512, "caps": ["email=0.5"]})
    write_jsonl(place / "changed.jsonl", [{"text": "x"}])
    with pytest.raises(UserError, match="the inputs' content"):
        data.nextlong([str(place / "changed.jsonl")], place / "base", source_field="kind", **settings)
    (place / "foreign").mkdir()
    (place / "foreign" / "file").write_text("mine")
    with pytest.raises(UserError, match="exists already and is not ours"):
        data.nextlong(corpora, place / "foreign", **settings)


def test_killed_runs_go_on(place: Path) -> None:
    base = files(make(place, "base"))
    output = place / "killed"
    command = [
        sys.executable, "-m", "llmtool", "data", "nextlong", str(place / "corpus.jsonl"), "-o", str(output),
        "--tokenizer", str(place / "tok.json"), "--target", str(TARGET), "--chunk", "1024", "--source-field", "kind",
        "--workers", "2", "-q",
    ]  # fmt: skip
    killed = 0
    while not killed:
        for written in (1, 8, 16):  # files: early, in the middle, late, on a machine of any speed
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and sum(len(names) for _, _, names in os.walk(output)) < written:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        if (output / "run.json").exists():  # complete before it was killed, or this process was not let run
            shutil.rmtree(output)
            killed = 0
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert files(output) == base


def test_a_unit_without_its_files_is_made_again(place: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", {"a": 1})
    stage.begin()
    stage.path(0, "txt").write_text("abc")
    stage.finish(0, ["00000.txt"], {"n": 3})
    assert stage.is_done(0)
    stage.path(0, "txt").write_text("ab")
    assert not stage.is_done(0)
    with pytest.raises(UserError, match="a: 1 -> 2"):
        Stage(tmp_path / "stage", {"a": 2}).begin()
    Stage(tmp_path / "stage", {"a": 2}).begin(force=True)
    assert not stage.path(0, "txt").exists()


def relabelled(place: Path, name: str, texts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples of these rows, in this order."""
    write_jsonl(place / f"{name}.jsonl", texts)
    data.nextlong(
        [str(place / f"{name}.jsonl")], place / name, tokenizer=str(place / "tok.json"), target=TARGET, size=1024,
        workers=1, source_field="kind", samples=12,
    )  # fmt: skip
    return rows(place / name)


def test_the_order_of_rows_changes_nothing(place: Path) -> None:
    """Seeds, ids, negatives, chunk numbers, ties: all hang on the documents."""
    texts = [json.loads(line) for line in (place / "corpus.jsonl").open(encoding="utf-8")]
    first = relabelled(place, "ordered", texts)
    shuffled = random.Random(0).sample(texts, len(texts))
    assert relabelled(place, "shuffled", shuffled) == first
    (place / "apart").mkdir()
    for part in range(3):
        write_jsonl(place / "apart" / f"{2 - part}.jsonl", shuffled[part::3])
    data.nextlong(
        [str(place / "apart" / f"{part}.jsonl") for part in range(3)], place / "parts", target=TARGET, size=1024,
        tokenizer=str(place / "tok.json"), workers=1, source_field="kind", samples=12,
    )  # fmt: skip
    assert rows(place / "parts") == first
    # rows without a name are told apart by their text
    nameless = [{key: value for key, value in row.items() if key != "id"} for row in texts]
    again = [{key: value for key, value in row.items() if key != "id"} for row in shuffled]
    one, other = relabelled(place, "nameless", nameless), relabelled(place, "nameless-shuffled", again)
    assert [row["text"] for row in one] == [row["text"] for row in other]
    assert [row["id"] for row in one] == [row["id"] for row in other]


def test_more_documents_change_what_they_must(place: Path) -> None:
    texts = [json.loads(line) for line in (place / "corpus.jsonl").open(encoding="utf-8")]
    before = {row["seed"]: row for row in relabelled(place, "fewer", texts)}
    more = [{"id": f"more{n}", "kind": "more", "text": f"entirely other words {n}\n" * 9} for n in range(20)]
    after = {row["seed"]: row for row in relabelled(place, "more", [*more, *texts])}
    assert len(before.keys() & after.keys()) >= len(before) - 1
    assert all(after[seed]["id"] == row["id"] for seed, row in before.items() if seed in after)


def test_force_leaves_nothing_of_another_corpus(place: Path) -> None:
    """A work directory that is made anew does not keep the embedder that was fitted on the text before."""
    work = place / "anew"
    for limit in (30, 60):
        corpus(place / f"{limit}.jsonl", limit)
        data.chunk([str(place / f"{limit}.jsonl")], work, size=1024, workers=1, force=True)
        data.embed(work, workers=1, force=True)
    data.chunk([str(place / "60.jsonl")], place / "fresh", size=1024, workers=1)
    data.embed(place / "fresh", workers=1)
    assert files(work / "vectors") == files(place / "fresh" / "vectors")


def test_a_pipe_is_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for word in ("alpha", "omega"):
        row = json.dumps({"text": f"{word} " * 50}).encode() + b"\n"
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(row,))
        writer.start()
        data.chunk([str(tmp_path / "pipe")], tmp_path / "work", workers=1)
        writer.join()
        assert Store(tmp_path / "work").text(0).startswith(word.encode())


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("some text\nand more\n" * 20)
    data.chunk([str(folder)], tmp_path / "work", workers=1)
    assert Store(tmp_path / "work").documents == 1


def test_interrupted_clearing_keeps_the_old_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path / "stage", {"seed": 1}, owned=True)
    stage.begin()
    (stage.directory / "basis.npy").write_bytes(b"of seed 1")
    unlink = Path.unlink

    def interrupted(path: Path, missing_ok: bool = False) -> None:
        if path.name == "basis.npy":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Stage(tmp_path / "stage", {"seed": 2}, owned=True).begin(force=True)
    monkeypatch.undo()
    with pytest.raises(UserError, match="seed: 1 -> 2"):
        Stage(tmp_path / "stage", {"seed": 2}, owned=True).begin()


@pytest.mark.parametrize("inside", ["", "w"])
def test_work_among_the_corpus_is_refused(place: Path, tmp_path: Path, inside: str) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    shutil.copy(place / "corpus.jsonl", corpus)
    settings: dict[str, Any] = {"target": TARGET, "size": 1024, "workers": 1}
    named: dict[str, Any] = {"tokenizer": str(place / "tok.json"), "work": corpus / inside}
    said = "lies inside the input" if inside else "is also an input"
    with pytest.raises(UserError, match=said):
        data.nextlong([str(corpus)], tmp_path / "out", **named, **settings)
    with pytest.raises(UserError, match=said):
        data.chunk([str(corpus)], corpus / inside, **settings)
    assert [path.name for path in tmp_path.rglob("*")] == ["corpus", "corpus.jsonl"]


def test_work_of_somebody_else_is_refused(place: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "vectors").mkdir(parents=True)
    (theirs / "vectors" / "thesis.npy").write_text("mine")
    (theirs / "thesis.txt").write_text("mine")
    settings: dict[str, Any] = {"target": TARGET, "size": 1024, "workers": 1}
    texts = [str(place / "corpus.jsonl")]
    with pytest.raises(UserError, match=r"theirs: holds 'thesis\.txt', and is no work directory of llmtool"):
        data.nextlong(texts, tmp_path / "out", tokenizer=str(place / "tok.json"), work=theirs, **settings)
    with pytest.raises(UserError, match=r"holds 'thesis\.txt'"):
        data.chunk(texts, theirs, **settings)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["theirs", "thesis.npy", "thesis.txt", "vectors"]
